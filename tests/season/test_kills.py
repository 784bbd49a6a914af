"""A hundred kills at random moments: nothing half-written, and the end is the same."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import write_levels

from touchline.pipeline.season.attempt import Job

# It takes ten minutes, on a machine that may be five times slower.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FILES = ("events.json", "events.csv", "scores.npz", "report.html")
KILLS = {"parent": 20, "worker": 40, "decoder": 40}
NUM_MATCHES = 20


def start(job: Job, footage: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "touchline.tools.cli", "detect", footage, "--model", job.model,
         "-o", out, "--hop", "0.25", "--threshold", "0.2", "--device", "cpu", "--engine", "torch",
         "--decode-workers", "1", "--workers", "2", "--quiet"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def children(pid: int) -> list[int]:
    """The processes that a process has started; none if it has ended."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def victims(pid: int) -> dict[str, list[int]]:
    """The parent, its workers, and their decoders."""
    workers = [child for child in children(pid) if b"spawn_main" in command(child)]
    return {
        "parent": [pid],
        "worker": workers,
        "decoder": [decoder for worker in workers for decoder in children(worker)],
    }


def check(out: Path) -> int:
    """Read every file under a final name; return how many there are."""
    num_files = 0
    for folder in out.glob("*/"):
        for name in FILES:
            try:
                content = (folder / name).read_bytes()
            except FileNotFoundError:  # not yet there, or set aside
                continue
            num_files += 1
            if name == "events.json":
                assert json.loads(content)["version"] == 1
            elif name == "scores.npz":
                with np.load(io.BytesIO(content)) as track:
                    assert len(track["probs"]) == len(track["start_s"]) > 0
            elif name == "report.html":
                assert content.rstrip().endswith(b"</html>")
            else:
                assert content.startswith(b"video,label,")
                assert content.endswith(b"\n")
    return num_files


def tree(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/*"))}


@pytest.mark.timeout(7200)
def test_after_a_hundred_kills_the_results_are_those_of_a_run_without(
    job: Job, tmp_path: Path
) -> None:
    footage = tmp_path / "matches"
    footage.mkdir()
    for k in range(NUM_MATCHES):
        levels = [20] * (4 * k) + [235] * 32 + [20] * (288 - 4 * k)
        write_levels(footage / f"m{k:02d}.mp4", levels)
    assert start(job, footage, tmp_path / "whole").wait() == 0
    whole = tree(tmp_path / "whole")
    assert len(whole) == 4 * NUM_MATCHES

    out, choose = tmp_path / "out", random.Random(0)
    damaged: list[BaseException] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                check(out)
            except FileNotFoundError:  # the folder was removed while it was listed
                continue
            except BaseException as error:
                damaged.append(error)
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    left = [kind for kind, number in KILLS.items() for _ in range(number)]
    choose.shuffle(left)
    process = start(job, footage, out)
    try:
        while left:
            kind = left[-1]
            time.sleep(choose.uniform(0.0, 15.0 if kind == "parent" else 3.0))
            # A worker or a decoder is waited for; the parent is killed at any moment.
            while process.poll() is None and not (pids := victims(process.pid)[kind]):
                time.sleep(0.1)
            if process.poll() is None:
                os.kill(choose.choice(pids), signal.SIGKILL)
                left.pop()
                if kind == "parent":
                    process.wait()
            else:
                if process.returncode == 0:
                    assert tree(out) == whole
                    shutil.rmtree(out)
                process = start(job, footage, out)
        while (code := start(job, footage, out).wait()) != 0:
            assert code == 1  # a match whose worker was killed twice: the next run does it
    finally:
        process.kill()
        process.wait()
        over.set()
        watcher.join()
    assert damaged == []
    assert check(out) == 4 * NUM_MATCHES
    assert tree(out) == whole
    last = {}
    for line in (out / "run.jsonl").read_text().splitlines():
        entry = json.loads(line)
        last[entry.get("input")] = entry["state"]
    assert set(last.values()) <= {"done", "skipped", "end"}
