"""MobileNetV2 with inflated kernels: a small 3-D network that starts from ImageNet.

The shape is that of Köpüklü et al. 2019 (3D-MobileNetV2 1.0x), with one difference: as in I3D, the
first blocks halve space but not time. So 16 frames give 2 features.
"""

from __future__ import annotations

from torch import nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.heads import MeanHead, fresh_linear
from touchline.models.networks.cnn2d import init_conv_weights, mobilenet_v2_stages
from touchline.models.networks.cnn_lstm import IMAGENET
from touchline.models.networks.inflate import inflate_module

# Stages that halve time as well as space. The stem and block2 halve space only.
_HALVE_TIME = ("block3", "block4", "block6")


class MobileNet3D(Backbone):
    """Depthwise 3x3x3 inverted residuals; features (B, 1280, T / 8)."""

    slides_in_time = True
    classifier = "head.linear"
    min_size_px = 32

    def __init__(self, spec: ClipSpec, num_classes: int, *, dropout: float = 0.2) -> None:
        super().__init__(spec)
        flat, width = mobilenet_v2_stages()
        self.stages = nn.ModuleDict(
            {
                name: inflate_module(stage, length=3, stride=2 if name in _HALVE_TIME else 1)
                for name, stage in flat.items()
            }
        )
        init_conv_weights(self.stages)
        self.head = MeanHead(fresh_linear(width, num_classes), dropout)


def mobilenet3d(num_classes: int, spec: ClipSpec | None = None) -> MobileNet3D:
    """Build MobileNetV2 1.0 in 3-D, 16 frames at 8 Hz."""
    return MobileNet3D(spec or IMAGENET, num_classes)
