"""A checkpoint on labelled clips: the figures with their intervals over matches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from touchline.pipeline.bootstrap import (
    Difference,
    Figure,
    compare,
    describe_intervals,
    figure,
    resampled_counts,
)
from touchline.pipeline.exchange import exchanges, join_clips
from touchline.pipeline.metrics_clips import ClipCounts, clip_figures

HEADLINES = ("top1", "top5", "balanced_accuracy", "macro_f1")
PER_CLASS = ("recall", "precision", "f1")


@dataclass(frozen=True)
class ClipEvaluation:
    """Figures of one checkpoint.

    headlines: by the names of HEADLINES.  per_class: by label, then by the names of PER_CLASS.
    intervals: what the intervals rest on and are worth, in words.
    """

    counts: ClipCounts
    headlines: Mapping[str, Figure]
    per_class: Mapping[str, Mapping[str, Figure]]
    intervals: str

    def num_clips(self, label: str) -> int:
        """How many clips are of this class."""
        row = self.counts.labels.index(label)
        return int(self.counts.confusion[:, row].sum())


def evaluate_clips(counts: ClipCounts, *, resamples: int = 1000, seed: int = 0) -> ClipEvaluation:
    """Every figure of what was counted, with 95 % intervals over matches."""
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
    told = describe_intervals(counts.num_units, "matches", resamples=resamples)
    return ClipEvaluation(counts, headlines, per_class, told)


def compare_clips(
    a: ClipCounts, b: ClipCounts, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """B against A by every headline; both must be counts of the same clips."""
    if a.num_units != b.num_units or a.confusion.sum() != b.confusion.sum():
        raise ValueError("the two checkpoints were not scored on the same clips")
    draws = resampled_counts(a.num_units, resamples=resamples, seed=seed)
    swaps = exchanges(a.num_units, resamples=resamples, seed=seed)
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
