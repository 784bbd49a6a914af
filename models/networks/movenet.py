"""MoveNet SinglePose Thunder (Google 2021): the 17 joints of the main person of each picture.

MobileNetV2 1.75, a feature pyramid, and four maps at a quarter of the picture's size, as in
CenterNet (Zhou et al. 2019): where a person is, where the joints of a person there are about, where
joints are, and where in their cell. BatchNorm is folded into the convolutions, as published.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.networks.efficientnet_lite import SameConv2d

NUM_JOINTS = 17

# Table 2 of Sandler et al. 2018 at width 1.75: expansion, channels, repeats, first stride.
_BLOCKS = (
    (1, 32, 1, 1),
    (6, 40, 2, 2),
    (6, 56, 3, 2),
    (6, 112, 4, 2),
    (6, 168, 3, 1),
    (6, 280, 3, 2),
    (6, 560, 1, 1),
)
_STEM, _LAST = 56, 1280
# Blocks whose output the pyramid takes too, and its channels at their size, from large to small.
_TAPPED = {2: 24, 3: 32, 4: 64}
_MAPS = {"center": 1, "regress": 2 * NUM_JOINTS, "heatmap": NUM_JOINTS, "offset": 2 * NUM_JOINTS}

# Added to distances in cells before they divide a score.
_NEARNESS = 1.8


def _conv(
    c_in: int,
    c_out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    activation: nn.Module | None = None,
    bias: bool = True,
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = SameConv2d(c_in, c_out, kernel, stride, groups=groups, bias=bias)
    if activation is not None:
        layers["activation"] = activation
    return nn.Sequential(layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; a shortcut if shapes agree. Without BatchNorm."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.expand = (
            _conv(c_in, hidden, activation=nn.ReLU6()) if expansion != 1 else nn.Identity()
        )
        self.depthwise = _conv(hidden, hidden, 3, stride, hidden, activation=nn.ReLU6())
        self.project = _conv(hidden, c_out)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class _MobileNet(nn.Module):
    """Pictures (N, 3, H, W) -> features at a 4th, 8th, 16th and 32nd of their size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, _STEM, 3, 2, activation=nn.ReLU6())
        self.blocks = nn.ModuleList()
        c_in = _STEM
        for expansion, c_out, repeats, stride in _BLOCKS:
            block = nn.Sequential()
            for i in range(repeats):
                block.append(InvertedResidual(c_in, c_out, stride if i == 0 else 1, expansion))
                c_in = c_out
            self.blocks.append(block)
        self.last = _conv(c_in, _LAST, activation=nn.ReLU6())

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) -> features from large to small, and the pictures themselves."""
        x, kept = self.stem(pictures), []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in _TAPPED:
                kept.append(x)
        return (*kept, self.last(x), pictures)


def _separable(c_in: int, c_out: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["depthwise"] = _conv(c_in, c_in, 3, groups=c_in, bias=False)
    layers["pointwise"] = _conv(c_in, c_out, activation=nn.ReLU())
    return nn.Sequential(layers)


class _Pyramid(nn.Module):
    """Features from large to small -> (N, 24, H, W) at the largest size (Lin et al. 2017).

    The features at a 16th of the picture's size, and the pictures, go along unchanged.
    """

    def __init__(self) -> None:
        super().__init__()
        tapped = [_BLOCKS[number - 1][1] for number in _TAPPED]
        widths = list(_TAPPED.values())
        self.lateral = nn.ModuleList(
            [*(_conv(a, b) for a, b in zip(tapped, widths, strict=True)), _conv(_LAST, widths[-1])]
        )
        narrower = [widths[0], *widths[:-1]]
        self.smooth = nn.ModuleList(
            [_separable(a, b) for a, b in zip(widths, narrower, strict=True)]
        )

    def forward(self, found: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Add the smaller, doubled in size, to the larger, from the smallest on."""
        *features, pictures = found
        *sides, x = (conv(x) for conv, x in zip(self.lateral, features, strict=True))
        for side, smooth in zip(reversed(sides), reversed(self.smooth), strict=True):
            x = smooth(F.interpolate(x, size=side.shape[2:], mode="bilinear") + side)
        return x, features[2], pictures


class _Maps(nn.Module):
    """(N, 24, H, W) -> the four maps, one behind the other: (N, 86, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        width = _TAPPED[2]
        for name, channels in _MAPS.items():
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            layers["smooth"] = _separable(width, 96)
            layers["out"] = _conv(96, channels)
            self.add_module(name, nn.Sequential(layers))

    def forward(self, features: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """(N, 24, H, W) -> (N, 86, H, W); the other tensors go along unchanged."""
        x, *others = features
        return torch.cat([self.get_submodule(name)(x) for name in _MAPS], dim=1), *others


def movenet_stages() -> dict[str, nn.Module]:
    """Build the stages mobilenet, pyramid and maps.

    Pictures (N, 3, H, W) -> the maps (N, 86, H / 4, W / 4), which `joints_of` reads, the features
    (N, 112, H / 16, W / 16) of what is seen there, and the pictures.
    """
    return {"mobilenet": _MobileNet(), "pyramid": _Pyramid(), "maps": _Maps()}


def joints_of(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Read the main person from maps (N, 86, H, W): joints (N, 17, 3), posture (N, 17, 2).

    The main person is the one with the best product of confidence and nearness to the middle. The
    posture is where that person's centre expects the joints. A joint is where its confidence is
    best near there: (y, x, confidence). All are float32, from 0 to 1 over the picture.
    """
    N, _, H, W = maps.shape
    J = NUM_JOINTS
    center, regress, heatmap, offset = torch.split(maps.float(), list(_MAPS.values()), dim=1)
    grid_y = torch.arange(H, device=maps.device, dtype=torch.float32).view(H, 1)
    grid_x = torch.arange(W, device=maps.device, dtype=torch.float32)

    def distance(y: Tensor | int, x: Tensor | int) -> Tensor:
        """In cells, to every cell; never near 0."""
        return ((grid_y - y) ** 2 + (grid_x - x) ** 2).sqrt() + _NEARNESS

    n = torch.arange(N, device=maps.device)
    cell = (center[:, 0].sigmoid() / distance(H // 2, W // 2)).flatten(1).argmax(1)
    cell_y, cell_x = cell // W, cell % W
    expected = regress[n, :, cell_y, cell_x].view(N, J, 2)
    y, x = cell_y[:, None] + expected[..., 0], cell_x[:, None] + expected[..., 1]
    confidence = heatmap.sigmoid()
    near = confidence / distance(y[..., None, None], x[..., None, None])
    best = near.flatten(2).argmax(2, keepdim=True)  # (N, J, 1)
    within = offset.reshape(N, J, 2, H * W).gather(3, best[:, :, None].expand(N, J, 2, 1))[..., 0]
    confident = confidence.flatten(2).gather(2, best)[..., 0]
    best = best[..., 0]
    joints = [(best // W + within[..., 0]) / H, (best % W + within[..., 1]) / W, confident]
    return torch.stack(joints, dim=2), torch.stack([y / H, x / W], dim=2)
