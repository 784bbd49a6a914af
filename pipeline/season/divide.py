"""Divide one long match over worker processes."""

from __future__ import annotations

from contextlib import suppress
from itertools import cycle
from multiprocessing.connection import wait
from pathlib import Path

from touchline.models.errors import TouchlineError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection.detect import OnWindow, score_whole
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.detection.parts import Part, is_long, join_parts, plan_parts
from touchline.pipeline.footage.isolation import AVAILABLE
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.workers import TICK_S, Worker, num_cores
from touchline.pipeline.types import FootageHealth, ScoreTrack


class Divider:
    """Scores a match in parts, one per worker. The workers are kept for the next try."""

    def __init__(self, job: Job, options: RunOptions) -> None:
        """Prepare; workers are started when a match comes.

        Args:
            job: What is done with the match.
            options: How many workers, on which devices, and when one hangs.
        """
        self._job = job
        self._hang_s = options.hang_s
        self._threads = max(1, num_cores() // options.num_workers)
        devices = cycle(options.devices or (None,))
        self._devices = [next(devices) for _ in range(options.num_workers)]
        self._workers: list[Worker] = []

    def score(
        self,
        path: Path,
        scorer: Scorer,
        options: DetectOptions,
        declared: FootageHealth,
        on_window: OnWindow | None = None,
    ) -> tuple[ScoreTrack, DecodeLog]:
        """Score a file as `score_whole` does.

        Args:
            path: The file or address.
            scorer: The network, in this process.
            options: How to look for events.
            declared: What the headers declare.
            on_window: Called with how many seconds have been scored.

        Raises:
            RuntimeError: A worker crashed or hung.
        """
        parts = plan_parts(path, scorer, options, declared, len(self._devices))
        if len(parts) > 1:
            try:
                scored = self._scored(parts, on_window)
            except BaseException:
                self.close()
                raise
            whole = join_parts(parts, scored, scorer, options)
            if whole is not None:
                return whole
        return score_whole(path, scorer, options, declared, on_window)

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.close()
        self._workers = []

    def _scored(
        self, parts: list[Part], on_window: OnWindow | None
    ) -> list[tuple[ScoreTrack, DecodeLog]]:
        """What `score_part` gives for each part."""
        if not self._workers:
            self._workers = [Worker(self._job, device, self._threads) for device in self._devices]
        working = dict(enumerate(self._workers[: len(parts)]))
        for k, worker in working.items():
            worker.silent_s = 0.0
            worker.connection.send(parts[k])
        scored: dict[int, tuple[ScoreTrack, DecodeLog]] = {}
        done_s = [0.0] * len(parts)
        while working:
            ready = wait([worker.connection for worker in working.values()], TICK_S)
            for k, worker in list(working.items()):
                if worker.connection not in ready:
                    worker.silent_s += TICK_S
                    if worker.silent_s >= self._hang_s:
                        raise RuntimeError(f"a worker hung: no progress for {self._hang_s:g} s")
                    continue
                worker.silent_s = 0.0
                try:
                    kind, *content = worker.connection.recv()
                except (EOFError, OSError):
                    raise RuntimeError(worker.how_it_ended()) from None
                if kind in ("unusable", "error"):
                    raise content[0]
                if kind == "time":
                    done_s[k] = content[0]
                if kind == "scored":
                    scored[k] = content[0]
                    del working[k]
            if on_window is not None:
                on_window(sum(done_s))
        return [scored[k] for k in range(len(parts))]


def is_divisible(path: Path, job: Job) -> bool:
    """Tell whether a match is so long that dividing it pays.

    Args:
        path: The footage.
        job: What is done with it.
    """
    with suppress(TouchlineError, ValueError, OSError):
        isolation = job.options.isolation and AVAILABLE
        declared = probe_footage(path, stream=job.options.stream, isolation=isolation)
        return is_long(declared)
    return False
