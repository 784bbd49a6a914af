"""For every backbone the smallest clip that exercises it, and what is published about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import build_backbone


@dataclass(frozen=True)
class Case:
    """frames, size_px: a small clip. features: (D, T') on it.

    published: (classes, parameters in millions to two places) as its publishers give them.
    """

    frames: int
    size_px: int
    features: tuple[int, int]
    published: tuple[int, float]


CASES = {
    # No classifier: torchvision's 3,504,872 less 1,281,000, and 25,557,032 less 2,049,000, plus
    # the LSTM's 4 x 64 x (D + 64 + 2) and the linear layer's D + 64 + 1 per class.
    "cnn_lstm": Case(3, 32, (1280, 3), (400, 3.11)),
    "cnn_lstm_r50": Case(3, 32, (2048, 3), (400, 24.89)),
    # The publisher's 4,652,008, 5,416,680 and 6,092,072 less 1,281,000, plus the same head.
    "cnn_lstm_lite0": Case(3, 32, (1280, 3), (400, 4.25)),
    "cnn_lstm_lite1": Case(3, 32, (1280, 3), (400, 5.02)),
    "cnn_lstm_lite2": Case(3, 32, (1280, 3), (400, 5.69)),
    # The file's 6,226,046 half floats that are weights, EfficientNet-Lite0, plus the same head.
    "pose": Case(3, 32, (2040, 3), (400, 10.98)),
    # Köpüklü et al. 2019, table 2, with the 600 classes of Kinetics-600.
    "mobilenet3d": Case(8, 32, (1280, 1), (600, 3.12)),
    # OpenMMLab's model zoo, with the 101 classes of UCF-101.
    "c3d": Case(16, 32, (4096, 1), (101, 78.41)),
    "i3d": Case(16, 32, (1024, 2), (400, 12.70)),
    # pytorchvideo's model zoo.
    "i3d_r50": Case(4, 32, (2048, 2), (400, 28.04)),
    "c2d_r50": Case(4, 32, (2048, 2), (400, 24.33)),
    "slow_r50": Case(4, 32, (2048, 4), (400, 32.45)),
    "slowfast_r50": Case(8, 32, (2304, 2), (400, 34.57)),
    "x3d_xs": Case(4, 32, (432, 4), (400, 3.79)),
    "x3d_s": Case(4, 32, (432, 4), (400, 3.79)),
    "x3d_m": Case(4, 32, (432, 4), (400, 3.79)),
    "x3d_l": Case(4, 32, (432, 4), (400, 6.15)),
    "r2plus1d_r50": Case(4, 32, (2048, 1), (400, 28.11)),
    "csn_r101": Case(8, 32, (2048, 1), (400, 22.21)),
    "mvit_b_16x4": Case(4, 32, (768, 1), (400, 36.61)),
    "mvit_b_32x3": Case(4, 32, (768, 1), (400, 36.61)),
    # Ours; the docstring says how many.
    "motion_net": Case(8, 32, (128, 2), (5, 0.85)),
}


def small_backbone(name: str, num_classes: int) -> Backbone:
    """The network of that name, random, for its case's clip."""
    case = CASES[name]
    return build_backbone(name, num_classes, ClipSpec(case.frames, 8.0, case.size_px))


def formula(shape: tuple[int, ...], phase: float) -> Tensor:
    """Numbers in (-1, 1) that any library makes alike, without a random generator."""
    n = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.frac(43758.5453 * torch.sin(12.9898 * n + phase)).reshape(shape)
