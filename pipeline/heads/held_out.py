"""What a model answers to clips of matches that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from touchline.pipeline.heads.choose import ClipFeatures, Trial, held_out_probs, judged_clips
from touchline.pipeline.training.result import FineTuneResult
from touchline.pipeline.types import Bool, Example, Float32, Float64


@dataclass(frozen=True)
class HeldOut:
    """Clips of matches that the answering model did not learn from, and its answers.

    Attributes:
        examples: The N clips.
        labels: The K classes; column 0 is background.
        probs: (N, K) probabilities.
        targets: (N, K), 1 in the columns of each clip's classes.
        judged: (N,) False for clips of a class that only one fold has: the head that answered them
            had no example of it.
        multi_label: Whether classes are independent of each other.
    """

    examples: tuple[Example, ...]
    labels: tuple[str, ...]
    probs: Float64
    targets: Float32
    judged: Bool
    multi_label: bool = False

    @property
    def groups(self) -> list[str]:
        """The match of each clip."""
        return [example.group for example in self.examples]

    @property
    def true(self) -> Bool:
        """(N, K), whether the clip shows the class."""
        return np.asarray(self.targets > 0)

    @property
    def given(self) -> Bool:
        """(N, K), whether the model gives the clip the class.

        That is the most probable class; of independent classes, those of probability 0.5 or more.
        """
        if self.multi_label:
            return np.asarray(self.probs >= 0.5)
        return np.asarray(self.probs.argmax(axis=1)[:, None] == np.arange(len(self.labels)))

    def only_judged(self) -> HeldOut:
        """Return the clips that are judged."""
        kept = self.judged
        examples = tuple(e for e, keep in zip(self.examples, kept, strict=True) if keep)
        return replace(
            self,
            examples=examples,
            probs=self.probs[kept],
            targets=self.targets[kept],
            judged=kept[kept],
        )

    def recalls(self) -> dict[str, float]:
        """Return the recall of each class that has clips, on all clips."""
        true, right = self.true.sum(axis=0), (self.true & self.given).sum(axis=0)
        return {label: float(right[k] / true[k]) for k, label in enumerate(self.labels) if true[k]}


def cross_validated(
    features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    *,
    examples: Sequence[Example],
    labels: Sequence[str],
) -> HeldOut:
    """Answer every training clip by a head that did not see its match.

    Args:
        features: The training clips.
        trial: The head and its strength.
        folds: Indices of the clips of each fold; whole matches.
        examples: The label of each clip.
        labels: The classes of the model.
    """
    judged = np.zeros(len(examples), dtype=np.bool_)
    judged[judged_clips(features.targets, folds)] = True
    return HeldOut(
        tuple(examples),
        tuple(labels),
        held_out_probs(features, trial, folds),
        features.targets,
        judged,
        features.multi_label,
    )


def validated(result: FineTuneResult) -> HeldOut:
    """Return the answers of a trained model to its validation clips."""
    model, truth = result.model, result.val_truth
    targets = truth if model.multi_label else np.eye(len(model.labels))[truth]
    return HeldOut(
        result.val_examples,
        model.labels,
        result.val_probs.astype(np.float64),
        targets.astype(np.float32),
        np.ones(len(truth), dtype=np.bool_),
        model.multi_label,
    )
