"""Numbers that any library makes alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def formula(shape: tuple[int, ...], phase: float) -> Tensor:
    """Numbers in (-1, 1) that any library makes alike, without a random generator."""
    n = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return torch.frac(43758.5453 * torch.sin(12.9898 * n + phase)).reshape(shape)
