"""Read coded video as packets, and find the points at which its stream can be cut.

Packets come in decode order. Frames are shown in the order of their presentation timestamp (pts):

    decode order   I0  P4  B2  B1  B3 | P8  B6  B5  B7 | I9 ...
    clean points   ^                  ^                ^

A clean point is a place in decode order where every earlier packet is shown before every later
one. A frame depends only on frames decoded before it, so the stream can end at a clean point.

The times of the frames are those that `decode` gives. Where the file's own timestamps are in order,
both are the same and the packets tell them. Otherwise the file is decoded once to learn them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.frame_times import NUMBERED
from touchline.pipeline.decoding.pyav import pyav_frames
from touchline.pipeline.footage.log import TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.nal_units import (
    NAL_IDR,
    length_bytes,
    nal_units,
    parameter_sets,
    sets_among,
)
from touchline.pipeline.footage.open import OpenFootage, open_footage
from touchline.pipeline.footage.packet_scan import all_packets, clock_parts, follows_one_clock

FrameT = TypeVar("FrameT")
PictureT = TypeVar("PictureT")

# If a seek ends after the packet wanted, seek again this much earlier, one after the other.
SEEK_BACK_S = (0, 5, 20, 80, 320)

# A seek has failed if none of this many packets is a known key frame.
UNKNOWN_PACKETS = 500

# How much earlier a copied cut may begin to find an IDR frame.
LOOK_BACK_S = 10

# Decoding tries this many key frames before the wanted frame, then the beginning of the file.
TRIED_KEYS = 3

# A frame that a cut would show for less than this part of its time, and this long, is left out.
SLIVER = Fraction(1, 5)
SLIVER_S = Fraction(1, 100)

# Ticks for times that come from decoding.
REPAIRED_TIME_BASE = Fraction(1, 90_000)

# Later than any timestamp, for packets that show no frame.
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One packet, in ticks of the `time_base` of its `CodedVideo`.

    Attributes:
        pts: When its frame is shown; None if it shows no frame.
        key: Decoding can start here.
        idr: An H.264 IDR frame (no later frame depends on an earlier one) that needs no other
            parameter sets than those of the header.
    """

    pts: int | None
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
        pictures: (start, picture), in time order.
    """

    def __init__(self, pictures: Iterator[tuple[Fraction | int, PictureT]]) -> None:
        self._pictures = pictures
        self._shown: PictureT | None = None
        self._next = next(pictures, None)

    def at(self, time: Fraction | int) -> PictureT | None:
        """Return the picture shown at a time; None if there are no pictures."""
        while self._next is not None and (self._next[0] <= time or self._shown is None):
            self._shown = self._next[1]
            self._next = next(self._pictures, None)
        return self._shown


class CodedVideo:
    """The video stream of a file: all its packets by number, all its frames by time.

    Opening reads the file once to its end. Use it in a `with` block.

    Attributes:
        path: The footage file.
        container: The open file.
        stream: The video stream.
        time_base: Length of one tick in seconds.
        origin_s: The time of tick 0 is this many seconds before the start of the footage.
        clock_origin_s: The container's start time. The file's own timestamps are relative to it.
        pixel_aspect: Width of a pixel divided by its height.
        rate: Usual number of frames per second.
        h264: The stream is H.264.
        length_bytes: How NAL units are separated; see `footage.nal_units`.
        rows: Every packet of the stream, in decode order.
        frame_pts: When each frame is shown, in time order.
        end_pts: When the last frame stops being shown.
        one_clock: The file's own timestamps are right. Otherwise `shifts_s` says how far off.
        shifts_s: For each part of a file whose clock restarts: add this to its timestamps.
        matched: It is known which packet each frame comes from, so packets can be copied.
    """

    def __init__(self, path: Path, *, stream: int | None = None) -> None:
        """Open a file.

        Args:
            path: The footage file.
            stream: Index of the video stream in the file; None takes the default one, otherwise
                the largest.

        Raises:
            FootageError: The file cannot be read as video, or shows no frame.
        """
        self.path = path
        footage = open_footage(path, stream=stream)
        self.container: InputContainer = footage.container
        try:
            self._read(footage)
        except BaseException:
            self.container.close()
            raise

    def _read(self, footage: OpenFootage) -> None:
        self.stream: VideoStream = footage.stream
        context = self.stream.codec_context
        self.pixel_aspect = footage.pixel_aspect
        self.rate = 1 / footage.interval_s
        self.h264 = context.name == "h264"
        self.length_bytes = length_bytes(context.extradata)
        self.clock_origin_s = footage.origin_s
        self._raw = _RawPackets.of(footage, self._starts_clean(context.extradata))
        self.one_clock = self._raw.one_clock
        self.shifts_s: tuple[Fraction, ...] = (Fraction(0),)
        self.matched = True
        if self.one_clock:
            self.time_base, self.origin_s = footage.time_base, footage.origin_s
            times: list[int | None] = list(self._raw.shown)
            last = max(range(len(times)), key=lambda k: -1 if times[k] is None else times[k] or 0)
            length = self._raw.durations[last] or round(footage.interval_s / self.time_base)
            self.end_pts = (times[last] or 0) + max(1, length)
        else:
            self.time_base, self.origin_s = REPAIRED_TIME_BASE, Fraction(0)
            times = self._decoded_times()
        self.rows = [
            CodedFrame(*row) for row in zip(times, self._raw.keys, self._raw.idrs, strict=True)
        ]
        shown = np.array([NEVER if t is None else t for t in times], np.int64)
        if self.one_clock:
            self.frame_pts: list[int] = np.sort(shown[shown < NEVER]).tolist()
        self._row_at = {pts: k for k, pts in enumerate(times) if pts is not None}
        self._hidden = np.concatenate([[0], np.cumsum(shown == NEVER)])
        first = min(self.frame_pts)
        self._latest = np.maximum.accumulate(np.where(shown == NEVER, first - 1, shown))
        earliest = np.minimum.accumulate(shown[::-1])[::-1]
        inside = self._latest[:-1] < earliest[1:]
        self._clean: npt.NDArray[np.int64] = np.flatnonzero([False, *inside, True])

    def _starts_clean(self, header: bytes | None) -> Callable[[Packet[VideoStream]], bool]:
        """Tells whether copying can begin at a key frame: it is IDR and uses the header's sets."""
        if not self.h264:
            return lambda packet: False
        known = set(parameter_sets(header or b"")[0])

        def starts_clean(packet: Packet[VideoStream]) -> bool:
            units = list(nal_units(memoryview(packet), self.length_bytes))
            idr = any(unit[0] & 31 == NAL_IDR for unit in units)
            return idr and set(sets_among(units)) <= known

        return starts_clean

    def _decoded_times(self) -> list[int | None]:
        """When the frame of each packet is shown, as decoding gives it; also the frames' times."""
        times: list[int | None] = [None] * len(self._raw)
        self.frame_pts, shifts = [], dict[int, Fraction]()
        wanted = Wanted(Instants(rate_hz=None), stream=self.stream.index, from_beginning=True)
        for shown in pyav_frames(self.path, wanted, DecodeLog()):
            pts = self.pts_of(shown.time_s)
            if self.frame_pts and pts <= self.frame_pts[-1]:
                pts = self.frame_pts[-1] + 1
            self.frame_pts.append(pts)
            self.end_pts = max(pts + 1, self.pts_of(shown.time_s + shown.duration_s))
            if shown.seq is None or times[shown.seq] is not None:
                self.matched = False
                continue
            times[shown.seq] = pts
            stamp_s = self._raw.stamp_s(shown.seq)
            if stamp_s is not None:
                shifts.setdefault(self._raw.parts[shown.seq], shown.time_s - stamp_s)
        self.shifts_s = tuple(shifts[part] for part in sorted(shifts)) or self.shifts_s
        return times

    def __enter__(self) -> CodedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def end_s(self) -> float:
        """When the last frame stops being shown, in seconds from the start of the footage."""
        return float(self.seconds(self.end_pts))

    def pts(self, time_s: float) -> int:
        """The timestamp of a time in seconds from the start of the footage."""
        return self.pts_of(Fraction(time_s))

    def pts_of(self, time_s: Fraction) -> int:
        """The timestamp of an exact time; the inverse of `seconds`."""
        return round((time_s + self.origin_s) / self.time_base)

    def seconds(self, pts: int) -> Fraction:
        """The exact time of a timestamp in seconds from the start of the footage."""
        return pts * self.time_base - self.origin_s

    def rounding(self) -> int:
        """How many ticks a timestamp may be off because the container rounds it."""
        return int(TIMESTAMP_ROUNDING_S / self.time_base)

    def after(self, pts: int) -> int:
        """When the first frame after a timestamp is shown; the end if there is none."""
        k = bisect.bisect_right(self.frame_pts, pts)
        return self.frame_pts[k] if k < len(self.frame_pts) else self.end_pts

    def row_shown_at(self, pts: int) -> int | None:
        """The number of the packet whose frame is shown from `pts` on; None if it is not known."""
        return self._row_at.get(pts)

    def hides_some(self, rows: range) -> bool:
        """Whether some packet among these rows shows no frame."""
        return bool(self._hidden[rows.stop] > self._hidden[rows.start])

    def latest(self, stop: int) -> int:
        """The timestamp of the last frame that the rows before `stop` show."""
        return int(self._latest[stop - 1])

    def clean_after(self, row: int) -> int:
        """The first clean point after a row."""
        return int(self._clean[np.searchsorted(self._clean, row, side="right")])

    def clean_before(self, limit_pts: int) -> Iterator[int]:
        """The clean points before any frame shown at or after `limit_pts`; the last one first."""
        most = int(np.searchsorted(self._latest, limit_pts))
        yield from map(int, self._clean[: np.searchsorted(self._clean, most, side="right")][::-1])

    def packets(self, rows: range) -> Iterator[Packet[VideoStream]]:
        """The packets of these rows, in decode order."""
        yield from self._packets_in(self._raw.footage, rows)

    def frames(self, first_pts: int, end_pts: int) -> Iterator[VideoFrame] | None:
        """The frames with first_pts <= pts < end_pts, decoded from a key frame before them on.

        Their timestamps are those of this object. None if the packets do not tell.
        """
        first_row = self.row_shown_at(first_pts)
        if not self.matched or first_row is None:
            return None
        keys = [
            k
            for k in range(first_row, -1, -1)
            if self.rows[k].key and (self.rows[k].pts or first_pts) <= first_pts
        ]
        for begin in (*keys[:TRIED_KEYS], 0):
            frames = self._decoded(begin, first_pts, end_pts)
            first = next(frames, None)
            if first is not None and (first.pts == first_pts or begin == 0):
                return chain([first], frames)
        return None

    def _decoded(self, begin: int, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
        footage = open_footage(self.path, stream=self.stream.index)
        with footage.container:
            for frame in self._numbered_frames(footage, begin):
                shown = None if frame.pts is None else self.rows[frame.pts - NUMBERED].pts
                if shown is None or shown < first_pts:
                    continue
                if shown >= end_pts:
                    return
                frame.pts = shown
                yield frame

    def _numbered_frames(self, footage: OpenFootage, begin: int) -> Iterator[VideoFrame]:
        """All frames from a row on, with the number of their row in place of the timestamp."""
        footage.stream.thread_type = "AUTO"
        rows = range(begin, len(self.rows))
        packets = self._packets_in(footage, rows)
        # Where nothing can seek, the packets come from a file opened again, with its own decoder.
        context = footage.stream.codec_context
        for row, packet in zip(rows, packets, strict=False):
            context = packet.stream.codec_context
            packet.pts = NUMBERED + row
            yield from decodable(packet.decode)
        yield from decodable(lambda: context.decode(None))

    def _packets_in(self, footage: OpenFootage, rows: range) -> Iterator[Packet[VideoStream]]:
        for back_s in SEEK_BACK_S:
            if (found := self._sought(footage, rows.start, back_s)) is not None:
                number, first, rest = found
                if number == rows.start:
                    yield first
                skipped = max(0, rows.start - number - 1)
                yield from islice(rest, skipped, max(0, rows.stop - number - 1))
                return
        again = open_footage(self.path, stream=self.stream.index)
        with again.container:
            yield from islice(all_packets(again, DecodeLog()), rows.start, rows.stop)

    def _sought(
        self, footage: OpenFootage, row: int, back_s: int
    ) -> tuple[int, Packet[VideoStream], Iterator[Packet[VideoStream]]] | None:
        """Seek to a key frame at or before a row: its number, its packet and those after it."""
        stamp = self._raw.stamps[row]
        if stamp is None or not self._raw.numbers:
            return None
        ticks = stamp - round(back_s / footage.time_base)
        try:
            footage.container.seek(ticks, stream=footage.stream, backward=True)
            packets = all_packets(footage, DecodeLog())
            for packet in islice(packets, UNKNOWN_PACKETS):
                number = self._raw.numbers.get(_identity(packet))
                if number is not None:
                    return (number, packet, packets) if number <= row else None
        except (FFmpegError, OSError):
            # Raw streams cannot seek.
            return None
        return None


def _identity(packet: Packet[VideoStream]) -> tuple[int | None, int]:
    return packet.pos, packet.size


@dataclass(frozen=True)
class _RawPackets:
    """What the packets of a file say, in decode order.

    Attributes:
        footage: The open file.
        shown: The presentation timestamp; None for packets that an edit list hides.
        stamps: The timestamp to seek to.
        durations: How long each frame is shown; 0 if unknown.
        keys: Whether decoding can start here.
        idrs: Whether copying can begin here; see `CodedFrame`.
        parts: Which part of the file the packet is in. A part ends where the clock restarts.
        numbers: Packet number by file position and size, for key frames.
        one_clock: Whether every frame has its own timestamp, on one clock.
    """

    footage: OpenFootage
    shown: list[int | None]
    stamps: list[int | None]
    durations: list[int]
    keys: list[bool]
    idrs: list[bool]
    parts: list[int]
    numbers: dict[tuple[int | None, int], int]
    one_clock: bool

    def __len__(self) -> int:
        return len(self.shown)

    def stamp_s(self, k: int) -> Fraction | None:
        """The file's own time of packet k, in seconds from the container's start."""
        stamp = self.stamps[k]
        return None if stamp is None else self.footage.seconds(stamp)

    @classmethod
    def of(
        cls, footage: OpenFootage, starts_clean: Callable[[Packet[VideoStream]], bool]
    ) -> _RawPackets:
        """Read an open file to its end."""
        shown: list[int | None] = []
        stamps: list[int | None] = []
        durations: list[int] = []
        keys: list[bool] = []
        idrs: list[bool] = []
        numbers: dict[tuple[int | None, int], int] = {}
        doubled = set()
        shows_nothing = _shows_nothing(footage.stream.codec_context.name)
        # AVI has no presentation times. Without B-frames, decoding times are the same.
        stamped = footage.stamped or not (footage.is_raw or _reorders(footage))
        missing = False
        for k, packet in enumerate(all_packets(footage, DecodeLog())):
            stamp = packet.pts if footage.stamped else packet.dts
            visible = not packet.is_discard and not shows_nothing(packet)
            missing = missing or (visible and stamp is None)
            shown.append(stamp if visible else None)
            stamps.append(stamp)
            durations.append(packet.duration or 0)
            keys.append(packet.is_keyframe)
            idrs.append(packet.is_keyframe and visible and starts_clean(packet))
            if packet.is_keyframe and packet.pos is not None:
                identity = _identity(packet)
                if identity in numbers:
                    doubled.add(identity)
                numbers[identity] = k
        if not shown:
            raise FootageError(footage.path, "has no frame, so it cannot be cut")
        for identity in doubled:
            del numbers[identity]
        if any(keys):
            _hide_undecodable(shown, keys.index(True))
        one_clock = (
            stamped
            and not missing
            and follows_one_clock(
                [stamp for stamp in shown if stamp is not None],
                footage.time_base,
                in_order=not _reorders(footage),
            )
        )
        parts = clock_parts(stamps, footage.time_base)
        return cls(footage, shown, stamps, durations, keys, idrs, parts, numbers, one_clock)


def _hide_undecodable(shown: list[int | None], start: int) -> None:
    """Hide what comes before the first key frame, and its leading pictures (ITU-T H.265, 3.75)."""
    first = shown[start]
    shown[:start] = [None] * start
    for k in range(start + 1, len(shown)):
        stamp = shown[k]
        if first is None or stamp is None or stamp >= first:
            return
        shown[k] = None


def _reorders(footage: OpenFootage) -> bool:
    return bool(footage.stream.codec_context.has_b_frames)


def _shows_nothing(codec: str) -> Callable[[Packet[VideoStream]], bool]:
    """Tells whether a packet holds a frame that is never shown (RFC 6386, 9.1)."""
    if codec == "vp8":
        return lambda packet: not bytes(packet)[0] >> 4 & 1
    return lambda packet: False


@dataclass(frozen=True)
class Span:
    """A cut whose start and end are frames: it shows frames with first_pts <= pts < end_pts.

    Attributes:
        first_pts: Timestamp of the first frame shown.
        end_pts: Timestamp of the first frame after the cut.
        frame_pts: Timestamps of the frames shown, in order.
    """

    first_pts: int
    end_pts: int
    frame_pts: tuple[int, ...]

    @property
    def length(self) -> int:
        """Ticks from the first frame to the end."""
        return self.end_pts - self.first_pts


def _span(video: CodedVideo, first_pts: int, end_pts: int) -> Span:
    begin, end = (bisect.bisect_left(video.frame_pts, pts) for pts in (first_pts, end_pts))
    return Span(first_pts, end_pts, tuple(video.frame_pts[begin:end]))


def exact_span(video: CodedVideo, start_s: float, end_s: float) -> Span:
    """The span from the frame shown at start_s to the first frame at or after end_s.

    At either end, a frame is left out that would flash up for a few milliseconds (see SLIVER): in
    footage whose sound starts first, full seconds lie a little before the frames.

    Args:
        video: The footage.
        start_s: Start in seconds.
        end_s: End in seconds.

    Raises:
        FootageError: No frame is shown in that time.
    """
    start, end = video.pts(start_s), video.pts(end_s)
    shown, slack = video.frame_pts, video.rounding()
    first = max(0, bisect.bisect_right(shown, start + slack) - 1)
    after = bisect.bisect_left(shown, end - slack)
    if first >= after:
        raise FootageError(video.path, f"has no frame between {start_s:.3f} s and {end_s:.3f} s")

    def is_sliver(k: int, length: int) -> bool:
        whole = video.after(shown[k]) - shown[k]
        return after - first > 1 and length < min(SLIVER * whole, SLIVER_S / video.time_base)

    if is_sliver(first, video.after(shown[first]) - start):
        first += 1
    if is_sliver(after - 1, end - shown[after - 1]):
        after -= 1
    return _span(video, shown[first], shown[after] if after < len(shown) else video.end_pts)


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
        FootageError: No frame is shown in that time, or no key frame suits.
    """
    exact = exact_span(video, start_s, end_s)
    first_row, last_row = (
        video.row_shown_at(pts) for pts in (exact.frame_pts[0], exact.frame_pts[-1])
    )
    if not video.matched or first_row is None or last_row is None:
        raise FootageError(
            video.path,
            "does not tell which packet belongs to which frame, so it cannot be copied. "
            "Leave out --copy.",
        )
    end = video.clean_after(max(first_row, last_row))
    earliest = exact.first_pts - round(LOOK_BACK_S / video.time_base)
    wants_idr = joined and video.h264
    for begin in range(first_row, -1, -1):
        row = video.rows[begin]
        if row.pts is None or video.hides_some(range(begin, end)):
            break
        if wants_idr and row.pts < earliest:
            break
        if row.pts <= exact.first_pts and (row.idr if wants_idr else row.key):
            return _span(video, row.pts, video.after(video.latest(end))), range(begin, end)
    raise FootageError(
        video.path,
        f"has no key frame before {start_s:.3f} s at which copied cuts can "
        + ("be joined, because its groups of pictures are open" if wants_idr else "begin")
        + ". Leave out --copy.",
    )
