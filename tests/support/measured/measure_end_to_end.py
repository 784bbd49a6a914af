"""Measure ten minutes of 1080p25 end to end: python measure_end_to_end.py FOOTAGE [ROUNDS]

The first 30 s of FOOTAGE (at least 750 frames of 1920x1080) are coded anew at 25 frames and 6 Mbit
a second; the index of the file names them twenty times over. In each round take turns: decoding
and scaling alone, the default network alone on frames that are in memory already, and the command
`touchline detect` until its report is written. The weights are random, so the events mean nothing.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from footage_made import repeated, write_video

from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.models.engines.machine import machine
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.score import Scorer

NETWORK = "cnn_lstm_lite0"
RATE_HZ, PART_FRAMES, PARTS = 25, 750, 20


def ten_minutes(source: Path, folder: Path) -> Path:
    """Write the footage."""

    def pictures() -> Iterator[np.ndarray]:
        for chunk in decode(source, rate_hz=None, size_px=None):
            yield from chunk.pixels.transpose(0, 2, 3, 1)

    shown = pictures()
    options = {"preset": "veryfast", "b": "6000000", "bf": "0", "g": "50"}
    part = write_video(
        folder / "part.mp4", indices=range(PART_FRAMES), rate=RATE_HZ, size=(1920, 1080),
        options=options, picture=lambda _: next(shown),
    )  # fmt: skip
    return repeated(part, folder / "ten_minutes.mp4", times=PARTS)


def seconds_of(work: Callable[[], object]) -> float:
    """How long the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main(source: Path, rounds: int) -> None:
    """Measure and print a table."""
    torch.manual_seed(0)
    backbone = build_backbone(NETWORK, 4).eval()
    model = TrainedModel(backbone, NETWORK, (BACKGROUND, "a", "b", "c"), has_background=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        footage = ten_minutes(source, folder)
        scorer = Scorer(model, engine="torch", batch_size=None)
        spec = model.spec

        def frames() -> Iterator[object]:
            return iter(decode(footage, rate_hz=spec.rate_hz, size_px=spec.size_px))

        kept = list(frames())
        checkpoint, out = folder / "model.safetensors", folder / "out"
        save_checkpoint(checkpoint, model)
        command = [sys.executable, "-m", "touchline.tools.cli", "detect", footage, "--again",
                   "--model", checkpoint, "--engine", "torch", "--quiet", "-o", out]  # fmt: skip
        ways: dict[str, Callable[[], object]] = {
            "decoding and scaling alone": lambda: sum(1 for _ in frames()),
            "network alone": lambda: scorer.score(kept),
            "both, overlapping": lambda: scorer.score(frames()),
            "`touchline detect`, with start and report": lambda: subprocess.run(
                command, check=True
            ),
        }
        took = {way: [] for way in ways}
        for _, (way, work) in itertools.product(range(rounds), ways.items()):
            took[way].append(seconds_of(work))
    print(f"{machine()}, {scorer.dtype}, {rounds} rounds\n")
    print("| | seconds, median | least | most |\n|---|---|---|---|")
    for way, seconds in took.items():
        middle = statistics.median(seconds)
        print(f"| {way} | {middle:.1f} | {min(seconds):.1f} | {max(seconds):.1f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
