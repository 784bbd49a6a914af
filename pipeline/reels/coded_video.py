"""Read coded video as packets, and find the points at which its stream can be cut.

Packets come in decode order. Frames are shown in the order of their presentation timestamp (pts):

    decode order   I0  P4  B2  B1  B3 | P8  B6  B5  B7 | I9 ...
    clean points   ^                  ^                ^

A clean point is a place in decode order where every earlier packet is shown before every later
one. A frame depends only on frames decoded before it, so the stream can end at a clean point.

Of MP4 files with H.264 or HEVC only the tables are read, and the packets that are cut out. Other
files are read once to their end.

The times of the frames are those that `decode` gives. Where the file's own timestamps are in order,
both are the same and the packets tell them. Otherwise the file is decoded once to learn them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar, overload

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
from touchline.pipeline.footage.hollow import can_be_hollow, is_key, sync_places, without_contents
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
NEVER = int(np.iinfo(np.int64).max)

# Whether copying can begin at a packet, before anybody asks.
UNKNOWN = 2


@dataclass(frozen=True, slots=True)
class CodedFrame:
    """One packet, in ticks of the `time_base` of its `CodedVideo`.

    Attributes:
        pts: When its frame is shown; None if it shows no frame.
        key: Decoding can start here.
    """

    pts: int | None
    key: bool


class CodedFrames(Sequence[CodedFrame]):
    """Every packet of a stream in decode order, at nine bytes each.

    Args:
        pts: (N,) int64: when each frame is shown; NEVER for packets that show no frame.
        keys: (N,) bool: where decoding can start.
    """

    def __init__(self, pts: npt.NDArray[np.int64], keys: npt.NDArray[np.bool_]) -> None:
        self._pts = pts
        self._keys = keys

    def __len__(self) -> int:
        return len(self._pts)

    @overload
    def __getitem__(self, k: int) -> CodedFrame: ...

    @overload
    def __getitem__(self, k: slice) -> Sequence[CodedFrame]: ...

    def __getitem__(self, k: int | slice) -> CodedFrame | Sequence[CodedFrame]:
        if isinstance(k, slice):
            return CodedFrames(self._pts[k], self._keys[k])
        pts = int(self._pts[k])
        return CodedFrame(None if pts == NEVER else pts, bool(self._keys[k]))


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

    Use it in a `with` block.

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
        frame_pts: (N,) int64: when each frame is shown, in time order.
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
        self._starts_clean = self._clean_start(context.extradata)
        self._raw = _RawPackets.of(footage, self._starts_clean)
        self.one_clock = self._raw.one_clock
        self.shifts_s: tuple[Fraction, ...] = (Fraction(0),)
        self.matched = True
        self.frame_pts: npt.NDArray[np.int64]
        if self.one_clock:
            self.time_base, self.origin_s = footage.time_base, footage.origin_s
            shown = self._raw.shown
            self.frame_pts = np.sort(shown[shown < NEVER])
            latest = int(self.frame_pts[-1])
            last = int(np.flatnonzero(shown == latest)[0])
            length = self._raw.durations[last] or round(footage.interval_s / self.time_base)
            self.end_pts = latest + max(1, length)
        else:
            self.time_base, self.origin_s = REPAIRED_TIME_BASE, Fraction(0)
            shown = self._decoded_times()
        self.rows = CodedFrames(shown, self._raw.keys)
        self._by_time = np.argsort(shown, kind="stable")
        self._in_time = shown[self._by_time]
        self._hidden = np.concatenate([[0], np.cumsum(shown == NEVER)])
        first = int(self.frame_pts[0])
        self._latest = np.maximum.accumulate(np.where(shown == NEVER, first - 1, shown))
        earliest = np.minimum.accumulate(shown[::-1])[::-1]
        inside = self._latest[:-1] < earliest[1:]
        self._clean: npt.NDArray[np.int64] = np.flatnonzero(np.r_[False, inside, True])

    def _clean_start(self, header: bytes | None) -> Callable[[memoryview], bool]:
        """Tells whether copying can begin at a key frame: it is IDR and uses the header's sets."""
        if not self.h264:
            return lambda content: False
        known = set(parameter_sets(header or b"")[0])

        def starts_clean(content: memoryview) -> bool:
            units = list(nal_units(content, self.length_bytes))
            idr = any(unit[0] & 31 == NAL_IDR for unit in units)
            return idr and set(sets_among(units)) <= known

        return starts_clean

    def _decoded_times(self) -> npt.NDArray[np.int64]:
        """When the frame of each packet is shown, as decoding gives it; also the frames' times."""
        times = np.full(len(self._raw), NEVER)
        frame_pts, shifts = array("q"), dict[int, Fraction]()
        wanted = Wanted(Instants(rate_hz=None), stream=self.stream.index, from_beginning=True)
        for shown in pyav_frames(self.path, wanted, DecodeLog()):
            pts = self.pts_of(shown.time_s)
            if frame_pts and pts <= frame_pts[-1]:
                pts = frame_pts[-1] + 1
            frame_pts.append(pts)
            self.end_pts = max(pts + 1, self.pts_of(shown.time_s + shown.duration_s))
            if shown.seq is None or times[shown.seq] != NEVER:
                self.matched = False
                continue
            times[shown.seq] = pts
            stamp_s = self._raw.stamp_s(shown.seq)
            if stamp_s is not None:
                shifts.setdefault(int(self._raw.parts[shown.seq]), shown.time_s - stamp_s)
        self.frame_pts = np.array(frame_pts, np.int64)
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
        k = np.searchsorted(self.frame_pts, pts, side="right")
        return int(self.frame_pts[k]) if k < len(self.frame_pts) else self.end_pts

    def row_shown_at(self, pts: int) -> int | None:
        """The number of the packet whose frame is shown from `pts` on; None if it is not known."""
        k = np.searchsorted(self._in_time, pts, side="right") - 1
        return int(self._by_time[k]) if k >= 0 and self._in_time[k] == pts else None

    def is_key(self, row: int) -> bool:
        """Whether decoding can start at a row. Where only the index says so, the file is asked."""
        asked = self.rows[row].key and self._raw.idrs[row] == UNKNOWN
        return is_key(self._raw.footage, self._raw.content(row)) if asked else self.rows[row].key

    def is_idr(self, row: int) -> bool:
        """Whether a row is an H.264 IDR frame that needs only the parameter sets of the header.

        No frame after an IDR frame depends on one before it.
        """
        frame = self.rows[row]
        if not self.h264 or frame.pts is None or not frame.key:
            return False
        known = self._raw.idrs[row]
        if known == UNKNOWN:
            known = self._raw.idrs[row] = self._starts_clean(memoryview(self._raw.content(row)))
        return bool(known)

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

        Their timestamps are those of this object. None if the packets do not say.
        """
        first_row = self.row_shown_at(first_pts)
        if not self.matched or first_row is None:
            return None
        keys = (
            k
            for k in range(first_row, -1, -1)
            if self.rows[k].key and (self.rows[k].pts or first_pts) <= first_pts
        )
        for begin in chain(islice(keys, TRIED_KEYS), [0]):
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
        stamp = int(self._raw.stamps[row])
        if stamp == NEVER:
            return None
        ticks = stamp - round(back_s / footage.time_base)
        try:
            footage.container.seek(ticks, stream=footage.stream, backward=True)
            packets = all_packets(footage, DecodeLog())
            for packet in islice(packets, UNKNOWN_PACKETS):
                number = self._raw.key_number(packet)
                if number is not None:
                    return (number, packet, packets) if number <= row else None
        except (FFmpegError, OSError):
            # Raw streams cannot seek.
            return None
        return None


@dataclass(frozen=True)
class _RawPackets:
    """What the packets of a file say, in decode order.

    Attributes:
        footage: The open file.
        shown: (N,) int64: presentation timestamps; NEVER for packets that an edit list hides.
        stamps: (N,) int64: the timestamps to seek to; NEVER if there is none.
        durations: (N,): how long each frame is shown; 0 if unknown.
        keys: (N,) bool: whether decoding can start here.
        idrs: Whether copying can begin here (see `CodedVideo.is_idr`): 0, 1 or UNKNOWN.
        parts: (N,) int32: the part of the file. A part ends where the clock restarts.
        key_rows: (K,) int64: the packets at which decoding can start, and have a place.
        key_places: (K,) int64: where they are in the file, in bytes.
        key_sizes: (K,) int64: how long they are, in bytes.
        one_clock: Whether every frame has its own timestamp, on one clock.
    """

    footage: OpenFootage
    shown: npt.NDArray[np.int64]
    stamps: npt.NDArray[np.int64]
    durations: array[int]
    keys: npt.NDArray[np.bool_]
    idrs: bytearray
    parts: npt.NDArray[np.int32]
    key_rows: npt.NDArray[np.int64]
    key_places: npt.NDArray[np.int64]
    key_sizes: npt.NDArray[np.int64]
    one_clock: bool

    def __len__(self) -> int:
        return len(self.shown)

    def stamp_s(self, k: int) -> Fraction | None:
        """The file's own time of packet k, in seconds from the container's start."""
        stamp = int(self.stamps[k])
        return None if stamp == NEVER else self.footage.seconds(stamp)

    def key_number(self, packet: Packet[VideoStream]) -> int | None:
        """The number of a packet at which decoding can start; None if it is not known."""
        if packet.pos is None:
            return None
        found = np.flatnonzero((self.key_places == packet.pos) & (self.key_sizes == packet.size))
        return int(self.key_rows[found[0]]) if len(found) == 1 else None

    def content(self, k: int) -> bytes:
        """What is in packet k, at which decoding can start; nothing if the file is shorter."""
        n = int(np.searchsorted(self.key_rows, k))
        if n == len(self.key_rows) or self.key_rows[n] != k:
            return b""
        with self.footage.path.open("rb") as file:
            file.seek(int(self.key_places[n]))
            return file.read(int(self.key_sizes[n]))

    @classmethod
    def of(cls, footage: OpenFootage, starts_clean: Callable[[memoryview], bool]) -> _RawPackets:
        """Read an open file to its end; only its tables, where that is possible."""
        with ExitStack() as stack:
            hollow = can_be_hollow(footage)
            source = stack.enter_context(without_contents(footage)) if hollow else footage
            return cls._of(footage, source, None if hollow else starts_clean)

    @classmethod
    def _of(
        cls,
        footage: OpenFootage,
        source: OpenFootage,
        starts_clean: Callable[[memoryview], bool] | None,
    ) -> _RawPackets:
        shown, stamps, durations = array("q"), array("q"), array("q")
        keys, idrs = bytearray(), bytearray()
        key_rows, key_places, key_sizes = array("q"), array("q"), array("q")
        shows_nothing = _shows_nothing(footage.stream.codec_context.name)
        # AVI has no presentation times. Without B-frames, decoding times are the same.
        stamped = footage.stamped or not (footage.is_raw or _reorders(footage))
        missing = False
        places = sync_places(source) if starts_clean is None else None
        for k, packet in enumerate(all_packets(source, DecodeLog())):
            stamp = packet.pts if footage.stamped else packet.dts
            visible = not packet.is_discard and not shows_nothing(packet)
            missing = missing or (visible and stamp is None)
            stamps.append(NEVER if stamp is None else stamp)
            shown.append(stamps[k] if visible else NEVER)
            durations.append(packet.duration or 0)
            is_key = packet.is_keyframe if places is None else _is_among(places, packet.pos)
            keys.append(is_key)
            idr = 0
            if is_key and visible:
                idr = UNKNOWN if starts_clean is None else starts_clean(memoryview(packet))
            idrs.append(idr)
            if is_key and packet.pos is not None:
                key_rows.append(k)
                key_places.append(packet.pos)
                key_sizes.append(packet.size)
        times = np.array(shown, np.int64)
        if 1 in keys:
            _hide_undecodable(times, keys.index(1))
        if not len(times):
            raise FootageError(footage.path, "has no frame, so it cannot be cut")
        one_clock = (
            stamped
            and not missing
            and follows_one_clock(
                times[times < NEVER], footage.time_base, in_order=not _reorders(footage)
            )
        )
        known = (None if stamp == NEVER else stamp for stamp in stamps)
        parts = np.fromiter(clock_parts(known, footage.time_base), np.int32)
        return cls(
            footage,
            times,
            np.array(stamps, np.int64),
            durations,
            np.frombuffer(keys, np.bool_),
            idrs,
            parts,
            np.array(key_rows, np.int64),
            np.array(key_places, np.int64),
            np.array(key_sizes, np.int64),
            one_clock,
        )


def _is_among(places: array[int], place: int | None) -> bool:
    k = len(places) if place is None else bisect_left(places, place)
    return k < len(places) and places[k] == place


def _hide_undecodable(shown: npt.NDArray[np.int64], start: int) -> None:
    """Hide what comes before the first key frame, and its leading pictures (ITU-T H.265, 3.75)."""
    first = shown[start]
    shown[:start] = NEVER
    if first == NEVER:
        return
    for k in range(start + 1, len(shown)):
        if shown[k] >= first:
            return
        shown[k] = NEVER


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
    begin, end = np.searchsorted(video.frame_pts, (first_pts, end_pts))
    return Span(first_pts, end_pts, tuple(video.frame_pts[begin:end].tolist()))


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
    first = max(0, int(np.searchsorted(shown, start + slack, side="right")) - 1)
    after = int(np.searchsorted(shown, end - slack))
    if first >= after:
        raise FootageError(video.path, f"has no frame between {start_s:.3f} s and {end_s:.3f} s")

    def pts_at(k: int) -> int:
        return int(shown[k])

    def is_sliver(k: int, length: int) -> bool:
        whole = video.after(pts_at(k)) - pts_at(k)
        return after - first > 1 and length < min(SLIVER * whole, SLIVER_S / video.time_base)

    if is_sliver(first, video.after(pts_at(first)) - start):
        first += 1
    if is_sliver(after - 1, end - pts_at(after - 1)):
        after -= 1
    return _span(video, pts_at(first), pts_at(after) if after < len(shown) else video.end_pts)


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
        if row.pts <= exact.first_pts and (
            video.is_idr(begin) if wants_idr else video.is_key(begin)
        ):
            return _span(video, row.pts, video.after(video.latest(end))), range(begin, end)
    raise FootageError(
        video.path,
        f"has no key frame before {start_s:.3f} s at which copied cuts can "
        + ("be joined, because its groups of pictures are open" if wants_idr else "begin")
        + ". Leave out --copy.",
    )
