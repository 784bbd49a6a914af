"""Matches of a few seconds, and a studio that runs on them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawn_footage import write_footage
from studio_material import write_colours_weights, write_match
from studio_process import RunningStudio


@pytest.fixture(scope="module")
def matches(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """m1: grass with six red and three blue events; m2: drawn frames with sound, in MP4."""
    folder = tmp_path_factory.mktemp("matches")
    events = [("red", 5 + 9 * k, 6 + 9 * k) for k in range(6)]
    events += [("blue", 10 + 18 * k, 11 + 18 * k) for k in range(3)]
    grass = write_match(folder / "grass.mkv", events, seconds=60)
    return [grass, write_footage(folder / "drawn.mp4", seconds=6)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of the command that name the trunk `colours`."""
    made = write_colours_weights(tmp_path_factory.mktemp("weights"))
    return [
        *("--backbone", made.backbone, "--weights", made.weights),
        *("--rate", f"{made.rate_hz:g}", "--size", str(made.size_px), "--device", "cpu"),
    ]


@pytest.fixture(scope="module")
def studio(
    matches: list[Path], network: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningStudio]:
    project = tmp_path_factory.mktemp("projects") / "project"
    running = RunningStudio(project, *matches, *network).start()
    yield running
    running.stop()
