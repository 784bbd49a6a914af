"""Footage to frames chosen by time: streaming, bounded memory, times from timestamps.

A player at time t shows the last frame whose presentation time is at most t. `decode` gives the
frame shown at each sample instant k / rate_hz:

    frames   |0        |1   |2             |3    |   presentation times, any spacing
    samples  ^    ^    ^    ^    ^    ^    ^    ^    k / rate_hz
    shown    0    0    1    2    2    2    3    3
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.types import FootageHealth, Frames, UInt8

CHUNK_FRAMES = 32

# Containers round timestamps (Matroska to 1 ms): a frame this little late counts as on time.
TIMESTAMP_ROUNDING_S = Fraction(1, 1000)


@dataclass
class DecodeLog:
    """What decoding learnt on the way; complete once the frames have been read to the end."""

    num_frames: int = 0
    end_s: float = 0.0
    damaged_s: list[tuple[float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Shown:
    """One decoded frame with the time a player first shows it, in exact seconds."""

    frame: VideoFrame
    time_s: Fraction
    damaged: bool


def decode(
    path: str | os.PathLike[str],
    *,
    rate_hz: float | None,
    size_px: int | None,
    decoder: str = "pyav",
    start_s: float = 0.0,
    end_s: float | None = None,
    log: DecodeLog | None = None,
) -> Iterator[Frames]:
    """The frames shown at start_s <= k / rate_hz < end_s, in chunks of at most CHUNK_FRAMES.

    rate_hz None gives every frame once. size_px is the shorter side after scaling (None: as
    stored); the picture is upright. FootageError where the file cannot be read as video.
    """
    if decoder not in DECODERS:
        raise ValueError(f"decoder is {decoder!r}; it must be one of {', '.join(DECODERS)}")
    if rate_hz is not None and not 0 < rate_hz <= 1000:
        raise ValueError(f"rate_hz is {rate_hz}; it must be in (0, 1000]")
    log = DecodeLog() if log is None else log
    rate = None if rate_hz is None else Fraction(rate_hz).limit_denominator(1_000_000)
    shown = DECODERS[decoder](Path(path), start_s, log)
    return _chunks(_sample(shown, rate, start_s, end_s, log), size_px)


def _sample(
    shown: Iterator[_Shown],
    rate: Fraction | None,
    start_s: float,
    end_s: float | None,
    log: DecodeLog,
) -> Iterator[tuple[_Shown, float]]:
    """Pair every sample instant with the frame shown at it."""
    start = Fraction(start_s).limit_denominator(1_000_000)
    end = None if end_s is None else Fraction(end_s).limit_denominator(1_000_000)
    k: int | None = None
    held: _Shown | None = None
    for current in shown:
        if rate is None:
            if current.time_s >= start and (end is None or current.time_s < end):
                yield current, float(current.time_s)
        elif held is not None:
            until = current.time_s - TIMESTAMP_ROUNDING_S
            k = _first_instant(held.time_s, start, rate) if k is None else k
            while k / rate < until and (end is None or k / rate < end):
                yield held, float(k / rate)
                k += 1
        held = current
        if end is not None and current.time_s >= end:
            return
    if held is not None and rate is not None:
        k = _first_instant(held.time_s, start, rate) if k is None else k
        last = Fraction(log.end_s).limit_denominator(1_000_000) - TIMESTAMP_ROUNDING_S
        while k / rate < last and (end is None or k / rate < end):
            yield held, float(k / rate)
            k += 1


def _first_instant(time_s: Fraction, start: Fraction, rate: Fraction) -> int:
    """The number of the first sample instant at which the first frame is shown."""
    return max(
        math.ceil((time_s - TIMESTAMP_ROUNDING_S) * rate),
        math.ceil((start - TIMESTAMP_ROUNDING_S) * rate),
        0,
    )


def _chunks(samples: Iterator[tuple[_Shown, float]], size_px: int | None) -> Iterator[Frames]:
    pixels: list[UInt8] = []
    times: list[float] = []
    instants: list[float] = []
    damaged: list[bool] = []
    latest: tuple[VideoFrame, UInt8] | None = None
    for shown, instant in samples:
        if latest is None or latest[0] is not shown.frame:
            latest = shown.frame, scaled_rgb(shown.frame, size_px)
        full = len(pixels) == CHUNK_FRAMES
        if pixels and (full or pixels[0].shape != latest[1].shape):
            yield _stack(pixels, times, instants, damaged)
            pixels, times, instants, damaged = [], [], [], []
        pixels.append(latest[1])
        times.append(float(shown.time_s))
        instants.append(instant)
        damaged.append(shown.damaged)
    if pixels:
        yield _stack(pixels, times, instants, damaged)


def _stack(
    pixels: list[UInt8], times: list[float], instants: list[float], damaged: list[bool]
) -> Frames:
    return Frames(
        pixels=np.stack(pixels),
        time_s=np.array(times),
        sample_s=np.array(instants),
        damaged=np.array(damaged),
    )


def scaled_rgb(frame: VideoFrame, size_px: int | None) -> UInt8:
    """A decoded frame -> (3, H, W) uint8 RGB, upright, its shorter side size_px."""
    W, H = frame.width, frame.height
    if size_px is not None:
        scale = size_px / min(W, H)
        W, H = max(1, round(W * scale)), max(1, round(H * scale))
    rgb = frame.reformat(width=W, height=H, format="rgb24").to_ndarray()  # (H, W, 3)
    turned = np.rot90(rgb, k=round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(turned.transpose(2, 0, 1))


def open_footage(path: Path) -> tuple[InputContainer, VideoStream]:
    """The container and its first video stream; FootageError says why there is none."""
    if not path.exists():
        raise FootageError(path, "no such file")
    if path.is_dir():
        raise FootageError(path, "a directory: give the footage files in it")
    if path.stat().st_size == 0:
        raise FootageError(path, "an empty file: was the copy interrupted?")
    try:
        container = av.open(str(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise FootageError(path, f"cannot be read as video ({_reason(error)})") from None
    videos = [
        s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic
    ]
    if not videos:
        container.close()
        raise FootageError(path, "no video stream: is this the audio track?")
    return container, videos[0]


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


def container_start_s(container: InputContainer, stream: VideoStream) -> Fraction:
    """The container's raw start, what every reported time is relative to."""
    start: int | None = container.start_time
    if start is not None:
        return Fraction(start, 1_000_000)
    if stream.start_time is not None and stream.time_base is not None:
        return stream.start_time * stream.time_base
    return Fraction(0)


def _pyav_frames(path: Path, start_s: float, log: DecodeLog) -> Iterator[_Shown]:
    """Every frame from the key frame at or before start_s on, in presentation order."""
    container, stream = open_footage(path)
    try:
        stream.thread_type = "AUTO"
        origin = container_start_s(container, stream)
        time_base = stream.time_base or Fraction(1, 1000)
        if start_s > 0:
            container.seek(
                int((Fraction(start_s).limit_denominator(1_000_000) + origin) / time_base),
                stream=stream,
            )
        nominal = 1 / stream.average_rate if stream.average_rate else Fraction(1, 25)
        previous: Fraction | None = None
        damaged = False
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                damaged = True
                if previous is not None:
                    log.damaged_s.append((float(previous), float(previous + nominal)))
                continue
            for frame in frames:
                if frame.key_frame and not frame.is_corrupt:
                    damaged = False
                time_s = _presentation_s(frame, time_base, origin, previous, nominal)
                if previous is not None and time_s <= previous:
                    time_s = previous + nominal
                    _warn_once(log, "timestamps go backwards: times continue at the frame rate")
                duration = frame.duration * time_base if frame.duration else nominal
                log.num_frames += 1
                log.end_s = float(time_s + duration)
                if damaged or frame.is_corrupt:
                    log.damaged_s.append((float(time_s), log.end_s))
                previous = time_s
                yield _Shown(frame, time_s, damaged or frame.is_corrupt)
        if previous is None and start_s == 0:
            raise FootageError(path, "not one frame could be decoded: is the file complete?")
    except av.error.FFmpegError as error:
        if log.num_frames == 0:
            raise FootageError(path, f"cannot be decoded ({_reason(error)})") from None
        _warn_once(log, f"reading stopped at {log.end_s:.3f} s ({_reason(error)})")
    finally:
        container.close()


def _presentation_s(
    frame: VideoFrame,
    time_base: Fraction,
    origin: Fraction,
    previous: Fraction | None,
    nominal: Fraction,
) -> Fraction:
    if frame.pts is not None:
        return frame.pts * (frame.time_base or time_base) - origin
    return Fraction(0) if previous is None else previous + nominal


def _warn_once(log: DecodeLog, message: str) -> None:
    if message not in log.warnings:
        log.warnings.append(message)


def probe_footage(path: Path) -> FootageHealth:
    """What the file's headers declare; nothing is decoded."""
    container, stream = open_footage(path)
    with container:
        rate = stream.average_rate
        duration = container.duration
        return FootageHealth(
            container=container.format.name,
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            frame_rate=str(rate) if rate else None,
            variable_rate=rate is not None
            and stream.base_rate is not None
            and abs(stream.base_rate / rate - 1) > 0.01,
            duration_s=0.0 if duration is None else duration / 1_000_000,
            start_s=float(container_start_s(container, stream)),
            start_timecode=stream.metadata.get("timecode") or container.metadata.get("timecode"),
            num_frames=stream.frames,
        )


# A decoder gives every frame from the key frame at or before start_s on.
DECODERS = {"pyav": _pyav_frames}
