"""Decode footage to frames chosen by time: streaming, in bounded memory, with exact timestamps.

A player shows at time t the last frame whose presentation time is at most t. `decode` gives the
frame shown at each sample instant, k / rate_hz after the first frame:

    frames   |0        |1   |2             |3    |   presentation times, any spacing
    samples  ^    ^    ^    ^    ^    ^    ^    ^    first frame + k / rate_hz
    shown    0    0    1    2    2    2    3    3

Instants count from the first frame because its time depends on the container: MP4 can hide what an
encoder of sound puts before the sound, others start the picture later by as much (often 21 ms).
The same pictures are sampled in each of them. Their times stay those that a player shows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Picture, ShownFrame, Wanted
from touchline.pipeline.decoding.other_decoders import LIBRARIES, USE_PYAV, library_frames
from touchline.pipeline.decoding.parallel import DECODE_TASK, Passed, Request, decode_segments
from touchline.pipeline.decoding.pyav import pyav_cuda_frames, pyav_frames
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import JUMP_AHEAD_S, TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import first_frame_s
from touchline.pipeline.types import Frames, UInt8

# In a gap of hours the picture does not change: only this much at either end is sampled.
HOLE_ENDS_S = 30

CHUNK_FRAMES = 32
# Small chunks get from worker to caller at less cost than large ones (bench_decode.md).
CHUNK_BYTES = 3 << 20

Decoder = Callable[[Path, Wanted, DecodeLog], Iterator[ShownFrame]]

# A decoder gives every frame from the one shown at the first sample instant on. Touchline chooses
# pyav unless another one is asked for by name.
DECODERS: dict[str, Decoder] = {
    "pyav": pyav_frames,
    "pyav-cuda": pyav_cuda_frames,
    **{name: partial(library_frames, name) for name in LIBRARIES},
}

# decord needs gigabytes for large footage and can abort its process.
ALWAYS_ISOLATED = {"decord"}


def decode(
    path: str | os.PathLike[str],
    *,
    rate_hz: float | None,
    size_px: int | None,
    decoder: str = "pyav",
    start_s: float = 0.0,
    end_s: float | None = None,
    stream: int | None = None,
    workers: int = 1,
    isolation: bool = AVAILABLE,
    passed: Passed | None = None,
    on_passed: Callable[[Passed], None] = lambda _: None,
) -> FrameStream:
    """Decode the frames shown every 1 / rate_hz seconds from the first frame, in [start_s, end_s).

    Pictures are RGB, upright, with square pixels and in standard dynamic range. They come in
    chunks of at most CHUNK_FRAMES frames.

    Args:
        path: A file, or an address as text (https://, s3://, gs://).
        rate_hz: Samples per second, in (0, 1000]; None gives every frame once.
        size_px: The shorter side after scaling, in [1, 4096]; None keeps the stored size.
        decoder: A name in DECODERS.
        start_s: Start of the part to decode, in seconds from the start of the footage.
        end_s: End of the part to decode; None is the end of the footage.
        stream: Index of the video stream in the container; None: the default one, else the largest.
        workers: Number of processes, each for another segment of the file; more than 1 needs
            isolation. The frames stay the same. Next to damage, the number of intact frames that
            are marked as damaged depends on how many frames are decoded at once.
        isolation: Decode in a process of its own: a decoder that crashes or hangs costs one file.
        passed: With several workers: leave out what an earlier call with the same arguments has
            decoded. The log is that of the whole file.
        on_passed: With several workers: called when more of the file is done.

    Raises:
        ValueError: An option has an impossible value.
        FootageError: The file cannot be read. Raised when the first frames are read.

    Example:
        >>> from touchline.pipeline import decode
        >>> with decode("match.mp4", rate_hz=8, size_px=32) as stream:
        ...     for frames in stream:
        ...         print(frames.pixels.shape, frames.sample_s[0], frames.sample_s[-1])
        (32, 3, 32, 32) 0.0 3.875
        (32, 3, 32, 32) 4.0 7.875
        (32, 3, 32, 32) 8.0 11.875
        >>> stream.log.num_frames, stream.log.damaged_s
        (192, [])
    """
    check_decoder(decoder)
    if rate_hz is not None and not 0 < rate_hz <= 1000:
        raise ValueError(f"rate_hz is {rate_hz}; it must be in (0, 1000]")
    if size_px is not None and not 1 <= size_px <= 4096:
        raise ValueError(f"size_px is {size_px}; it must be in [1, 4096]")
    if workers < 1 or (workers > 1 and not isolation):
        raise ValueError(f"workers is {workers}; it must be 1, or more with isolation")
    path = footage_path(path)
    log = DecodeLog()
    isolation = isolation or (AVAILABLE and decoder in ALWAYS_ISOLATED)
    request = Request(
        path=str(path.absolute() if isolation else path),
        decoder=decoder,
        wanted=Wanted(Instants.of(rate_hz, start_s, end_s), size_px, stream),
    )
    if workers > 1 and decoder == "pyav":
        segments = decode_segments(
            request, workers=workers, path=path, log=log, passed=passed, on_passed=on_passed
        )
        return FrameStream(segments, log)
    if passed is not None:
        raise ValueError("only several workers can leave out what was decoded earlier")
    if not isolation:
        return FrameStream(decode_here(log, request=request), log)
    arguments = {"request": request}
    limited = not decoder.endswith("-cuda")
    return FrameStream(
        run_isolated(DECODE_TASK, arguments, path=path, log=log, limited=limited), log
    )


class FrameStream(Iterator[Frames]):
    """The frames of one file, chunk by chunk, with the log of what decoding finds.

    Closing the stream stops the decoder. So does leaving its `with` block or dropping the stream.

    Attributes:
        log: What decoding has found out so far; complete when the stream has been read to its end.
    """

    def __init__(self, chunks: Generator[Frames, None, None], log: DecodeLog) -> None:
        self.log = log
        self._chunks = chunks

    def __next__(self) -> Frames:
        return next(self._chunks)

    def close(self) -> None:
        """Stop decoding. The stream gives no more frames."""
        self._chunks.close()

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_decoder(name: str) -> None:
    """Check that a decoder exists.

    Raises:
        ValueError: `name` is not in DECODERS.
    """
    if name not in DECODERS:
        raise ValueError(f"decoder is {name!r}; it must be one of {', '.join(DECODERS)}")


def decode_here(log: DecodeLog, *, request: Request) -> Generator[Frames, None, None]:
    """Decode in this process, and fill `log`."""
    path, wanted = footage_path(request.path), request.wanted
    if isinstance(path, Address) and request.decoder in LIBRARIES:
        raise FootageError(path, f"{request.decoder} cannot read from an address. {USE_PYAV}")
    if wanted.instants.rate_hz is not None:
        zero_s = first_frame_s(path, wanted.stream)
        wanted = replace(wanted, instants=replace(wanted.instants, zero_s=zero_s))
    yield from chunks_of(samples_of(DECODERS[request.decoder](path, wanted, log), wanted.instants))


def samples_of(
    shown: Iterator[ShownFrame], instants: Instants
) -> Iterator[tuple[Picture, float, float, bool]]:
    """Yield each sample: its picture, since when it is shown, the instant, whether it is damaged.

    Args:
        shown: The frames in presentation order.
        instants: The sample instants.
    """
    if instants.rate_hz is None:
        for current in shown:
            if instants.end_s is not None and current.time_s >= instants.end_s:
                return
            if current.time_s >= instants.start_s:
                time_s = float(current.time_s)
                yield current.picture, time_s, time_s, current.damaged
        return
    held: ShownFrame | None = None
    for current in shown:
        if held is not None:
            until_s = current.time_s - TIMESTAMP_ROUNDING_S
            for instant in instants.between(held.time_s, until_s):
                hole = current.hole_from_s is not None and instant >= current.hole_from_s
                if hole and _deep_inside(instant, current):
                    continue
                damaged = held.damaged or hole
                yield held.picture, float(held.time_s), float(instant), damaged
        held = current
        if instants.past_end(current.time_s):
            return
    if held is not None:
        until_s = held.time_s + held.duration_s - min(TIMESTAMP_ROUNDING_S, held.duration_s / 2)
        for instant in instants.between(held.time_s, until_s):
            yield held.picture, float(held.time_s), float(instant), held.damaged


def _deep_inside(instant: Fraction, following: ShownFrame) -> bool:
    """Tell whether a sample is in the middle of hours without frames, before `following`."""
    since_s = following.hole_from_s
    if since_s is None or following.time_s - since_s < JUMP_AHEAD_S:
        return False
    return since_s + HOLE_ENDS_S < instant < following.time_s - HOLE_ENDS_S


def chunks_of(
    samples: Iterator[tuple[Picture, float, float, bool]], most: int = CHUNK_FRAMES
) -> Generator[Frames, None, None]:
    """Draw samples and yield them in chunks of at most `most` frames."""
    pixels = np.empty((0, 3, 0, 0), np.uint8)
    facts: list[tuple[float, float, bool]] = []
    latest: Picture | None = None
    for picture, time_s, sample_s, is_damaged in samples:
        n = len(facts)
        if n == 0:
            pixels = _empty_chunk(picture.shape, most)
        if n and latest is picture:
            pixels[n] = pixels[n - 1]
        else:
            picture.draw(pixels[n])
        latest = picture
        facts.append((time_s, sample_s, is_damaged))
        if len(facts) == len(pixels):
            yield _frames(pixels, facts)
            facts = []
    if facts:
        yield _frames(pixels[: len(facts)], facts)


def _empty_chunk(shape: tuple[int, int, int], most: int) -> UInt8:
    """An array for the pixels of one chunk: (T, 3, H, W), with a smaller T for large pictures."""
    return np.empty((max(1, min(most, CHUNK_BYTES // math.prod(shape))), *shape), np.uint8)


def _frames(pixels: UInt8, facts: list[tuple[float, float, bool]]) -> Frames:
    time_s, sample_s, is_damaged = zip(*facts, strict=True)
    return Frames(
        pixels=pixels,
        time_s=np.array(time_s),
        sample_s=np.array(sample_s),
        damaged=np.array(is_damaged),
    )
