"""Compute metrics of temporal detection: does a predicted interval overlap the labelled one enough?

The rules of ActivityNet and THUMOS differ in four points: who chooses, whether the threshold itself
is enough, which precision is summed, and what happens at ambiguous stretches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from touchline.pipeline.evaluation.ranking import (
    NO_EVENTS,
    NO_MATCH,
    ClassEvents,
    Columns,
    EventsByVideo,
    MeanAP,
    Ranking,
    Rule,
    Units,
    by_score,
    events_by_class,
    match_greedily,
    pairs_overlapping,
    rank,
    taken_by,
)
from touchline.pipeline.types import Bool, Float64, Int64

ACTIVITYNET_RULE = Rule(area="interpolated")
ACTIVITYNET_TIOUS = tuple(float(tiou) for tiou in np.linspace(0.5, 0.95, 10))

THUMOS_RULE = Rule(area="plain")
THUMOS_TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)

AMBIGUOUS = "Ambiguous"
"""The class of THUMOS stretches that count neither as event nor as no event."""


def activitynet_map(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tious: Sequence[float] = ACTIVITYNET_TIOUS,
    *,
    units: Units | None = None,
) -> MeanAP:
    """Compute mAP at temporal IoU like ActivityNet (`Evaluation/eval_detection.py`).

    Best first, each prediction takes the free event of its class and video that it overlaps most,
    if the IoU is at least the threshold. AP sums interpolated precision. The mean is over the
    labelled classes. Equal scores rank by the order of their videos in the labels; the published
    evaluator leaves their order undefined.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        tious: Thresholds in (0, 1]; an IoU equal to a threshold is enough.
        units: What is resampled; None: each video.

    Raises:
        ValueError: `tious` is empty or holds a number outside (0, 1].
    """
    return _detection_map("activitynet", truth, predictions, tious, units)


def thumos_map(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tious: Sequence[float] = THUMOS_TIOUS,
    *,
    units: Units | None = None,
) -> MeanAP:
    """Compute mAP at temporal IoU like THUMOS'14 (`TH14eventdet.m` of its evaluation kit).

    In the order given, each labelled event takes the free prediction of its class and video that
    overlaps it most, if the IoU is greater than the threshold. Predictions without an event that
    overlap a stretch labelled "Ambiguous" are dropped. AP sums the precision at each hit, without
    interpolation. Equal scores rank by the name of their video.

    Args:
        truth: Labelled events, with stretches labelled "Ambiguous" if there are some.
        predictions: Predicted events of the other classes.
        tious: Thresholds in (0, 1]; an IoU equal to a threshold is not enough.
        units: What is resampled; None: each video.

    Raises:
        ValueError: `tious` is empty or holds a number outside (0, 1].
    """
    return _detection_map("thumos", truth, predictions, tious, units)


def _detection_map(
    metric: Literal["activitynet", "thumos"],
    truth: EventsByVideo,
    predictions: EventsByVideo,
    tious: Sequence[float],
    units: Units | None,
) -> MeanAP:
    if not tious or not all(0 < tiou <= 1 for tiou in tious):
        raise ValueError(f"tious is {tuple(tious)}; it must be one or more numbers in (0, 1]")
    thumos = metric == "thumos"
    events = events_by_class(truth, predictions, units, order="names" if thumos else "labels")
    labels = tuple(sorted(set(events.truth) - ({AMBIGUOUS} if thumos else set())))
    rank_one = _rank_thumos if thumos else _rank_activitynet
    rows = []
    for label in labels:
        predicted = by_score(events.predictions.get(label, NO_EVENTS))
        rows.append(rank_one(overlaps(predicted, events.truth[label]), tious, events))
    rule = THUMOS_RULE if thumos else ACTIVITYNET_RULE
    return MeanAP(metric, tuple(tious), labels, tuple(rows), rule, events.units.num)


@dataclass(frozen=True)
class Overlaps:
    """Predictions and labelled events of one class, and the E pairs of them that overlap.

    Attributes:
        predictions: The predictions.
        truth: The labelled events.
        i: (E,) the prediction of each pair.
        j: (E,) the event of each pair.
        tiou: (E,) their temporal IoU, above 0.
    """

    predictions: Columns
    truth: Columns
    i: Int64
    j: Int64
    tiou: Float64


def overlaps(predictions: Columns, truth: Columns) -> Overlaps:
    """Find the pairs of one video with a temporal IoU above 0."""
    i, j = pairs_overlapping(predictions, truth)
    tiou = temporal_iou(predictions, truth, i, j)
    some = tiou > 0
    return Overlaps(predictions, truth, i[some], j[some], tiou[some])


def temporal_iou(first: Columns, second: Columns, i: Int64, j: Int64) -> Float64:
    """Compute the intersection over union (E,) of each pair of intervals; 0 for two points.

    Args:
        first: The intervals that `i` indexes.
        second: The intervals that `j` indexes.
        i: (E,) the first interval of each pair.
        j: (E,) the second one.
    """
    start_s = np.maximum(first.start_s[i], second.start_s[j])
    end_s = np.minimum(first.end_s[i], second.end_s[j])
    both = np.maximum(end_s - start_s, 0.0)
    lengths = (first.end_s - first.start_s)[i] + (second.end_s - second.start_s)[j]
    either = lengths - both
    tiou: Float64 = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return tiou


def _rank_activitynet(
    pairs: Overlaps, tious: Sequence[float], events: ClassEvents
) -> tuple[Ranking, ...]:
    order = np.lexsort((pairs.j, -pairs.tiou, pairs.i))
    i, j, tiou = pairs.i[order], pairs.j[order], pairs.tiou[order]
    row = []
    for threshold in tious:
        enough = tiou >= threshold
        partner = match_greedily(
            i[enough],
            j[enough],
            num_takers=len(pairs.predictions),
            num_taken=len(pairs.truth),
        )
        row.append(rank(pairs.predictions, pairs.truth, partner, events))
    return tuple(row)


def _rank_thumos(
    pairs: Overlaps, tious: Sequence[float], events: ClassEvents
) -> tuple[Ranking, ...]:
    order = np.lexsort((pairs.i, -pairs.tiou, pairs.j))
    i, j, tiou = pairs.i[order], pairs.j[order], pairs.tiou[order]
    ambiguous = events.truth.get(AMBIGUOUS, NO_EVENTS)
    doubtful = _touches(pairs.predictions, ambiguous)
    row = []
    for threshold in tious:
        enough = tiou > threshold
        taken = match_greedily(
            j[enough],
            i[enough],
            num_takers=len(pairs.truth),
            num_taken=len(pairs.predictions),
        )
        partner = taken_by(taken, num_taken=len(pairs.predictions))
        keep = (partner != NO_MATCH) | ~doubtful
        row.append(rank(pairs.predictions, pairs.truth, partner, events, keep=keep))
    return tuple(row)


def _touches(predictions: Columns, ambiguous: Columns) -> Bool:
    """(N,) whether a prediction overlaps an ambiguous stretch."""
    touched = np.zeros(len(predictions), dtype=np.bool_)
    touched[overlaps(predictions, ambiguous).i] = True
    return touched
