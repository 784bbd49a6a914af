"""Inception-I3D of Carreira & Zisserman (2017), figure 3: Inception-v1 with inflated kernels.

Stages have the endpoint names of the paper, parameters the names of the PyTorch release. So its
weights load by adding a prefix.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.heads import fresh_linear

KINETICS = ClipSpec(
    num_frames=64, rate_hz=25.0, size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)

Size3 = tuple[int, int, int]

# Widths of each Mixed block: 1x1; 1x1 then 3x3; 1x1 then 3x3; pool then 1x1 (Szegedy et al. 2015,
# table 1; I3D has 3x3x3 where Inception-v1 has 5x5).
_MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after one dimension, as TensorFlow's SAME has them.

    The output has ceil(size / stride) values. An odd zero goes after. At stride 2 the zeros depend
    on the size of the input, so no fixed padding does the same.

    Args:
        size: Size of the input.
        kernel: Size of the kernel.
        stride: Stride.
    """
    outputs = -(-size // stride)
    total = max((outputs - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def pad_same(x: Tensor, kernel: Size3, stride: Size3) -> Tensor:
    """Pad x (B, C, T, H, W) with SAME zeros in its last three dimensions.

    Args:
        x: The input.
        kernel: Sizes of the kernel over T, H, W.
        stride: Strides over T, H, W.
    """
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        pads += same_padding(size, k, s)
    return F.pad(x, pads) if any(pads) else x


class SameMaxPool3d(nn.Module):
    """Max pooling with SAME padding. Its inputs come from a ReLU, so a zero is never too large."""

    def __init__(self, kernel: Size3, stride: Size3) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T', H', W')."""
        return F.max_pool3d(pad_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Unit3D(nn.Module):
    """Convolution with SAME padding, BatchNorm (eps 1e-3), ReLU."""

    def __init__(
        self, c_in: int, c_out: int, kernel: Size3 = (1, 1, 1), stride: Size3 = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride
        self.conv3d = nn.Conv3d(c_in, c_out, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(c_out, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        return F.relu(self.bn(self.conv3d(pad_same(x, self.kernel, self.stride))))


class Mixed(nn.Module):
    """Four parallel branches, concatenated over channels. Names as in the PyTorch release."""

    def __init__(self, c_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit3D(c_in, widths[0])
        self.b1a = Unit3D(c_in, widths[1])
        self.b1b = Unit3D(widths[1], widths[2], (3, 3, 3))
        self.b2a = Unit3D(c_in, widths[3])
        self.b2b = Unit3D(widths[3], widths[4], (3, 3, 3))
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(c_in, widths[5])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, H, W)."""
        branches = [
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.b3a(x)),
        ]
        return torch.cat(branches, dim=1)


class PairMeanHead(nn.Module):
    """Features (B, D, T) -> logits (B, K): mean of neighbours in time, dropout, mean, linear.

    The reference pools 2x7x7 at stride 1, applies the classifier at each of the T - 1 times, and
    averages the logits. The classifier is linear, so averaging first gives the same.
    """

    def __init__(self, linear: nn.Linear, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D, T) -> logits (B, K)."""
        if features.shape[2] > 1:
            features = (features[:, :, :-1] + features[:, :, 1:]) / 2  # (B, D, T - 1)
        logits: Tensor = self.linear(self.dropout(features).mean(dim=2))
        return logits


class InceptionI3D(Backbone):
    """The RGB stream of I3D. 64 frames give features (B, 1024, 8)."""

    classifier = "head.linear"
    slides_in_time = True

    def __init__(self, spec: ClipSpec, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        self.stages = nn.ModuleDict(
            {
                "Conv3d_1a_7x7": Unit3D(3, 64, (7, 7, 7), (2, 2, 2)),
                "MaxPool3d_2a_3x3": SameMaxPool3d((1, 3, 3), (1, 2, 2)),
                "Conv3d_2b_1x1": Unit3D(64, 64),
                "Conv3d_2c_3x3": Unit3D(64, 192, (3, 3, 3)),
                "MaxPool3d_3a_3x3": SameMaxPool3d((1, 3, 3), (1, 2, 2)),
                "Mixed_3b": Mixed(*_MIXED["Mixed_3b"]),
                "Mixed_3c": Mixed(*_MIXED["Mixed_3c"]),
                "MaxPool3d_4a_3x3": SameMaxPool3d((3, 3, 3), (2, 2, 2)),
                **{f"Mixed_4{c}": Mixed(*_MIXED[f"Mixed_4{c}"]) for c in "bcdef"},
                "MaxPool3d_5a_2x2": SameMaxPool3d((2, 2, 2), (2, 2, 2)),
                "Mixed_5b": Mixed(*_MIXED["Mixed_5b"]),
                "Mixed_5c": Mixed(*_MIXED["Mixed_5c"]),
            }
        )
        for module in self.stages.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.head = PairMeanHead(fresh_linear(1024, num_classes), dropout)


def i3d(num_classes: int, spec: ClipSpec | None = None) -> InceptionI3D:
    """Build Inception-I3D for RGB, 64 frames at 25 Hz."""
    return InceptionI3D(spec or KINETICS, num_classes)
