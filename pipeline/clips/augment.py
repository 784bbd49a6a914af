"""Augment clips for training: random windows, crops, flips, colours and mixup.

A random view depends only on the seed, the example and the view's number. So views can be made in
any order, and any of them can be left out.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.models.backbone import ClipSpec
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.types import Example

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def view_rng(seed: int, example: Example, number: int) -> np.random.Generator:
    """Return the random generator of one view.

    Args:
        seed: The seed of the training run.
        example: The example that the view is of.
        number: The number of the view among those of the example.
    """
    name = f"{example.path.name} {example.start_s} {example.end_s} {example.label}"
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number])


def augmented_view(
    clip: LabelledClip,
    spec: ClipSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    sampling: str = "dense",
    device: torch.device | None = None,
) -> Tensor:
    """Make one random view of a clip: (T, 3, S, S) uint8, all frames changed in the same way.

    Args:
        clip: The decoded clip.
        spec: The network's input: T frames of S x S pixels.
        augmentation: How much the view is varied.
        rng: The generator of this view, from `view_rng`.
        sampling: dense (consecutive frames) or uniform (spread over the example).
        device: Where the pixels are computed; random numbers do not depend on it.
    """
    if sampling == "uniform":
        frames = clip.spread(spec.num_frames, rng.random(spec.num_frames))
    else:
        frames = clip.window(int(rng.integers(clip.first, clip.last + 1)), spec.num_frames)
    view = random_crop(
        torch.from_numpy(frames).to(device), spec.size_px, augmentation.min_area, rng
    )
    if augmentation.flip and rng.random() < 0.5:
        view = view.flip(-1)
    return jitter_colours(view, augmentation, rng).round().clamp(0, 255).to(torch.uint8)


def random_crop(frames: Tensor, size_px: int, min_area: float, rng: np.random.Generator) -> Tensor:
    """Crop frames (T, 3, H, W) at random and resize to (T, 3, size_px, size_px) float32.

    The crop has a random area and an aspect ratio of 3/4 to 4/3 (Szegedy et al. 2015).

    Args:
        frames: (T, 3, H, W), the shorter side at least size_px.
        size_px: Side of the result.
        min_area: The smallest crop as a fraction of the area of the square.
        rng: Source of the random numbers.
    """
    H, W = frames.shape[-2:]
    side = size_px * float(np.sqrt(rng.uniform(min_area, 1.0)))
    aspect = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    h, w = min(H, round(side / np.sqrt(aspect))), min(W, round(side * np.sqrt(aspect)))
    top, left = int(rng.integers(0, H - h + 1)), int(rng.integers(0, W - w + 1))
    part = frames[..., top : top + h, left : left + w].float()
    return F.interpolate(part, size=(size_px, size_px), mode="bilinear", align_corners=False)


def jitter_colours(view: Tensor, augmentation: Augmentation, rng: np.random.Generator) -> Tensor:
    """Scale brightness, contrast and saturation of frames at random.

    Args:
        view: (T, 3, H, W) float, values 0 to 255.
        augmentation: The range of each factor.
        rng: Source of the random numbers.
    """
    bright, contrast, saturation = (
        float(rng.uniform(1 - spread, 1 + spread))
        for spread in (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    )
    grey = (view * view.new_tensor(LUMA).view(3, 1, 1)).sum(dim=-3, keepdim=True)
    view = grey + (view - grey) * saturation
    mean = view.mean()
    return (view - mean) * contrast + mean * bright


def mix_up(
    x: Tensor, targets: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend each clip of a batch with another one, inputs and targets alike (Zhang et al. 2018).

    Args:
        x: Inputs (B, ...); the result has the same type.
        targets: (B, K).
        alpha: The batch's blending weight is drawn from Beta(alpha, alpha).
        rng: Source of the random numbers.
    """
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    mixed = share * x.float() + (1 - share) * x[other].float()
    if x.dtype == torch.uint8:
        mixed = mixed.round()
    return mixed.to(x.dtype), share * targets + (1 - share) * targets[other]
