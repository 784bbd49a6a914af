"""Image networks with torchvision's parameter names, so that its published weights fit.

MobileNetV2: Sandler et al. 2018. ResNet-50: He et al. 2015, stride in the 3x3 (torchvision's v1.5).
Both are built as an ordered dict of stages, without the classifiers.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

# Table 2 of Sandler et al.: expansion t, channels c, repeats n, first stride s.
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _conv_bn_relu6(c_in: int, c_out: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; a shortcut if shapes agree. Names as in torchvision."""

    def __init__(self, c_in: int, c_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu6(c_in, hidden, 1, 1, 1))
        layers += [
            _conv_bn_relu6(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, c_out, 1, bias=False),
            nn.BatchNorm2d(c_out),
        ]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


def mobilenet_v2_stages() -> tuple[dict[str, nn.Module], int]:
    """Build the stages of MobileNetV2 1.0; return them and their width, 1280.

    The children of a stage keep torchvision's index in `features` as their name: the weight
    `features.4.conv.0.0.weight` is `<stage>.4.conv.0.0.weight` here.
    """
    layers: list[nn.Module] = [_conv_bn_relu6(3, 32, 3, 2, 1)]
    c_in, cuts = 32, [0]
    for t, c, n, s in _MOBILENET_V2:
        cuts.append(len(layers))
        for i in range(n):
            layers.append(InvertedResidual(c_in, c, s if i == 0 else 1, t))
            c_in = c
    cuts.append(len(layers))
    layers.append(_conv_bn_relu6(c_in, 1280, 1, 1, 1))
    bounds = [*cuts, len(layers)]
    stages: dict[str, nn.Module] = {}
    for number, (a, b) in enumerate(pairwise(bounds)):
        name = "stem" if number == 0 else "last" if b == len(layers) else f"block{number}"
        stage = nn.Sequential()
        for i in range(a, b):
            stage.add_module(str(i), layers[i])
        stages[name] = stage
    return stages, 1280


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width. Names as in torchvision."""

    def __init__(self, c_in: int, width: int, stride: int) -> None:
        super().__init__()
        c_out = width * 4
        self.conv1 = nn.Conv2d(c_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(c_out)
        # One each, so that the fast copy can join the first two with their convolutions.
        self.relu1, self.relu2, self.relu3 = (nn.ReLU(inplace=True) for _ in range(3))
        self.downsample: nn.Module | None = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 * width, H', W')."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu3(y + shortcut)
        return out


def resnet50_stages() -> tuple[dict[str, nn.Module], int]:
    """Build the stages of ResNet-50, stem and layer1..layer4; return them and their width, 2048."""
    stem = nn.Sequential()
    stem.add_module("conv1", nn.Conv2d(3, 64, 7, 2, 3, bias=False))
    stem.add_module("bn1", nn.BatchNorm2d(64))
    stem.add_module("relu", nn.ReLU(inplace=True))
    stem.add_module("maxpool", nn.MaxPool2d(3, 2, 1))
    stages: dict[str, nn.Module] = {"stem": stem}
    c_in = 64
    for i, (width, n) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        blocks: list[nn.Module] = []
        for j in range(n):
            blocks.append(Bottleneck(c_in, width, 2 if i > 0 and j == 0 else 1))
            c_in = width * 4
        stages[f"layer{i + 1}"] = nn.Sequential(*blocks)
    return stages, 2048


def init_conv_weights(module: nn.Module) -> None:
    """Initialise convolutions as He et al. 2015, BatchNorm as 1 and 0, linear as N(0, 0.01)."""
    for m in module.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
        elif isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.01)
            if m.bias is not None:
                nn.init.zeros_(m.bias)


def frames_first(clips: Tensor) -> Tensor:
    """Clips (B, 3, T, H, W) -> (B * T, 3, H, W), the frames of a clip one after the other."""
    B, C, T, H, W = clips.shape
    return torch.transpose(clips, 1, 2).reshape(B * T, C, H, W)
