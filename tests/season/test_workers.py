"""Worker processes: the same results as without, and a crash costs one try."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from touchline.models.load import load_model
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, Record, run_matches


def run(
    job: Job, matches: list[Path], out: Path, options: RunOptions, news: News | None = None
) -> list[Record]:
    inputs = Inputs(tuple(matches))
    return list(run_matches(inputs, job, load_model(job.model), out, options, news=news))


def states(records: list[Record]) -> list[tuple[str, str]]:
    return [(record.result.path.name, record.state) for record in records]


def send(number: int, name: str, times: int) -> tuple[News, list[Path]]:
    """News that send a signal to the only worker as it gets a match, and what was tried again."""
    sent: list[Path] = []
    retried: list[Path] = []

    def on_start(path: Path) -> None:
        if path.name == name and len(sent) < times:
            sent.append(path)
            [worker] = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, number)

    return News(on_start=on_start, on_retry=lambda path, _: retried.append(path)), retried


def test_workers_leave_the_same_files_as_one_process(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    run(job, matches, tmp_path / "one", RunOptions())
    records = run(job, matches, tmp_path / "two", RunOptions(devices=("cpu", "cpu")))
    assert sorted(states(records)) == [(f"m{k}.mp4", "done") for k in range(4)]
    assert all(record.result.track is None for record in records)
    names = sorted(str(p.relative_to(tmp_path / "one")) for p in tmp_path.glob("one/*/*"))
    assert len(names) == 16
    for name in names:
        one, two = ((tmp_path / out / name).read_bytes() for out in ("one", "two"))
        assert one == two, name
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_costs_one_try(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    news, retried = send(signal.SIGKILL, "m1.mp4", times=1)
    records = run(job, matches[:3], tmp_path, RunOptions(workers=1), news)
    assert states(records) == [("m0.mp4", "done"), ("m2.mp4", "done"), ("m1.mp4", "done")]
    assert retried == [matches[1]]


def test_a_match_that_kills_its_worker_twice_is_given_up(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    news, retried = send(signal.SIGKILL, "m1.mp4", times=2)
    *done, failed = run(job, matches[:3], tmp_path, RunOptions(workers=1), news)
    assert states(done) == [("m0.mp4", "done"), ("m2.mp4", "done")]
    assert failed.state == "failed"
    assert str(failed.reason).startswith("the worker was killed (SIGKILL). The system may be out")
    assert retried == [matches[1]]


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_costs_one_try(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    news, retried = send(signal.SIGSTOP, "m1.mp4", times=1)
    records = run(job, matches[:3], tmp_path, RunOptions(workers=1, hang_s=60.0), news)
    assert states(records) == [("m0.mp4", "done"), ("m2.mp4", "done"), ("m1.mp4", "done")]
    assert retried == [matches[1]]


def test_a_run_that_no_worker_can_do_ends_at_once(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="cuda:7"):
        run(job, matches, tmp_path, RunOptions(devices=("cuda:7",)))
    replaced = replace(job, sha256="0" * 64)
    with pytest.raises(Exception, match="was replaced during the run"):
        run(replaced, matches, tmp_path, RunOptions(workers=1))
    assert multiprocessing.active_children() == []


def test_devices_are_of_one_kind() -> None:
    assert RunOptions(devices=("cuda:0", "cuda:1")).num_workers == 2
    assert RunOptions(devices=("cuda:0",), workers=3).num_workers == 3
    assert RunOptions().num_workers == 0
    with pytest.raises(ValueError, match="devices is cuda:0,cpu; all must be of one kind"):
        RunOptions(devices=("cuda:0", "cpu"))
    with pytest.raises(ValueError, match=r"devices has 'foo', .+ Use --devices with cpu"):
        RunOptions(devices=("cuda:0", "foo"))
    with pytest.raises(ValueError, match="workers is -1"):
        RunOptions(workers=-1)
