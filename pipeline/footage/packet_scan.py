"""Read all packets of a file without decoding: when its frames are shown, and what is odd."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.index import IndexEntries
from av.packet import Packet
from av.video.stream import VideoStream

from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.log import GAP_S, JUMP_AHEAD_S, STEP_BACK_S, DecodeLog
from touchline.pipeline.footage.open import (
    OpenFootage,
    StreamT,
    open_footage,
    packets_of,
    reason,
    version_of,
)
from touchline.pipeline.types import Float64

# Rounding to milliseconds moves each time by up to one: equal intervals look slightly unequal.
EVEN_WITHIN_S = Fraction(21, 10_000)

# How many entries of an index are tried.
INDEX_TRIES = 8

# Containers that hold an index of their key frames.
INDEXED = ("mov", "matroska")

# Reading continues after an unreadable place, but not for ever. In a transport stream FFmpeg passes
# over 64 kB for each error, so a large file may have more of them, up to a gigabyte of rubbish.
MAX_READ_ERRORS = 64
RESYNC_BYTES = 65_536
MAX_RESYNCS = 20_000


@dataclass(frozen=True)
class PacketScan:
    """What the packets of the video stream say.

    Attributes:
        ticks: (N,) int64, sorted. Frame k is shown at ticks[k] * step_s - origin_s seconds.
        step_s: Seconds per tick.
        origin_s: Where the container's clock starts, in seconds.
        starts_with_key: Whether decoding can begin at the first packet.
        num_hidden: Packets whose frames an edit list hides. Other frames may need them.
        num_corrupt: Packets that the container marks as damaged.
        orderly: Whether every packet has its own time, on one clock.
        read_error: Why reading stopped before the end; None if it did not.
    """

    ticks: npt.NDArray[np.int64]
    step_s: Fraction
    origin_s: Fraction
    starts_with_key: bool
    num_hidden: int
    num_corrupt: int
    orderly: bool
    read_error: str | None

    def __len__(self) -> int:
        return len(self.ticks)

    def time_s(self, k: int) -> Fraction:
        """Return when frame k is shown, in seconds; k = -1 is the last frame."""
        return int(self.ticks[k]) * self.step_s - self.origin_s

    def times_s(self) -> Float64:
        """Return (N,) float64: when each frame is shown, in seconds."""
        seconds: Float64 = self.ticks * np.float64(self.step_s) - np.float64(self.origin_s)
        return seconds


def scan_packets(footage: OpenFootage, log: DecodeLog) -> PacketScan:
    """Read an open file to its end. A day of footage takes a few megabytes of memory."""
    step_s = footage.interval_s if footage.is_raw else footage.time_base
    gap_ticks = GAP_S / step_s
    stamps = array("q")
    first_key: bool | None = None
    hidden = corrupt = missing = restarts = 0
    error: str | None = None
    try:
        for packet in packets_of(footage.container, footage.stream):
            log.num_packets += 1
            first_key = packet.is_keyframe if first_key is None else first_key
            corrupt += packet.is_corrupt
            stamp = packet.pts if footage.stamped else packet.dts
            if footage.is_raw:
                stamp = len(stamps)
            missing += stamp is None
            hidden += packet.is_discard
            if stamp is not None and not packet.is_discard:
                restarts += bool(stamps) and stamps[-1] - stamp > gap_ticks
                stamps.append(stamp)
    except (av.error.FFmpegError, OSError) as failure:
        error = reason(failure)
    ticks = np.sort(np.array(stamps, np.int64))
    steps = np.diff(ticks)
    growing = bool((steps > 0).all() and (steps <= int(JUMP_AHEAD_S / step_s)).all())
    return PacketScan(
        ticks=ticks,
        step_s=step_s,
        origin_s=footage.origin_s,
        starts_with_key=bool(first_key),
        num_hidden=hidden,
        num_corrupt=corrupt,
        orderly=growing and not missing and not restarts,
        read_error=error,
    )


def whole_index(footage: OpenFootage) -> IndexEntries:
    """The container's index. Matroska reads it only when something seeks.

    It seeks to 0. To find a time that the index does not hold, FFmpeg reads the file up to there,
    in one call that looks like a hang.
    """
    with suppress(av.error.FFmpegError, OSError):
        footage.container.seek(0)
    return footage.stream.index_entries


def is_indexed(footage: OpenFootage, index: IndexEntries) -> bool:
    """Tell whether the container holds an index of its key frames."""
    return footage.container.format.name.split(",")[0] in INDEXED and len(index) > 1


def clock_restarts(footage: OpenFootage, log: DecodeLog) -> bool:
    """Tell whether the clock of a file restarts, so that a seek by time finds the wrong place.

    A file with an index is asked for that; otherwise all its packets are read, once. Not so at an
    address, where that means downloading everything.

    Args:
        footage: The open file. It stays where it is.
        log: Shows the caller that reading makes progress.
    """
    avi = footage.container.format.name == "avi"
    if avi or footage.is_raw or isinstance(footage.path, Address):
        return False
    known = (footage.path, version_of(footage.path), footage.stream.index)
    if known not in _restarts:
        _restarts[known] = _has_parts(footage, log)
    return _restarts[known]


_restarts: dict[tuple[Path, tuple[int, int] | None, int], bool] = {}


def _has_parts(footage: OpenFootage, log: DecodeLog) -> bool:
    index = footage.stream.index_entries
    if footage.container.format.name.startswith("mov") and is_indexed(footage, index):
        # FFmpeg holds 40 bytes for each of perhaps millions of frames: not twice.
        return _index_jumps(index, footage.time_base)
    again = open_footage(footage.path, stream=footage.stream.index)
    with again.container:
        index = whole_index(again)
        if is_indexed(again, index):
            # In the order of the file: FFmpeg sorts the entries by time.
            places = sorted((entry.pos, entry.timestamp) for entry in index)
            return any(clock_parts((stamp for _, stamp in places), footage.time_base))
    again = open_footage(footage.path, stream=footage.stream.index)
    with again.container:
        stamps = (packet.pts for packet in all_packets(again, log))
        return any(clock_parts(stamps, footage.time_base))


def _index_jumps(index: IndexEntries, step_s: Fraction) -> bool:
    back, ahead = int(STEP_BACK_S / step_s), int(JUMP_AHEAD_S / step_s)
    before: int | None = None
    for entry in index:
        if before is not None and not -back < entry.timestamp - before < ahead:
            return True
        before = entry.timestamp
    return False


def index_leads_astray(footage: OpenFootage) -> bool:
    """Tell whether the index of a file names places where no such frame is. Moves the file."""
    stamps = [entry.timestamp for entry in whole_index(footage)]
    for stamp in stamps[:: max(1, len(stamps) // INDEX_TRIES)]:
        try:
            footage.container.seek(stamp, stream=footage.stream)
            packet = next(packets_of(footage.container, footage.stream), None)
        except (av.error.FFmpegError, OSError):
            return True
        if packet is None or packet.pts != stamp:
            return True
    return False


def all_packets(footage: OpenFootage, log: DecodeLog) -> Iterator[Packet[VideoStream]]:
    """Read the packets of the video stream. Reading continues after unreadable places."""
    for packet in packets_past_errors(footage.container, footage.stream, log):
        log.num_packets += 1
        yield packet


def packets_past_errors(
    container: InputContainer, stream: StreamT, log: DecodeLog
) -> Iterator[Packet[StreamT]]:
    """Read the packets of any stream. Reading continues after unreadable places.

    Args:
        container: The open file.
        stream: One of its streams.
        log: Gets a warning for each kind of error.
    """
    errors, resyncs = 0, max(0, container.size) // RESYNC_BYTES
    most = MAX_READ_ERRORS + min(resyncs, MAX_RESYNCS)
    while True:
        try:
            yield from packets_of(container, stream)
            return
        except (av.error.FFmpegError, OSError) as error:
            errors += 1
            log.warn(f"an unreadable place in the file ({reason(error)}).")
            if errors == most:
                return


def follows_one_clock(ticks: npt.NDArray[np.int64], step_s: Fraction, *, in_order: bool) -> bool:
    """Tell whether every frame has a time of its own, on one clock that never restarts.

    Args:
        ticks: (N,) presentation timestamps in decode order.
        step_s: Seconds per tick.
        in_order: Frames are shown in the order in which they are decoded.
    """
    steps = np.diff(np.sort(ticks))
    if not ((steps > 0).all() and (steps <= int(JUMP_AHEAD_S / step_s)).all()):
        return False
    backward = -int((0 if in_order else GAP_S) / step_s)
    return bool((np.diff(ticks) >= backward).all())


def clock_parts(stamps: Iterable[int | None], step_s: Fraction) -> Iterator[int]:
    """Number the parts of a stream, for each packet: a part ends where the clock restarts.

    A single wrong timestamp does not end a part.

    Args:
        stamps: Timestamps in decode order.
        step_s: Seconds per tick.
    """
    back, ahead = int(STEP_BACK_S / step_s), int(JUMP_AHEAD_S / step_s)
    part, previous = 0, None
    for stamp, after in _with_following(stamps):
        if stamp is not None:
            if previous is None or -back < stamp - previous < ahead:
                previous = stamp
            elif after is not None and abs(after - previous) >= abs(after - stamp):
                part += 1
                previous = stamp
        yield part


def _with_following(stamps: Iterable[int | None]) -> Iterator[tuple[int | None, int | None]]:
    """Each timestamp with the next one that is known."""
    held: list[int | None] = []
    for stamp in stamps:
        if stamp is not None:
            yield from ((earlier, stamp) for earlier in held)
            held = []
        held.append(stamp)
    yield from ((earlier, None) for earlier in held)


def is_even(times_s: Float64) -> bool:
    """Tell whether frames at these times (N,), in seconds and sorted, follow at a constant rate."""
    if len(times_s) < 3:
        return True
    usual = np.linspace(times_s[0], times_s[-1], len(times_s))
    return bool(np.abs(times_s - usual).max() <= float(EVEN_WITHIN_S))
