"""Read the boxes of MP4 and MOV files (ISO/IEC 14496-12) that are needed to open a file safely.

Only box headers and a few small boxes are read, by seeking. A two-hour file costs a few kilobytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# Normal footage has a few dozen boxes at one level. Damage could make it millions.
MAX_BOXES = 10_000


@dataclass(frozen=True)
class Box:
    """One box of an MP4 file.

    Attributes:
        kind: The four-byte type, such as b"moov".
        start: Where the box begins, in bytes from the start of the file.
        payload: Where its content begins, after the header.
        end: Where the box ends.
    """

    kind: bytes
    start: int
    payload: int
    end: int


@dataclass(frozen=True)
class Edit:
    """One entry of an edit list.

    Attributes:
        duration: How long the entry lasts, in ticks of the movie's time scale.
        media_time: Where it begins in the track, in the track's ticks; -1 shows nothing.
        rate: Playback speed, 1.0 for normal.
    """

    duration: int
    media_time: int
    rate: float


@dataclass(frozen=True)
class VideoTrack:
    """What an MP4 file declares about one video track.

    Attributes:
        fourcc: The codec, such as b"avc1". b"encv" means encrypted video.
        width: Width of the pictures in pixels; 0 if not declared.
        height: Height of the pictures in pixels; 0 if not declared.
        num_samples: Number of frames; 0 if not declared.
        edits: The edit list, empty if there is none.
        matrix: How players turn the picture: (x, y) is shown at (ax + cy, bx + dy), as a, b, c, d.
    """

    fourcc: bytes
    width: int
    height: int
    num_samples: int
    edits: tuple[Edit, ...]
    matrix: tuple[int, int, int, int]

    @property
    def sideways(self) -> bool:
        """Whether players turn the picture by a quarter."""
        a, b, _, _ = self.matrix
        return abs(b) > abs(a)

    @property
    def turned(self) -> bool:
        """Whether players turn or mirror the picture."""
        a, _, _, d = self.matrix
        return self.sideways or a < 0 or d < 0


def read_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Read the boxes between two positions; stop at the first header that makes no sense.

    Args:
        file: The open MP4 file.
        start: Position of the first box, in bytes from the start of the file.
        end: Position at which to stop.
    """
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        file.seek(start)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        payload = start + 8
        if size == 1 and len(header) == 16:
            size = struct.unpack(">Q", header[8:])[0]
            payload = start + 16
        elif size == 0:
            size = end - start
        if size < payload - start or not _is_kind(kind):
            return
        yield Box(kind, start, payload, start + size)
        start += size


def find_box(file: BinaryIO, box: Box, *path: bytes) -> Box | None:
    """Return the first box at a path of types inside a box; None if there is none.

    Args:
        file: The open MP4 file.
        box: The box to search in.
        *path: One type per level, such as b"mdia", b"hdlr".
    """
    for child in read_boxes(file, box.payload, box.end):
        if child.kind == path[0]:
            return child if len(path) == 1 else find_box(file, child, *path[1:])
    return None


def video_tracks(file: BinaryIO, moov: Box) -> list[VideoTrack]:
    """Return what the video tracks in a `moov` box declare."""
    tracks = [box for box in read_boxes(file, moov.payload, moov.end) if box.kind == b"trak"]
    return [track for box in tracks if (track := _video_track(file, box)) is not None]


def _is_kind(kind: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 0xA9 for byte in kind)


def _video_track(file: BinaryIO, trak: Box) -> VideoTrack | None:
    handler = find_box(file, trak, b"mdia", b"hdlr")
    if handler is None or _read(file, handler, 12)[8:] != b"vide":
        return None
    table = find_box(file, trak, b"mdia", b"minf", b"stbl")
    if table is None:
        return None
    entry = find_box(file, table, b"stsd")
    head = b"" if entry is None else _read(file, entry, 8 + 8 + 28)
    sizes = find_box(file, table, b"stsz")
    counts = b"" if sizes is None else _read(file, sizes, 12)
    width, height = struct.unpack(">HH", head[40:44]) if len(head) == 44 else (0, 0)
    return VideoTrack(
        fourcc=head[12:16],
        width=width,
        height=height,
        num_samples=struct.unpack(">I", counts[8:])[0] if len(counts) == 12 else 0,
        edits=_edits(file, trak),
        matrix=_matrix(file, trak),
    )


def _matrix(file: BinaryIO, trak: Box) -> tuple[int, int, int, int]:
    """The rotation in the track header (ISO/IEC 14496-12, 8.3.2); none if it cannot be read."""
    header = find_box(file, trak, b"tkhd")
    payload = b"" if header is None else _read(file, header, 52 + 20)
    start = 52 if payload[:1] == b"\x01" else 40
    if len(payload) < start + 20:
        return 1, 0, 0, 1
    a, b, _, c, d = struct.unpack(">5i", payload[start : start + 20])
    return a, b, c, d


def _edits(file: BinaryIO, trak: Box) -> tuple[Edit, ...]:
    box = find_box(file, trak, b"edts", b"elst")
    if box is None:
        return ()
    payload = _read(file, box, min(box.end - box.payload, 1 << 16))
    if len(payload) < 8:
        return ()
    entry = struct.Struct(">Qqi" if payload[0] == 1 else ">Iii")
    count = min(struct.unpack(">I", payload[4:8])[0], (len(payload) - 8) // entry.size)
    rows = (entry.unpack_from(payload, 8 + k * entry.size) for k in range(count))
    return tuple(Edit(duration, time, rate / 65536) for duration, time, rate in rows)


def _read(file: BinaryIO, box: Box, num_bytes: int) -> bytes:
    file.seek(box.payload)
    return file.read(min(num_bytes, max(0, box.end - box.payload)))
