"""Decoding speed and memory of every decoder, beside plain decoding as the limit, in one run."""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from touchline.models.errors import FootageError
from touchline.pipeline import isolate
from touchline.pipeline.decode import DECODERS, decode, decode_here
from touchline.pipeline.decoded import DecodeLog, Instants, Wanted
from touchline.pipeline.segments import Request

SIZE_PX = 256
RATES_HZ = (25.0, 8.0, 3.0)
PLAIN = "plain decoding, no scaling"
IN_WORKER = "pyav in its worker"

# Modules that a decoder needs and that may be missing.
MODULES = {"decord": "decord", "opencv": "cv2", "torchcodec": "torchcodec"}


@dataclass(frozen=True)
class DecodeSpeed:
    """One decoder at one sampling rate, None for plain decoding.

    seconds: the best round. ratio: of the time plain decoding takes, best against best.
    peak_bytes: the largest memory of the process that decoded. error: why there is no figure.
    """

    name: str
    rate_hz: float | None
    seconds: float = 0.0
    frames_per_s: float = 0.0
    ratio: float = 0.0
    peak_bytes: int = 0
    error: str = ""


def bench_decode(
    path: Path, *, rounds: int = 3, decoders: tuple[str, ...] = ()
) -> list[DecodeSpeed]:
    """Every decoder at every rate, in rounds that take turns, so that all see the same machine.

    A measurement is a fresh process that opens the file, decodes all of it and drops the frames.
    frames_per_s counts the footage's frames, also those that need no decoding.
    """
    ways = _ways(decoders or tuple(name for name in DECODERS if not name.endswith("-cuda")))
    taken: dict[tuple[str, float | None], list[tuple[float, int]]] = {way: [] for way in ways}
    errors: dict[tuple[str, float | None], str] = {}
    num_frames = 0
    for _ in range(rounds):
        for way in ways:
            if way in errors:
                continue
            try:
                seconds, peak_bytes, frames = _measured(path, *way)
            except (FootageError, ValueError) as error:
                errors[way] = getattr(error, "message", str(error))
                continue
            taken[way].append((seconds, peak_bytes))
            num_frames = frames if way == ways[0] else num_frames
    limit_s = min(seconds for seconds, _ in taken[ways[0]])
    return [_speed(way, taken[way], errors.get(way, ""), num_frames, limit_s) for way in ways]


def _ways(decoders: tuple[str, ...]) -> list[tuple[str, float | None]]:
    names = [name for name in decoders if _is_installed(name)]
    if "pyav" in names:
        names.insert(names.index("pyav") + 1, IN_WORKER)
    return [(PLAIN, None), *((name, rate_hz) for rate_hz in RATES_HZ for name in names)]


def _is_installed(name: str) -> bool:
    module = MODULES.get(name)
    return module is None or importlib.util.find_spec(module) is not None


def _speed(
    way: tuple[str, float | None],
    taken: list[tuple[float, int]],
    error: str,
    num_frames: int,
    limit_s: float,
) -> DecodeSpeed:
    if not taken:
        return DecodeSpeed(*way, error=error)
    seconds = min(seconds for seconds, _ in taken)
    return DecodeSpeed(
        *way,
        seconds=seconds,
        frames_per_s=num_frames / seconds,
        ratio=seconds / limit_s,
        peak_bytes=max(peak_bytes for _, peak_bytes in taken),
        error=error,
    )


def _measured(path: Path, name: str, rate_hz: float | None) -> tuple[float, int, int]:
    """Seconds, peak bytes and frames of one pass, in a process that did nothing before."""
    isolate.close_workers()
    if name == IN_WORKER:
        # The caller's clock: what comes through the socket and the shared memory counts too.
        _run("touchline.pipeline.bench_decode:warm_up", path, {})
        log, started = DecodeLog(), time.perf_counter()
        for _ in decode(path, rate_hz=rate_hz, size_px=SIZE_PX, log=log):
            pass
        seconds = time.perf_counter() - started
        _, peak_bytes, _ = _run("touchline.pipeline.bench_decode:warm_up", path, {})
        return seconds, peak_bytes, log.num_frames
    task = "plain_here" if name == PLAIN else "sampled_here"
    arguments = {} if name == PLAIN else {"decoder": name, "rate_hz": rate_hz}
    return _run(f"touchline.pipeline.bench_decode:{task}", path, arguments)


def _run(task: str, path: Path, arguments: Mapping[str, object]) -> tuple[float, int, int]:
    (measured,) = isolate.run_isolated(
        task, {"path": str(path.absolute()), **arguments}, path=path, log=DecodeLog(),
        watchdog_s=300.0,
    )  # fmt: skip
    seconds, peak_bytes, num_frames = measured
    return float(seconds), int(peak_bytes), int(num_frames)


def warm_up(log: DecodeLog, *, path: str) -> Iterator[tuple[float, int, int]]:
    """Nothing but this process's memory so far."""
    yield 0.0, _peak_bytes(), 0


def plain_here(log: DecodeLog, *, path: str) -> Iterator[tuple[float, int, int]]:
    """Decode every frame with PyAV on all cores and look at none."""
    started, num_frames = time.perf_counter(), 0
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            num_frames += 1
    yield time.perf_counter() - started, _peak_bytes(), num_frames


def sampled_here(
    log: DecodeLog, *, path: str, decoder: str, rate_hz: float
) -> Iterator[tuple[float, int, int]]:
    """`decode` in this process."""
    wanted = Wanted(Instants.of(rate_hz, 0.0, None), SIZE_PX)
    started = time.perf_counter()
    for _ in decode_here(log, request=Request(path, decoder, wanted)):
        pass
    yield time.perf_counter() - started, _peak_bytes(), log.num_frames


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def make_footage(path: Path, *, seconds: float = 20.0) -> Path:
    """1080p30 H.264 of moving texture, for where there is no real footage."""
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
