"""What every video network here is: named stages, a trunk, a head, and the clip it expects."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

State: TypeAlias = Any
"""What passes between stages: a tensor, or a tuple of tensors where a network has several paths."""


FITS = ("crop", "squash")


@dataclass(frozen=True)
class ClipSpec:
    """The clip a network was trained on; sampling reads it, so that the two cannot drift apart.

    num_frames frames at rate_hz, shorter side scaled to size_px, RGB / 255 minus mean, over std.
    fit: how they become square: the middle of the picture (crop), or all of it, its longer side
    squeezed (squash).
    """

    num_frames: int
    rate_hz: float
    size_px: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fit: str = "crop"

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.size_px < 16 or not 0 < self.rate_hz <= 1000:
            raise ValueError(
                f"{self} is not a clip: num_frames >= 1, size_px >= 16, 0 < rate_hz <= 1000"
            )
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(
                f"mean is {self.mean}, std {self.std}; they must be numbers, and std above 0"
            )
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}; it must be {' or '.join(FITS)}")

    @property
    def duration_s(self) -> float:
        """How long the clip lasts: each frame counts for one sampling period."""
        return self.num_frames / self.rate_hz

    def __str__(self) -> str:
        whole = ", all of the picture squeezed to a square" if self.fit == "squash" else ""
        return f"{self.num_frames} frames at {self.rate_hz:g} Hz, {self.size_px} px{whole}"

    def with_sampling(
        self,
        *,
        num_frames: int | None = None,
        rate_hz: float | None = None,
        size_px: int | None = None,
        fit: str | None = None,
    ) -> ClipSpec:
        """The same normalisation with another sampling; None keeps what is there."""
        return replace(
            self,
            num_frames=self.num_frames if num_frames is None else num_frames,
            rate_hz=self.rate_hz if rate_hz is None else rate_hz,
            size_px=self.size_px if size_px is None else size_px,
            fit=self.fit if fit is None else fit,
        )


class Backbone(nn.Module):
    """A video network cut once, into a trunk of named stages and a head.

    Clips (B, 3, T, H, W) float32 normalised -> logits (B, K). The cut serves freezing, the reuse of
    features where windows overlap, the feature cache and the replacement of the last layer.

    A subclass fills `stages` in order and `head`, whose last linear layer it names in
    `classifier`. trunk(clips) is leave(stages(enter(clips))): `enter` shapes clips for the first
    stage, `leave` pools what the last one returns; neither has parameters.
    """

    framewise = False
    """True where the trunk works frame by frame, so that overlapping windows share features."""

    slides_in_time = False
    """True where the trunk is convolutional in time and gives one feature per so many frames.

    Such a trunk can run over footage of any length while the head slides over what comes out;
    windows then see their surroundings where a clip on its own sees zero padding.
    """

    single_path = True
    """True where one tensor passes between stages, so that features can be cached there."""

    min_frames = 1
    """The fewest frames the trunk can work with."""

    min_size_px = 16
    """The smallest square the trunk can work with."""

    stages: nn.ModuleDict
    head: nn.Module
    classifier = "head"
    """Dotted name of the last linear layer, the only one that head replacement swaps."""

    def __init__(self, spec: ClipSpec) -> None:
        super().__init__()
        self.spec = spec
        self.num_frozen = 0
        if spec.num_frames < self.min_frames or spec.size_px < self.min_size_px:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.min_frames} frames of "
                f"{self.min_size_px} px; asked for {spec.num_frames} of {spec.size_px} px"
            )

    @property
    def stage_names(self) -> list[str]:
        return list(self.stages.keys())

    def check(self, clips: Tensor) -> None:
        """ValueError that names the right shape unless clips are (B, 3, T, H, W) of the spec.

        T may be any length where the trunk is framewise: a track of frames rather than a clip.
        """
        T, S = self.spec.num_frames, self.spec.size_px
        shape = tuple(clips.shape)
        good = clips.ndim == 5 and shape[1] == 3 and shape[3:] == (S, S)
        if not good or (shape[2] != T and not self.framewise):
            raise ValueError(f"clips have shape {shape}; this network takes (B, 3, {T}, {S}, {S})")

    def enter(self, clips: Tensor) -> State:
        """Clips (B, 3, T, H, W) -> what the first stage takes."""
        return clips

    def run_stages(self, x: State, *, start: int = 0, stop: int | None = None) -> State:
        """Stages start..stop-1 in order; so can features be cached where the freezing ends."""
        for name in self.stage_names[start:stop]:
            x = self.stages[name](x)
        return x

    def leave(self, x: State, batch: int) -> Tensor:
        """The last stage's output (B, D, T', H', W') -> features (B, D, T'), spatial mean.

        batch is B, for trunks whose stages saw another leading dimension.
        """
        # float32: bf16 sums over hundreds of positions lose what the classifier needs.
        features: Tensor = x.float().mean(dim=(3, 4))
        return features

    def trunk(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) float32 -> features (B, D, T')."""
        self.check(clips)
        return self.leave(self.run_stages(self.enter(clips)), clips.shape[0])

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) float32 -> logits (B, K)."""
        logits: Tensor = self.head(self.trunk(clips))
        return logits

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages and free the rest; the head is always free.

        Frozen parameters take no gradient, and frozen stages stay in eval after every `.train()`.
        """
        if not 0 <= stages <= len(self.stages):
            raise ValueError(
                f"cannot freeze {stages} stages; this network has {len(self.stages)}: "
                + ", ".join(self.stage_names)
            )
        self.num_frozen = stages
        for i, stage in enumerate(self.stages.values()):
            stage.requires_grad_(i >= stages)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        # Frozen stages stay in eval: their BatchNorm statistics must not drift.
        for name in self.stage_names[: self.num_frozen]:
            self.stages[name].eval()
        return self

    def replace_classifier(self, num_classes: int) -> None:
        """Swap the last linear layer for a fresh one with `num_classes` outputs."""
        old = self.get_submodule(self.classifier)
        bias = getattr(old, "bias", None) is not None
        new: nn.Module
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, num_classes, bias=bias)
        elif isinstance(old, nn.Conv3d):
            new = nn.Conv3d(old.in_channels, num_classes, kernel_size=1, bias=bias)
        else:
            raise TypeError(f"{self.classifier} is a {type(old).__name__}, not a linear layer")
        parent, _, name = self.classifier.rpartition(".")
        setattr(self.get_submodule(parent), name, new)


def normalise(clips: Tensor, spec: ClipSpec) -> Tensor:
    """uint8 RGB (B, 3, T, H, W) on any device -> float32 as the network was trained on."""
    mean = torch.tensor(spec.mean, device=clips.device).view(1, 3, 1, 1, 1)
    std = torch.tensor(spec.std, device=clips.device).view(1, 3, 1, 1, 1)
    return (clips.float() / 255.0 - mean) / std


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def stage_table(backbone: Backbone) -> list[Mapping[str, str | int | bool]]:
    """One row per stage and one for the head: name, parameters, frozen or trained."""
    rows: list[Mapping[str, str | int | bool]] = [
        {"stage": name, "parameters": count_parameters(stage), "frozen": i < backbone.num_frozen}
        for i, (name, stage) in enumerate(backbone.stages.items())
    ]
    rows.append({"stage": "head", "parameters": count_parameters(backbone.head), "frozen": False})
    return rows
