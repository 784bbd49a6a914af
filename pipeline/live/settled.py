"""Find the events of a growing score track that no later window can change.

The events come from `find_events`, which runs on the recent part of the track. They count up to a
cut: a window whose scores are settled, and across which no event reaches.

    above the threshold      ####     ######
                                 join_s     join_s
                                         quiet    | smoothing |  newest window
                                                 cut

What non-maximum suppression and the search for replays do to an event is decided as soon as all
events near it are known.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from touchline.models.backbone import ClipSpec
from touchline.models.training_record import PeakWidths
from touchline.pipeline.scoring.events import (
    SMOOTHING_REACH,
    find_events,
    smooth_scores,
    widths_of,
    window_cells,
)
from touchline.pipeline.scoring.nms import in_time, suppress_near
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import MICROSECOND_S, Event, Float64, ScoreTrack


class SettledEvents:
    """Takes a score track part by part and gives each accepted event once it is final.

    Args:
        labels: The classes of the track, `background` first.
        points: The operating point of each class but background.
        options: How scores become events.
        spec: What a window holds.
        hop_s: Seconds from window to window.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        points: Mapping[str, OperatingPoint],
        options: EventOptions,
        spec: ClipSpec,
        hop_s: float,
    ) -> None:
        usual = _regular_track(labels, spec, hop_s)
        self._points = points
        self._hop_s, self._window_s = hop_s, spec.duration_s
        self._widths = {label: widths_of(usual, label, options) for label in labels[1:]}
        self._spots = options.spots
        # Each class has rows of its own: one that stays above its threshold for hours keeps many.
        self._classes = [
            _ClassEvents(_Rows(labels[0], label, k), points[label], self._widths[label], options)
            for k, label in enumerate(labels[1:], start=1)
        ]

    def add(self, part: ScoreTrack) -> list[Event]:
        """Take the next part of the track; return the events that are final now, in time order."""
        final = [event for own in self._classes for event in own.add(part)]
        return sorted(final, key=in_time)

    def latency_s(self) -> float:
        """Return how much footage after an event must be scored before the event is final.

        It counts from the end of the event, or from its peak with spots. It is longer where events
        of a class follow each other within the reach of non-maximum suppression.
        """
        return max(self._latency_s(label) for label in self._widths)

    def _latency_s(self, label: str) -> float:
        hop_s, widths = self._hop_s, self._widths[label]
        smoothing = max(1, math.ceil(SMOOTHING_REACH * widths.smooth_s / hop_s - 1e-6))
        join_s = 0.0 if self._spots else self._points[label].join_s
        nms_hops = math.floor(widths.nms_s / hop_s + 1e-6) + 1 if widths.nms_s > 0 else 0
        hops = 1 + smoothing + max(math.floor(join_s / hop_s + 1e-6), nms_hops)
        # An interval ends half a hop after the middle of its last window, a spot may peak before.
        return self._window_s / 2 + (hops + (0.5 if self._spots else -0.5)) * hop_s


@dataclass(frozen=True)
class _Cut:
    """A time across which no event reaches; `since` is the first row that later searches need."""

    at_s: float
    since: int


@dataclass
class _Known:
    """An event before suppression, and whether it survives; None: that is not decided yet."""

    event: Event
    kept: bool | None = None


class _Rows:
    """The newest rows of a track, with the columns of background and of one class."""

    def __init__(self, background: str, label: str, column: int) -> None:
        self.label = label
        self._labels = background, label
        self._column = column
        self._first = self._end = 0
        self._grow(64)

    def __len__(self) -> int:
        return self._end - self._first

    def append(self, part: ScoreTrack) -> None:
        """Add rows; their cost does not depend on how many there are."""
        n = len(part.start_s)
        if self._end + n > len(self._start_s):
            self._grow(2 * (len(self) + n))
        rows = slice(self._end, self._end + n)
        self._start_s[rows], self._end_s[rows] = part.start_s, part.end_s
        self._probs[rows] = part.probs[:, [0, self._column]]
        self._damaged[rows] = part.damaged
        self._end += n

    def drop(self, num_rows: int) -> None:
        """Forget the oldest rows."""
        self._first += num_rows

    def reaching(self, row: int, reach_s: float) -> int:
        """The first row whose middle lies at most so far before that of a row."""
        from_s = self._middle_s(row) - reach_s - MICROSECOND_S
        return bisect_left(range(row), from_s, key=self._middle_s)

    def _middle_s(self, row: int) -> float:
        k = self._first + row
        return float(self._start_s[k] + self._end_s[k]) / 2

    def track(self, first: int = 0) -> ScoreTrack:
        """The rows from one on, as a track."""
        rows = slice(self._first + first, self._end)
        return ScoreTrack(
            labels=self._labels,
            start_s=self._start_s[rows],
            end_s=self._end_s[rows],
            probs=self._probs[rows],
            damaged=self._damaged[rows],
        )

    def _grow(self, capacity: int) -> None:
        kept = self.track() if self._end else None
        self._start_s, self._end_s = np.empty(capacity), np.empty(capacity)
        self._probs = np.empty((capacity, 2), np.float32)
        self._damaged = np.empty(capacity, np.bool_)
        self._first = self._end = 0
        if kept is not None:
            self._end = n = len(kept.start_s)
            self._start_s[:n], self._end_s[:n] = kept.start_s, kept.end_s
            self._probs[:n], self._damaged[:n] = kept.probs, kept.damaged


class _ClassEvents:
    """One class: its recent scores, which events are known, and what suppression decided.

    Args:
        rows: Takes the scores.
        point: The operating point of the class.
        widths: Its smoothing and suppression.
        options: How scores become events.
    """

    def __init__(
        self, rows: _Rows, point: OperatingPoint, widths: PeakWidths, options: EventOptions
    ) -> None:
        self.rows = rows
        self.point = point
        self.nms_s = widths.nms_s
        self.threshold = point.threshold
        self.options = options
        self._cut_s = -math.inf
        self._latest_s = -math.inf
        self._known: list[_Known] = []
        self._num_given = 0
        self._reach_s = SMOOTHING_REACH * widths.smooth_s
        self._smooth_s = widths.smooth_s
        self._plain = EventOptions(spots=options.spots, nms_s=0.0, widths={rows.label: widths})
        # No cut that begins before this row is still to be found.
        self._looked = 0

    def add(self, part: ScoreTrack) -> list[Event]:
        """Take the next part of the track; return the events that are final now."""
        rows = self.rows
        rows.append(part)
        cut = self._cut()
        if cut is None or cut.at_s <= self._cut_s:
            return []
        found = find_events(rows.track(), {rows.label: self.point}, self._plain)
        final = self.take(found, cut.at_s)
        # One row more, because the cell of a window begins between it and the one before.
        first = rows.reaching(cut.since, self._reach_s) - 1
        if first > 0:
            rows.drop(first)
            self._looked = max(0, self._looked - first)
        return final

    def _cut(self) -> _Cut | None:
        """The last row across which no event can reach; None if no row is new to be one."""
        rows = self.rows
        back = min(max(0, self._looked - 1), len(rows) - 1)
        before = max(0, rows.reaching(back, self._reach_s) - 1)
        track, looked = rows.track(before), self._looked - before
        centre_s = track.centre_s
        last = np.searchsorted(centre_s, centre_s[-1] - self._reach_s + MICROSECOND_S, side="right")
        settled = int(min(last - 1, len(centre_s) - 2)) + 1
        if settled <= looked:
            return None
        values = smooth_scores(track, smooth_s=self._smooth_s)[:settled, 1]
        left_s, right_s = window_cells(track)
        if self.options.spots:
            below = values < self.point.threshold
            below[1:] |= values[1:] < values[:-1]
            self._looked = before + settled
            found = looked + np.flatnonzero(below[looked:])
            if not len(found):
                return None
            row = int(found[-1])
            return _Cut(float(left_s[row]), before + max(0, row - 1))
        low = self.point.threshold if self.point.low is None else self.point.low
        quiet = np.concatenate([[False], values[looked:] < low, [False]])
        edges = looked + np.flatnonzero(quiet[1:] != quiet[:-1])
        # A quiet run that still goes on is looked at again, when it is longer.
        goes_on = len(edges) > 0 and edges[-1] == settled
        self._looked = before + (int(edges[-2]) if goes_on else settled)
        is_whole = self._cut_s == -math.inf
        for first, end in zip(edges[-2::-2], edges[::-2], strict=True):
            ends_before = right_s[end - 1] - self.point.join_s - MICROSECOND_S
            since = int(np.searchsorted(right_s, ends_before, side="left"))
            if since >= first or (before + first == 0 and is_whole):
                return _Cut(float(left_s[end - 1]), before + max(since, int(first)))
        return None

    def take(self, found: list[Event], cut_s: float) -> list[Event]:
        """Take the events of the recent part, which are right up to a cut; return the final ones.

        Args:
            found: The events of the class before any suppression.
            cut_s: Later events start after this time; it grows from call to call.
        """
        fresh = [event for event in found if self._cut_s < event.start_s <= cut_s]
        self._known += [_Known(event) for event in sorted(fresh, key=in_time)]
        self._cut_s = cut_s
        survivors = self._soft() if self.options.soft_nms and self.nms_s > 0 else self._hard()
        return [event for event in survivors if not self._is_replay(event)]

    def _is_near(self, a_s: float, b_s: float) -> bool:
        return self.nms_s > 0 and abs(a_s - b_s) <= self.nms_s + MICROSECOND_S

    def _hard(self) -> list[Event]:
        best_first = sorted(self._known, key=lambda k: (-k.event.score, *in_time(k.event)))
        for i, one in enumerate(best_first):
            if one.kept is not None:
                continue
            peak_s = one.event.peak_s
            better = [b.kept for b in best_first[:i] if self._is_near(b.event.peak_s, peak_s)]
            if True in better:
                one.kept = False
            elif None not in better and not self._is_near(self._cut_s, peak_s):
                one.kept = True
        given = []
        while self._num_given < len(self._known) and self._known[self._num_given].kept is not None:
            one = self._known[self._num_given]
            given += [one.event] * bool(one.kept)
            self._num_given += 1
        # What is given still suppresses its neighbours.
        open_s = min([self._cut_s, *(k.event.peak_s for k in self._known[self._num_given :])])
        while self._num_given and not self._is_near(self._known[0].event.peak_s, open_s):
            del self._known[0]
            self._num_given -= 1
        return given

    def _soft(self) -> list[Event]:
        """Soft suppression: events are decided together with all that chains of near ones reach."""
        given: list[Event] = []
        events = [k.event for k in self._known]
        first = 0
        for end in range(1, len(events) + 1):
            following_s = events[end].peak_s if end < len(events) else self._cut_s
            if not self._is_near(events[end - 1].peak_s, following_s):
                given += suppress_near(
                    events[first:end], window_s=self.nms_s, soft=True, floor=self.threshold
                )
                first = end
        self._known = self._known[first:]
        return given

    def _is_replay(self, event: Event) -> bool:
        refractory_s = self.options.refractory_s
        if refractory_s > 0 and event.peak_s - self._latest_s <= refractory_s + MICROSECOND_S:
            return True
        self._latest_s = event.peak_s
        return False


def _regular_track(labels: tuple[str, ...], spec: ClipSpec, hop_s: float) -> ScoreTrack:
    """A track with the usual windows: smoothing and suppression follow from their medians."""
    start_s: Float64 = np.arange(5, dtype=np.float64) * hop_s
    probs = np.zeros((5, len(labels)), np.float32)
    return ScoreTrack(labels, start_s, start_s + spec.duration_s, probs, np.zeros(5, np.bool_))
