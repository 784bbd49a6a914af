"""EfficientNet-Lite0, 1 and 2 (Tan & Le 2019): the form for phones that Google published in 2020.

The lite form has no squeeze-and-excitation, and ReLU6 instead of swish. Its stem and its last layer
do not grow with the network. The classifier is left out.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.backbone import ClipSpec
from touchline.models.networks.i3d import same_padding

# Table 1 of Tan & Le: expansion, kernel, channels, repeats, first stride.
_BLOCKS = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_STEM, _LAST = 32, 1280


@dataclass(frozen=True)
class Scaling:
    """One size of the family.

    Attributes:
        width: Factor on the number of channels.
        depth: Factor on the repeats of the blocks.
        size_px: Side of the pictures it was trained on.
    """

    width: float
    depth: float
    size_px: int

    @property
    def spec(self) -> ClipSpec:
        """The clip, normalised as the publisher does: (x - 127) / 128 for RGB from 0 to 255."""
        return ClipSpec(16, 8.0, self.size_px, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def channels(self, published: int) -> int:
        """Return the multiple of 8 nearest to `published * width`, and at least 0.9 times that."""
        wanted = published * self.width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded + 8 if rounded < 0.9 * wanted else rounded

    @property
    def repeats(self) -> tuple[int, ...]:
        """How often each block is repeated; the first and the last are not scaled."""
        first, *inner, last = (repeats for *_, repeats, _ in _BLOCKS)
        return first, *(math.ceil(repeats * self.depth) for repeats in inner), last


LITE0 = Scaling(width=1.0, depth=1.0, size_px=224)
LITE1 = Scaling(width=1.0, depth=1.1, size_px=240)
LITE2 = Scaling(width=1.1, depth=1.2, size_px=260)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ceil(size / stride) outputs on each side."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', ceil(H / stride), ceil(W / stride))."""
        x, padding = self.pad(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def pad(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pad one side if sides differ; return the pictures and what is left to pad on both."""
        top, bottom = same_padding(x.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(x.shape[3], self.kernel_size[1], self.stride[1])
        # The convolution itself pads both sides equally. Only an odd zero needs a copy.
        if bottom > top or right > left:
            x = F.pad(x, (0, right - left, 0, bottom - top))
        return x, (top, left)


def _conv_bn(
    c_in: int, c_out: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, relu6: bool = True
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = SameConv2d(c_in, c_out, kernel, stride, groups=groups, bias=False)
    # The publisher's momentum is 0.01. Short training then ends before the statistics have moved.
    layers["bn"] = nn.BatchNorm2d(c_out, eps=1e-3, momentum=0.1)
    if relu6:
        layers["relu6"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


class MBConv(nn.Module):
    """Expand, depthwise, project; a shortcut if shapes agree."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.expand = _conv_bn(c_in, hidden) if expansion != 1 else nn.Identity()
        self.depthwise = _conv_bn(hidden, hidden, kernel, stride, hidden)
        self.project = _conv_bn(hidden, c_out, relu6=False)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


def efficientnet_lite_stages(scaling: Scaling) -> tuple[dict[str, nn.Module], int]:
    """Build the stages stem, block1 to block7 and last; return them and their width, 1280."""
    stages: dict[str, nn.Module] = {"stem": _conv_bn(3, _STEM, 3, 2)}
    c_in = _STEM
    for number, (block, repeats) in enumerate(zip(_BLOCKS, scaling.repeats, strict=True), 1):
        expansion, kernel, published, _, stride = block
        c_out = scaling.channels(published)
        blocks = nn.Sequential()
        for i in range(repeats):
            blocks.append(MBConv(c_in, c_out, kernel, stride if i == 0 else 1, expansion))
            c_in = c_out
        stages[f"block{number}"] = blocks
    stages["last"] = _conv_bn(c_in, _LAST)
    return stages, _LAST
