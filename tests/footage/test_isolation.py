"""The worker process: what crashes or hangs there costs one file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from touchline.models.errors import FootageError
from touchline.pipeline.footage import isolation
from touchline.pipeline.footage.log import DecodeLog

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system"),
]


def run(
    task: str,
    log: DecodeLog | None = None,
    *,
    patience: isolation.Patience = isolation.PATIENCE,
    **arguments: Any,
) -> Iterator[Any]:
    log = log or DecodeLog()
    task = f"isolate_tasks:{task}"
    return isolation.run_isolated(task, arguments, path="a.mp4", log=log, patience=patience)


def worker_pid() -> int:
    return next(iter(run("pid")))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_everything_a_task_yields_comes_in_order():
    assert list(run("count", up_to=1000)) == list(range(1000))


def test_pictures_come_whole_and_stay_when_the_next_ones_arrive():
    log = DecodeLog()
    chunks = list(run("pictures", log, chunks=50, size=64))
    assert [int(chunk.pixels.min()) for chunk in chunks] == list(range(50))
    assert [int(chunk.pixels.max()) for chunk in chunks] == list(range(50))
    assert chunks[0].pixels.shape == (2, 3, 64, 64)
    assert chunks[1].damaged.tolist() == [False, True]
    assert np.allclose(chunks[7].time_s, [7, 7.5])
    assert log.num_frames == 100


def test_pictures_may_change_size_on_the_way():
    sizes = [chunk.pixels.shape[2] for chunk in run("growing")]
    assert sizes == [8] * 4 + [300] * 4 + [16] * 4


def test_the_worker_serves_the_next_file_too():
    assert worker_pid() == worker_pid()
    assert worker_pid() != os.getpid()


def test_a_task_left_early_leaves_a_worker_that_goes_on():
    before = worker_pid()
    for k in range(5):
        chunks = run("pictures", chunks=100, size=64)
        assert int(next(chunks).pixels.max()) == 0
        chunks.close()
        assert list(run("count", up_to=k)) == list(range(k))
    assert worker_pid() == before


def test_a_task_left_early_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolation, "STOP_S", 0.5)
    before = worker_pid()
    items = run("endless")
    next(items)
    items.close()
    assert not is_running(before)
    assert list(run("count", up_to=3)) == [0, 1, 2]


def test_a_crash_is_an_error_of_that_file():
    items = run("segfault")
    assert next(items) == 1
    with pytest.raises(FootageError, match=r"^a\.mp4: the decoder crashed \(SIGSEGV\)"):
        next(items)
    assert list(run("count", up_to=3)) == [0, 1, 2]


def test_a_worker_that_ends_is_an_error_of_that_file():
    with pytest.raises(FootageError, match=r"a\.mp4: the decoder crashed \(exit code 3\)"):
        list(run("leave"))


IMPATIENT = isolation.Patience(processor_s=1.0, silent_s=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["hang", "hang_with_the_interpreter"])
def test_a_worker_that_stands_still_twice_is_killed_and_the_file_not_called_damaged(task: str):
    before = worker_pid()
    says = r"no progress for 4 s, at the second try\. The machine or the disk may be too busy"
    with pytest.raises(FootageError, match=says):
        list(run(task, patience=IMPATIENT))
    assert not is_running(before)


def test_work_without_progress_is_a_hang_and_is_not_tried_again():
    before = worker_pid()
    patience = isolation.Patience(processor_s=1.0, silent_s=60.0)
    with pytest.raises(FootageError, match=r"the decoder hung: 1 s of work without progress\. The"):
        list(run("spin", patience=patience))
    assert not is_running(before)


def test_a_worker_that_stands_still_once_costs_nothing_but_time(tmp_path: Path):
    items = list(run("stand_still_once", patience=IMPATIENT, flag=str(tmp_path / "flag")))
    assert items == [0, 1, 2]


def test_a_worker_that_starts_slowly_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # As from a cold disk: three times as long as a decoder may work without progress.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\nif any('isolation_worker' in a for a in sys.orig_argv): time.sleep(3)\n"
    )
    isolation.close_workers()
    monkeypatch.syspath_prepend(tmp_path)
    patience = isolation.Patience(processor_s=1.0, silent_s=20.0)
    began = time.monotonic()
    assert list(run("count", up_to=2, patience=patience)) == [0, 1]
    assert time.monotonic() - began > 3
    isolation.close_workers()


def test_slow_work_that_gets_on_is_not_taken_for_a_hang():
    worker_pid()
    assert list(run("slow", seconds=3.5, patience=IMPATIENT)) == [1]


def test_too_much_memory_is_an_error_of_that_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(isolation, "MEMORY_LIMIT_BYTES", 2 << 30)
    isolation.close_workers()
    with pytest.raises(FootageError, match=r"a\.mp4: decoding needs more than 2\.0 GiB"):
        list(run("hog"))
    isolation.close_workers()


def test_the_memory_limit_holds_for_every_task_but_those_that_lift_it():
    limit = isolation.memory_limit_bytes()
    log = DecodeLog()
    for limited, expected in ((True, limit), (False, -1), (True, limit)):
        task = isolation.run_isolated(
            "isolate_tasks:memory_limit", {}, path="a.mp4", log=log, limited=limited
        )
        assert list(task) == [expected]


def test_the_worker_goes_on_while_the_caller_is_busy():
    log = DecodeLog()
    chunks = run("pictures", log, chunks=3, size=64)
    next(chunks)
    (worker,) = [one for one in isolation._living if one.busy]
    # Nobody asks, and still the rest arrives: the places in memory hold more than three chunks.
    deadline = time.monotonic() + 100
    while not worker.connection.poll() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert worker.connection.poll()
    assert len(list(chunks)) == 2


def test_an_unforeseen_error_is_one_of_that_file():
    with pytest.raises(FootageError, match=r"^a\.mp4: decoding failed \(IndexError: beyond\)"):
        list(run("stumble"))


def test_an_error_keeps_its_words_and_names_the_file_as_the_caller_wrote_it():
    log = DecodeLog()
    items = run("complain", log)
    next(items)
    with pytest.raises(FootageError, match=r"^a\.mp4: not what it should be$"):
        next(items)
    assert log.warnings == ["something was odd"]


def test_a_forked_child_does_not_use_the_workers_of_its_parent():
    before = worker_pid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(worker_pid()).encode())
        finally:
            isolation.close_workers()
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = pipe.read()
    assert theirs
    assert int(theirs) != before
    assert worker_pid() == before


def test_no_worker_outlives_the_caller():
    workers = [isolation.Worker() for _ in range(2)]
    pids = [worker.process.pid for worker in workers]
    for worker in workers:
        worker.connection.close()  # what the system does when the caller dies
    deadline = time.monotonic() + 50
    for worker in workers:
        worker.process.wait(max(0.1, deadline - time.monotonic()))
    assert not any(is_running(pid) for pid in pids)
