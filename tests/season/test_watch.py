"""Footage that arrives in a folder."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from touchline.models.load import load_model
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import run_matches
from touchline.pipeline.season.watch import Arrivals


def test_a_file_has_arrived_when_it_no_longer_changes(
    matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    arrivals = Arrivals(tmp_path, rest_s=10.0, leave_out=tmp_path / "out")
    match = tmp_path / "cup" / "match.mp4"
    shutil.copytree(matches[0].parent, tmp_path / "out")
    assert arrivals() == []
    match.parent.mkdir()
    content = matches[0].read_bytes()
    for part in (100, len(content)):
        match.write_bytes(content[:part])
        clock_s += 9.0
        assert arrivals() == []
    clock_s += 9.0
    assert arrivals() == []
    clock_s += 1.0
    assert arrivals() == [match]
    clock_s += 100.0
    assert arrivals() == []
    # Another recording under the same name.
    match.write_bytes(matches[1].read_bytes())
    assert arrivals() == []
    clock_s += 10.0
    assert arrivals() == [match]


def test_what_cannot_be_watched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a folder\. Name the folder to watch"):
        Arrivals(tmp_path / "gone", rest_s=1.0)
    with pytest.raises(ValueError, match="rest_s is -1"):
        Arrivals(tmp_path, rest_s=-1.0)


def test_a_run_takes_footage_as_it_arrives(job: Job, matches: list[Path], tmp_path: Path) -> None:
    again = tmp_path / "m0.mp4"
    batches: list[list[Path]] = [[matches[0]], [], [matches[1], again], [], []]

    def arrivals() -> list[Path]:
        if not batches:
            raise KeyboardInterrupt
        batch = batches.pop(0)
        if again in batch:
            shutil.copy(matches[2], again)
        return batch

    ended = []
    run = run_matches(
        Inputs(()), job, load_model(job.model), tmp_path / "out", RunOptions(), arrivals=arrivals
    )
    with pytest.raises(KeyboardInterrupt):
        ended.extend(iter(run))
    folders = [path.name for path in sorted((tmp_path / "out").glob("*/"))]
    assert len(folders) == 3
    assert folders[0] == "m0"
    assert folders[1].startswith("m0-")  # the same name in another folder
    assert folders[2] == "m1"
    states = [json.loads(x)["state"] for x in (tmp_path / "out/run.jsonl").read_text().splitlines()]
    assert states == ["run", *["started", "done"] * 3, "end"]


@pytest.mark.slow
def test_the_command_analyses_what_arrives_until_it_is_stopped(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "touchline.tools.cli", "watch", folder, "--model", job.model,
         "-o", out, "--rest", "1", "--device", "cpu", "--threshold", "0.2", "--hop", "0.25"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        for match in matches[:2]:
            shutil.copy(match, folder)
            page = out / match.stem / "report.html"
            deadline_s = time.monotonic() + 120
            while not (page.exists() and match.name in index(out)):
                assert process.poll() is None
                assert time.monotonic() < deadline_s
                time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "2 of 2 files done" in told
    assert not (out / ".lock.json").exists()


def index(out: Path) -> str:
    page = out / "index.html"
    return page.read_text() if page.exists() else ""
