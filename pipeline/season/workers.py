"""Worker processes that analyse matches: each loads the model once, and a crash costs one try.

A worker is a fresh Python process (spawned, never forked). It takes one match at a time:

    run                      worker
    match  -->               attempt(match)
               <--           ("ready",) once, ("time", done, total) now and then
               <--           ("outcome", Outcome), or ("unusable", error): it cannot work
    part   -->               score_part(part), a part of a match
               <--           ("scored", (track, log)), or ("error", error)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.batch import Analysis, Match
from touchline.pipeline.detection.parts import Part, score_part
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.season.attempt import Job, OnTime, Outcome, attempt
from touchline.pipeline.season.options import RunOptions

# How often the parent looks for workers that hang, and how often a worker reports its progress.
TICK_S = 1.0
REPORT_S = 0.5

END_S = 5.0

OnMatchTime = Callable[[Path, float, float], None]


class Worker:
    """A process with the model; `match` is what it works on."""

    def __init__(self, job: Job, device: str | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, far_end = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(far_end, job, device, threads), daemon=True
        )
        self.process.start()
        far_end.close()
        self.match: Match | None = None
        self.is_ready = False
        self.silent_s = 0.0

    def submit(self, match: Match) -> None:
        """Send a match. If the process is gone, `wait` of the pool finds out."""
        self.match, self.silent_s = match, 0.0
        with suppress(OSError):
            self.connection.send(match)

    def close(self) -> None:
        """End the process at once. Its decoders end when it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()

    def how_it_ended(self) -> str:
        """Say how the process ended."""
        self.process.join(END_S)
        code = self.process.exitcode
        if code == -signal.SIGKILL:
            return (
                "the worker was killed (SIGKILL). The system may be out of memory: use fewer "
                "workers or a smaller batch."
            )
        how = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
        return f"the worker crashed ({how})"


class WorkerPool:
    """A number of workers; one that has died is replaced when its turn comes."""

    def __init__(self, job: Job, options: RunOptions, on_time: OnMatchTime) -> None:
        """Prepare a pool; each worker is started with its first match.

        Args:
            job: What is done with each match.
            options: How many workers, on which devices, and when one hangs.
            on_time: Called with the match, the seconds done and the seconds in all.
        """
        num_workers = options.num_workers
        self._job = job
        self._hang_s = options.hang_s
        self._on_time = on_time
        self._threads = max(1, num_cores() // num_workers)
        devices = cycle(options.devices or (None,))
        self._places: list[tuple[str | None, Worker | None]] = [
            (device, None) for device, _ in zip(devices, range(num_workers), strict=False)
        ]
        self._failed_starts = 0

    @property
    def num_free(self) -> int:
        """How many matches can be submitted now."""
        return len(self._places) - self.num_busy

    @property
    def num_busy(self) -> int:
        """How many matches are worked on."""
        return len(self._busy())

    def submit(self, match: Match) -> None:
        """Give a match to a free worker, and start one if there is none."""
        for k, (device, worker) in enumerate(self._places):
            if worker is None:
                worker = Worker(self._job, device, self._threads)
                self._places[k] = device, worker
            if worker.match is None:
                worker.submit(match)
                return
        raise AssertionError("no worker is free")

    def wait(self) -> list[tuple[Match, Outcome]]:
        """Wait for news from the workers; return the matches that have ended.

        Raises:
            TouchlineError: Workers end before they have loaded the model.
            ValueError: The network cannot run on this device.
        """
        busy = self._busy()
        ready = wait([worker.connection for worker in busy], TICK_S)
        ended = []
        for worker in busy:
            # Ticks are counted: time in which this process itself is stopped does not count.
            worker.silent_s = 0.0 if worker.connection in ready else worker.silent_s + TICK_S
            if worker.connection in ready:
                outcome = self._heard(worker)
            elif worker.silent_s >= self._hang_s:
                worker.close()
                outcome = self._lost(worker, f"the worker hung: no progress for {self._hang_s:g} s")
            else:
                continue
            if outcome is not None:
                assert worker.match is not None
                ended.append((worker.match, outcome))
                worker.match = None
        return ended

    def close(self) -> None:
        """End all workers at once."""
        for _, worker in self._places:
            if worker is not None:
                worker.close()

    def _busy(self) -> list[Worker]:
        return [worker for _, worker in self._places if worker and worker.match]

    def _heard(self, worker: Worker) -> Outcome | None:
        """Take a message; return the outcome if it is one, or if the worker has died."""
        assert worker.match is not None
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            why = worker.how_it_ended()
            worker.close()
            return self._lost(worker, why)
        if kind == "unusable":
            raise content[0]
        if kind == "ready":
            worker.is_ready, self._failed_starts = True, 0
        if kind == "time":
            self._on_time(worker.match.path, *content)
        return content[0] if kind == "outcome" else None

    def _lost(self, worker: Worker, why: str) -> Outcome:
        """The outcome of a match whose worker has ended."""
        assert worker.match is not None
        if not worker.is_ready:
            self._failed_starts += 1
            if self._failed_starts > len(self._places):
                raise TouchlineError(self._job.model, f"{why} while it loaded the model")
        self._places = [(d, None if w is worker else w) for d, w in self._places]
        return Outcome(MatchResult(worker.match.path, error=why), may_pass=True)


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(connection: Connection[Any, Any], job: Job, device: str | None, threads: int) -> None:
    """Analyse matches until the parent is gone."""
    import torch

    # Ctrl-C goes to every process of the terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        analysis = job.load(device)
    except Exception as error:
        connection.send(("unusable", error))
        return
    connection.send(("ready",))
    reported_s = time.monotonic()

    def on_time(done_s: float, total_s: float) -> None:
        nonlocal reported_s
        if time.monotonic() - reported_s >= REPORT_S:
            reported_s = time.monotonic()
            connection.send(("time", done_s, total_s))

    with suppress(EOFError):
        while True:
            task = connection.recv()
            if isinstance(task, Part):
                connection.send(_scored(analysis, task, job, on_time))
            else:
                connection.send(("outcome", attempt(analysis, task, on_time, job.store)))


def _scored(analysis: Analysis, part: Part, job: Job, on_time: OnTime) -> tuple[str, object]:
    """The message about a part of a match."""

    def on_window(end_s: float) -> None:
        on_time(end_s - float(part.from_s), 0.0)

    try:
        return "scored", score_part(part, analysis.scorer, job.options, on_window)
    except Exception as error:
        return "error", error


def _end_with_parent() -> None:
    """End this process as soon as the parent has ended, in the middle of whatever it does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
