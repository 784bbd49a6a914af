"""Read coded video as packets, and find the points at which its stream can be cut.

Packets come in decode order. Frames are shown in the order of their presentation timestamp (pts):

    decode order   I0  P4  B2  B1  B3 | P8  B6  B5  B7 | I9 ...
    clean points   ^                  ^                ^

A clean point is a place in decode order where every earlier packet is shown before every later
one. A frame depends only on frames decoded before it, so the stream can end at a clean point.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Generic, TypeVar

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S
from touchline.pipeline.footage.nal_units import NAL_IDR, length_bytes, nal_headers
from touchline.pipeline.footage.open import open_footage, packets_of

FrameT = TypeVar("FrameT")
PictureT = TypeVar("PictureT")

# If a seek ends after the time wanted, seek again this much earlier, one after the other.
SEEK_BACK_S = (0, 5, 20, 80, 320)

# How much earlier a copied cut may begin to find an IDR frame, tried one after the other.
LOOK_BACK_S = (0.0, 5.0, 10.0)


@dataclass(frozen=True)
class CodedFrame:
    """The times of one packet, in ticks of the stream's time base.

    Attributes:
        pts: When the frame is shown.
        dts: When the packet is decoded.
        duration: How long the frame is shown.
        key: Decoding can start here.
        idr: An H.264 IDR frame: no later frame depends on an earlier one.
    """

    pts: int
    dts: int
    duration: int
    key: bool
    idr: bool


def decodable(decode: Callable[[], list[FrameT]]) -> list[FrameT]:
    """The frames of `packet.decode`; none if the packet cannot be decoded."""
    try:
        return decode()
    except FFmpegError:
        return []


class ShownPictures(Generic[PictureT]):
    """Gives the picture that a player shows at a time: the last one that starts at or before it.

    Before the first picture that is the first one. Times must not decrease from call to call.

    Args:
        pictures: (start in ticks, picture), in time order.
    """

    def __init__(self, pictures: Iterator[tuple[int, PictureT]]) -> None:
        self._pictures = pictures
        self._shown: PictureT | None = None
        self._next = next(pictures, None)

    def at(self, ticks: int) -> PictureT | None:
        """Return the picture shown at a time in ticks; None if there are no pictures."""
        while self._next is not None and (self._next[0] <= ticks or self._shown is None):
            self._shown = self._next[1]
            self._next = next(self._pictures, None)
        return self._shown


class CodedVideo:
    """The video stream of an open file, read as packets by time. Use it in a `with` block.

    Attributes:
        path: The footage file.
        container: The open file.
        stream: The video stream.
        time_base: Length of one tick of the stream in seconds.
        origin_s: The container's start time, which every time of Touchline is relative to.
        h264: The stream is H.264.
        length_bytes: How NAL units are separated; see `footage.nal_units`.
        untimed: A packet without presentation time was read.
        nominal: Ticks per frame at the average frame rate.
    """

    def __init__(self, path: Path, *, stream: int | None = None) -> None:
        """Open a file.

        Args:
            path: The footage file.
            stream: Index of the video stream in the file; None takes the default one, otherwise
                the largest.

        Raises:
            FootageError: The file cannot be read as video.
        """
        self.path = path
        footage = open_footage(path, stream=stream)
        self.container: InputContainer = footage.container
        self.stream: VideoStream = footage.stream
        self.stream.thread_type = "AUTO"
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 90_000)
        self.origin_s = footage.origin_s
        self.h264 = self.stream.codec_context.name == "h264"
        self.length_bytes = length_bytes(self.stream.codec_context.extradata)
        self.untimed = False
        rate = self.stream.average_rate or Fraction(25)
        self.nominal = max(1, round(1 / rate / self.time_base))

    def __enter__(self) -> CodedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def pts(self, time_s: float) -> int:
        """The timestamp of a time in seconds from the start of the footage."""
        return self.pts_of(Fraction(time_s))

    def pts_of(self, time_s: Fraction) -> int:
        """The timestamp of an exact time; the inverse of `seconds`."""
        return round((time_s + self.origin_s) / self.time_base)

    def seconds(self, pts: int) -> Fraction:
        """The exact time of a timestamp in seconds from the start of the footage."""
        return pts * self.time_base - self.origin_s

    def packets_from(self, pts: int) -> Iterator[Packet[VideoStream]]:
        """Packets in decode order, from a key frame at or before `pts` or from the first one.

        Raises:
            FootageError: The video has no key frame.
        """
        for back_s in (*SEEK_BACK_S, None):
            target = 0 if back_s is None else pts - round(back_s / self.time_base)
            if back_s is None or target <= self._first_pts():
                target = self._first_pts()
            self.container.seek(target, stream=self.stream, backward=True)
            packets = self._from_key()
            first = next(packets, None)
            if first is None:
                raise FootageError(self.path, "has no key frame, so it cannot be cut")
            if (first.pts or 0) <= pts or target == self._first_pts():
                yield first
                yield from packets
                return

    def _first_pts(self) -> int:
        return self.stream.start_time or 0

    def _from_key(self) -> Iterator[Packet[VideoStream]]:
        packets = (p for p in packets_of(self.container, self.stream) if p.dts is not None)
        started = False
        for packet in packets:
            started = started or packet.is_keyframe
            if started:
                if packet.pts is None:
                    # Some AVI files have no presentation times. Without B-frames both are equal.
                    self.untimed = True
                    packet.pts = packet.dts
                yield packet

    def index(self, start_pts: int, end_pts: int) -> list[CodedFrame]:
        """The frames from a key frame at or before start_pts on, in decode order.

        They include every frame shown before end_pts, and the later ones needed to know which
        frame is shown next.
        """
        rows: list[CodedFrame] = []
        limit: int | None = None
        for packet in self.packets_from(start_pts):
            pts, dts = int(packet.pts or 0), int(packet.dts or 0)
            rows.append(
                CodedFrame(
                    pts,
                    dts,
                    packet.duration or self.nominal,
                    packet.is_keyframe,
                    packet.is_keyframe and self.h264 and self._holds_idr(packet),
                )
            )
            if limit is None and dts >= end_pts:
                limit = max(row.pts for row in rows)
            if limit is not None and dts > limit:
                break
        return rows

    def rows_of(self, span: Span, rows: range) -> Iterator[Packet[VideoStream]]:
        """The packets of these rows of a span."""
        packets = self.packets_from(span.seek_pts)
        yield from itertools.islice(packets, rows.start, rows.stop)

    def _holds_idr(self, packet: Packet[VideoStream]) -> bool:
        headers = nal_headers(memoryview(packet), self.length_bytes)
        return any(header[0] & 31 == NAL_IDR for header in headers)

    def rounding(self) -> int:
        """How many ticks a timestamp may be off because the container rounds it."""
        return int(TIMESTAMP_ROUNDING_S / self.time_base)


@dataclass(frozen=True)
class Span:
    """A cut whose start and end are frames: it shows frames with first_pts <= pts < end_pts.

    Attributes:
        seek_pts: Where reading starts; `rows` are the packets of `packets_from(seek_pts)`.
        rows: The coded frames around the cut, in decode order.
        first_pts: Timestamp of the first frame shown.
        end_pts: Timestamp of the first frame after the cut.
    """

    seek_pts: int
    rows: tuple[CodedFrame, ...]
    first_pts: int
    end_pts: int

    @property
    def length(self) -> int:
        """Ticks from the first frame to the end."""
        return self.end_pts - self.first_pts

    @property
    def frame_pts(self) -> list[int]:
        """Timestamps of the frames shown, in order."""
        return sorted({r.pts for r in self.rows if self.first_pts <= r.pts < self.end_pts})


def exact_span(
    video: CodedVideo, start_s: float, end_s: float, *, index_from_s: float | None = None
) -> Span:
    """The span from the frame shown at start_s to the first frame at or after end_s.

    Args:
        video: The footage.
        start_s: Start in seconds.
        end_s: End in seconds.
        index_from_s: List the frames from this time on; None starts at start_s.

    Raises:
        FootageError: No frame is shown in that time.
    """
    start, end = video.pts(start_s), video.pts(end_s)
    seek = start if index_from_s is None else video.pts(index_from_s)
    rows = video.index(seek, end)
    shown = sorted(row.pts for row in rows)
    slack = video.rounding()
    first = shown[max(0, bisect.bisect_right(shown, start + slack) - 1)]
    after = bisect.bisect_left(shown, end - slack)
    stop = shown[after] if after < len(shown) else max(r.pts + r.duration for r in rows)
    if stop <= first:
        raise FootageError(video.path, f"has no frame between {start_s:.3f} s and {end_s:.3f} s")
    return Span(seek, tuple(rows), first, stop)


def copy_span(
    video: CodedVideo, start_s: float, end_s: float, *, joined: bool
) -> tuple[Span, range]:
    """The span from the last key frame before start_s to the first clean point after end_s.

    Also returns the range of rows to copy. Leave out those rows that are shown before the key
    frame: they are leading pictures, which depend on frames that were cut off.

    Args:
        video: The footage.
        start_s: Start in seconds.
        end_s: End in seconds.
        joined: The span follows another one in the output, so H.264 must begin with an IDR frame.

    Raises:
        FootageError: No frame is shown in that time, or there is no IDR frame near.
    """
    for back_s in LOOK_BACK_S if joined and video.h264 else (0.0,):
        exact = exact_span(video, start_s, end_s, index_from_s=max(0.0, start_s - back_s))
        rows = exact.rows
        keys = [
            k
            for k, row in enumerate(rows)
            if row.pts <= exact.first_pts and (row.idr if joined and video.h264 else row.key)
        ]
        if keys:
            break
    else:
        raise FootageError(
            video.path,
            f"has no key frame before {start_s:.3f} s at which copied cuts can be joined, because "
            "its groups of pictures are open. Leave out --copy.",
        )
    begin = max(keys, key=lambda k: rows[k].pts)
    last_shown = max(row.pts for row in rows if row.pts < exact.end_pts)
    points = clean_points(rows, begin)
    end = next((k for k in points if max(r.pts for r in rows[begin:k]) >= last_shown), len(rows))
    later = [row.pts for row in rows[end:]]
    stop = min(later) if later else max(row.pts + row.duration for row in rows[begin:end])
    return Span(exact.seek_pts, rows, rows[begin].pts, stop), range(begin, end)


def clean_points(rows: Sequence[CodedFrame], begin: int) -> list[int]:
    """Each k > begin for which rows[begin:k] are all shown before rows[k:], len(rows) included."""
    least_after = [0] * len(rows)
    least = rows[-1].pts
    for k in range(len(rows) - 1, -1, -1):
        least = min(least, rows[k].pts)
        least_after[k] = least
    points, most = [], rows[begin].pts
    for k in range(begin + 1, len(rows)):
        if most < least_after[k]:
            points.append(k)
        most = max(most, rows[k].pts)
    return [*points, len(rows)]
