"""C3D of Tran et al. (2015), figure 3: 8 convolutions of 3x3x3, 5 poolings, 2 wide layers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.heads import MeanHead, fresh_linear

# Every frame at 25 per second. Normalised as in OpenMMLab's release of the Sports-1M weights:
# RGB of 0..255 minus (104, 117, 128), not scaled.
SPORTS1M = ClipSpec(
    num_frames=16,
    rate_hz=25.0,
    size_px=112,
    mean=(104 / 255, 117 / 255, 128 / 255),
    std=(1 / 255, 1 / 255, 1 / 255),
)

# 16 frames of 112 px have this grid after five poolings; fc6 was trained on it.
_FC6_GRID = (1, 4, 4)


class ConvUnit(nn.Module):
    """3x3x3 convolution with bias, ReLU, and max pooling if the unit has one."""

    def __init__(self, c_in: int, c_out: int, pool: nn.MaxPool3d | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv3d(c_in, c_out, 3, padding=1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        x = F.relu(self.conv(x))
        return x if self.pool is None else self.pool(x)


class WideUnit(nn.Module):
    """Linear, ReLU, dropout. Input with a grid is pooled to the grid of fc6 and flattened."""

    def __init__(self, c_in: int, c_out: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(c_in, c_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, T, H, W) -> (B, C')."""
        if x.ndim == 5:
            # Changes nothing for the published clip, which already has this grid.
            x = F.adaptive_max_pool3d(x, _FC6_GRID).flatten(1)  # (B, 8192)
        y: Tensor = self.dropout(F.relu(self.linear(x)))
        return y


def _pool(time: int = 2, *, pad: int = 0) -> nn.MaxPool3d:
    return nn.MaxPool3d((time, 2, 2), (time, 2, 2), (0, pad, pad))


class C3D(Backbone):
    """Trunk through fc7: features (B, 4096, 1)."""

    classifier = "head.linear"
    min_frames = 16

    def __init__(self, spec: ClipSpec, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__(spec)
        self.stages = nn.ModuleDict(
            {
                "conv1a": ConvUnit(3, 64, _pool(1)),
                "conv2a": ConvUnit(64, 128, _pool()),
                "conv3a": ConvUnit(128, 256),
                "conv3b": ConvUnit(256, 256, _pool()),
                "conv4a": ConvUnit(256, 512),
                "conv4b": ConvUnit(512, 512, _pool()),
                "conv5a": ConvUnit(512, 512),
                "conv5b": ConvUnit(512, 512, _pool(pad=1)),
                "fc6": WideUnit(8192, 4096, dropout),
                "fc7": WideUnit(4096, 4096, 0.0),
            }
        )
        for module in self.stages.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.head = MeanHead(fresh_linear(4096, num_classes), dropout)

    def leave(self, x: Tensor, batch: int) -> Tensor:
        """(B, 4096) -> features (B, 4096, 1)."""
        return x.float()[:, :, None]


def c3d(num_classes: int, spec: ClipSpec | None = None) -> C3D:
    """Build C3D, 16 frames of 112 px at 25 Hz."""
    return C3D(spec or SPORTS1M, num_classes)
