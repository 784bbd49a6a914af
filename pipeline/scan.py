"""All packets of a file without decoding one: when its frames are shown, and what is odd."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av

from touchline.pipeline.decoded import GAP_S, JUMP_AHEAD_S, DecodeLog
from touchline.pipeline.footage import OpenFootage, packets_of, reason

# Rounding to a millisecond makes even intervals differ by one.
EVEN_WITHIN_S = Fraction(21, 10_000)


@dataclass(frozen=True)
class PacketScan:
    """What the packets of the video stream say.

    times_s:         presentation times in order, of the frames that are shown.
    starts_with_key: whether decoding can begin at the first packet.
    num_hidden:      packets needed for decoding alone, as an edit list leaves their frames out.
    num_corrupt:     packets that the container itself calls damaged.
    orderly:         every packet has a time of its own, on one clock.
    read_error:      why reading stopped before the end.
    """

    times_s: tuple[Fraction, ...]
    starts_with_key: bool
    num_hidden: int
    num_corrupt: int
    orderly: bool
    read_error: str | None


def scan_packets(footage: OpenFootage, log: DecodeLog) -> PacketScan:
    """Read an open file to its end."""
    times: list[Fraction] = []
    first_key: bool | None = None
    hidden = corrupt = missing = restarts = 0
    error: str | None = None
    try:
        for packet in packets_of(footage.container, footage.stream):
            log.num_packets += 1
            first_key = packet.is_keyframe if first_key is None else first_key
            corrupt += packet.is_corrupt
            ticks = packet.pts if footage.stamped else packet.dts
            stamp = None if ticks is None else footage.seconds(ticks)
            if footage.is_raw:
                stamp = len(times) * footage.interval_s
            missing += stamp is None
            hidden += packet.is_discard
            if stamp is not None and not packet.is_discard:
                restarts += bool(times) and times[-1] - stamp > GAP_S
                times.append(stamp)
    except (av.error.FFmpegError, OSError) as failure:
        error = reason(failure)
    times.sort()
    growing = all(0 < b - a <= JUMP_AHEAD_S for a, b in pairwise(times))
    return PacketScan(
        times_s=tuple(times),
        starts_with_key=bool(first_key),
        num_hidden=hidden,
        num_corrupt=corrupt,
        orderly=growing and not missing and not restarts,
        read_error=error,
    )


def is_even(times_s: tuple[Fraction, ...]) -> bool:
    """Whether frames follow each other at one rate."""
    if len(times_s) < 3:
        return True
    usual = (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    return all(
        abs(time - times_s[0] - k * usual) <= EVEN_WITHIN_S for k, time in enumerate(times_s)
    )
