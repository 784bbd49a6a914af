"""Measure predictions on labelled clips: loss, balanced accuracy, mean average precision."""

from __future__ import annotations

import numpy as np

from touchline.pipeline.types import Float32


def val_figures(probs: Float32, targets: Float32, *, multi_label: bool = False) -> dict[str, float]:
    """Return validation figures; the epoch with the highest `val_score` is the best.

    Exclusive classes have accuracy, balanced accuracy (mean recall of the classes present) and log
    loss; balanced accuracy is the score. Independent classes have mean average precision, which is
    the score, and log loss.

    Args:
        probs: (N, K) probabilities.
        targets: (N, K), 1 in the columns of the true classes and 0 elsewhere.
        multi_label: Whether classes are independent of each other.
    """
    if multi_label:
        right = np.where(targets > 0, probs, 1 - probs)
        mean_ap = mean_average_precision(probs, targets)
        loss = float(-np.log(right.clip(1e-12)).mean())
        return {"val_map": mean_ap, "val_loss": loss, "val_score": mean_ap}
    truth = targets.argmax(axis=1)
    right = probs.argmax(axis=1) == truth
    recalls = [right[truth == k].mean() for k in np.unique(truth)]
    likelihood = probs[np.arange(len(truth)), truth].clip(1e-12)
    balanced = float(np.mean(recalls))
    return {
        "val_accuracy": float(right.mean()),
        "val_balanced_accuracy": balanced,
        "val_loss": float(-np.log(likelihood).mean()),
        "val_score": balanced,
    }


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
