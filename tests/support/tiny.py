"""A network small enough for every test, and footage whose answer is known: brightness."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor, nn

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.models.networks.motion_net import MotionNet

SPEC = ClipSpec(num_frames=8, rate_hz=8.0, size_px=32, mean=(0.5,) * 3, std=(0.5,) * 3)


class MeanHead(nn.Module):
    """Features (B, D, T) -> logits (B, 2): class 1 where the clip is brighter than middle grey."""

    def forward(self, features: Tensor) -> Tensor:
        level = 20 * features.mean(dim=(1, 2))
        return torch.stack([-level, level], dim=1)


def brightness_model() -> TrainedModel:
    """background and `bright`, told apart by the mean of the pixels: nothing is random."""
    backbone = CNNLSTM({"stem": nn.Sequential(nn.AvgPool2d(4))}, 3, SPEC, 2, hidden=4)
    backbone.head = MeanHead()
    return TrainedModel(backbone.eval(), "cnn_lstm", ("background", "bright"))


def small_3d_model(num_classes: int = 3) -> TrainedModel:
    """A real 3-D network with random weights."""
    torch.manual_seed(0)
    spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=32)
    labels = ("background", *(f"class {k}" for k in range(1, num_classes)))
    return TrainedModel(MotionNet(num_classes, spec).eval(), "motion_net", labels)


def write_levels(path: Path, levels: list[int], *, rate: int = 16, size: int = 48) -> Path:
    """Footage of flat grey frames, lossless, one per entry of levels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"qp": "0", "g": "16"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(
                np.full((size, size, 3), level, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
