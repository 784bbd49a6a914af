"""Measure ten minutes of 1080p25 end to end: python measure_end_to_end.py FOOTAGE [ROUNDS]

The first 30 s of FOOTAGE (at least 750 frames of 1920x1080) are coded anew at 25 frames and 6 Mbit
a second; the index of the file names them twenty times over. In each round take turns: decoding
and scaling alone, the default network alone on frames that are in memory already, and the command
`touchline detect` until its report is written. The weights are random, so the events mean nothing.
Processor time is that of the whole machine: let nothing else run.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

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


def busy_s() -> float:
    """Processor time of the machine since it started: user, nice and system."""
    words = Path("/proc/stat").read_text(encoding="ascii").split()[1:4]
    return sum(map(int, words)) / os.sysconf("SC_CLK_TCK")


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """How long the work takes, and its processor time, in seconds."""
    started, busy = time.perf_counter(), busy_s()
    work()
    return time.perf_counter() - started, busy_s() - busy


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
        took: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _, (way, work) in itertools.product(range(rounds), ways.items()):
            took[way].append(measured(work))
    print(f"{machine()}, {scorer.dtype}, {rounds} rounds\n")
    print("| | seconds, median | least | most | processor, s |\n|---|---|---|---|---|")
    for way, rows in took.items():
        seconds, processor = zip(*rows, strict=True)
        numbers = median(seconds), min(seconds), max(seconds), median(processor)
        print(f"| {way} |", " | ".join(f"{number:.1f}" for number in numbers), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
