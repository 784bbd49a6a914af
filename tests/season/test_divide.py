"""One long match divided over workers: the files are those of the undivided run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tiny import write_levels

from touchline.models.load import load_model
from touchline.pipeline.detection import parts
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, Record, run_matches


@pytest.fixture
def match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 s, with events on both sides of the middle."""
    monkeypatch.setattr(parts, "LONG_FOOTAGE_S", 10.0)
    levels = [20 + 200 * (k // 40 % 2) for k in range(16 * 40)]
    return write_levels(tmp_path / "match.mp4", levels)


def run(job: Job, match: Path, out: Path, news: News | None = None, **options: int) -> list[Record]:
    inputs = Inputs((match,))
    return list(
        run_matches(inputs, job, load_model(job.model), out, RunOptions(**options), news=news)
    )


def assert_alike(one: Path, two: Path) -> None:
    names = sorted(str(path.relative_to(one)) for path in one.glob("*/*"))
    assert len(names) == 4
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_divided_match_leaves_the_files_of_an_undivided_one(
    job: Job, match: Path, tmp_path: Path
) -> None:
    run(job, match, tmp_path / "one")
    most: list[int] = []
    told: list[float] = []

    def on_time(path: Path, done_s: float, total_s: float) -> None:
        most.append(len(multiprocessing.active_children()))
        told.append(done_s)

    [record] = run(job, match, tmp_path / "two", News(on_time=on_time), workers=2)
    assert record.state == "done"
    assert record.result.accepted
    assert max(most) == 2
    assert_alike(tmp_path / "one", tmp_path / "two")
    assert multiprocessing.active_children() == []
    [again] = run(job, match, tmp_path / "two", workers=2)
    assert again.state == "skipped"


def test_a_worker_that_is_killed_costs_one_try(job: Job, match: Path, tmp_path: Path) -> None:
    run(job, match, tmp_path / "one")
    retried: list[str] = []

    def kill_one() -> None:
        deadline_s = time.monotonic() + 120
        while len(children := multiprocessing.active_children()) < 2:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        os.kill(children[0].pid, signal.SIGKILL)  # type: ignore[arg-type]

    killer = threading.Thread(target=kill_one)
    news = News(
        on_start=lambda _: None if retried else killer.start(),
        on_retry=lambda _, why: retried.append(why),
    )
    [record] = run(job, match, tmp_path / "two", news, workers=2)
    killer.join()
    assert record.state == "done"
    assert len(retried) == 1
    assert "the worker was killed (SIGKILL)" in retried[0]
    assert_alike(tmp_path / "one", tmp_path / "two")
