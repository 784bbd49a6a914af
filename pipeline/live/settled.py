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
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from touchline.models.backbone import ClipSpec
from touchline.pipeline.scoring.events import (
    SMOOTHING_REACH,
    find_events,
    smooth_scores,
    widths_of,
    window_cells,
)
from touchline.pipeline.scoring.nms import in_time, suppress_near
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.scoring.score import joined
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
        self._plain = EventOptions(spots=options.spots, nms_s=0.0, widths=self._widths)
        self._recent = joined([], labels)
        self._classes = {
            label: _Class(self._widths[label].nms_s, points[label].threshold, options)
            for label in labels[1:]
        }

    def add(self, part: ScoreTrack) -> list[Event]:
        """Take the next part of the track; return the events that are final now, in time order."""
        labels = self._recent.labels
        self._recent = track = joined([self._recent, part], labels)
        cells = window_cells(track)
        cuts = {
            label: self._cut(track, k, label, cells) for k, label in enumerate(labels[1:], start=1)
        }
        moved = [
            label
            for label, cut in cuts.items()
            if cut is not None and cells[0][cut.row] > self._classes[label].cut_s
        ]
        if not moved:
            return []
        found = find_events(track, self._points, self._plain)
        final = []
        for label in moved:
            cut = cuts[label]
            assert cut is not None
            known = [event for event in found if event.label == label]
            final += self._classes[label].take(known, float(cells[0][cut.row]))
        self._forget(track, cuts)
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

    def _cut(
        self, track: ScoreTrack, k: int, label: str, cells: tuple[Float64, Float64]
    ) -> _Cut | None:
        """The last row across which no event of a class can reach; None if there is none yet."""
        centre_s, right_s = track.centre_s, cells[1]
        reach_s = SMOOTHING_REACH * self._widths[label].smooth_s
        last = np.searchsorted(centre_s, centre_s[-1] - reach_s + MICROSECOND_S, side="right") - 1
        settled = int(min(last, len(centre_s) - 2)) + 1
        if settled < 1:
            return None
        values = smooth_scores(track, smooth_s=self._widths[label].smooth_s)[:settled, k]
        point = self._points[label]
        if self._spots:
            below = values < point.threshold
            below[1:] |= values[1:] < values[:-1]
            rows = np.flatnonzero(below)
            return _Cut(int(rows[-1]), max(0, int(rows[-1]) - 1)) if len(rows) else None
        low = point.threshold if point.low is None else point.low
        quiet = np.concatenate([[False], values < low, [False]])
        edges = np.flatnonzero(quiet[1:] != quiet[:-1])
        for first, end in zip(edges[-2::-2], edges[::-2], strict=True):
            ends_before = right_s[end - 1] - point.join_s - MICROSECOND_S
            since = int(np.searchsorted(right_s, ends_before, side="left"))
            if since >= first or (first == 0 and self._is_whole):
                return _Cut(int(end) - 1, max(since, int(first)))
        return None

    @property
    def _is_whole(self) -> bool:
        """Whether the recent part still begins with the first window of the footage."""
        return all(own.cut_s == -math.inf for own in self._classes.values())

    def _forget(self, track: ScoreTrack, cuts: Mapping[str, _Cut | None]) -> None:
        """Drop the rows that no later search needs, once they are many."""
        first = len(track.start_s)
        for label, cut in cuts.items():
            if cut is None:
                return
            from_s = track.centre_s[cut.since] - SMOOTHING_REACH * self._widths[label].smooth_s
            first = min(first, int(np.searchsorted(track.centre_s, from_s - MICROSECOND_S)) - 1)
        if first > 0:
            self._recent = track.part(slice(first, None))


@dataclass(frozen=True)
class _Cut:
    """A row across which no event reaches; `since` is the first row that later searches need."""

    row: int
    since: int


@dataclass
class _Known:
    event: Event
    kept: bool | None = None


@dataclass
class _Class:
    """One class: which events are known up to the cut, and what suppression decided."""

    nms_s: float
    threshold: float
    options: EventOptions
    cut_s: float = -math.inf
    latest_s: float = -math.inf
    known: list[_Known] = field(default_factory=list)
    num_given: int = 0

    def take(self, found: list[Event], cut_s: float) -> list[Event]:
        """Take the events of the recent part, which are right up to a cut; return the final ones.

        Args:
            found: The events of the class before any suppression.
            cut_s: Later events start after this time; it grows from call to call.
        """
        fresh = [event for event in found if self.cut_s < event.start_s <= cut_s]
        self.known += [_Known(event) for event in sorted(fresh, key=in_time)]
        self.cut_s = cut_s
        survivors = self._soft() if self.options.soft_nms and self.nms_s > 0 else self._hard()
        return [event for event in survivors if not self._is_replay(event)]

    def _is_near(self, a_s: float, b_s: float) -> bool:
        return self.nms_s > 0 and abs(a_s - b_s) <= self.nms_s + MICROSECOND_S

    def _hard(self) -> list[Event]:
        best_first = sorted(self.known, key=lambda k: (-k.event.score, *in_time(k.event)))
        for i, one in enumerate(best_first):
            if one.kept is not None:
                continue
            peak_s = one.event.peak_s
            better = [b.kept for b in best_first[:i] if self._is_near(b.event.peak_s, peak_s)]
            if True in better:
                one.kept = False
            elif None not in better and not self._is_near(self.cut_s, peak_s):
                one.kept = True
        given = []
        while self.num_given < len(self.known) and self.known[self.num_given].kept is not None:
            one = self.known[self.num_given]
            given += [one.event] * bool(one.kept)
            self.num_given += 1
        # What is given still suppresses its neighbours.
        open_s = min([self.cut_s, *(k.event.peak_s for k in self.known[self.num_given :])])
        while self.num_given and not self._is_near(self.known[0].event.peak_s, open_s):
            del self.known[0]
            self.num_given -= 1
        return given

    def _soft(self) -> list[Event]:
        """Soft suppression: events are decided together with all that chains of near ones reach."""
        given: list[Event] = []
        events = [k.event for k in self.known]
        first = 0
        for end in range(1, len(events) + 1):
            following_s = events[end].peak_s if end < len(events) else self.cut_s
            if not self._is_near(events[end - 1].peak_s, following_s):
                given += suppress_near(
                    events[first:end], window_s=self.nms_s, soft=True, floor=self.threshold
                )
                first = end
        self.known = self.known[first:]
        return given

    def _is_replay(self, event: Event) -> bool:
        refractory_s = self.options.refractory_s
        if refractory_s > 0 and event.peak_s - self.latest_s <= refractory_s + MICROSECOND_S:
            return True
        self.latest_s = event.peak_s
        return False


def _regular_track(labels: tuple[str, ...], spec: ClipSpec, hop_s: float) -> ScoreTrack:
    """A track with the usual windows: smoothing and suppression follow from their medians."""
    start_s: Float64 = np.arange(5, dtype=np.float64) * hop_s
    probs = np.zeros((5, len(labels)), np.float32)
    return ScoreTrack(labels, start_s, start_s + spec.duration_s, probs, np.zeros(5, np.bool_))
