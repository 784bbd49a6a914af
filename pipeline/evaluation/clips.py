"""Measure a checkpoint on labelled clips: counts per match, figures, confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from touchline.pipeline.evaluation.ranking import ratio
from touchline.pipeline.evaluation.significance import (
    Difference,
    Figure,
    compare,
    describe_intervals,
    figure,
    resampled_counts,
    swap_counts,
)
from touchline.pipeline.types import Float32, Float64, Int64

HEADLINES = ("top1", "top5", "balanced_accuracy", "macro_f1")
PER_CLASS = ("recall", "precision", "f1")
TOP_FEW = 5


@dataclass(frozen=True)
class ClipCounts:
    """What was counted on labelled clips of K classes in U matches.

    Attributes:
        labels: The K classes.
        confusion: (U, K, K) confusion matrix of each match; rows are the true class.
        top_few: (U,) number of clips whose class is among the five best-scored.
    """

    labels: tuple[str, ...]
    confusion: Float64
    top_few: Float64

    @property
    def num_units(self) -> int:
        """U, the number of matches."""
        return len(self.confusion)


@dataclass(frozen=True)
class ClipFigures:
    """Figures of R resamples; NaN for a class without clips.

    Attributes:
        top1: (R,) share of clips whose class scores highest.
        top5: (R,) share of clips whose class is among the five best-scored.
        balanced_accuracy: (R,) mean recall of the classes that have clips.
        macro_f1: (R,) mean F1 of the classes that have clips.
        precision: (R, K), per class.
        recall: (R, K), per class.
        f1: (R, K), per class.
    """

    top1: Float64
    top5: Float64
    balanced_accuracy: Float64
    macro_f1: Float64
    precision: Float64
    recall: Float64
    f1: Float64


@dataclass(frozen=True)
class ClipEvaluation:
    """The figures of one checkpoint.

    Attributes:
        counts: What the figures are computed from.
        headlines: Figures by the names of `HEADLINES`.
        per_class: Figures by label, then by the names of `PER_CLASS`.
        intervals: A sentence that says what the intervals rest on.
    """

    counts: ClipCounts
    headlines: Mapping[str, Figure]
    per_class: Mapping[str, Mapping[str, Figure]]
    intervals: str

    def num_clips(self, label: str) -> int:
        """Count the clips of this class."""
        row = self.counts.labels.index(label)
        return int(self.counts.confusion[:, row].sum())


def evaluate_clips(counts: ClipCounts, *, resamples: int = 1000, seed: int = 0) -> ClipEvaluation:
    """Compute every figure, with 95 % confidence intervals over matches.

    Args:
        counts: What was counted on the clips.
        resamples: Number of bootstrap resamples; 0 skips the intervals.
        seed: Random seed of the bootstrap.
    """
    draws = resampled_counts(counts.num_units, resamples=resamples, seed=seed)
    whole = clip_figures(counts)
    drawn = None if draws is None else clip_figures(counts, draws)
    headlines = {
        name: figure(getattr(whole, name)[0], None if drawn is None else getattr(drawn, name))
        for name in HEADLINES
    }
    per_class = {
        label: {
            name: figure(
                getattr(whole, name)[0, k], None if drawn is None else getattr(drawn, name)[:, k]
            )
            for name in PER_CLASS
        }
        for k, label in enumerate(counts.labels)
    }
    intervals = describe_intervals(counts.num_units, "matches", resamples=resamples)
    return ClipEvaluation(counts, headlines, per_class, intervals)


def compare_clips(
    a: ClipCounts, b: ClipCounts, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Compare checkpoint B with A by every headline figure.

    Args:
        a: What was counted for A.
        b: What was counted for B, on the same clips.
        resamples: Number of bootstrap resamples, and of permutations; 0 skips both.
        seed: Random seed of both.

    Raises:
        ValueError: The two were not scored on the same clips.
    """
    if a.num_units != b.num_units or a.confusion.sum() != b.confusion.sum():
        raise ValueError(
            "the two checkpoints were scored on different clips. Score both on the same ones."
        )
    draws = resampled_counts(a.num_units, resamples=resamples, seed=seed)
    swaps = swap_counts(a.num_units, resamples=resamples, seed=seed)
    both = join_clips(a, b)
    whole = [clip_figures(counts) for counts in (a, b)]
    drawn = [None if draws is None else clip_figures(counts, draws) for counts in (a, b)]
    swapped = None if swaps is None else (clip_figures(both, swaps), clip_figures(both, 1 - swaps))
    found = {}
    for name in HEADLINES:
        found[name] = compare(
            float(getattr(whole[0], name)[0]),
            float(getattr(whole[1], name)[0]),
            getattr(drawn[0], name, None),
            getattr(drawn[1], name, None),
            swapped and getattr(swapped[1], name) - getattr(swapped[0], name),
            num_units=a.num_units,
        )
    return found


def count_clips(
    probs: Float32, truth: Int64, labels: Sequence[str], groups: Sequence[str]
) -> ClipCounts:
    """Count right and wrong clips per match.

    A clip counts as `top_few` if fewer than five other classes score strictly more.

    Args:
        probs: (N, K) probabilities of each clip.
        truth: (N,) the column of each clip's class.
        labels: The K classes.
        groups: The match of each clip.

    Raises:
        ValueError: The shapes do not fit, or `truth` holds a column that is not there.
    """
    N, K = probs.shape
    if truth.shape != (N,) or len(groups) != N or len(labels) != K:
        raise ValueError(
            f"probs has shape {probs.shape}, but there are {len(truth)} true classes, "
            f"{len(groups)} groups and {len(labels)} labels"
        )
    if N and not (truth.min() >= 0 and truth.max() < K):
        raise ValueError(f"truth holds columns up to {truth.max()}; there are {K} classes")
    place = {group: u for u, group in enumerate(dict.fromkeys(groups))}
    unit = np.array([place[group] for group in groups], dtype=np.int64)
    confusion = np.zeros((len(place), K, K))
    np.add.at(confusion, (unit, truth, probs.argmax(axis=1)), 1)
    better = (probs > probs[np.arange(N), truth][:, None]).sum(axis=1)
    top_few = np.bincount(unit, better < TOP_FEW, minlength=len(place)).astype(np.float64)
    return ClipCounts(tuple(labels), confusion, top_few)


def clip_figures(counts: ClipCounts, draws: Float64 | None = None) -> ClipFigures:
    """Compute the figures with match u counted draws[r, u] times; without draws once (R = 1)."""
    draws = np.ones((1, counts.num_units)) if draws is None else draws
    confusion = np.einsum("ru,uij->rij", draws, counts.confusion)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    actual, guessed = confusion.sum(axis=2), confusion.sum(axis=1)
    total = actual.sum(axis=1)
    recall = ratio(right, actual)
    f1 = np.where(actual > 0, ratio(2 * right, actual + guessed), np.nan)
    return ClipFigures(
        top1=ratio(right.sum(axis=1), total),
        top5=ratio(draws @ counts.top_few, total),
        balanced_accuracy=_mean_of_defined(recall),
        macro_f1=_mean_of_defined(f1),
        precision=ratio(right, guessed),
        recall=recall,
        f1=f1,
    )


def _mean_of_defined(table: Float64) -> Float64:
    """(R, K) -> (R,), the mean without NaN."""
    defined = np.isfinite(table)
    return ratio(np.where(defined, table, 0.0).sum(axis=1), defined.sum(axis=1).astype(float))


def join_clips(a: ClipCounts, b: ClipCounts) -> ClipCounts:
    """Put both counts into one, B's matches after A's; classes are matched by name."""
    labels = tuple(dict.fromkeys((*a.labels, *b.labels)))
    counts = []
    for one in (a, b):
        place = [labels.index(label) for label in one.labels]
        table = np.zeros((one.num_units, len(labels), len(labels)))
        table[:, np.array(place)[:, None], place] = one.confusion
        counts.append(table)
    return ClipCounts(labels, np.concatenate(counts), np.concatenate([a.top_few, b.top_few]))
