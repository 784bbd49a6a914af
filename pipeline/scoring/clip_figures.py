"""Measure predictions on labelled clips: loss, balanced accuracy, mean average precision."""

from __future__ import annotations

import numpy as np

from touchline.pipeline.types import Float32, Float64

LEAST_PROB = 1e-4
"""Probabilities are held above this in the log loss: one sure mistake must not decide."""


def val_figures(probs: Float32, targets: Float32, *, multi_label: bool = False) -> dict[str, float]:
    """Return validation figures of one epoch.

    Exclusive classes have accuracy, balanced accuracy (mean recall of the classes present) and log
    loss (mean over the classes present). Independent classes have mean average precision and log
    loss.

    Args:
        probs: (N, K) probabilities.
        targets: (N, K), 1 in the columns of the true classes and 0 elsewhere.
        multi_label: Whether classes are independent of each other.
    """
    losses, weights = clip_losses(probs, targets, multi_label=multi_label)
    val_loss = float(losses @ weights)
    if multi_label:
        return {"val_map": mean_average_precision(probs, targets), "val_loss": val_loss}
    right = probs.argmax(axis=1) == targets.argmax(axis=1)
    return {
        "val_accuracy": float(right.mean()),
        "val_balanced_accuracy": float(np.average(right, weights=weights)),
        "val_loss": val_loss,
    }


def clip_losses(
    probs: Float32 | Float64, targets: Float32, *, multi_label: bool = False
) -> tuple[Float64, Float64]:
    """Return the loss (N,) of each clip and its weight (N,); the log loss is their weighted sum.

    Every class counts the same, as does every clip in it.

    Args:
        probs: (N, K) probabilities.
        targets: (N, K), 1 in the columns of the true classes and 0 elsewhere.
        multi_label: Whether classes are independent of each other; then every clip counts the same.
    """
    true = targets > 0
    held = probs.astype(np.float64).clip(LEAST_PROB, 1 - LEAST_PROB)
    if multi_label:
        losses = -np.where(true, np.log(held), np.log(1 - held)).mean(axis=1)
        return losses, np.full(len(losses), 1 / len(losses))
    counts = true.sum(axis=0)
    per_class = np.zeros(len(counts))
    per_class[counts > 0] = 1 / ((counts > 0).sum() * counts[counts > 0])
    return -np.log(held[true]), (true * per_class).sum(axis=1)


def mean_average_precision(probs: Float32, targets: Float32) -> float:
    """Return the mean average precision over the classes that have positives; 0 without any."""
    values = [
        average_precision(probs[:, k], targets[:, k] > 0)
        for k in range(targets.shape[1])
        if targets[:, k].any()
    ]
    return float(np.mean(values)) if values else 0.0


def average_precision(
    scores: Float32, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> float:
    """Return the average precision of one class, without interpolation.

    That is the mean of the precision at each positive, best score first. Among equal scores the
    negatives come first, so that ties do not help.
    """
    order = np.lexsort((positive, -scores))
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
