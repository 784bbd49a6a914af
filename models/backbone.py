"""The base class of the video networks: named stages, a trunk, a head, and the clip they take."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from touchline.models.heads import HeadSpec, build_head

State: TypeAlias = Any
"""The value between two stages: a tensor, or a tuple of tensors for a network of several paths."""

FITS = ("crop", "squash", "pad")


MAX_FRAMES = 4096
MIN_SIZE_PX, MAX_SIZE_PX = 16, 2048
MAX_DURATION_S = 3600
# 3.2 GB as float32 in RGB.
MAX_PIXELS = 2**28


@dataclass(frozen=True)
class ClipSpec:
    """The clip a network was trained on. Footage is sampled by it, for training and detection.

    Attributes:
        num_frames: Frames per clip, in [1, 4096].
        rate_hz: Frames per second, in (0, 1000].
        size_px: Side of the square picture in pixels, in [16, 2048].
        mean: Subtracted from RGB / 255, per channel.
        std: The difference is divided by it, per channel; above 0.
        fit: How a picture becomes square. "crop": its middle. "squash": the whole picture, with
            the longer side squeezed. "pad": the whole picture, with black on two sides.

    Raises:
        ValueError: A value is outside its range.
    """

    num_frames: int
    rate_hz: float
    size_px: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fit: str = "crop"

    def __post_init__(self) -> None:
        fits = 1 <= self.num_frames <= MAX_FRAMES and MIN_SIZE_PX <= self.size_px <= MAX_SIZE_PX
        if not fits or not 0 < self.rate_hz <= 1000:
            raise ValueError(
                f"{self} is not a clip: it must have 1 to {MAX_FRAMES} frames, {MIN_SIZE_PX} to "
                f"{MAX_SIZE_PX} px, and a rate in (0, 1000] Hz"
            )
        if self.num_frames > MAX_DURATION_S * self.rate_hz:
            raise ValueError(
                f"{self} are too long a clip: more than {MAX_DURATION_S} s. Take a higher rate"
            )
        if self.num_frames * self.size_px**2 > MAX_PIXELS:
            raise ValueError(
                f"{self} are too large a clip: more than {MAX_PIXELS:,} pixels. Take fewer frames, "
                "or a smaller size"
            )
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(
                f"mean is {self.mean}, std {self.std}; they must be numbers, and std above 0"
            )
        if self.fit not in FITS:
            raise ValueError(f"fit is {self.fit!r}; it must be {', '.join(FITS)}")

    @property
    def duration_s(self) -> float:
        """The length of the clip in seconds. Each frame counts for one sampling period."""
        return self.num_frames / self.rate_hz

    def __str__(self) -> str:
        whole = {
            "crop": "",
            "squash": ", all of the picture squeezed to a square",
            "pad": ", all of the picture padded to a square",
        }[self.fit]
        return f"{self.num_frames} frames at {self.rate_hz:g} Hz, {self.size_px} px{whole}"

    def with_sampling(
        self,
        *,
        num_frames: int | None = None,
        rate_hz: float | None = None,
        size_px: int | None = None,
        fit: str | None = None,
    ) -> ClipSpec:
        """Return the clip with another sampling and the same normalisation.

        Args:
            num_frames: Frames per clip. None, here and below: keep the value.
            rate_hz: Frames per second.
            size_px: Side of the square picture in pixels.
            fit: "crop", "squash" or "pad".

        Raises:
            ValueError: A value is outside its range.
        """
        return replace(
            self,
            num_frames=self.num_frames if num_frames is None else num_frames,
            rate_hz=self.rate_hz if rate_hz is None else rate_hz,
            size_px=self.size_px if size_px is None else size_px,
            fit=self.fit if fit is None else fit,
        )


FRAMES_PER_PASS = 4
"""How many frames a framewise trunk sees at once on a CPU.

The activations of so few frames fit the caches, and the allocator reuses their memory: MobileNetV2
at 224 px takes half the processor time per frame that it takes in passes of 128.
"""


class Backbone(nn.Module):
    """A video network, cut into a trunk of named stages and a head.

    Clips (B, 3, T, H, W) float32, normalised -> logits (B, K). Because of the cut, stages can be
    frozen, features can be cached and shared between windows, and the last layer replaced.

    A subclass fills `stages` in order, and `head`. It names the last linear layer of the head in
    `classifier`. trunk(clips) is leave(stages(enter(clips))): `enter` shapes clips for the first
    stage, `leave` pools the output of the last one. Neither has parameters.
    """

    framewise = False
    """True if the trunk works frame by frame, so that overlapping windows share features."""

    slides_in_time = False
    """True if the trunk is convolutional in time, with one feature per fixed number of frames.

    Such a trunk can run over footage of any length, and the head slides over its features. A
    window then sees its surroundings where a single clip sees zero padding.
    """

    single_path = True
    """True if a single tensor passes between stages, so that features can be cached there."""

    flattens = False
    """True if the trunk can give every place of a picture, which a dense head needs."""

    min_frames = 1
    """The fewest frames the trunk can work with."""

    min_size_px = 16
    """The smallest square the trunk can work with."""

    stages: nn.ModuleDict
    head: nn.Module
    classifier = "head"
    """Dotted name of the last linear layer, the one that `replace_classifier` replaces."""

    def __init__(self, spec: ClipSpec) -> None:
        super().__init__()
        self.spec = spec
        self.num_frozen = 0
        self.head_spec = HeadSpec()
        self.mirrored = False
        self.flat = False
        if spec.num_frames < self.min_frames or spec.size_px < self.min_size_px:
            raise ValueError(
                f"the clip has {spec.num_frames} frames of {spec.size_px} px. "
                f"{type(self).__name__} needs at least {self.min_frames} frames of "
                f"{self.min_size_px} px."
            )

    @property
    def stage_names(self) -> list[str]:
        """The names of the stages, in order."""
        return list(self.stages.keys())

    def check(self, clips: Tensor) -> None:
        """Check that clips are (B, 3, T, H, W) with the size of `spec`.

        A framewise trunk takes any T: a track of frames instead of a clip.

        Raises:
            ValueError: They are not. The message names the right shape.
        """
        T, S = self.spec.num_frames, self.spec.size_px
        shape = tuple(clips.shape)
        good = clips.ndim == 5 and shape[1] == 3 and shape[3:] == (S, S)
        if not good or (shape[2] != T and not self.framewise):
            raise ValueError(f"clips have shape {shape}; they must be (B, 3, {T}, {S}, {S})")

    def enter(self, clips: Tensor) -> State:
        """Clips (B, 3, T, H, W) -> input of the first stage."""
        return clips

    def run_stages(self, x: State, *, start: int = 0, stop: int | None = None) -> State:
        """Run the stages start..stop-1 in order.

        Args:
            x: The input of the first of them.
            start: Index of the first stage to run.
            stop: Index after the last stage to run. None: run to the end.
        """
        for name in self.stage_names[start:stop]:
            x = self.stages[name](x)
        return x

    def leave(self, x: State, batch: int) -> Tensor:
        """Pool the last stage's output (B, D, T', H', W') -> features (B, D, T'), spatial mean.

        Args:
            x: The output of the last stage.
            batch: B, for trunks whose stages have another leading dimension.
        """
        # float32: bf16 sums over hundreds of positions lose what the classifier needs.
        features: Tensor = x.float().mean(dim=(3, 4))
        return features

    def features(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) of any size -> features (B, D, T') float32.

        If `mirrored` is set: (B, 2 D, T'), the features of the clips and of their mirror images.
        """
        sides = [clips, clips.flip(-1)] if self.mirrored else [clips]
        return torch.cat([self._one_side(x) for x in sides], dim=1)

    def _one_side(self, clips: Tensor) -> Tensor:
        if not self.framewise or clips.device.type != "cpu":
            return self.leave(self.run_stages(self.enter(clips)), len(clips)).float()
        B, T = clips.shape[0], clips.shape[2]
        passes = torch.split(clips.transpose(1, 2).flatten(0, 1), FRAMES_PER_PASS)  # (n, 3, H, W)
        tracks = [frames.transpose(0, 1)[None] for frames in passes]  # (1, 3, n, H, W)
        found = [self.leave(self.run_stages(self.enter(x)), 1).float() for x in tracks]
        return torch.cat(found, dim=2).reshape(-1, B, T).transpose(0, 1)

    def trunk(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) float32 -> features (B, D, T'), as `features`."""
        self.check(clips)
        return self.features(clips)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W) float32 -> logits (B, K)."""
        logits: Tensor = self.head(self.trunk(clips))
        return logits

    def freeze(self, stages: int) -> None:
        """Freeze the first `stages` stages and unfreeze the rest. The head is never frozen.

        Frozen parameters get no gradient. Frozen stages stay in eval mode, also after `.train()`.

        Raises:
            ValueError: The network has fewer stages.
        """
        if not 0 <= stages <= len(self.stages):
            raise ValueError(
                f"cannot freeze {stages} stages. The network has {len(self.stages)}: "
                + ", ".join(self.stage_names)
            )
        self.num_frozen = stages
        for i, stage in enumerate(self.stages.values()):
            stage.requires_grad_(i >= stages)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode of the network, as torch does; frozen stages stay in eval mode."""
        super().train(mode)
        # Frozen stages stay in eval: their BatchNorm statistics must not drift.
        for name in self.stage_names[: self.num_frozen]:
            self.stages[name].eval()
        return self

    def use_head(self, spec: HeadSpec, num_classes: int, *, width: int | None = None) -> None:
        """Replace the head by one that several backbones share, with random weights.

        Args:
            spec: The new head; its kind is not own.
            num_classes: K.
            width: How many features the trunk has for a clip without its mirror image; None runs
                it once to find out.

        Raises:
            ValueError: The head needs every place of a picture, and the trunk does not give them.
        """
        self.mirrored = False
        self.flat = spec.kind == "dense"
        if self.flat and not self.flattens:
            raise ValueError(
                f"{type(self).__name__} cannot have a dense head. Use a network that sees pictures "
                "one by one, such as cnn_lstm_lite0"
            )
        if width is None:
            T, S = self.spec.num_frames, self.spec.size_px
            with torch.no_grad():
                width = self.trunk(torch.zeros(1, 3, T, S, S)).shape[1]
        self.head = build_head(spec, width, num_classes)
        self.head_spec = spec
        self.mirrored = spec.mirror
        self.classifier = "head.linear"

    def replace_classifier(self, num_classes: int) -> None:
        """Replace the last linear layer with a random one that has `num_classes` outputs.

        Raises:
            TypeError: The layer named by `classifier` is not linear.
        """
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
    """Normalise clips: uint8 RGB (B, 3, T, H, W) on any device -> float32 by mean and std."""
    mean = torch.tensor(spec.mean, device=clips.device).view(1, 3, 1, 1, 1)
    std = torch.tensor(spec.std, device=clips.device).view(1, 3, 1, 1, 1)
    return (clips.float() / 255.0 - mean) / std


def count_parameters(module: nn.Module) -> int:
    """Return how many numbers the parameters of a module hold."""
    return sum(p.numel() for p in module.parameters())


def stage_table(backbone: Backbone) -> list[Mapping[str, str | int | bool]]:
    """Return one row per stage and one for the head: name, parameters, frozen or trained."""
    rows: list[Mapping[str, str | int | bool]] = [
        {"stage": name, "parameters": count_parameters(stage), "frozen": i < backbone.num_frozen}
        for i, (name, stage) in enumerate(backbone.stages.items())
    ]
    rows.append({"stage": "head", "parameters": count_parameters(backbone.head), "frozen": False})
    return rows


def trunk_digest(
    backbone: Backbone, stop: int, dtype: torch.dtype, *, spec: ClipSpec | None = None
) -> str:
    """Return a hash of everything but the clips that the features of a trunk depend on.

    Args:
        backbone: The network.
        stop: How many stages the features have gone through.
        dtype: The type that they are computed in.
        spec: The clip that they are computed for; None: the backbone's own.
    """
    mirrored = " mirrored" * (backbone.mirrored and stop == len(backbone.stages))
    flat = " flat" * (backbone.flat and stop == len(backbone.stages))
    # In full: a clip as people read it names neither mean nor std.
    clip = repr(spec or backbone.spec)
    made = f"{type(backbone).__name__} {stop} {dtype} {clip}{mirrored}{flat}"
    hashed = hashlib.sha256(made.encode())
    for name in backbone.stage_names[:stop]:
        for key, tensor in backbone.stages[name].state_dict().items():
            hashed.update(f"{name}.{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            hashed.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()
