"""Say how certain a figure is: confidence intervals, and a test of whether two models differ.

Intervals come from a bootstrap that resamples whole matches with replacement (Efron 1979). Events
of one match share light, pitch and cameras, so resampling single events would make every interval
too narrow.

Two models are compared by a paired randomisation test (Good 2005, "Permutation, Parametric, and
Bootstrap Tests of Hypotheses"; for ranking metrics Smucker, Allan and Carterette 2007): if neither
model is better, their answers to a match can be swapped. Average precision is not a sum over
matches, so every figure is computed again from the swapped answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from touchline.pipeline.evaluation.ranking import MeanAP, Ranking
from touchline.pipeline.types import Bool, Float64

CONFIDENCE = 0.95

FEWEST_UNITS = 6
"""Exchanging the answers of five matches gives no p below 2 / 2^5, which is above 0.05."""

ENOUGH_UNITS = 10
TOO_NARROW = (
    f"with fewer than {ENOUGH_UNITS} they are too narrow: in simulations they hold the truth in "
    "half of the cases with 2, in three of four with 3, in 85 % with 6"
)
"""Of accuracies of matches that differ; see test_evaluate.py. Resampling cannot show more
difference than few matches happen to have (Hesterberg 2015)."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % interval; None where it cannot be told (no truth, one match)."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resampled_counts(num_units: int, *, resamples: int, seed: int = 0) -> Float64 | None:
    """(R, U) how often each match is drawn; None where there are fewer than two to draw from."""
    if resamples < 0:
        raise ValueError(f"resamples is {resamples}; it must be 0 or more")
    if num_units < 2 or resamples == 0:
        return None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=resamples)
    return draws.astype(np.float64)


def figure(value: float, samples: Float64 | None) -> Figure:
    """A value with the middle 95 % of its resamplings; those that are NaN had no truth."""
    if not np.isfinite(value):
        return Figure(None)
    if samples is None:
        return Figure(float(value))
    defined = samples[np.isfinite(samples)]
    if len(defined) < 2:
        return Figure(float(value))
    low, high = np.quantile(defined, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(float(value), float(low), float(high))


def describe_intervals(num_units: int, unit: str, *, resamples: int) -> str:
    """What intervals from so many matches, or whatever `unit` names, are worth."""
    if resamples == 0:
        return "no intervals: no resamples"
    if num_units < 2:
        return f"no intervals: fewer than two {unit}"
    told = f"95 % intervals from {num_units} {unit}"
    return f"{told}; {TOO_NARROW}" if num_units < ENOUGH_UNITS else told


@dataclass(frozen=True)
class Difference:
    """B minus A over the same matches.

    p: how often a difference as large comes of exchanging their answers match by match, two-sided
    (see `swap_counts`); None where that was not tried. num_units: how many matches there are.
    """

    a: float
    b: float
    difference: Figure
    p: float | None
    num_units: int

    @property
    def verdict(self) -> str:
        """One sentence for people; it follows p, not the interval."""
        if self.difference.value is None:
            return "nothing to compare: no truth"
        if self.num_units < 2:
            return "one match alone cannot tell a difference from chance"
        if self.p is None:
            return "not tested: no resamples"
        if self.num_units < FEWEST_UNITS:
            return (
                f"too few to tell: with {self.num_units} p cannot fall below "
                f"{2 / 2**self.num_units:.3g}, it takes {FEWEST_UNITS}"
            )
        if self.p < 1 - CONFIDENCE:
            better = "better" if self.b > self.a else "worse"
            return f"the second is {better}, by more than chance (p = {self.p:.3g})"
        return f"no more than chance (p = {self.p:.3g})"


def compare(
    a: float,
    b: float,
    samples_a: Float64 | None,
    samples_b: Float64 | None,
    permuted: Float64 | None,
    *,
    num_units: int,
) -> Difference:
    """B against A from paired resamplings, the same matches drawn for both, and exchanges.

    permuted: (S,) the difference after each exchange of their answers, the first as it is.
    """
    apart = None if samples_a is None or samples_b is None else samples_b - samples_a
    p = None
    if permuted is not None and np.isfinite(permuted[0]):
        # What cannot be told counts as chance; as large is also what only rounding makes smaller.
        p = float(1 - (np.abs(permuted) < abs(permuted[0]) - ROUNDING).mean())
    return Difference(a, b, figure(b - a, apart), p, num_units)


def swap_counts(num_units: int, *, resamples: int, seed: int = 0) -> Float64 | None:
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
