"""Make the training targets of examples, and the class weights that balance them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from touchline.pipeline.types import Example, Float32, Float64, Int64

# The most negatives that one positive of a rare class can outweigh.
MAX_POSITIVE_WEIGHT = 10.0


def make_targets(
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    among: Sequence[Example] = (),
) -> Float32:
    """Return targets (N, K): 1 in the column of each example's class, 0 elsewhere.

    Args:
        examples: N labels.
        labels: The K classes.
        among: For independent classes, all labels: one that shares at least half of the shorter
            interval with an example sets its own column to 1 too.
    """
    column = {label: k for k, label in enumerate(labels)}
    targets = np.zeros((len(examples), len(labels)), np.float32)
    by_path: dict[object, list[Example]] = {}
    for other in among:
        by_path.setdefault(other.path, []).append(other)
    for i, example in enumerate(examples):
        targets[i, column[example.label]] = 1
        for other in by_path.get(example.path, ()):
            if _together(example, other):
                targets[i, column[other.label]] = 1
    return targets


def _together(first: Example, second: Example) -> bool:
    if first.start_s is None or first.end_s is None:
        return True
    if second.start_s is None or second.end_s is None:
        return True
    shared_s = min(first.end_s, second.end_s) - max(first.start_s, second.start_s)
    shorter_s = min(first.end_s - first.start_s, second.end_s - second.start_s)
    return shared_s >= shorter_s / 2 and shared_s >= 0


def class_weights(targets: Float32) -> Tensor:
    """Return (K,) class weights by inverse frequency, mean 1 over the examples; 0 if absent."""
    counts = targets.sum(axis=0)
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return torch.tensor(weights, dtype=torch.float32)


def positive_weights(targets: Float32) -> Tensor:
    """Return (K,) negatives per positive of independent classes, 1 to MAX_POSITIVE_WEIGHT."""
    counts = targets.sum(axis=0)
    ratio = (len(targets) - counts) / np.maximum(counts, 1)
    return torch.tensor(ratio.clip(1.0, MAX_POSITIVE_WEIGHT), dtype=torch.float32)


def draw_chances(targets: Float32) -> Float64:
    """Return (N,) probabilities of drawing each example, so that classes come up equally often."""
    weights = class_weights(targets).numpy().astype(np.float64)
    chances = (targets * weights).max(axis=1)
    return np.asarray(chances / chances.sum())


def true_classes(targets: Float32, *, multi_label: bool) -> Int64:
    """Targets (N, K) -> the column of each example's class (N,); for independent classes (N, K)."""
    return np.asarray(targets if multi_label else targets.argmax(axis=1), dtype=np.int64)
