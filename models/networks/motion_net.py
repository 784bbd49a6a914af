"""MotionNet: a small 3-D network for the demonstration, fast enough for two CPU cores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec, State
from touchline.models.heads import MeanHead
from touchline.models.networks.cnn2d import init_conv_weights

SMALL = ClipSpec(num_frames=16, rate_hz=8.0, size_px=64)


def _conv_bn_relu(
    c_in: int, c_out: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> list[nn.Module]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return [
        nn.Conv3d(c_in, c_out, kernel, stride, padding, bias=False),
        nn.BatchNorm3d(c_out),
        nn.ReLU(inplace=True),
    ]


class MotionNet(Backbone):
    """Six convolutions in five stages, 0.85 M parameters; (B, 3, 16, 64, 64) -> (B, 128, 4).

    The first two stages keep every frame, so that small, fast objects are not lost in between.
    """

    slides_in_time = True
    min_frames = 4
    min_size_px = 32
    classifier = "head.linear"

    def __init__(self, num_classes: int, spec: ClipSpec, *, dropout: float = 0.3) -> None:
        super().__init__(spec)
        every_frame, halve = (1, 2, 2), (2, 2, 2)
        self.stages = nn.ModuleDict(
            {
                "stem": nn.Sequential(*_conv_bn_relu(3, 16, (1, 5, 5), every_frame)),
                "block1": nn.Sequential(*_conv_bn_relu(16, 32, (3, 3, 3), every_frame)),
                "block2": nn.Sequential(
                    *_conv_bn_relu(32, 64, (3, 3, 3), halve),
                    *_conv_bn_relu(64, 64, (3, 3, 3), (1, 1, 1)),
                ),
                "block3": nn.Sequential(*_conv_bn_relu(64, 128, (3, 3, 3), halve)),
                "block4": nn.Sequential(*_conv_bn_relu(128, 128, (3, 3, 3), (1, 1, 1))),
            }
        )
        init_conv_weights(self.stages)
        self.head = MeanHead(nn.Linear(128, num_classes), dropout)
        # Half the time of the default layout on the CPU.
        self.stages.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def enter(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, H, W), now channels last in memory."""
        return clips.contiguous(memory_format=torch.channels_last_3d)

    def leave(self, x: State, batch: int) -> Tensor:
        """(B, D, T', H', W') -> (B, D, T'), the spatial maximum.

        Moving objects fill a small part of the picture. In the mean they would not show.
        """
        features: Tensor = x.float().amax(dim=(3, 4))
        return features


def motion_net(num_classes: int, spec: ClipSpec | None = None) -> MotionNet:
    """Build MotionNet, 16 frames of 64 px at 8 Hz."""
    return MotionNet(num_classes, spec or SMALL)
