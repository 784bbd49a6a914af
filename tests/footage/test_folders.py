"""Folders of footage in place of files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tiny import brightness_model, write_levels
from typer.testing import CliRunner

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.inputs import footage_files
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import prepare
from touchline.tools.detect import detect_command
from touchline.tools.probe import probe_command

app = typer.Typer()
app.command("detect")(detect_command)
app.command("probe")(probe_command)


@pytest.fixture
def season(tmp_path: Path) -> Path:
    folder = tmp_path / "season"
    for name in ("b.mp4", "sub/a.MP4", "out/a/proxy.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_levels(folder / name, [20] * 16 + [235] * 32)
    (folder / "notes.txt").write_text("no footage")
    return folder


def test_a_folder_means_the_footage_below_it(season: Path) -> None:
    far = Address("https://example.org/match.mp4")
    given = [far, season, season / "gone.mp4"]
    assert footage_files(given, leave_out=season / "out") == [
        far,
        season / "b.mp4",
        season / "sub/a.MP4",
        season / "gone.mp4",
    ]
    assert season / "out/a/proxy.mp4" in footage_files([season])


def test_a_folder_without_footage_stays_and_is_refused_when_opened(tmp_path: Path) -> None:
    assert footage_files([tmp_path]) == [tmp_path]
    with pytest.raises(FootageError, match="a directory"):
        probe_footage(tmp_path)


def test_detect_and_probe_take_folders(season: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    out = season / "out"
    arguments = ["detect", season, "--model", "bright", "-o", out, "--hop", 0.25, "-q"]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    assert sorted(p.parent.name for p in out.glob("*/events.json")) == ["a", "b"]
    probed = CliRunner().invoke(app, ["probe", "--json", "--quick", str(season / "sub")])
    assert [row["path"] for row in json.loads(probed.stdout)] == [str(season / "sub/a.MP4")]
    empty = CliRunner().invoke(app, ["probe", "--json", str(out / "a" / "none")])
    assert [row["verdict"] for row in json.loads(empty.stdout)] == ["refused"]


@pytest.mark.usefixtures("one_thread", "tiny")
def test_background_may_be_a_folder(season: Path, tmp_path: Path) -> None:
    rows = ["video,label,start_s,end_s,group"]
    for k in range(4):
        write_levels(tmp_path / f"{k}.mp4", [(60, 200)[k % 2]] * 24)
        rows.append(f"{k}.mp4,{('dark', 'light')[k % 2]},,,m{k // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    job = TrainJob(
        tmp_path / "labels.csv", "tiny", val_groups=("m1",), background=(season / "sub",)
    )
    _, split, _ = prepare(job)
    taken = {e.path for e in (*split.train, *split.val) if e.label == "background"}
    assert taken == {season / "sub/a.MP4"}
