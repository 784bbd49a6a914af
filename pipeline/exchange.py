"""Whether two models differ: their answers are exchanged match by match.

A paired randomisation test (Good 2005, "Permutation, Parametric, and Bootstrap Tests of
Hypotheses"; for metrics of rankings Smucker, Allan and Carterette 2007). If neither model is
better, the answers to a match might as well have been the other's. Average precision is no sum
over matches, so every figure is computed anew from the exchanged answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from touchline.pipeline.breakdown import Breakdown
from touchline.pipeline.metrics_clips import ClipCounts
from touchline.pipeline.ranking import MeanAP, Ranking
from touchline.pipeline.types import Bool, Float64


def exchanges(num_units: int, *, resamples: int, seed: int = 0) -> Float64 | None:
    """(S, 2 U) whose answers stand in for A's: of every match A's, then of every match B's.

    1 minus a row is what stands in for B's; row 0 exchanges nothing. All exchanges where they are
    no more than `resamples`, else so many are drawn. None with fewer than two matches.
    """
    if num_units < 2 or resamples == 0:
        return None
    # The last match may stay: exchanging the others instead only turns the sign.
    if num_units - 1 < 62 and 2 ** (num_units - 1) <= resamples:
        swapped = (np.arange(2 ** (num_units - 1))[:, None] >> np.arange(num_units)) & 1
    else:
        swapped = np.random.default_rng(seed).integers(0, 2, size=(resamples + 1, num_units))
        swapped[0] = 0
    return np.hstack([1 - swapped, swapped]).astype(np.float64)


def join_clips(a: ClipCounts, b: ClipCounts) -> ClipCounts:
    """The counts of both, B's matches after A's; classes of the same name are the same."""
    labels = tuple(dict.fromkeys((*a.labels, *b.labels)))
    counts = []
    for one in (a, b):
        place = [labels.index(label) for label in one.labels]
        table = np.zeros((one.num_units, len(labels), len(labels)))
        table[:, np.array(place)[:, None], place] = one.confusion
        counts.append(table)
    return ClipCounts(labels, np.concatenate(counts), np.concatenate([a.top_few, b.top_few]))


def join_breakdowns(a: Breakdown, b: Breakdown) -> Breakdown:
    """A with B's matches after its own; only its `overall` is then of any use."""
    return replace(a, per_unit=np.concatenate([a.per_unit, b.per_unit]))


def join_metrics(a: MeanAP, b: MeanAP) -> MeanAP:
    """The predictions of both in one ranking, B's matches after A's.

    A class that only one of them predicts is a class of both.
    """
    labels = tuple(sorted({*a.labels, *b.labels}))
    rows = []
    for label in labels:
        rows.append(tuple(map(_join_rankings, _row(a, label), _row(b, label))))
    return replace(a, labels=labels, rankings=tuple(rows), num_units=2 * a.num_units)


def _row(metric: MeanAP, label: str) -> Sequence[Ranking]:
    if label in metric.labels:
        return metric.rankings[metric.labels.index(label)]
    # Every class of the truth is in every metric, so this one has none.
    none: Bool = np.zeros(0, dtype=np.bool_)
    empty = Ranking(np.zeros(0), none, np.zeros(0, dtype=np.int64), np.zeros(metric.num_units))
    return [empty] * len(metric.thresholds)


def _join_rankings(a: Ranking, b: Ranking) -> Ranking:
    U = len(a.num_truth)
    score = np.concatenate([a.score, b.score])
    match = np.concatenate([a.unit, b.unit])
    unit = np.concatenate([a.unit, b.unit + U])
    # Equal scores in the order of the matches, as either ranking has them by itself.
    order = np.lexsort((match, -score))
    return Ranking(
        score[order],
        np.concatenate([a.hit, b.hit])[order],
        unit[order],
        np.concatenate([a.num_truth, b.num_truth]),
    )
