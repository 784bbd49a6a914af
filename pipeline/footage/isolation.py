"""Run native decoders in worker processes: a crash or a hang costs one file, not the program.

A worker is a fresh Python process (spawned, never forked) with a memory limit. It runs one task at
a time. Pixels come back through shared memory, everything else through a socket:

    caller                                        worker
    run_isolated("module:function", arguments) -> function(log, **arguments), a generator
               copy <-- shared slot, log     <--  Frames
               "free this slot"              -->
               DecodeLog                     <--  the end, or the error, or "alive"

The worker says "alive" when it has started, and then only while it makes progress. If it has used
much processor time since it last said so, it has hung, and the caller kills it. A worker that gets
no processor time is no sign of a damaged file: the machine may be busy or the disk slow. The caller
waits much longer then, and tries once more before it gives the file up.
"""

from __future__ import annotations

import atexit
import math
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.errors import DecoderError, FootageError, TouchlineError
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.types import Bool, Float64, Frames

AVAILABLE = os.name == "posix"
"""Whether this system can run workers: they inherit the file descriptor of the shared memory."""

MEMORY_LIMIT_BYTES = 8 << 30

# Idle workers are kept for the next file: starting one takes as long as decoding a short clip.
IDLE_WORKERS = 4
TASKS_PER_WORKER = 500

# A worker whose shared memory has grown larger than this is not kept.
KEEP_BYTES = 256 << 20

# Slots in the shared memory: how many chunks the worker can decode ahead of the caller.
NUM_SLOTS = 8

# How often the watchdog looks.
TICK_S = 0.5

# How long a worker may take to stop a task that is no longer wanted.
STOP_S = 2.0

_DAMAGED = "The file may be damaged: copy or download it again."


@dataclass(frozen=True)
class Patience:
    """How long a worker may take for one step, such as reading a packet.

    Attributes:
        processor_s: Seconds of its processor time. No packet takes this long.
        silent_s: Seconds altogether. A busy machine, a cold disk or the network may take long.
    """

    processor_s: float = 15.0
    silent_s: float = 120.0

    @property
    def more(self) -> Patience:
        """The patience of the second try."""
        return Patience(2 * self.processor_s, 2 * self.silent_s)


PATIENCE = Patience()


def run_isolated(
    task: str,
    arguments: dict[str, Any],
    *,
    path: str | os.PathLike[str],
    log: DecodeLog | None = None,
    patience: Patience = PATIENCE,
    limited: bool = True,
) -> Generator[Any, None, None]:
    """Run a generator function in a worker and yield its items.

    Args:
        task: The function as "module:name". It is called with a DecodeLog and `arguments`.
        arguments: Keyword arguments of the function; they are pickled.
        path: The footage, named in errors.
        log: Kept equal to the worker's log.
        patience: How long the worker may make no progress before it is killed.
        limited: False lifts the memory limit. CUDA reserves more addresses than any limit allows.

    Raises:
        FootageError: The task raises it.
        DecoderError: The worker crashes, hangs or needs too much memory.
    """
    run = IsolatedTask(task, arguments, path=path, limited=limited)
    try:
        yield from run.items(DecodeLog() if log is None else log, patience=patience)
    finally:
        run.close()


class IsolatedTask:
    """A task that has been started in a worker. Close it in any case, finished or not.

    Args:
        task: The generator function as "module:name".
        arguments: Its keyword arguments.
        path: The footage, named in errors.
        num_slots: How many chunks the worker may decode ahead of the caller.
        limited: Whether the memory limit holds.

    Raises:
        DecoderError: The worker cannot be started.
    """

    def __init__(
        self,
        task: str,
        arguments: dict[str, Any],
        *,
        path: str | os.PathLike[str],
        num_slots: int = NUM_SLOTS,
        limited: bool = True,
    ) -> None:
        self.path = path
        self.order = (task, arguments, num_slots, limited)
        self.worker = _idle_or_new()
        try:
            self.worker.start(*self.order)
        except WorkerDied as death:
            raise DecoderError(path, str(death)) from None

    def items(self, log: DecodeLog, *, patience: Patience = PATIENCE) -> Iterator[Any]:
        """Yield what the task yields, and keep `log` equal to the worker's log.

        Raises:
            FootageError: The task raises it.
        DecoderError: The worker crashes, hangs or needs too much memory.
        """
        try:
            yield from self._tried_twice(log, patience)
        except FootageError as error:
            raise FootageError(self.path, error.message) from None
        except WorkerDied as death:
            raise DecoderError(self.path, str(death)) from None
        except MemoryError:
            limit = memory_limit_bytes() / (1 << 30)
            raise DecoderError(
                self.path, f"decoding needs more than {limit:.1f} GiB of memory. {_DAMAGED}"
            ) from None
        except (TouchlineError, ValueError):
            raise
        except Exception as error:
            raise FootageError(
                self.path, f"decoding failed ({type(error).__name__}: {error}). {_DAMAGED}"
            ) from error

    def _tried_twice(self, log: DecodeLog, patience: Patience) -> Iterator[Any]:
        """The items. If the worker falls silent, another one starts again and makes up for it."""
        num_items = 0
        try:
            for item in self.worker.items(log, patience):
                num_items += 1
                yield item
        except WorkerSilent:
            self.worker = Worker()
            self.worker.start(*self.order)
            yield from islice(self.worker.items(log, patience.more), num_items, None)

    def close(self) -> None:
        """Stop the task, and keep its worker for the next one if it still works."""
        _give_back(self.worker)


def memory_limit_bytes() -> int:
    """Return how much memory a worker may use: at most three quarters of the machine's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MEMORY_LIMIT_BYTES, total * 3 // 4)


@atexit.register
def close_workers() -> None:
    """End all workers."""
    for worker in list(_living):
        worker.close()
    _idle.clear()


@dataclass(frozen=True)
class SharedFrames:
    """Frames whose pixels are in the shared memory.

    Attributes:
        slot: The slot to free when the pixels have been copied.
        offset: Where the pixels begin in the shared memory, in bytes.
        shape: (T, 3, H, W).
        time_s: As in `Frames`.
        sample_s: As in `Frames`.
        damaged: As in `Frames`.
    """

    slot: int
    offset: int
    shape: tuple[int, ...]
    time_s: Float64
    sample_s: Float64
    damaged: Bool


@dataclass(frozen=True)
class Ended:
    """The task has ended; `error` is the exception it raised, if any."""

    error: BaseException | None = None


class WorkerDied(Exception):  # noqa: N818 - what happened, not an error of the caller's
    """The worker crashed or was killed; the message says how."""


class WorkerSilent(WorkerDied):
    """The worker was killed because nothing came from it, although it used no processor time."""


class Worker:
    """A process that runs one task after the other."""

    def __init__(self) -> None:
        self.memory_fd = _shared_file()
        self.mapped: mmap.mmap | None = None
        self.connection, far_end = Pipe(duplex=True)
        self.num_tasks = 0
        self.busy = False
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
            "OPENBLAS_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        fds = far_end.fileno(), self.memory_fd
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "touchline.pipeline.footage.isolation_worker",
             *map(str, fds)],
            pass_fds=fds, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        far_end.close()
        _living.add(self)

    def start(self, task: str, arguments: dict[str, Any], num_slots: int, limited: bool) -> None:
        """Start a task.

        Args:
            task: The function as "module:name".
            arguments: Its keyword arguments.
            num_slots: How many chunks the worker may decode ahead of the caller.
            limited: Whether the memory limit holds.

        Raises:
            WorkerDied: The process has ended.
        """
        self.num_tasks += 1
        self.busy = True
        self._send(("run", task, arguments, num_slots, memory_limit_bytes() if limited else None))

    def items(self, log: DecodeLog, patience: Patience) -> Iterator[Any]:
        """Yield what the task yields, and keep `log` equal to the worker's log.

        Raises:
            WorkerDied: The process ends or makes no progress for too long.
        """
        while True:
            state, message = self._receive(patience)
            log.become(state)
            if isinstance(message, Ended):
                self.busy = False
                if message.error is not None:
                    raise message.error
                return
            if isinstance(message, SharedFrames):
                frames = self._copied(message)
                self._send(("free", message.slot))
                yield frames
            elif message is not None:
                yield message

    def stop(self) -> None:
        """Stop the task, so that another can start. Kill the process if it does not stop."""
        deadline = time.monotonic() + STOP_S
        try:
            self._send(("stop",))
            while self.busy:
                left_s = max(0.0, deadline - time.monotonic())
                _, message = self._receive(Patience(math.inf, left_s))
                self.busy = not isinstance(message, Ended)
        except WorkerDied:
            self.close()

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if not self.connection.closed:
            self.connection.close()
            os.close(self.memory_fd)
        _living.discard(self)

    @property
    def is_usable(self) -> bool:
        """Whether the worker can run another task."""
        alive = not self.connection.closed and self.process.poll() is None
        small = self.mapped is None or len(self.mapped) <= KEEP_BYTES
        return alive and small and not self.busy and self.num_tasks < TASKS_PER_WORKER

    def _send(self, message: tuple[Any, ...]) -> None:
        try:
            self.connection.send(message)
        except (OSError, ValueError):
            raise WorkerDied(self._how_it_ended()) from None

    def _receive(self, patience: Patience) -> tuple[DecodeLog, Any]:
        try:
            death = self._wait(patience)
            if death is None:
                state, message = self.connection.recv()
                return state, message
        except (EOFError, OSError):
            raise WorkerDied(self._how_it_ended()) from None
        self.close()
        raise death

    def _wait(self, patience: Patience) -> WorkerDied | None:
        """Wait for a message; say why there will be none if it takes too long."""
        waited_s, used_s = 0.0, self._processor_s()
        # Ticks are counted: time in which this process itself is stopped does not count.
        while not self.connection.poll(min(TICK_S, max(0.0, patience.silent_s - waited_s))):
            worked_s = self._processor_s() - used_s
            if min(worked_s, waited_s) >= patience.processor_s:
                return WorkerDied(
                    f"the decoder hung: {patience.processor_s:g} s of work without progress. "
                    f"{_DAMAGED}"
                )
            if waited_s >= patience.silent_s:
                return WorkerSilent(
                    f"the decoder made no progress for {patience.silent_s:g} s, at the second try. "
                    "The machine or the disk may be too busy: try again. If that does not help, "
                    "the file may be damaged."
                )
            waited_s += TICK_S
        return None

    def _processor_s(self) -> float:
        """How much processor time the process has used; 0 if this system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        # User and system time are fields 14 and 15, counted from the process number (proc(5)).
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder crashed ({how}). {_DAMAGED}"

    def _copied(self, shared: SharedFrames) -> Frames:
        num_bytes = int(np.prod(shared.shape))
        if self.mapped is None or len(self.mapped) < shared.offset + num_bytes:
            self.mapped = mmap.mmap(self.memory_fd, 0)
        pixels = np.frombuffer(self.mapped, np.uint8, num_bytes, shared.offset)
        return Frames(
            pixels=pixels.reshape(shared.shape).copy(),
            time_s=shared.time_s,
            sample_s=shared.sample_s,
            damaged=shared.damaged,
        )


_lock = threading.Lock()
_idle: list[Worker] = []
_living: set[Worker] = set()


def _shared_file() -> int:
    try:
        # Unlike /dev/shm this is not limited to 64 MB in a container.
        return os.memfd_create("touchline")
    except AttributeError:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())


def _idle_or_new() -> Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.is_usable:
                return worker
            worker.close()
    return Worker()


def _give_back(worker: Worker) -> None:
    if worker.busy and not worker.connection.closed:
        worker.stop()
    with _lock:
        if worker.is_usable and len(_idle) < IDLE_WORKERS:
            _idle.append(worker)
            return
    worker.close()


def _forget_workers() -> None:
    _idle.clear()
    _living.clear()


if AVAILABLE:
    # After a fork the workers belong to the parent.
    os.register_at_fork(after_in_child=_forget_workers)
