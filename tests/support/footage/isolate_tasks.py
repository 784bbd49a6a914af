"""Tasks that behave badly, for the worker process of the isolation tests."""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from touchline.models.errors import FootageError
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.types import Frames


def count(log: DecodeLog, *, up_to: int) -> Iterator[int]:
    """Numbers from 0."""
    for k in range(up_to):
        log.num_packets += 1
        yield k


def pictures(log: DecodeLog, *, chunks: int, size: int) -> Iterator[Frames]:
    """Pictures filled with their number."""
    for k in range(chunks):
        log.num_frames += 2
        yield Frames(
            pixels=np.full((2, 3, size, size), k, np.uint8),
            time_s=np.array([k, k + 0.5]),
            sample_s=np.array([k, k + 0.5]),
            damaged=np.array([False, k == 1]),
        )


def growing(log: DecodeLog) -> Iterator[Frames]:
    """Pictures that get larger and smaller again."""
    for size in (8, 300, 16):
        yield from pictures(log, chunks=4, size=size)


def segfault(log: DecodeLog) -> Iterator[int]:
    """Read where nothing is."""
    yield 1
    ctypes.string_at(0)


def leave(log: DecodeLog) -> Iterator[int]:
    """End the process."""
    yield 1
    os._exit(3)


def hang(log: DecodeLog) -> Iterator[int]:
    """Wait in native code."""
    yield 1
    ctypes.CDLL(None).sleep(1000)


def hang_with_the_interpreter(log: DecodeLog) -> Iterator[int]:
    """Wait in native code that never lets another Python thread run."""
    yield 1
    ctypes.PyDLL(None).sleep(1000)


def spin(log: DecodeLog) -> Iterator[int]:
    """Work for ever without getting on."""
    yield 1
    while True:
        pass


def stand_still_once(log: DecodeLog, *, flag: str) -> Iterator[int]:
    """Stand still in the middle, but only the first time: the file `flag` tells."""
    for k in range(3):
        if k == 1 and not Path(flag).exists():
            Path(flag).touch()
            time.sleep(1000)
        yield k


def slow(log: DecodeLog, *, seconds: float) -> Iterator[int]:
    """Take long for one item, but get on all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        log.num_packets += 1
        time.sleep(0.05)
    yield 1


def endless(log: DecodeLog) -> Iterator[int]:
    """Get on without ever giving anything."""
    yield 1
    while True:
        log.num_packets += 1
        time.sleep(0.05)


def hog(log: DecodeLog) -> Iterator[int]:
    """Take all the memory there is."""
    kept = []
    while True:
        kept.append(bytearray(1 << 28))
    yield len(kept)


def stumble(log: DecodeLog) -> Iterator[int]:
    """Fail in a way nobody thought of."""
    yield 1
    raise IndexError("beyond")


def complain(log: DecodeLog) -> Iterator[int]:
    """Refuse the file."""
    log.warn("something was odd")
    yield 1
    raise FootageError("another name", "not what it should be")


def memory_limit(log: DecodeLog) -> Iterator[int]:
    """What the worker may take, -1 where it is not limited."""
    yield resource.getrlimit(resource.RLIMIT_AS)[0]


def pid(log: DecodeLog) -> Iterator[int]:
    """The worker's process number."""
    yield os.getpid()
