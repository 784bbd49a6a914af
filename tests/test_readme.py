"""What the README prints works as printed."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import small_3d_model, write_levels
from typer.testing import CliRunner

from touchline.models.checkpoint import save_checkpoint
from touchline.tools.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the README's commands would be typed: match.mp4, run/model.safetensors, labels.csv."""
    write_levels(tmp_path / "match.mp4", [30] * 100, rate=25)
    (tmp_path / "run").mkdir()
    model = replace(small_3d_model(2), thresholds={"class 1": 0.01})
    save_checkpoint(tmp_path / "run" / "model.safetensors", model)
    (tmp_path / "labels.csv").write_text("video,label,start_s,end_s\nmatch.mp4,class 1,1,2\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def block(first_line: str) -> str:
    (found,) = re.findall(rf"```(?:python)?\n({re.escape(first_line)}.*?)```", README, re.S)
    return str(found)


def test_the_five_lines_of_python_find_events_and_cut_a_reel(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = block("from touchline.pipeline import")
    assert sum(map(bool, lines.splitlines())) == 5
    exec(compile(lines, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed
    assert all(re.fullmatch(r"class 1 at \d+\.\d\d s, score 0\.\d\d", p) for p in printed)
    assert (folder / "reel.mp4").stat().st_size > 0


def test_the_commands_after_detection_write_what_they_say(folder: Path) -> None:
    run = CliRunner()
    detect = ["detect", "match.mp4", "--model", "run/model.safetensors", "-o", "out"]
    assert f"touchline {' '.join(detect)}/" in README
    assert run.invoke(app, detect).exit_code == 0
    for line in block("touchline export").splitlines():
        words = line.split("#")[0].split()
        assert words[0] == "touchline"
        done = run.invoke(app, words[1:])
        assert done.exit_code == 0, done.exception
    made = {path for _, _, files in os.walk(folder / "out") for path in files}
    table = re.findall(r"^\| `([a-z]+\.[a-z]+)` \|", README, re.M)
    assert set(table) == {"report.html", "events.csv", "events.json", "scores.npz"}
    assert "`out/run.jsonl`" in README
    assert made == {
        *table,
        *("index.html", "run.jsonl", ".lock"),
        *("events.vtt", "events.edl", "reel.mp4", "001-class-1-0h00m00s.mp4"),
    }
