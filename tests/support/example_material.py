"""The folder in which the examples of docstrings run: small footage whose events are known.

match.mp4          12 s at 16 Hz, 48 x 48: bright from 3 to 5 s and from 8 to 9.5 s, else dark
second.mp4         12 s at 16 Hz, 48 x 48: bright from 2 to 6 s, else dark
labels.csv         those stretches as `bright`, two dark ones as `background`; group A and group B
model.safetensors  a network that calls a window `bright` when its mean pixel is above middle grey
photos/            Anna/ and Berta/: three photos each, reddish and bluish noise
out/match/         events.json, events.csv, scores.npz: the results of that model on match.mp4
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import SPEC, write_levels
from torch import Tensor, nn

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.options import DetectOptions

ARCHITECTURE = "brightness"

LABELS = """video,label,start_s,end_s,group
match.mp4,bright,3,5,A
match.mp4,background,5.5,7.5,A
match.mp4,bright,8,9.5,A
second.mp4,bright,2,6,B
second.mp4,background,8,10,B
"""


class MeanThenLinear(nn.Module):
    """Features (B, D, T) -> logits (B, K): a linear layer over the mean of them all."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(features.mean(dim=(1, 2))[:, None])
        return logits


def brightness_backbone(num_classes: int, spec: ClipSpec | None = None) -> CNNLSTM:
    """A backbone of one stage, to be registered under ARCHITECTURE."""
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(nn.AvgPool2d(4))}
    backbone = CNNLSTM(stages, 3, spec or SPEC, num_classes, hidden=4)
    backbone.head = MeanThenLinear(num_classes)
    return backbone


def write_noise(folder: Path) -> None:
    """Photos of two players: noise with more red, and with more blue."""
    for p, name in enumerate(("Anna", "Berta")):
        (folder / name).mkdir(parents=True)
        for k in range(3):
            picture = np.random.default_rng([p, k]).integers(0, 160, (128, 128, 3), dtype=np.uint8)
            picture[:, :, 2 * p] += 90
            Image.fromarray(picture).save(folder / name / f"{k}.png")


def make_examples_folder(folder: Path) -> None:
    """Fill `folder`; ARCHITECTURE must be registered."""
    dark, bright = [20], [235]
    write_levels(
        folder / "match.mp4", dark * 48 + bright * 32 + dark * 48 + bright * 24 + dark * 40
    )
    write_levels(folder / "second.mp4", dark * 32 + bright * 64 + dark * 96)
    (folder / "labels.csv").write_text(LABELS, encoding="utf-8")
    backbone = brightness_backbone(2)
    linear = backbone.get_submodule("head.linear")
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-20.0], [20.0]]))
        linear.bias.zero_()
    model = TrainedModel(backbone.eval(), ARCHITECTURE, ("background", "bright"))
    save_checkpoint(folder / "model.safetensors", model)
    write_noise(folder / "photos")
    options = DetectOptions(hop_s=0.25, device="cpu")
    (result,) = detect_all([folder / "match.mp4"], model, folder / "out", options)
    assert result.error is None
