"""Small footage, labels and networks for the tests of training; all of it made here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor, nn

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.types import Example

SPEC = ClipSpec(num_frames=4, rate_hz=4.0, size_px=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220), "background": (40, 160, 40)}


def write_footage(path: Path, pictures: Sequence[np.ndarray], *, rate_hz: int = 4) -> None:
    """Pictures (H, W, 3) uint8 as a file that gives back exactly these pixels."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=rate_hz)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def grey_ramp(num_frames: int, *, size: tuple[int, int] = (16, 16)) -> list[np.ndarray]:
    """Frame k is all of grey 10 k."""
    return [np.full((*size, 3), 10 * k, np.uint8) for k in range(num_frames)]


def coloured(label: str, num_frames: int, *, seed: int) -> list[np.ndarray]:
    """Noise (16, 24) in the colour of a class."""
    rng = np.random.default_rng(seed)
    colour = np.array(COLOURS[label])
    noise = rng.integers(-30, 31, (num_frames, 16, 24, 3))
    return list((colour + noise).clip(0, 255).astype(np.uint8))


def write_clips(folder: Path, labels: Sequence[str], *, groups: int = 4, per: int = 2) -> Path:
    """Clips of one second, `per` of each class in each group, and their labels.csv."""
    rows = ["video,label,start_s,end_s,group"]
    for group in range(groups):
        for label in labels:
            for k in range(per):
                name = f"{label}_{group}_{k}.mkv"
                write_footage(folder / name, coloured(label, 4, seed=len(rows)))
                rows.append(f"{name},{label},,,match_{group}")
    path = folder / "labels.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


class TinyBackbone(Backbone):
    """Three stages of a convolution, BatchNorm and ReLU; features (B, 8, T)."""

    classifier = "head.linear"

    def __init__(self, spec: ClipSpec, num_classes: int) -> None:
        super().__init__(spec)
        self.stages = nn.ModuleDict()
        for name, c_in, c_out in (("first", 3, 4), ("second", 4, 6), ("third", 6, 8)):
            self.stages[name] = nn.Sequential(
                nn.Conv3d(c_in, c_out, 3, padding=1, stride=(1, 2, 2), bias=False),
                nn.BatchNorm3d(c_out),
                nn.ReLU(),
            )
        self.head = TinyHead(num_classes)


class TinyHead(nn.Module):
    """Features (B, 8, T) -> logits (B, K)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.linear = nn.Linear(8, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(features.mean(dim=2)))
        return logits


def tiny_backbone(num_classes: int, spec: ClipSpec | None = None) -> TinyBackbone:
    return TinyBackbone(spec or SPEC, num_classes)


def tiny_model(labels: Sequence[str] = ("background", "blue", "red")) -> TrainedModel:
    torch.manual_seed(0)
    return TrainedModel(tiny_backbone(len(labels)), "tiny", tuple(labels))


def made_examples(folder: Path, labels: Sequence[str], count: int) -> list[Example]:
    """`count` clips of one second of each class, each its own group."""
    examples = []
    for label in labels:
        for k in range(count):
            path = folder / f"{label}_{k}.mkv"
            if not path.exists():
                write_footage(path, coloured(label, 4, seed=100 * len(label) + k))
            examples.append(Example(path, label, f"match_{k}", source=f"labels.csv {path.stem}"))
    return examples


def parts(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The last group of each class for validation."""
    val = [e for e in examples if e.group == "match_3"]
    return [e for e in examples if e not in val], val
