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
