"""Heads that several backbones share: the part behind the trunk that is fitted to one sport."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("own", "linear", "frame")
POOLINGS = ("mean", "mean_std", "mean_max")
NORMALISATIONS = ("none", "l2")


@dataclass(frozen=True)
class HeadSpec:
    """Which head a model has; a checkpoint holds it.

    Attributes:
        kind: own (the one the backbone is built with), linear (a linear layer over features that
            are pooled over a window), or frame (a linear layer over the features of one frame).
        pooling: How features are pooled over time: mean, mean_std (mean and standard deviation) or
            mean_max (mean and maximum).
        normalisation: none, or l2: each feature vector is scaled to length 1 before pooling.
    """

    kind: str = "own"
    pooling: str = "mean"
    normalisation: str = "none"

    def __post_init__(self) -> None:
        for name, choices in (
            ("kind", KINDS),
            ("pooling", POOLINGS),
            ("normalisation", NORMALISATIONS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"head {name} is {getattr(self, name)!r}. Use one of {', '.join(choices)}"
                )

    @property
    def widening(self) -> int:
        """How many numbers the linear layer sees per feature."""
        return 1 if self.pooling == "mean" else 2


class PooledLinearHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): normalise, pool over time, linear."""

    def __init__(self, spec: HeadSpec, width: int, num_classes: int) -> None:
        """Build a head with random weights.

        Args:
            spec: How to normalise and pool.
            width: D, the number of features of the trunk.
            num_classes: K.
        """
        super().__init__()
        self.spec = spec
        self.linear = fresh_linear(width * spec.widening, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        logits: Tensor = self.linear(pool_features(features, self.spec))
        return logits


def pool_features(features: Tensor, spec: HeadSpec) -> Tensor:
    """Normalise and pool features (B, D, T) over time -> (B, D) or (B, 2 D).

    The standard deviation is that of the population, and 0 for a single frame.
    """
    if spec.normalisation == "l2":
        features = F.normalize(features, dim=1)
    mean = features.mean(dim=2)
    if spec.pooling == "mean":
        return mean
    other = features.std(dim=2, correction=0) if spec.pooling == "mean_std" else features.amax(2)
    return torch.cat([mean, other], dim=1)


class MeanHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): mean over time, dropout, linear."""

    def __init__(self, linear: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        logits: Tensor = self.linear(self.dropout(features.mean(dim=2)))
        return logits


def fresh_linear(width: int, num_classes: int) -> nn.Linear:
    """Build a linear layer with weights N(0, 0.01) and biases 0."""
    linear = nn.Linear(width, num_classes)
    nn.init.normal_(linear.weight, 0.0, 0.01)
    nn.init.zeros_(linear.bias)
    return linear
