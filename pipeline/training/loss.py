"""Compute the training loss, with class weights and label smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.pipeline.training.targets import class_weights, positive_weights
from touchline.pipeline.types import Float32


@dataclass(frozen=True)
class Loss:
    """Cross-entropy as a sum over examples; binary cross-entropy for independent classes.

    Sums of parts of a batch (other processes, accumulated steps) add up, unlike means. Divide by
    `total` of the whole batch.

    Attributes:
        weights: (K,) of classes; for independent classes, of their positives.
        has_background: Whether background was in the training clips; if not, its column is left
            out.
        multi_label: Whether classes are independent of each other.
        smoothing: How much of each target is spread over all classes, in [0, 1).
        focal_gamma: Clips already classified well count less, by (1 - p) ** gamma (Lin et al.
            2017); 0: cross-entropy.
    """

    weights: Tensor
    has_background: bool = True
    multi_label: bool = False
    smoothing: float = 0.0
    focal_gamma: float = 0.0

    def total(self, targets: Tensor) -> float:
        """Return the divisor that turns the sum over these targets (B, K) into a mean."""
        if self.multi_label:
            return float(targets.numel() if self.has_background else targets[:, 1:].numel())
        return float((targets @ self.weights.to(targets.device)).sum())

    def sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted sum of the losses of logits (B, K) and targets (B, K) in [0, 1]."""
        weights = self.weights.to(logits.device)
        if not self.has_background:
            # There were no background clips, so nothing can be learnt about its column.
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
    """Return the loss for a set of training targets.

    Args:
        targets: (N, K) of the whole training set.
        balance: One of BALANCES.
        has_background: Whether background is among the targets.
        multi_label: Whether classes are independent of each other.
        smoothing: How much of each target is spread over all classes, in [0, 1).
        focal_gamma: Gamma of the focal loss; 0: cross-entropy.
    """
    if balance != "weights":
        weights = torch.ones(targets.shape[1])
    else:
        weights = positive_weights(targets) if multi_label else class_weights(targets)
    return Loss(weights, has_background, multi_label, smoothing, focal_gamma)
