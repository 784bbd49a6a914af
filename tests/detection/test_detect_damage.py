"""Damaged footage, end to end: no events in damaged pictures, and the terminal says where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from footage_made import overwrite, packet_places
from tiny import brightness_model
from typer.testing import CliRunner

from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.tools.detect import detect_command

OPTIONS = DetectOptions(hop_s=0.25, device="cpu")

app = typer.Typer()
app.command()(detect_command)


@pytest.fixture(scope="module")
def spoilt(match: Path) -> Path:
    """The same with the pictures of seconds 3 to 5 destroyed."""
    path = match.with_name("spoilt.mp4")
    path.write_bytes(match.read_bytes())
    places = packet_places(match)
    for frame in range(48, 80):
        pos, size, _ = places[frame]
        overwrite(path, pos + 5, bytes(size - 5))
    return path


def test_what_happens_in_damaged_pictures_is_no_event(match: Path, spoilt: Path):
    whole = detect(match, brightness_model(), OPTIONS)
    assert [round(event.peak_s) for event in whole.accepted] == [4, 9]
    result = detect(spoilt, brightness_model(), OPTIONS)
    assert [round(event.peak_s) for event in result.accepted] == [9]
    assert result.health is not None
    ((start_s, end_s),) = result.health.damaged_s
    # Frames decoded at the same time as a spoilt one count as damaged, up to the next key frame.
    assert 2.5 <= start_s <= 3.0
    assert 5.0 <= end_s <= 6.0
    assert not any(event.start_s < 5.0 for event in result.candidates)


@pytest.mark.parametrize("how", [[], ["--quiet"], ["--json"], ["--no-isolation"]])
def test_the_terminal_says_where_the_damage_is(
    how: list[str], spoilt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # This model's head is no part of any architecture, so that no checkpoint can hold it.
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    arguments = [str(spoilt), "--model", "bright", "-o", str(tmp_path), "--no-report", *how]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"damaged from 0:00:0[23]\.\d+ to 0:00:0[56]\.\d+: no events", done.stderr)
    assert (done.stdout == "") == (how == ["--quiet"])
