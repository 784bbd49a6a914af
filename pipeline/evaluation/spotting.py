"""Compute metrics of spotting: is a prediction of the class close enough to the labelled moment?

There are two families with their own rules: E2E-Spot's mAP at a tolerance, and SoccerNet's
average-mAP. The moment of an event is its `peak_s`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from touchline.pipeline.evaluation.ranking import (
    NO_EVENTS,
    ClassEvents,
    Columns,
    EventsByVideo,
    MeanAP,
    Ranking,
    Rule,
    Units,
    by_score,
    events_by_class,
    label_list,
    match_greedily,
    pairs_within,
    rank,
    taken_by,
)
from touchline.pipeline.types import MICROSECOND_S, Bool, Event, Float64, Int64

SPOTTING_RULE = Rule(area="interpolated")
SPOTTING_TOLERANCES_S = (1.0, 2.0, 5.0)


def spotting_map(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tolerances_s: Sequence[float] = SPOTTING_TOLERANCES_S,
    *,
    units: Units | None = None,
) -> MeanAP:
    """Compute mAP at a tolerance like E2E-Spot (Hong et al. 2022, `util/score.py`).

    Best first, each prediction takes the closest free event of its class and video that is at most
    the tolerance away. AP is the sum of interpolated precision at the hits, divided by the number
    of labelled events. The mean is over the labelled classes. Equal scores rank as in the file of
    predictions: its videos in their order, and their events in theirs.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        tolerances_s: Half the widths of the windows, in seconds, inclusive. If all times are
            counted in frames, so are the tolerances.
        units: What is resampled; None: each video.

    Raises:
        ValueError: `tolerances_s` is empty or holds a number below 0.
    """
    _check_widths("tolerances_s", tolerances_s)
    events = events_by_class(truth, predictions, units, order="predictions")
    labels = tuple(sorted(events.truth))
    rows = tuple(_rank_spots(events, label, tolerances_s) for label in labels)
    return MeanAP("spotting", tuple(tolerances_s), labels, rows, SPOTTING_RULE, events.units.num)


def _check_widths(name: str, widths_s: Sequence[float]) -> None:
    if not widths_s or not all(0 <= width < math.inf for width in widths_s):
        raise ValueError(f"{name} is {tuple(widths_s)}; it must be one or more times, 0 or above")


def closest_pairs(
    predictions: Columns, truth: Columns, *, reach_s: float
) -> tuple[Int64, Int64, Float64]:
    """List pairs (i, j) at most `reach_s` apart and their distance.

    Sorted by prediction i, the closest event j first; of equally close events the earlier index.

    Args:
        predictions: The events that i counts.
        truth: The events that j counts.
        reach_s: Largest distance of the peaks in seconds, inclusive.
    """
    i, j = pairs_within(predictions, truth, reach_s)
    apart = np.abs(predictions.peak_s[i] - truth.peak_s[j])
    near = apart <= reach_s + MICROSECOND_S
    i, j, apart = i[near], j[near], apart[near]
    order = np.lexsort((j, apart, i))
    return i[order], j[order], apart[order]


def pair_events(
    truth: Sequence[Event], found: Sequence[Event], *, tolerance_s: float
) -> tuple[tuple[Event | None, Event | None], ...]:
    """Return pairs (true event, found event) in time order; None if one has no partner.

    In order of score, each found event takes the nearest true event of its class that is still
    free.

    Args:
        truth: The labelled events.
        found: The detected events.
        tolerance_s: Largest distance of their peaks in seconds.
    """
    free = list(truth)
    rows: list[tuple[Event | None, Event | None]] = []
    for event in sorted(found, key=lambda e: -e.score):
        near = [
            (abs(t.peak_s - event.peak_s), i)
            for i, t in enumerate(free)
            if t.label == event.label and abs(t.peak_s - event.peak_s) <= tolerance_s
        ]
        rows.append((free.pop(min(near)[1]) if near else None, event))
    rows += [(event, None) for event in free]
    return tuple(sorted(rows, key=lambda row: min(e.peak_s for e in row if e is not None)))


def _rank_spots(
    events: ClassEvents, label: str, tolerances_s: Sequence[float]
) -> tuple[Ranking, ...]:
    truth = events.truth[label]
    predictions = by_score(events.predictions.get(label, NO_EVENTS))
    i, j, apart = closest_pairs(predictions, truth, reach_s=max(tolerances_s))
    row = []
    for tolerance_s in tolerances_s:
        near = apart <= tolerance_s + MICROSECOND_S
        partner = match_greedily(
            i[near], j[near], num_takers=len(predictions), num_taken=len(truth)
        )
        row.append(rank(predictions, truth, partner, events))
    return tuple(row)


SOCCERNET_WIDTHS_S: Mapping[str, tuple[float, ...]] = {
    "tight": (1.0, 2.0, 3.0, 4.0, 5.0),
    "loose": tuple(float(width) for width in range(5, 61, 5)),
}
"""The full widths of the windows that SoccerNet averages over, in seconds."""

SOCCERNET_RATE_HZ = 2.0
SOCCERNET_LENGTH_S = 120 * 60
"""Times of a half after this go into the last bin."""

SOCCERNET_RULE = Rule(area="eleven_point", absent="zero", average="trapezoid")

# 13 of SoccerNet's 17 classes have unshown actions. The package scales by this for any classes.
UNSHOWN_SCALE = 17 / 13

Shown = Literal["all", "visible", "unshown"]


@dataclass(frozen=True)
class _Bins:
    """Events of one class in time bins, at most one per bin, in time order of each video."""

    columns: Columns
    bin: Int64
    shown: Bool


def soccernet_map(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    widths_s: Sequence[float] = SOCCERNET_WIDTHS_S["loose"],
    *,
    rate_hz: float = SOCCERNET_RATE_HZ,
    labels: Sequence[str] | None = None,
    visible: Mapping[str, Sequence[bool]] | None = None,
    shown: Shown = "all",
    units: Units | None = None,
) -> MeanAP:
    """Compute SoccerNet's average-mAP (`SoccerNet/Evaluation/ActionSpotting.py`).

    Every video is one half. Times fall into bins; of two events of a class in one bin the last
    counts. In time order each labelled event takes the best free prediction within half of the
    window's width. Precision and recall are computed at 200 thresholds of the score, AP at 11
    recalls. Widths are averaged by the trapezoidal rule.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        widths_s: Full widths of the windows, in seconds.
        rate_hz: Bins per second.
        labels: The classes; one without labelled events counts 0. None: all that occur.
        visible: For each labelled event of a video, whether the broadcast showed it; a video that
            is not listed showed all.
        shown: "visible" and "unshown" count only the predictions whose nearest labelled event is
            visible or not. The package scales "unshown" by 17/13, and so does this.
        units: What is resampled; None: each video.

    Raises:
        ValueError: A width or the rate is out of range, or the flags do not fit the events.
    """
    _check_widths("widths_s", widths_s)
    if not 0 < rate_hz < math.inf:
        raise ValueError(f"bins per second are {rate_hz:g}; they must be more than 0")
    events = events_by_class(truth, predictions, units)
    flags = _visible_by_label(truth, visible or {}, events.videos)
    labels = label_list(labels, events.truth, events.predictions)
    rows = []
    for label in labels:
        actual = _to_bins(events.truth.get(label, NO_EVENTS), rate_hz, flags.get(label))
        guess = _to_bins(events.predictions.get(label, NO_EVENTS), rate_hz, None)
        rows.append(_rank_bins(actual, guess, widths_s, rate_hz, shown, events))
    rule = replace(SOCCERNET_RULE, scale=UNSHOWN_SCALE if shown == "unshown" else 1.0)
    name = "soccernet" if shown == "all" else f"soccernet_{shown}"
    return MeanAP(name, tuple(widths_s), labels, tuple(rows), rule, events.units.num)


def _visible_by_label(
    truth: EventsByVideo, visible: Mapping[str, Sequence[bool]], videos: Sequence[str]
) -> dict[str, Bool]:
    """The flags of each class's events in the order of its columns."""
    flags: dict[str, list[bool]] = {}
    for video in videos:
        events = truth.get(video, ())
        shown = visible.get(video, [True] * len(events))
        if len(shown) != len(events):
            raise ValueError(
                f"{video} has {len(events)} labelled events but {len(shown)} visible flags"
            )
        for event, flag in zip(events, shown, strict=True):
            flags.setdefault(event.label, []).append(flag)
    return {label: np.array(found, dtype=np.bool_) for label, found in flags.items()}


def _to_bins(columns: Columns, rate_hz: float, visible: Bool | None) -> _Bins:
    """Round to milliseconds, then to bins, like the package; the last event of a bin stays."""
    milliseconds = np.round(columns.peak_s * 1000)
    bins = (rate_hz * (milliseconds / 1000)).astype(np.int64)
    bins = np.minimum(bins, int(SOCCERNET_LENGTH_S * rate_hz) - 1)
    place = columns.video * int(SOCCERNET_LENGTH_S * rate_hz) + bins
    _, from_end = np.unique(place[::-1], return_index=True)
    last = len(place) - 1 - from_end
    shown = np.ones(len(columns), dtype=np.bool_) if visible is None else visible
    return _Bins(columns.take(last), bins[last], shown[last])


def _rank_bins(
    truth: _Bins,
    predictions: _Bins,
    widths_s: Sequence[float],
    rate_hz: float,
    shown: Shown,
    events: ClassEvents,
) -> tuple[Ranking, ...]:
    reach_s = max(widths_s) / 2 + 1 / rate_hz
    j, i = pairs_within(truth.columns, predictions.columns, reach_s)
    # Events in time order, each with its best prediction first; ties go to the earlier one.
    order = np.lexsort((predictions.bin[i], -predictions.columns.score[i], j))
    i, j = i[order], j[order]
    apart = np.abs(predictions.bin[i] - truth.bin[j])
    keep = None if shown == "all" else _nearest_is(truth, predictions, shown == "visible")
    if shown != "all":
        counted = truth.columns.take(truth.shown == (shown == "visible"))
    else:
        counted = truth.columns
    num_truth = events.num_truth(counted)
    row = []
    for width_s in widths_s:
        near = apart <= width_s * rate_hz / 2
        taken = match_greedily(
            j[near], i[near], num_takers=len(truth.bin), num_taken=len(predictions.bin)
        )
        partner = taken_by(taken, num_taken=len(predictions.bin))
        ranking = rank(predictions.columns, truth.columns, partner, events, keep=keep)
        row.append(replace(ranking, num_truth=num_truth))
    return tuple(row)


def _nearest_is(truth: _Bins, predictions: _Bins, visible: bool) -> Bool:
    """(N,) whether the event nearest to each prediction is visible (or, for False, unshown).

    The borders are the integer middles of neighbouring events. In a half without events of the
    class everything counts as unshown: the package's array starts at -1.
    """
    nearest_visible = np.zeros(len(predictions.bin), dtype=np.bool_)
    for video in np.unique(predictions.columns.video):
        here = predictions.columns.video == video
        there = truth.columns.video == video
        bins = truth.bin[there]
        if len(bins):
            border = (bins[:-1] + bins[1:]) // 2
            nearest = np.searchsorted(border, predictions.bin[here], side="right")
            nearest_visible[here] = truth.shown[there][nearest]
    asked: Bool = nearest_visible == visible
    return asked
