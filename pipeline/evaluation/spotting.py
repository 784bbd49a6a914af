"""Spotting: is there a prediction of the class near enough to the moment it happened?

Two families with rules of their own: E2E-Spot's mAP at a tolerance, and SoccerNet's average-mAP.
An event's moment is its `peak_s`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from touchline.pipeline.evaluation.ranking import (
    NO_EVENTS,
    NO_MATCH,
    Columns,
    EventsByVideo,
    MeanAP,
    Ranking,
    Rule,
    Units,
    by_score,
    columns_by_label,
    label_list,
    match_greedily,
    match_units,
    pairs_within,
    rank,
    video_names,
)
from touchline.pipeline.types import MICROSECOND_S, Bool, Float64, Int64

SPOTTING_TOLERANCES_S = (1.0, 2.0, 5.0)

SPOTTING_RULE = Rule(area="interpolated", absent="skip", average="mean")


def spotting_map(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tolerances_s: Sequence[float] = SPOTTING_TOLERANCES_S,
    *,
    units: Units | None = None,
) -> MeanAP:
    """mAP at a tolerance as E2E-Spot measures it (Hong et al. 2022, `util/score.py`).

    Best first, each prediction takes the closest truth of its class and video that is still free
    and at most the tolerance away: half the width of the window, inclusive. AP is the sum of
    interpolated precision at the hits over the number of truths; the mean is over the classes
    that occur in the truth. Frames may stand in for seconds on both sides.
    """
    _check_widths("tolerances_s", tolerances_s)
    videos = video_names(truth, predictions)
    units = units or match_units(videos)
    truths, found = columns_by_label(truth, videos), columns_by_label(predictions, videos)
    labels = tuple(sorted(truths))
    rows = [
        _rank_spots(truths[label], found.get(label, NO_EVENTS), tolerances_s, videos, units)
        for label in labels
    ]
    return MeanAP("spotting", tuple(tolerances_s), labels, tuple(rows), SPOTTING_RULE, units.num)


def _check_widths(name: str, widths_s: Sequence[float]) -> None:
    if not widths_s or not all(0 <= width < math.inf for width in widths_s):
        raise ValueError(f"{name} is {tuple(widths_s)}; it must be one or more times >= 0")


def closest_pairs(
    predictions: Columns, truth: Columns, *, reach_s: float
) -> tuple[Int64, Int64, Float64]:
    """Pairs at most `reach_s` apart (inclusive) and their distance: by prediction, closest first.

    Ties go to the truth that comes first.
    """
    i, j = pairs_within(predictions, truth, reach_s)
    apart = np.abs(predictions.peak_s[i] - truth.peak_s[j])
    near = apart <= reach_s + MICROSECOND_S
    i, j, apart = i[near], j[near], apart[near]
    order = np.lexsort((j, apart, i))
    return i[order], j[order], apart[order]


def _rank_spots(
    truth: Columns,
    predictions: Columns,
    tolerances_s: Sequence[float],
    videos: Sequence[str],
    units: Units,
) -> tuple[Ranking, ...]:
    predictions = by_score(predictions)
    i, j, apart = closest_pairs(predictions, truth, reach_s=max(tolerances_s))
    row = []
    for tolerance_s in tolerances_s:
        near = apart <= tolerance_s + MICROSECOND_S
        partner = match_greedily(
            i[near], j[near], num_takers=len(predictions), num_taken=len(truth)
        )
        row.append(rank(predictions, truth, partner, videos=videos, units=units))
    return tuple(row)


SOCCERNET_WIDTHS_S: Mapping[str, tuple[float, ...]] = {
    "tight": (1.0, 2.0, 3.0, 4.0, 5.0),
    "loose": tuple(float(width) for width in range(5, 61, 5)),
}
"""The full widths of the windows that SoccerNet averages over, in seconds."""

SOCCERNET_RATE_HZ = 2.0
SOCCERNET_LENGTH_S = 120 * 60
"""Longer halves are folded onto this: what lies after it goes to the last bin."""

SOCCERNET_RULE = Rule(area="eleven_point", absent="zero", average="trapezoid")

# Only 13 of SoccerNet's 17 classes have unshown actions; the package scales by that for any set.
UNSHOWN_SCALE = 17 / 13

Shown = Literal["all", "visible", "unshown"]


@dataclass(frozen=True)
class _Bins:
    """Events of one class in bins of 1/fps; at most one per bin, in time order of each video."""

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
    """SoccerNet's average-mAP (`SoccerNet/Evaluation/ActionSpotting.py`), a video being one half.

    Times fall into bins of 1 / rate_hz; of two events of a class in one bin the last counts. In
    time order each truth takes the best prediction still free whose distance is at most half of
    the window's width (the widths are full widths). Precision and recall are read at 200
    thresholds, AP at 11 recalls; a class of `labels` without truth counts 0; widths are averaged
    by the trapezoidal rule. `visible` says of each truth whether the broadcast showed it (missing:
    it did); `shown` "visible" and "unshown" judge only the predictions whose nearest truth is so,
    "unshown" scaled by 17/13 as the package does.
    """
    _check_widths("widths_s", widths_s)
    if not 0 < rate_hz < math.inf:
        raise ValueError(f"rate_hz is {rate_hz}; it must be above 0 bins per second")
    videos = video_names(truth, predictions)
    units = units or match_units(videos)
    truths = columns_by_label(truth, videos)
    found = columns_by_label(predictions, videos)
    flags = _visible_by_label(truth, visible or {}, videos)
    labels = label_list(labels, truths, found)
    rows = []
    for label in labels:
        actual = _to_bins(truths.get(label, NO_EVENTS), rate_hz, flags.get(label))
        guess = _to_bins(found.get(label, NO_EVENTS), rate_hz, None)
        rows.append(_rank_bins(actual, guess, widths_s, rate_hz, shown, videos, units))
    rule = replace(SOCCERNET_RULE, scale=UNSHOWN_SCALE if shown == "unshown" else 1.0)
    name = "soccernet" if shown == "all" else f"soccernet_{shown}"
    return MeanAP(name, tuple(widths_s), labels, tuple(rows), rule, units.num)


def _visible_by_label(
    truth: EventsByVideo, visible: Mapping[str, Sequence[bool]], videos: Sequence[str]
) -> dict[str, Bool]:
    """The flags of each class's truths in the order of its columns."""
    flags: dict[str, list[bool]] = {}
    for video in videos:
        events = truth.get(video, ())
        shown = visible.get(video, [True] * len(events))
        if len(shown) != len(events):
            raise ValueError(f"{video} has {len(events)} truths but {len(shown)} visible flags")
        for event, flag in zip(events, shown, strict=True):
            flags.setdefault(event.label, []).append(flag)
    return {label: np.array(found, dtype=np.bool_) for label, found in flags.items()}


def _to_bins(columns: Columns, rate_hz: float, visible: Bool | None) -> _Bins:
    """Whole milliseconds, then whole bins, as the package reads its files; the last wins a bin."""
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
    videos: Sequence[str],
    units: Units,
) -> tuple[Ranking, ...]:
    reach_s = max(widths_s) / 2 + 1 / rate_hz
    j, i = pairs_within(truth.columns, predictions.columns, reach_s)
    # Truths in time order, each with its best prediction first; ties go to the earlier one.
    order = np.lexsort((predictions.bin[i], -predictions.columns.score[i], j))
    i, j = i[order], j[order]
    apart = np.abs(predictions.bin[i] - truth.bin[j])
    keep = None if shown == "all" else _nearest_is(truth, predictions, shown == "visible")
    if shown != "all":
        counted = truth.columns.take(truth.shown == (shown == "visible"))
    else:
        counted = truth.columns
    num_truth = np.bincount(units.of(counted, videos), minlength=units.num).astype(np.float64)
    row = []
    for width_s in widths_s:
        near = apart <= width_s * rate_hz / 2
        taken = match_greedily(
            j[near], i[near], num_takers=len(truth.bin), num_taken=len(predictions.bin)
        )
        partner = np.full(len(predictions.bin), NO_MATCH)
        hit = np.flatnonzero(taken != NO_MATCH)
        partner[taken[hit]] = hit
        ranking = rank(
            predictions.columns, truth.columns, partner, videos=videos, units=units, keep=keep
        )
        row.append(replace(ranking, num_truth=num_truth))
    return tuple(row)


def _nearest_is(truth: _Bins, predictions: _Bins, visible: bool) -> Bool:
    """(N,) whether the truth nearest to each prediction was visible, or else unshown.

    The borders are the integer middles of neighbouring truths. In a half without truth of the
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
