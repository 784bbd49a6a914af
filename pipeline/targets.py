"""What a network should answer: targets, their balance, the loss, and how well answers fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.pipeline.types import Example, Float32, Float64

BALANCES = ("weights", "sampling", "none")

# A positive of a rare class counts for at most so many negatives.
MAX_POSITIVE_WEIGHT = 10.0


def make_targets(
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    among: Sequence[Example] = (),
) -> Float32:
    """(N, K): 1 in the column of each example's class, 0 elsewhere.

    among, for independent classes: labels of the same footage count too where they share at least
    half of the shorter interval.
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


def one_per_interval(examples: Sequence[Example]) -> list[Example]:
    """The first of the examples of each stretch of footage; for independent classes."""
    first: dict[tuple[object, ...], Example] = {}
    for example in examples:
        first.setdefault((example.path, example.start_s, example.end_s), example)
    return list(first.values())


def class_weights(targets: Float32) -> Tensor:
    """(K,) inverse frequency, mean 1 over the examples; 0 for a class without any."""
    counts = targets.sum(axis=0)
    present = counts > 0
    weights = np.zeros(len(counts))
    weights[present] = counts.sum() / (present.sum() * counts[present])
    return torch.tensor(weights, dtype=torch.float32)


def positive_weights(targets: Float32) -> Tensor:
    """(K,) negatives per positive of each independent class, at most MAX_POSITIVE_WEIGHT."""
    counts = targets.sum(axis=0)
    ratio = (len(targets) - counts) / np.maximum(counts, 1)
    return torch.tensor(ratio.clip(1.0, MAX_POSITIVE_WEIGHT), dtype=torch.float32)


def draw_chances(targets: Float32) -> Float64:
    """(N,) how often to draw each example so that every class comes up equally often."""
    weights = class_weights(targets).numpy().astype(np.float64)
    chances = (targets * weights).max(axis=1)
    return np.asarray(chances / chances.sum())


@dataclass(frozen=True)
class Loss:
    """Cross-entropy, or for independent classes binary cross-entropy, as sums over examples.

    Sums rather than means, so that the parts of a batch (other processes, accumulated steps) add
    up to what the whole would give: divide by `total` of the whole.

    weights: (K,) of classes; for independent classes, of their positives.
    focal_gamma: examples already right count less by (1 - p) ** gamma (Lin et al. 2017).
    """

    weights: Tensor
    has_background: bool = True
    multi_label: bool = False
    smoothing: float = 0.0
    focal_gamma: float = 0.0

    def total(self, targets: Tensor) -> float:
        """What the sum over these targets (B, K) is to be divided by."""
        if self.multi_label:
            return float(targets.numel() if self.has_background else targets[:, 1:].numel())
        return float((targets @ self.weights.to(targets.device)).sum())

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Logits (B, K) and targets (B, K) in [0, 1] -> the weighted sum of losses."""
        weights = self.weights.to(logits.device)
        if not self.has_background:
            # Nobody taught what background is, so nothing is learnt about its column.
            logits, targets, weights = logits[:, 1:], targets[:, 1:], weights[1:]
        if self.multi_label:
            return self._independent(logits, targets, weights)
        return self._exclusive(logits, targets, weights)

    def _exclusive(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        log_probs = logits.float().log_softmax(dim=1)
        smooth = targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
        losses = -(smooth * log_probs).sum(dim=1) * (targets @ weights)
        if self.focal_gamma:
            right = (targets * log_probs.exp()).sum(dim=1)
            losses = losses * (1 - right) ** self.focal_gamma
        return losses.sum()

    def _independent(self, logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        logits = logits.float()
        smooth = targets * (1 - self.smoothing) + self.smoothing / 2
        losses = F.binary_cross_entropy_with_logits(
            logits, smooth, pos_weight=weights, reduction="none"
        )
        if self.focal_gamma:
            probs = logits.sigmoid()
            right = targets * probs + (1 - targets) * (1 - probs)
            losses = losses * (1 - right) ** self.focal_gamma
        return losses.sum()


def make_loss(
    targets: Float32,
    *,
    balance: str,
    has_background: bool,
    multi_label: bool,
    smoothing: float,
    focal_gamma: float,
) -> Loss:
    """The loss for training targets (N, K); balance is one of BALANCES."""
    if balance != "weights":
        weights = torch.ones(targets.shape[1])
    else:
        weights = positive_weights(targets) if multi_label else class_weights(targets)
    return Loss(weights, has_background, multi_label, smoothing, focal_gamma)


def val_figures(probs: Float32, targets: Float32, *, multi_label: bool = False) -> dict[str, float]:
    """How well probs (N, K) fit targets (N, K); `val_score` is what the best epoch has most of.

    Exclusive classes: accuracy, balanced accuracy (mean recall of the classes present, the score)
    and log loss. Independent ones: mean average precision (the score) and log loss.
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
    """Mean over the classes with positives of average precision, without interpolation."""
    values = [
        average_precision(probs[:, k], targets[:, k] > 0)
        for k in range(targets.shape[1])
        if targets[:, k].any()
    ]
    return float(np.mean(values)) if values else 0.0


def average_precision(
    scores: Float32, positive: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> float:
    """Precision at each positive, best score first, averaged; equal scores count at their worst."""
    order = np.lexsort((positive, -scores))
    hits = positive[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())
