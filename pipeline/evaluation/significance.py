"""Say how certain a figure is: confidence intervals, and a test of whether two models differ.

Confidence intervals come from a bootstrap: whole matches are drawn with replacement (Efron 1979).
Events of one match share light, pitch and cameras. Drawing single events would make every interval
too narrow.

Two models are compared with a paired permutation test (Good 2005, "Permutation, Parametric, and
Bootstrap Tests of Hypotheses"; for ranking metrics Smucker, Allan and Carterette 2007). If neither
model is better, their predictions for a match can be swapped. The p-value is the share of such
swaps that give a difference at least as large. Average precision is not a sum over matches, so
every swap computes the figures again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from touchline.pipeline.evaluation.ranking import MeanAP, Ranking
from touchline.pipeline.types import Bool, Float64

CONFIDENCE = 0.95

FEWEST_UNITS = 6
"""With five matches no permutation gives a p-value below 2 / 2^5, which is above 0.05."""

ENOUGH_UNITS = 10
TOO_NARROW = (
    f"Fewer than {ENOUGH_UNITS} make them too narrow: in simulations they held the true "
    "value in half of the cases with 2, in three of four with 3, in 85 % with 6."
)
"""For accuracies of matches that differ; see test_evaluate.py. Resampling cannot show more
variation than the few matches happen to have (Hesterberg 2015)."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % confidence interval.

    Attributes:
        value: The figure; None if the labels have no such event.
        low: Lower end of the interval; None without an interval (one match, or no resamples).
        high: Upper end, likewise.
    """

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
    """Draw matches with replacement: (R, U) how often each match counts in each resample.

    Args:
        num_units: U, the number of matches (or stretches) to draw from.
        resamples: R, the number of resamples.
        seed: Random seed.

    Returns:
        The counts, or None with fewer than two units or without resamples.

    Raises:
        ValueError: `resamples` is negative.
    """
    if resamples < 0:
        raise ValueError(f"resamples is {resamples}; it must be 0 or more")
    if num_units < 2 or resamples == 0:
        return None
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=resamples)
    return draws.astype(np.float64)


def figure(value: float, samples: Float64 | None) -> Figure:
    """Give a value the interval that holds the middle 95 % of its resamples (R,).

    Resamples that are NaN had no labelled event and are left out.
    """
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
    """Say in words what the intervals rest on, and whether that is enough.

    Args:
        num_units: How many units were resampled.
        unit: Their name in the plural, such as "matches".
        resamples: Number of bootstrap resamples.
    """
    if resamples == 0:
        return "No confidence intervals: resamples is 0."
    if num_units < 2:
        return f"No confidence intervals: there are fewer than two {unit}."
    basis = f"95 % confidence intervals from {num_units} {unit}."
    return f"{basis} {TOO_NARROW}" if num_units < ENOUGH_UNITS else basis


@dataclass(frozen=True)
class Difference:
    """Model B minus model A over the same matches.

    Attributes:
        a: The figure of A; NaN if the labels have no such event.
        b: The figure of B.
        difference: b - a with its confidence interval.
        p: Two-sided p-value of the permutation test; None if it was not run.
        num_units: How many matches (or stretches) there are.
    """

    a: float
    b: float
    difference: Figure
    p: float | None
    num_units: int

    @property
    def verdict(self) -> str:
        """One sentence for people. It follows the p-value, not the interval."""
        if self.difference.value is None:
            return "nothing to compare: no labelled events"
        if self.num_units < 2:
            return "not tested: one match is not enough"
        if self.p is None:
            return "not tested: resamples is 0"
        if self.num_units < FEWEST_UNITS:
            return (
                f"too few to test: with {self.num_units} p cannot fall below "
                f"{2 / 2**self.num_units:.3g}; at least {FEWEST_UNITS} are needed"
            )
        if self.p < 1 - CONFIDENCE:
            better = "better" if self.b > self.a else "worse"
            return f"the second is significantly {better} (p = {self.p:.3g})"
        return f"no significant difference (p = {self.p:.3g})"


def compare(
    a: float,
    b: float,
    samples_a: Float64 | None,
    samples_b: Float64 | None,
    permuted: Float64 | None,
    *,
    num_units: int,
) -> Difference:
    """Compare B with A.

    Args:
        a: The figure of A.
        b: The figure of B.
        samples_a: (R,) the figure of A in each resample; None without resamples.
        samples_b: (R,) the figure of B in the same resamples.
        permuted: (S,) the difference after each permutation; the first one swaps nothing.
        num_units: How many matches there are.
    """
    apart = None if samples_a is None or samples_b is None else samples_b - samples_a
    p = None
    if permuted is not None and np.isfinite(permuted[0]):
        # NaN counts as large, and so does a difference that only rounding makes smaller.
        p = float(1 - (np.abs(permuted) < abs(permuted[0]) - ROUNDING).mean())
    return Difference(a, b, figure(b - a, apart), p, num_units)


def swap_counts(num_units: int, *, resamples: int, seed: int = 0) -> Float64 | None:
    """Say for each permutation whose predictions stand for model A: (S, 2 U) of 0 and 1.

    The first U columns are A's matches, the others B's; 1 minus a row stands for model B. Row 0
    swaps nothing.

    Args:
        num_units: U, the number of matches.
        resamples: All permutations are listed if there are at most this many; otherwise this many
            are drawn at random.
        seed: Random seed of the draw.

    Returns:
        The counts, or None with fewer than two matches or without resamples.
    """
    if num_units < 2 or resamples == 0:
        return None
    # The last match never swaps: swapping all others instead gives the same size of difference.
    if num_units - 1 < 62 and 2 ** (num_units - 1) <= resamples:
        swapped = (np.arange(2 ** (num_units - 1))[:, None] >> np.arange(num_units)) & 1
    else:
        swapped = np.random.default_rng(seed).integers(0, 2, size=(resamples + 1, num_units))
        swapped[0] = 0
    return np.hstack([1 - swapped, swapped]).astype(np.float64)


def join_metrics(a: MeanAP, b: MeanAP) -> MeanAP:
    """Put the predictions of both models into one ranking, B's matches after A's.

    A class that only one of them predicts becomes a class of both.
    """
    labels = tuple(sorted({*a.labels, *b.labels}))
    rows = []
    for label in labels:
        rows.append(tuple(map(_join_rankings, _row(a, label), _row(b, label))))
    return replace(a, labels=labels, rankings=tuple(rows), num_units=2 * a.num_units)


def _row(metric: MeanAP, label: str) -> Sequence[Ranking]:
    if label in metric.labels:
        return metric.rankings[metric.labels.index(label)]
    # Every labelled class is in every metric, so this one has no labelled event.
    none: Bool = np.zeros(0, dtype=np.bool_)
    empty = Ranking(np.zeros(0), none, np.zeros(0, dtype=np.int64), np.zeros(metric.num_units))
    return [empty] * len(metric.thresholds)


def _join_rankings(a: Ranking, b: Ranking) -> Ranking:
    U = len(a.num_truth)
    score = np.concatenate([a.score, b.score])
    match = np.concatenate([a.unit, b.unit])
    unit = np.concatenate([a.unit, b.unit + U])
    # Equal scores keep the order of their matches, as in each ranking alone.
    order = np.lexsort((match, -score))
    return Ranking(
        score[order],
        np.concatenate([a.hit, b.hit])[order],
        unit[order],
        np.concatenate([a.num_truth, b.num_truth]),
    )
