"""Decode long footage in several processes at once; the frames are those of a single process.

The footage is cut into segments at key frames. Each worker decodes one segment, the caller reads
the segments in order, and a worker that has finished takes the next one:

    key frames    |        |     |           |    |          |
    segments      | 0            | 1              | 2        |
    workers         A              B                A

Decoding a segment starts at the key frame at or before its start and gives those samples of the
whole footage that are in the segment, so cutting does not change them. (One exception: next to
damage, the number of intact frames marked as damaged depends on how many are decoded at once.)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.footage.address import footage_path
from touchline.pipeline.footage.isolation import IsolatedTask, run_isolated
from touchline.pipeline.footage.log import JUMP_AHEAD_S, TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import OpenFootage, open_footage, packets_of
from touchline.pipeline.footage.packet_scan import is_indexed, whole_index
from touchline.pipeline.types import Frames

# Where the worker finds `decode` without isolation.
DECODE_TASK = "touchline.pipeline.decoding.decode:decode_here"

# Long enough that opening the file again costs little compared with decoding a segment.
SEGMENT_S = Fraction(10)

# Shorter footage has been decoded before more workers are ready.
LONG_FOOTAGE_S = 120.0
WORKERS_AT_MOST = 4

# Every worker holds an index of the whole file, at FFmpeg's 40 bytes for each frame: together they
# index this many frames at most.
INDEXED_FRAMES = 5_000_000

# A worker fills these slots while the caller still reads earlier segments.
SLOTS_PER_WORKER = 24


@dataclass(frozen=True)
class Request:
    """The order for a worker: what to decode.

    Attributes:
        path: The file or address.
        decoder: A name in DECODERS.
        wanted: Which frames to give.
    """

    path: str
    decoder: str
    wanted: Wanted


@dataclass(frozen=True)
class Passed:
    """How far a file has been decoded. With it, decoding goes on behind the segments that are done.

    Attributes:
        segments: How many segments are done.
        samples: How many frames they gave.
        log: What was found in them.
    """

    segments: int = 0
    samples: int = 0
    log: DecodeLog = field(default_factory=DecodeLog)


def workers_for(duration_s: float, num_frames: int = 0) -> int:
    """Return the number of workers for footage of this length. One keeps two cores busy.

    Args:
        duration_s: How long the footage is, in seconds.
        num_frames: How many frames its index declares; 0 if it has none.
    """
    if duration_s < LONG_FOOTAGE_S:
        return 1
    fitting = INDEXED_FRAMES // max(1, num_frames)
    return max(1, min(WORKERS_AT_MOST, (os.cpu_count() or 1) // 2, fitting))


def decode_segments(
    request: Request,
    *,
    workers: int,
    path: str | os.PathLike[str],
    log: DecodeLog,
    segment_s: Fraction = SEGMENT_S,
    passed: Passed | None = None,
    on_passed: Callable[[Passed], None] = lambda _: None,
) -> Generator[Frames, None, None]:
    """Decode a file in several workers. The frames are those of a single process.

    Footage without an index of its key frames (transport streams, raw streams) is one segment.

    Args:
        request: What to decode.
        workers: Number of processes.
        path: The footage as the caller named it, for errors.
        log: Gets what all segments together find.
        segment_s: A segment lasts this many seconds or longer.
        passed: The segments to leave out, from an earlier call for the same file.
        on_passed: Called when all frames of a segment have been taken.

    Raises:
        FootageError: The file cannot be read.
    """
    (bounds,) = run_isolated(
        "touchline.pipeline.decoding.parallel:bounds_here",
        {"request": request, "segment_s": segment_s},
        path=path,
    )
    threads = max(1, (os.cpu_count() or 1) // workers)
    parts = deque(
        replace(request, wanted=replace(request.wanted, instants=part, threads=threads))
        for part in _parts(request.wanted.instants, bounds)
    )
    running: deque[IsolatedTask] = deque()
    passed = passed or Passed()
    for _ in range(min(passed.segments, len(parts))):
        parts.popleft()
    num_segments, num_samples, done = passed.segments, passed.samples, replace(passed.log)
    log.become(merged([done]))
    try:
        while parts or running:
            while parts and len(running) < workers:
                running.append(_begun(parts.popleft(), path))
            part_log = DecodeLog()
            for frames in running[0].items(part_log):
                num_samples += len(frames)
                yield frames
                log.become(merged([done, part_log]))
            log.become(merged([done, part_log]))
            done = replace(log)
            running.popleft().close()
            num_segments += 1
            on_passed(Passed(num_segments, num_samples, replace(done)))
    finally:
        for run in running:
            run.close()


def bounds_here(
    log: DecodeLog, *, request: Request, segment_s: Fraction = SEGMENT_S
) -> Iterator[list[Fraction]]:
    """Yield one list: the key frames to cut at, in seconds, at least `segment_s` apart.

    Args:
        log: Not used. Every task gets one.
        request: What to decode.
        segment_s: The shortest length of a segment, in seconds.
    """
    footage = open_footage(footage_path(request.path), stream=request.wanted.stream)
    with footage.container:
        first = next(packets_of(footage.container, footage.stream), None)
        index = whole_index(footage)
        if first is None or first.pts is None or not is_indexed(footage, index):
            yield []
            return
        # MP4 indexes decoding times. Every key frame is shown later by the delay of the first.
        delay = first.pts - index[0].timestamp
        # One at a time: the index may name millions of key frames.
        keys = (entry.timestamp + delay for entry in index if entry.is_keyframe)
        yield _far_apart(keys, footage, segment_s)


def _far_apart(keys: Iterator[int], footage: OpenFootage, segment_s: Fraction) -> list[Fraction]:
    """The keys at least `segment_s` apart, in seconds; none if the clock needs repair."""
    jump, segment = (s / footage.time_base for s in (JUMP_AHEAD_S, segment_s))
    before = bound = next(keys, None)
    bounds: list[Fraction] = []
    for key in keys:
        if before is None or bound is None or not 0 < key - before < jump:
            # Repair needs the footage from its beginning.
            return []
        if key - bound >= segment:
            bounds.append(footage.seconds(key))
            bound = key
        before = key
    return bounds


def _parts(whole: Instants, bounds: Sequence[Fraction]) -> list[Instants]:
    """The instants, cut at the bounds inside them."""
    # An instant this close before a key frame already shows it.
    cuts = [bound - TIMESTAMP_ROUNDING_S for bound in bounds]
    inside = [
        cut for cut in cuts if whole.start_s < cut and (whole.end_s is None or cut < whole.end_s)
    ]
    starts = [whole.start_s, *inside]
    ends = [*inside, whole.end_s]
    return [
        replace(whole, start_s=start, end_s=end) for start, end in zip(starts, ends, strict=True)
    ]


def _begun(request: Request, path: str | os.PathLike[str]) -> IsolatedTask:
    return IsolatedTask(DECODE_TASK, {"request": request}, path=path, num_slots=SLOTS_PER_WORKER)


def merged(logs: Sequence[DecodeLog]) -> DecodeLog:
    """Return what several parts of one file have found together.

    Args:
        logs: The logs of the parts, in time order.
    """
    log = DecodeLog(
        num_frames=sum(part.num_frames for part in logs),
        num_skipped=sum(part.num_skipped for part in logs),
        num_packets=sum(part.num_packets for part in logs),
        num_restarts=sum(part.num_restarts for part in logs),
        end_s=max((part.end_s for part in logs), default=0.0),
        warnings=list(dict.fromkeys(warning for part in logs for warning in part.warnings)),
    )
    for name in ("damaged_s", "gaps_s"):
        spans = DecodeLog()
        for start, end in sorted(span for part in logs for span in getattr(part, name)):
            spans.damage(Fraction(start), Fraction(end))
        setattr(log, name, spans.damaged_s)
    return log
