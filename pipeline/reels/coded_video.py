"""Coded video as packets: where frames lie, where a stream can be cut, H.264 parameter sets.

Packets come in decode order, frames are shown in the order of their pts:

    decode order   I0  P4  B2  B1  B3 | P8  B6  B5  B7 | I9 ...
    clean points   ^                  ^                ^

At a clean point every frame before is shown before every frame after, and since a frame only
refers to frames decoded before it, what comes before can stand alone.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S
from touchline.pipeline.footage.nal_units import NAL_IDR, length_bytes, nal_headers
from touchline.pipeline.footage.open import open_footage, packets_of

FrameT = TypeVar("FrameT")

# How far back to look, in turn, for a key frame that a seek did not find.
SEEK_BACK_S = (0, 5, 20, 80, 320)

# How far back a copied cut may begin to find an IDR frame.
LOOK_BACK_S = (0.0, 5.0, 10.0)


@dataclass(frozen=True)
class CodedFrame:
    """A packet's place: presentation and decoding time in the stream's time base."""

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


class CodedVideo:
    """An open file's video stream, for reading packets by time; close it (`with`).

    stream is the container's index of it; None: the default one, else the largest.
    """

    def __init__(self, path: Path, *, stream: int | None = None) -> None:
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
        """A time from the start of the footage as a timestamp of the stream."""
        return self.pts_of(Fraction(time_s))

    def pts_of(self, time_s: Fraction) -> int:
        """The same for an exact time: the inverse of `seconds`."""
        return round((time_s + self.origin_s) / self.time_base)

    def seconds(self, pts: int) -> Fraction:
        """When a timestamp is shown, from the start of the footage, exactly."""
        return pts * self.time_base - self.origin_s

    def packets_from(self, pts: int) -> Iterator[Packet[VideoStream]]:
        """Packets in decode order from a key frame at or before `pts`, else from the first."""
        for back_s in (*SEEK_BACK_S, None):
            target = 0 if back_s is None else pts - round(back_s / self.time_base)
            if back_s is None or target <= self._first_pts():
                target = self._first_pts()
            self.container.seek(target, stream=self.stream, backward=True)
            packets = self._from_key()
            first = next(packets, None)
            if first is None:
                raise FootageError(self.path, "has no key frame to cut at")
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
                    # Some AVI has no presentation times; without reordering they are the same.
                    self.untimed = True
                    packet.pts = packet.dts
                yield packet

    def index(self, start_pts: int, end_pts: int) -> list[CodedFrame]:
        """From a key frame at or before start_pts until every frame before end_pts is in, and on
        until it is known which frames come after.
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
        """The packets that the rows of a span stand for."""
        packets = self.packets_from(span.seek_pts)
        yield from itertools.islice(packets, rows.start, rows.stop)

    def _holds_idr(self, packet: Packet[VideoStream]) -> bool:
        headers = nal_headers(memoryview(packet), self.length_bytes)
        return any(header[0] & 31 == NAL_IDR for header in headers)

    def rounding(self) -> int:
        """How many ticks a container's rounding may move a timestamp."""
        return int(TIMESTAMP_ROUNDING_S / self.time_base)


@dataclass(frozen=True)
class Span:
    """A cut on the frames there are: frames with first_pts <= pts < end_pts are shown.

    rows: the coded frames around it, those of `packets_from(seek_pts)` from the first on.
    """

    seek_pts: int
    rows: tuple[CodedFrame, ...]
    first_pts: int
    end_pts: int

    @property
    def length(self) -> int:
        return self.end_pts - self.first_pts

    @property
    def frame_pts(self) -> list[int]:
        """Presentation times of the frames shown, in order."""
        return sorted({r.pts for r in self.rows if self.first_pts <= r.pts < self.end_pts})


def exact_span(
    video: CodedVideo, start_s: float, end_s: float, *, index_from_s: float | None = None
) -> Span:
    """From the frame shown at start_s up to the first frame that starts at end_s or later."""
    start, end = video.pts(start_s), video.pts(end_s)
    seek = start if index_from_s is None else video.pts(index_from_s)
    rows = video.index(seek, end)
    shown = sorted(row.pts for row in rows)
    slack = video.rounding()
    first = shown[max(0, bisect.bisect_right(shown, start + slack) - 1)]
    after = bisect.bisect_left(shown, end - slack)
    stop = shown[after] if after < len(shown) else max(r.pts + r.duration for r in rows)
    if stop <= first:
        raise FootageError(video.path, f"has no frame from {start_s:.3f} s to {end_s:.3f} s")
    return Span(seek, tuple(rows), first, stop)


def copy_span(
    video: CodedVideo, start_s: float, end_s: float, *, joined: bool
) -> tuple[Span, range]:
    """From the last key frame at or before start_s to the first clean point at or after end_s.

    With it the numbers of the rows to copy; those among them shown before the key frame (leading
    pictures, which refer to what was cut off) are to be left out. joined: other frames come
    before, so that H.264 has to begin with an IDR frame; FootageError where none is near.
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
            f"has no key frame before {start_s:.3f} s that copied cuts can be joined at (its "
            "groups of pictures are open): leave out --copy",
        )
    begin = max(keys, key=lambda k: rows[k].pts)
    last_shown = max(row.pts for row in rows if row.pts < exact.end_pts)
    points = clean_points(rows, begin)
    end = next((k for k in points if max(r.pts for r in rows[begin:k]) >= last_shown), len(rows))
    later = [row.pts for row in rows[end:]]
    stop = min(later) if later else max(row.pts + row.duration for row in rows[begin:end])
    return Span(exact.seek_pts, rows, rows[begin].pts, stop), range(begin, end)


def clean_points(rows: Sequence[CodedFrame], begin: int) -> list[int]:
    """Each k > begin where rows[begin:k] are all shown before rows[k:]; len(rows) is the last."""
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
