"""Run tasks in a worker process until the caller ends; the other half of `isolation`."""

from __future__ import annotations

import importlib
import mmap
import os
import pickle
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from touchline.pipeline.footage.isolation import Ended, SharedFrames
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.types import Frames

ALIVE_EVERY_S = 1.0


def main() -> None:
    """Serve the caller. The arguments are the descriptors of the socket and the shared memory."""
    socket_fd, memory_fd = map(int, sys.argv[1:])
    # Ctrl+C, timeout(1) and systemd signal every process of a group. This one ends with the caller.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    Server(Connection(socket_fd), memory_fd).serve()


class Server:
    """Runs one task after the other and sends what each yields."""

    def __init__(self, connection: Connection, memory_fd: int) -> None:
        self.connection = connection
        self.sending = threading.Lock()
        self.requests: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.slots = Slots(memory_fd)
        self.log: DecodeLog | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._say_alive, daemon=True).start()

    def serve(self) -> None:
        """Run tasks for ever. The process ends when the caller does."""
        self._send(DecodeLog(), None)
        while True:
            request = self.requests.get()
            if request[0] == "run":
                self._run(*request[1:])

    def _run(
        self, task: str, arguments: dict[str, Any], num_slots: int, memory_limit: int | None
    ) -> None:
        _limit_memory(memory_limit)
        self.slots.reset(num_slots)
        log = self.log = DecodeLog()
        error: BaseException | None = None
        try:
            module, _, function = task.partition(":")
            run = getattr(importlib.import_module(module), function)
            # Loading the libraries may have taken long: that was progress too.
            self._send(log, None)
            self._send_all(run(log, **arguments), log)
        except MemoryError:
            error = MemoryError("decoding needs more memory than a worker may use")
        except Exception as raised:
            error = _portable(raised)
        self.log = None
        self._send(log, Ended(error))

    def _send_all(self, items: Iterator[Any], log: DecodeLog) -> None:
        for item in items:
            if isinstance(item, Frames):
                if not self._free_a_slot(item.pixels.nbytes):
                    items.close()  # type: ignore[attr-defined]
                    return
                self._send(log, self.slots.put(item))
            else:
                self._send(log, item)

    def _free_a_slot(self, num_bytes: int) -> bool:
        """Wait until there is room for a chunk; False if the caller wants no more."""
        wait = not self.slots.has_room(num_bytes)
        while True:
            try:
                request = self.requests.get(block=wait)
            except queue.Empty:
                return True
            if request[0] == "stop":
                return False
            self.slots.free(request[1])
            wait = not self.slots.has_room(num_bytes)

    def _send(self, log: DecodeLog, message: Any) -> None:
        with self.sending:
            self.connection.send((log, message))

    def _listen(self) -> None:
        while True:
            try:
                self.requests.put(self.connection.recv())
            except (EOFError, OSError):
                # The caller has ended, and this process may be inside native code.
                os._exit(0)

    def _say_alive(self) -> None:
        """Report progress once a second, but only progress: a decoder that hangs stays silent."""
        before = -1
        while True:
            time.sleep(ALIVE_EVERY_S)
            log = self.log
            if log is not None and log.num_packets != before:
                before = log.num_packets
                self._send(log, None)


class Slots:
    """Slots for chunks of frames in the shared memory, all of one size."""

    def __init__(self, memory_fd: int) -> None:
        self.memory_fd = memory_fd
        self.slot_bytes = 0
        self.mapped: mmap.mmap | None = None
        self.num_slots = 0
        self.free_slots: set[int] = set()

    def reset(self, num_slots: int) -> None:
        """Make all slots free."""
        if num_slots > self.num_slots:
            self.mapped, self.slot_bytes = None, 0
        self.num_slots = num_slots
        self.free_slots = set(range(num_slots))

    def free(self, slot: int) -> None:
        """Make a slot free: the caller has copied its frames."""
        self.free_slots.add(slot)

    def has_room(self, num_bytes: int) -> bool:
        """Tell whether a chunk of this size fits into a free slot now."""
        if num_bytes <= self.slot_bytes:
            return bool(self.free_slots)
        return len(self.free_slots) == self.num_slots

    def put(self, frames: Frames) -> SharedFrames:
        """Copy frames into a free slot."""
        num_bytes = frames.pixels.nbytes
        if num_bytes > self.slot_bytes or self.mapped is None:
            self.mapped = self._resized(num_bytes)
        slot = self.free_slots.pop()
        offset = slot * self.slot_bytes
        pixels = np.frombuffer(self.mapped, np.uint8, num_bytes, offset)
        np.copyto(pixels.reshape(frames.pixels.shape), frames.pixels)
        return SharedFrames(
            slot, offset, frames.pixels.shape, frames.time_s, frames.sample_s, frames.damaged
        )

    def _resized(self, num_bytes: int) -> mmap.mmap:
        self.slot_bytes = -(-num_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        os.ftruncate(self.memory_fd, self.slot_bytes * self.num_slots)
        return mmap.mmap(self.memory_fd, self.slot_bytes * self.num_slots)


def _limit_memory(num_bytes: int | None) -> None:
    """Limit the memory of this process; None lifts the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = most if num_bytes is None else num_bytes
    within = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
    resource.setrlimit(resource.RLIMIT_AS, (within, most))


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
