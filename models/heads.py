"""Heads that several backbones share: the part behind the trunk that is fitted to one sport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KINDS = ("own", "linear", "frame", "temporal", "dense")
POOLINGS = ("mean", "mean_std", "mean_max", "mean_std_max")
NORMALISATIONS = ("none", "l2")

TEMPORAL_CHANNELS = 64

DENSE_UNITS = 512


@dataclass(frozen=True)
class HeadSpec:
    """Which head a model has; a checkpoint holds it.

    Attributes:
        kind: own (the one the backbone is built with), linear (a linear layer over features that
            are pooled over a window), frame (a linear layer over the features of one frame),
            temporal (convolutions over time), or dense (512 units over every place of the picture).
        pooling: How features are pooled over time: mean, mean_std (mean and standard deviation),
            mean_max (mean and maximum) or mean_std_max. A temporal head pools the mean of its own
            features.
        normalisation: none, or l2: each feature vector is scaled to length 1 before pooling.
        mirror: Whether the trunk sees the mirror image of each picture, too. The linear layer sees
            the mean of both.
    """

    kind: str = "own"
    pooling: str = "mean"
    normalisation: str = "none"
    mirror: bool = False

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
        return len(self.pooling.split("_"))


class PooledLinearHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): normalise, pool over time, linear.

    With `mirror`, features are (B, 2 D, T): first of the pictures, then of their mirror images.
    """

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


POOLS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda features: features.mean(dim=2),
    "std": lambda features: features.std(dim=2, correction=0),
    "max": lambda features: features.amax(dim=2),
}
"""What the names of POOLINGS are made of: (B, D, T) -> (B, D)."""


def normalise_features(features: Tensor, spec: HeadSpec) -> Tensor:
    """Normalise features (B, D, T), each of the B * T vectors for itself."""
    return F.normalize(features, dim=1) if spec.normalisation == "l2" else features


def pool_features(features: Tensor, spec: HeadSpec) -> Tensor:
    """Normalise and pool features (B, D, T) over time -> (B, W D), W being `spec.widening`.

    With `mirror`, features are (B, 2 D, T) and the result is the mean of the two halves. The
    standard deviation is that of the population, and 0 for a single frame.
    """
    if spec.mirror:
        plain = replace(spec, mirror=False)
        seen, mirrored = features.chunk(2, dim=1)
        return (pool_features(seen, plain) + pool_features(mirrored, plain)) / 2
    features = normalise_features(features, spec)
    return torch.cat([POOLS[part](features) for part in spec.pooling.split("_")], dim=1)


class TemporalHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): few channels, dilated convolutions over time, linear.

    Residual blocks with dilations 1, 2 and 4, as in temporal convolutional networks (Lea et al.
    2017; Farha & Gall 2019), but small: a few hundred clips must be enough.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, spec: HeadSpec, width: int, num_classes: int) -> None:
        """Build a head with random weights.

        Args:
            spec: How to normalise.
            width: D, the number of features of the trunk.
            num_classes: K.
        """
        super().__init__()
        self.spec = spec
        # Of the features it is trained on: scaled by these, their mean square length is D.
        self.register_buffer("centre", torch.zeros(width, 1))
        self.register_buffer("scale", torch.ones(()))
        self.project = nn.Conv1d(width, TEMPORAL_CHANNELS, 1)
        self.blocks = nn.ModuleList(
            nn.Conv1d(TEMPORAL_CHANNELS, TEMPORAL_CHANNELS, 3, padding=dilation, dilation=dilation)
            for dilation in (1, 2, 4)
        )
        self.dropout = nn.Dropout(0.5)
        self.linear = fresh_linear(TEMPORAL_CHANNELS, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        x = (normalise_features(features, self.spec) - self.centre) / self.scale
        x = self.dropout(self.project(x))  # (B, C, T)
        for block in self.blocks:
            x = x + self.dropout(block(x).relu())
        logits: Tensor = self.linear(self.dropout(x.mean(dim=2)))
        return logits


class DenseHead(nn.Module):
    """Features (B, D, T) of flattened pictures -> logits (B, K): 512 units with ReLU, linear.

    The usual recipe for a pretrained image network: flatten its last maps, one layer of 512 units,
    softmax. Several frames are averaged first.
    """

    def __init__(self, spec: HeadSpec, width: int, num_classes: int) -> None:
        """Build a head with random weights.

        Args:
            spec: How to normalise.
            width: D, all numbers of a picture's last maps.
            num_classes: K.
        """
        super().__init__()
        self.spec = spec
        self.hidden = nn.Linear(width, DENSE_UNITS)
        self.linear = fresh_linear(DENSE_UNITS, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        seen = normalise_features(features, self.spec).mean(dim=2)
        logits: Tensor = self.linear(self.hidden(seen).relu())
        return logits


def build_head(spec: HeadSpec, width: int, num_classes: int) -> nn.Module:
    """Build a head with random weights; its last layer is `linear`.

    Args:
        spec: Which head; its kind is not own.
        width: D, the number of features of the trunk.
        num_classes: K.
    """
    kinds = {"temporal": TemporalHead, "dense": DenseHead}
    return kinds.get(spec.kind, PooledLinearHead)(spec, width, num_classes)


def head_width(spec: HeadSpec, state: Mapping[str, Tensor]) -> int:
    """Return D of a head by its weights, named as in a checkpoint.

    Raises:
        KeyError: The weights are of another kind of head.
    """
    if spec.kind == "temporal":
        return state["head.project.weight"].shape[1]
    if spec.kind == "dense":
        return state["head.hidden.weight"].shape[1]
    return state["head.linear.weight"].shape[1] // spec.widening


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
