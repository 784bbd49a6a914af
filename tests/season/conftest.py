"""A checkpoint that other processes can load, and short matches."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import small_3d_model, write_levels

from touchline.models.checkpoint import file_digest, save_checkpoint
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.season.attempt import Job


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """What is done with each match: a small network with random weights, low thresholds."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_checkpoint(path, small_3d_model())
    options = DetectOptions(hop_s=0.25, threshold=0.2, device="cpu", decode_workers=1)
    return Job(str(path), sha256=file_digest(path), options=options, report=True)


@pytest.fixture(scope="session")
def matches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four matches of 5 s, each bright at another time."""
    folder = tmp_path_factory.mktemp("matches")
    return [
        write_levels(folder / f"m{k}.mp4", [20] * (16 + 8 * k) + [235] * 32 + [20] * (32 - 8 * k))
        for k in range(4)
    ]
