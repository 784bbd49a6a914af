"""One long match in parts, each scored by another process; together they are the whole.

A part begins with a window that begins a batch of the undivided run, so that each window goes
through the network with the same others. What a part decodes before its first window, up to the key
frame, and after its last one does not count:

    key frames    |         |         |         |
    windows         0 . . . . . . . . | . . . . . .
    part 0        |===================|~~|              === its frames and damage are logged
    part 1                            |==|===========   ~~~ decoded twice, logged once
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from touchline.pipeline.clips.windows import hop_samples
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.parallel import Request, bounds_here, merged
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import Address, footage_path
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import first_frame_s
from touchline.pipeline.scoring.score import Scorer, joined
from touchline.pipeline.types import FootageHealth, Frames, ScoreTrack

# Shorter footage is analysed before more processes have loaded the model.
LONG_FOOTAGE_S = 600.0


@dataclass(frozen=True)
class Part:
    """Consecutive windows of a match.

    Attributes:
        path: The footage.
        first: The number of its first window.
        num_windows: How many windows; None: all up to the end.
        from_s: Its frames are logged from here.
        until_s: Its frames are logged up to here; None: to the end.
        zero_s: The time of the first sample of the match.
    """

    path: Path
    first: int
    num_windows: int | None
    from_s: Fraction
    until_s: Fraction | None
    zero_s: Fraction


def is_long(declared: FootageHealth) -> bool:
    """Tell whether a match is so long that dividing it pays.

    Args:
        declared: What the headers declare.
    """
    return declared.duration_s >= LONG_FOOTAGE_S


def plan_parts(
    path: Path, scorer: Scorer, options: DetectOptions, declared: FootageHealth, num_parts: int
) -> list[Part]:
    """Divide a match; one part or none if it cannot be divided, or is too short.

    Args:
        path: The footage.
        scorer: The network.
        options: How to look for events.
        declared: What the headers declare.
        num_parts: How many parts to make at most.

    Raises:
        FootageError: The footage cannot be read.
    """
    if isinstance(path, Address) or options.decoder != "pyav" or options.features is not None:
        return []
    if not is_long(declared) or (scorer.shared and scorer.margin):
        return []
    hop, rate = _hop(scorer, options), Fraction(scorer.model.spec.rate_hz)
    num_windows = int(declared.duration_s * rate) // hop
    unit = _unit(scorer, hop)
    size = -(-num_windows // (num_parts * unit)) * unit
    zero_s, bounds = _bounds(path, options)
    firsts = [0]
    starts = [Fraction(0)]
    for first in range(size, num_windows - scorer.model.spec.num_frames, size):
        begin_s = zero_s + first * hop / rate
        before = bisect_right(bounds, begin_s)
        if before and bounds[before - 1] > starts[-1]:
            firsts.append(first)
            # An instant this close before a key frame already shows it.
            starts.append(bounds[before - 1] - TIMESTAMP_ROUNDING_S)
    return [
        Part(path, first, None if after is None else after - first, start, until, zero_s)
        for (first, after), (start, until) in zip(
            pairwise([*firsts, None]), pairwise([*starts, None]), strict=True
        )
        if first is not None and start is not None
    ]


def score_part(
    part: Part,
    scorer: Scorer,
    options: DetectOptions,
    on_window: Callable[[float], None] | None = None,
) -> tuple[ScoreTrack, DecodeLog]:
    """Score the windows of a part.

    Args:
        part: The part.
        scorer: The network.
        options: How to look for events.
        on_window: Called with the end of the last window scored, in seconds.

    Raises:
        FootageError: The footage cannot be read.
    """
    log = DecodeLog()
    parts = scorer.score_parts(_frames(part, scorer, options, log), hop_s=options.hop_s)
    track = joined(parts, scorer.model.labels, on_window)
    return track.part(slice(part.num_windows)), log


def join_parts(
    parts: Sequence[Part],
    scored: Sequence[tuple[ScoreTrack, DecodeLog]],
    scorer: Scorer,
    options: DetectOptions,
) -> tuple[ScoreTrack, DecodeLog] | None:
    """Join what the parts gave; None if they do not make a whole.

    That happens if the footage is not as long as it declares, or has long holes.

    Args:
        parts: The parts, in time order.
        scored: What `score_part` gave for each.
        scorer: The network.
        options: How to look for events.
    """
    spec = scorer.model.spec
    for part, (track, _) in zip(parts, scored, strict=True):
        num_windows = len(track.start_s)
        if not num_windows or num_windows != (part.num_windows or num_windows):
            return None
        length_s = track.end_s - track.start_s
        if not np.allclose(length_s, spec.duration_s, atol=0.5 / spec.rate_hz):
            return None
    whole = joined((track for track, _ in scored), scorer.model.labels)
    hop_s = _hop(scorer, options) / spec.rate_hz
    # The last window ends with the footage.
    if not np.allclose(np.diff(whole.start_s)[:-1], hop_s, atol=0.1 / spec.rate_hz):
        return None
    return whole, merged([log for _, log in scored])


def bounds_of_match_here(
    log: DecodeLog, *, path: str, stream: int | None
) -> Iterator[tuple[Fraction, list[Fraction]]]:
    """Yield once: the time of the first frame, and the key frames at which footage may be cut.

    Args:
        log: Not used. Every task gets one.
        path: The footage.
        stream: Index of the video stream; None chooses one.
    """
    request = Request(path, "pyav", Wanted(Instants.of(None, 0.0, None), None, stream))
    [bounds] = bounds_here(log, request=request)
    yield first_frame_s(footage_path(path), stream), bounds


def _bounds(path: Path, options: DetectOptions) -> tuple[Fraction, list[Fraction]]:
    arguments = {"path": str(path.absolute()), "stream": options.stream}
    if options.isolation and AVAILABLE:
        task = "touchline.pipeline.detection.parts:bounds_of_match_here"
        [found] = run_isolated(task, arguments, path=path)
    else:
        [found] = bounds_of_match_here(DecodeLog(), **arguments)  # type: ignore[arg-type]
    return found  # type: ignore[no-any-return]


def _frames(part: Part, scorer: Scorer, options: DetectOptions, log: DecodeLog) -> Iterator[Frames]:
    """The frames of a part from its first window on; those of its own time fill `log`."""
    spec, hop = scorer.model.spec, _hop(scorer, options)
    rate = Fraction(spec.rate_hz)

    def half_before(sample: int) -> float:
        return float(part.zero_s + (sample - Fraction(1, 2)) / rate)

    spans = [(float(part.from_s), None if part.until_s is None else float(part.until_s))]
    if part.until_s is not None:
        assert part.num_windows is not None
        next_first = (part.first + part.num_windows) * hop
        piece = scorer.piece_frames if scorer.shared else 1
        more = -(-(spec.num_frames - hop) // piece) * piece
        spans.append((float(part.until_s), half_before(next_first + max(0, more))))
    streams = [
        decode(
            part.path,
            rate_hz=spec.rate_hz,
            size_px=spec.size_px,
            stream=options.stream,
            isolation=options.isolation and AVAILABLE,
            start_s=start_s,
            end_s=end_s,
        )
        for start_s, end_s in spans
    ]
    begin_s = half_before(part.first * hop) if part.first else -math.inf
    try:
        for frames in chain.from_iterable(streams):
            log.become(streams[0].log)
            inside = frames.sample_s >= begin_s
            if inside.all():
                yield frames
            elif inside.any():
                yield Frames(
                    frames.pixels[inside],
                    frames.time_s[inside],
                    frames.sample_s[inside],
                    frames.damaged[inside],
                )
        log.become(streams[0].log)
    finally:
        for stream in streams:
            stream.close()


def _hop(scorer: Scorer, options: DetectOptions) -> int:
    return hop_samples(scorer.model.spec, options.hop_s)


def _unit(scorer: Scorer, hop: int) -> int:
    """The number of windows that a part is a multiple of: whole batches, whole pieces of frames."""
    if not scorer.shared:
        return scorer.batch_size
    pieces = scorer.piece_frames // math.gcd(scorer.piece_frames, hop)
    return math.lcm(4 * scorer.batch_size, pieces)
