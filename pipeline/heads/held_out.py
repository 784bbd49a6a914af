"""What a model answers to clips of matches that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def cross_validated(
    features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    *,
    examples: Sequence[Example],
    labels: Sequence[str],
) -> HeldOut:
    """Answer every training clip by a head that saw none of its match.

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
