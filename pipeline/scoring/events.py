"""Turn scores into events: pure functions of a `ScoreTrack`, so other options need no new scores.

How overlapping windows become an interval
------------------------------------------
Each moment of the footage belongs to the window with the nearest *centre*:

    window 0   |-----c-----|
    window 1      |-----c-----|
    window 2         |-----c-----|
    cells      [------)[-)[------]      a cell: one hop around the centre

A trained classifier gives a window a high score if the event is around its centre. So the interval
of consecutive high windows is the union of their cells. The union of the whole windows would add
half a window at either end. For events at least one window long, the cells give the true interval
to within half a hop. A shorter event is seen whole by several windows; it comes out about one
window long, with the right middle. The first cell starts with the first window, the last cell ends
with the last window, so that the cells cover the footage exactly once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from touchline.models.training_record import PeakWidths
from touchline.pipeline.scoring.nms import (
    in_time,
    suppress_near,
    suppress_replays,
    without_replays_of,
)
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import MICROSECOND_S, Bool, Event, Float64, ScoreTrack

SMOOTHING_REACH = 4.0
"""The Gaussian is cut at this many standard deviations."""

FRAME_WINDOW_S, FRAME_SMOOTH_S, FRAME_NMS_S = 0.5, 0.8, 2.0
"""Scores of single frames: the longest such frame, and defaults of smoothing and of NMS."""

CANDIDATE_LEVEL = 0.5
"""A candidate below the threshold lasts while the score is at least this fraction of its peak."""


@dataclass(frozen=True)
class _ClassScores:
    """One class's smoothed scores: (N,) arrays over the windows, 0 at windows not usable."""

    label: str
    values: Float64
    usable: Bool
    centre_s: Float64
    left_s: Float64
    right_s: Float64


def operating_points(
    labels: Iterable[str],
    *,
    thresholds: Mapping[str, float] | None = None,
    default: OperatingPoint | None = None,
) -> dict[str, OperatingPoint]:
    """Make one operating point per class, without background.

    Args:
        labels: The classes of the model; the first is background.
        thresholds: The threshold of each class; a class that is missing takes the default's.
        default: All other values; None takes `OperatingPoint()`. A `low` above a class's threshold
            is lowered to it.

    Example:
        >>> from touchline.pipeline import operating_points
        >>> points = operating_points(["background", "goal", "card"], thresholds={"goal": 0.8})
        >>> points["goal"].threshold, points["card"].threshold
        (0.8, 0.5)
    """
    default = default or OperatingPoint()
    points = {}
    for label in list(labels)[1:]:
        threshold = (thresholds or {}).get(label, default.threshold)
        low = None if default.low is None else min(default.low, threshold)
        points[label] = replace(default, threshold=threshold, low=low)
    return points


def find_events(
    track: ScoreTrack,
    operating_points: Mapping[str, OperatingPoint],
    options: EventOptions | None = None,
) -> list[Event]:
    """Find the events that reach their class's operating point, in time order.

    Background never becomes an event, and windows with damaged frames never make one. Events of
    one class never overlap. An event's score is the peak of the smoothed probability. Its `peak_s`
    is the vertex of the parabola through the peak and its neighbours.

    Args:
        track: The scores of one file.
        operating_points: One for each class but background.
        options: How scores become events; None takes the defaults.

    Raises:
        ValueError: A class has no operating point, or the windows are not in time order.

    Example:
        >>> from touchline.pipeline import find_events, load_track, operating_points
        >>> track = load_track("out/match/scores.npz")
        >>> for event in find_events(track, operating_points(track.labels)):
        ...     print(f"{event.label} {event.start_s:.1f} to {event.end_s:.1f} s")
        bright 3.1 to 4.9 s
        bright 8.1 to 9.4 s
    """
    return _search(track, operating_points, options or EventOptions(), floor=None)[0]


def find_candidates(
    track: ScoreTrack,
    operating_points: Mapping[str, OperatingPoint],
    options: EventOptions | None = None,
    *,
    floor: float = 0.01,
) -> list[Event]:
    """Find the same events as `find_events`, and every local maximum below the threshold.

    A candidate below the threshold lasts while the score is at least half of its peak, and overlaps
    no other candidate of its class. The rules for length, NMS and replays apply to it. Metrics that
    vary the threshold need such candidates.

    Args:
        track: The scores of one file.
        operating_points: One for each class but background.
        options: How scores become events; None takes the defaults.
        floor: The lowest peak of a candidate, in (0, 1].

    Raises:
        ValueError: `floor` is out of range, a class has no operating point, or the windows are not
            in time order.

    Example:
        >>> import touchline.pipeline as touchline
        >>> track = touchline.load_track("out/match/scores.npz")
        >>> points = touchline.operating_points(track.labels, thresholds={"bright": 1.0})
        >>> len(touchline.find_events(track, points)), len(touchline.find_candidates(track, points))
        (0, 2)
    """
    if not 0.0 < floor <= 1.0:
        raise ValueError(f"floor is {floor}; it must be in (0, 1]")
    accepted, below = _search(track, operating_points, options or EventOptions(), floor=floor)
    return sorted(accepted + below, key=in_time)


def _search(
    track: ScoreTrack,
    points: Mapping[str, OperatingPoint],
    options: EventOptions,
    *,
    floor: float | None,
) -> tuple[list[Event], list[Event]]:
    """Accepted events, and with a `floor` the candidates below the threshold; in time order."""
    missing = [label for label in track.labels[1:] if label not in points]
    if missing:
        raise ValueError(f"no operating point for {', '.join(missing)}. Every class needs one.")
    accepted: list[Event] = []
    below: list[Event] = []
    if len(track.start_s) == 0:
        return accepted, below
    left_s, right_s = window_cells(track)
    widths = {label: widths_of(track, label, options) for label in track.labels[1:]}
    values = {
        smooth_s: smooth_scores(track, smooth_s=smooth_s)
        for smooth_s in {own.smooth_s for own in widths.values()}
    }
    for k, label in enumerate(track.labels[1:], start=1):
        point, own = points[label], widths[label]
        column = values[own.smooth_s][:, k]
        scores = _ClassScores(label, column, ~track.damaged, track.centre_s, left_s, right_s)
        found = _spots(scores, point, floor) if options.spots else _intervals(scores, point, floor)
        least = point.threshold if floor is None else min(floor, point.threshold)
        found = suppress_near(found, window_s=own.nms_s, soft=options.soft_nms, floor=least)
        kept = [event for event in found if event.score >= point.threshold]
        rest = [event for event in found if event.score < point.threshold]
        kept = suppress_replays(kept, refractory_s=options.refractory_s)
        accepted += kept
        below += without_replays_of(kept, rest, options.refractory_s)
    return sorted(accepted, key=in_time), sorted(below, key=in_time)


def widths_of(track: ScoreTrack, label: str, options: EventOptions) -> PeakWidths:
    """Return the smoothing and the suppression of a class: asked for, calibrated, or the default.

    Scores of single frames jump from frame to frame, so their smoothing is longer than a hop.
    """
    own = (options.widths or {}).get(label)
    if own is None and _shows_frames(track):
        own = PeakWidths(FRAME_SMOOTH_S, FRAME_NMS_S)
    elif own is None:
        hop_s = float(np.median(np.diff(track.centre_s))) if len(track.centre_s) > 1 else 0.0
        window_s = float(np.median(track.end_s - track.start_s))
        # Late in a day of footage, differences of times are wrong from the eleventh digit on.
        own = PeakWidths(round(hop_s, 9), round(window_s, 9))
    return PeakWidths(
        smooth_s=own.smooth_s if options.smooth_s is None else options.smooth_s,
        nms_s=options.nms_s if options.nms_s is not None else own.nms_s * options.spots,
    )


def window_cells(track: ScoreTrack) -> tuple[Float64, Float64]:
    """Compute each window's cell, the times nearest to its centre: (N,) starts and (N,) ends.

    Raises:
        ValueError: The windows are not in time order.
    """
    centre_s = track.centre_s
    if not (np.diff(centre_s) > 0).all():
        raise ValueError("the windows of a score track must be in time order, each once")
    middle_s = (centre_s[:-1] + centre_s[1:]) / 2
    left_s = np.maximum(np.concatenate([track.start_s[:1], middle_s]), track.start_s)
    right_s = np.minimum(np.concatenate([middle_s, track.end_s[-1:]]), track.end_s)
    return left_s, right_s


def smooth_scores(track: ScoreTrack, *, smooth_s: float) -> Float64:
    """Smooth scores (N, K) with a Gaussian of `smooth_s` seconds; six decimals.

    Damaged windows have no weight and become 0. Weights are renormalised at the ends and around
    damaged windows.

    Raises:
        ValueError: A score is not a finite number.
    """
    if not np.isfinite(track.probs).all():
        raise ValueError("the score track holds scores that are not finite numbers")
    usable = ~track.damaged
    probs = track.probs.astype(np.float64) * usable[:, None]
    centre_s = track.centre_s
    total, weight = probs.copy(), usable.astype(np.float64)
    for offset in range(1, _reach(centre_s, smooth_s * SMOOTHING_REACH) + 1):
        distance = (centre_s[offset:] - centre_s[:-offset]) / smooth_s
        w = np.exp(-0.5 * distance**2) * (distance <= SMOOTHING_REACH)
        total[:-offset] += w[:, None] * probs[offset:]
        total[offset:] += w[:, None] * probs[:-offset]
        weight[:-offset] += w * usable[offset:]
        weight[offset:] += w * usable[:-offset]
    smooth = total / np.where(usable, weight, 1.0)[:, None] * usable[:, None]
    # float32 has no more digits: 0.7 is stored as 0.69999999 and must reach a threshold of 0.7.
    return np.clip(np.round(smooth, 6), 0.0, 1.0)


def _reach(centre_s: Float64, distance_s: float) -> int:
    """The largest number of windows within `distance_s` after a window."""
    if distance_s <= 0:
        return 0
    last = np.searchsorted(centre_s, centre_s + distance_s, side="right") - 1
    return int((last - np.arange(len(centre_s))).max())


def _shows_frames(track: ScoreTrack) -> bool:
    """Whether each score is of a single frame: short windows, one after the other."""
    if len(track.start_s) < 2:
        return False
    window_s = float(np.median(track.end_s - track.start_s))
    hop_s = float(np.median(np.diff(track.start_s)))
    return window_s <= FRAME_WINDOW_S and window_s < 1.5 * hop_s


def _runs(mask: Bool) -> list[tuple[int, int]]:
    """Half-open index ranges of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(i), int(j)) for i, j in zip(edges[::2], edges[1::2], strict=True)]


def _plateaus(scores: _ClassScores, least: float) -> list[tuple[int, int]]:
    """Half-open index ranges of the local maxima of at least `least`; equal neighbours are one."""
    v = scores.values
    first = np.flatnonzero(np.concatenate([[True], v[1:] != v[:-1]]))
    last = np.concatenate([first[1:], [len(v)]])
    level = np.concatenate([[-np.inf], v[first], [-np.inf]])
    top = (level[1:-1] > level[:-2]) & (level[1:-1] > level[2:]) & (v[first] >= least)
    return [(int(i), int(j)) for i, j in zip(first[top], last[top], strict=True)]


def _peak_s(scores: _ClassScores, i: int, j: int) -> float:
    """The peak time of windows i..j-1: their middle, or for one window the parabola's vertex."""
    x, y = scores.centre_s, scores.values
    if j - i > 1:
        return float((x[i] + x[j - 1]) / 2)
    inside = 0 < i < len(x) - 1 and scores.usable[i - 1] and scores.usable[i + 1]
    if not inside:
        return float(x[i])
    rise = (y[i] - y[i - 1]) / (x[i] - x[i - 1])
    fall = (y[i + 1] - y[i]) / (x[i + 1] - x[i])
    bend = (fall - rise) / (x[i + 1] - x[i - 1])
    vertex = (x[i - 1] + x[i]) / 2 - rise / (2 * bend) if bend < 0 else x[i]
    return float(np.clip(vertex, scores.left_s[i], scores.right_s[i]))


def _spots(scores: _ClassScores, point: OperatingPoint, floor: float | None) -> list[Event]:
    least = point.threshold if floor is None else min(floor, point.threshold)
    spots = []
    for i, j in _plateaus(scores, least):
        peak_s = _peak_s(scores, i, j)
        spots.append(Event(scores.label, peak_s, peak_s, peak_s, float(scores.values[i])))
    return spots


def _intervals(scores: _ClassScores, point: OperatingPoint, floor: float | None) -> list[Event]:
    runs = _accepted_runs(scores, point)
    if floor is not None:
        runs = runs + _candidate_runs(scores, runs, point.threshold, floor)
    events = [_interval(scores, i, j, point) for i, j in runs]
    return [
        event
        for event in events
        if event.end_s - event.start_s > point.min_length_s - MICROSECOND_S
    ]


def _accepted_runs(scores: _ClassScores, point: OperatingPoint) -> list[tuple[int, int]]:
    """Runs above `low` that reach the threshold, joined if at most join_s apart."""
    low = point.threshold if point.low is None else point.low
    joined: list[tuple[int, int]] = []
    for i, j in _runs(scores.values >= low):
        if scores.values[i:j].max() < point.threshold:
            continue
        if (
            joined
            and scores.left_s[i] - scores.right_s[joined[-1][1] - 1] <= point.join_s + MICROSECOND_S
        ):
            joined[-1] = (joined[-1][0], j)
        else:
            joined.append((i, j))
    return joined


def _candidate_runs(
    scores: _ClassScores, accepted: list[tuple[int, int]], threshold: float, floor: float
) -> list[tuple[int, int]]:
    """Runs around the local maxima in [floor, threshold), best first, in windows still free."""
    free = np.ones(len(scores.values), dtype=np.bool_)
    for i, j in accepted:
        free[i:j] = False
    peaks = [(i, j) for i, j in _plateaus(scores, floor) if scores.values[i] < threshold]
    peaks.sort(key=lambda peak: -scores.values[peak[0]])
    found = []
    for i, j in peaks:
        if not free[i:j].all():
            continue
        level = scores.values[i] * CANDIDATE_LEVEL
        while i > 0 and free[i - 1] and scores.values[i - 1] >= level:
            i -= 1
        while j < len(free) and free[j] and scores.values[j] >= level:
            j += 1
        free[i:j] = False
        found.append((i, j))
    return found


def _interval(scores: _ClassScores, i: int, j: int, point: OperatingPoint) -> Event:
    """The event of windows i..j-1, cut around its peak to the longest length allowed."""
    start_s, end_s = float(scores.left_s[i]), float(scores.right_s[j - 1])
    top = i + int(scores.values[i:j].argmax())
    beyond = np.flatnonzero(scores.values[top:j] < scores.values[top])
    peak_s = _peak_s(scores, top, top + int(beyond[0]) if len(beyond) else j)
    peak_s = min(max(peak_s, start_s), end_s)
    if point.max_length_s is not None and end_s - start_s > point.max_length_s:
        start_s = min(max(peak_s - point.max_length_s / 2, start_s), end_s - point.max_length_s)
        end_s = start_s + point.max_length_s
    return Event(scores.label, start_s, end_s, peak_s, float(scores.values[top]))
