"""Measure speed and memory of every decoder, compared with plain decoding in the same run."""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import DECODERS, check_decoder, decode, decode_here
from touchline.pipeline.decoding.parallel import Request
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage import isolation
from touchline.pipeline.footage.log import DecodeLog

SIZE_PX = 256
RATES_HZ = (25.0, 8.0, 3.0)
PLAIN = "plain, not scaled"
IN_WORKER = "pyav in its worker"

Way: TypeAlias = "tuple[str, float | None]"
"""A decoder and a sampling rate in Hz; None for plain decoding."""

# The module of each decoder that may not be installed.
MODULES = {"decord": "decord", "opencv": "cv2", "torchcodec": "torchcodec"}


@dataclass(frozen=True)
class DecodeSpeed:
    """One decoder at one sampling rate.

    Attributes:
        name: The decoder.
        rate_hz: Frames sampled per second; None for plain decoding.
        seconds: Wall-clock seconds of the fastest round.
        frames_per_s: Frames of the footage per second, skipped ones included.
        ratio: `seconds` divided by the fastest round of plain decoding.
        cpu_s: CPU seconds of the fastest round. Other work on the machine disturbs them less.
        cpu_ratio: `cpu_s` divided by that of plain decoding.
        peak_bytes: Peak memory of the process that decoded.
        error: Why there are no figures; empty if there are.
    """

    name: str
    rate_hz: float | None
    seconds: float = 0.0
    frames_per_s: float = 0.0
    ratio: float = 0.0
    cpu_s: float = 0.0
    cpu_ratio: float = 0.0
    peak_bytes: int = 0
    error: str = ""


@dataclass(frozen=True)
class Round:
    """What one pass over the footage took.

    Attributes:
        seconds: Wall-clock seconds.
        cpu_s: CPU seconds of all threads.
        peak_bytes: Peak memory of the process.
        num_frames: Frames decoded, or seen by the decoder.
    """

    seconds: float
    cpu_s: float
    peak_bytes: int
    num_frames: int


def bench_decode(path: Path, *, rounds: int, decoders: tuple[str, ...] = ()) -> list[DecodeSpeed]:
    """Measure every decoder at every rate. The decoders take turns in each round.

    A measurement is a new process that opens the file, decodes all of it and drops the frames.

    Args:
        path: The footage file.
        rounds: How often to measure. The fastest round counts.
        decoders: Names of decoders; empty measures every installed one.

    Raises:
        ValueError: A decoder's name is unknown.
        FootageError: The footage cannot be read.
    """
    for name in decoders:
        check_decoder(name)
    probe_footage(path)
    ways = _ways(decoders or tuple(filter(_is_installed, DECODERS)))
    taken: dict[Way, list[Round]] = {way: [] for way in ways}
    errors: dict[Way, str] = {}
    for _ in range(rounds):
        for way in ways:
            if way in errors:
                continue
            try:
                taken[way].append(_measured(path, *way))
            except (FootageError, ValueError) as error:
                if way == ways[0]:
                    raise
                errors[way] = getattr(error, "message", str(error))
    return [_speed(way, taken[way], errors.get(way, ""), taken[ways[0]]) for way in ways]


def _ways(decoders: tuple[str, ...]) -> list[Way]:
    names = list(decoders)
    if "pyav" in names:
        names.insert(names.index("pyav") + 1, IN_WORKER)
    return [(PLAIN, None), *((name, rate_hz) for rate_hz in RATES_HZ for name in names)]


def _is_installed(name: str) -> bool:
    import torch

    module = MODULES.get(name.removesuffix("-cuda"))
    if name.endswith("-cuda") and not torch.cuda.is_available():
        return False
    return module is None or importlib.util.find_spec(module) is not None


def _speed(way: Way, taken: list[Round], error: str, plain: list[Round]) -> DecodeSpeed:
    if error:
        return DecodeSpeed(*way, error=error)
    seconds, cpu_s = min(r.seconds for r in taken), min(r.cpu_s for r in taken)
    return DecodeSpeed(
        *way,
        seconds=seconds,
        frames_per_s=plain[0].num_frames / seconds,
        ratio=seconds / min(r.seconds for r in plain),
        cpu_s=cpu_s,
        cpu_ratio=cpu_s / min(r.cpu_s for r in plain),
        peak_bytes=max(r.peak_bytes for r in taken),
    )


def _measured(path: Path, name: str, rate_hz: float | None) -> Round:
    """One pass in a new process."""
    isolation.close_workers()
    if name == IN_WORKER:
        return _through_a_worker(path, rate_hz)
    task = "plain_here" if name == PLAIN else "sampled_here"
    arguments = {} if name == PLAIN else {"decoder": name, "rate_hz": rate_hz}
    return _run(task, path, arguments)


def _through_a_worker(path: Path, rate_hz: float | None) -> Round:
    """Measured by the caller, so that the transfer from the worker counts too."""
    before = _run("idle_here", path, {})
    watch = Stopwatch()
    frames = decode(path, rate_hz=rate_hz, size_px=SIZE_PX)
    for _ in frames:
        pass
    ours = watch.stopped(frames.log.num_frames)
    after = _run("idle_here", path, {})
    return Round(
        ours.seconds, ours.cpu_s + after.cpu_s - before.cpu_s, after.peak_bytes, ours.num_frames
    )


def _run(task: str, path: Path, arguments: Mapping[str, object]) -> Round:
    (measured,) = isolation.run_isolated(
        f"touchline.pipeline.benchmarks.decode:{task}",
        {"path": str(path.absolute()), **arguments},
        path=path,
        patience=isolation.Patience(300.0, 300.0),
    )
    if not isinstance(measured, Round):
        raise TypeError(f"the worker returned {type(measured).__name__}, not Round")
    return measured


class Stopwatch:
    """Measures time from its creation on."""

    def __init__(self) -> None:
        self.started, self.cpu_started = time.perf_counter(), time.process_time()

    def stopped(self, num_frames: int) -> Round:
        """The time passed since then, on the clock and of all threads of this process."""
        seconds = time.perf_counter() - self.started
        return Round(seconds, time.process_time() - self.cpu_started, _peak_bytes(), num_frames)


def idle_here(log: DecodeLog, *, path: str) -> Iterator[Round]:
    """Report the CPU time and memory of this process so far."""
    yield Round(0.0, time.process_time(), _peak_bytes(), 0)


def plain_here(log: DecodeLog, *, path: str) -> Iterator[Round]:
    """Decode every frame with PyAV on all cores and drop it."""
    watch, num_frames = Stopwatch(), 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            num_frames += 1
    yield watch.stopped(num_frames)


def sampled_here(log: DecodeLog, *, path: str, decoder: str, rate_hz: float) -> Iterator[Round]:
    """Decode and sample in this process.

    Args:
        log: Filled with what decoding finds.
        path: The footage file.
        decoder: The decoder's name.
        rate_hz: Frames sampled per second.
    """
    wanted = Wanted(Instants.of(rate_hz, 0.0, None), SIZE_PX)
    watch = Stopwatch()
    for _ in decode_here(log, request=Request(path, decoder, wanted)):
        pass
    yield watch.stopped(log.num_frames)


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss also counts the memory that the parent had when it started this process.
        lines = status.read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def make_footage(path: Path, *, seconds: float = 20.0) -> Path:
    """Write 1080p30 H.264 footage of a moving texture, to measure without real footage."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (1080 // 8 + 40, 1920 // 8 + 400, 3), np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.bit_rate = 6_000_000
        for k in range(round(seconds * 30)):
            left, top = (5 * k) % 3000, (2 * k) % 300
            view = np.ascontiguousarray(texture[top : top + 1080, left : left + 1920])
            frame = av.VideoFrame.from_ndarray(view, format="rgb24")
            frame = frame.reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = k, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
