"""The box structure of MP4 and MOV files (ISO/IEC 14496-12), as far as opening one safely needs it.

Only box headers and a few small boxes are read, by seeking: a two-hour file costs a few kilobytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

# A file of honest footage has a few dozen boxes at one level; damage could make it millions.
MAX_BOXES = 10_000


@dataclass(frozen=True)
class Box:
    """One box: its type and, in bytes from the file's start, where its parts begin and end."""

    kind: bytes
    start: int
    payload: int
    end: int


@dataclass(frozen=True)
class Edit:
    """One entry of an edit list: media_time -1 is an empty edit (nothing shown)."""

    duration: int
    media_time: int
    rate: float


@dataclass(frozen=True)
class VideoTrack:
    """What an MP4 declares about a video track.

    fourcc: the sample entry; b"encv" is encrypted, with the true codec elsewhere.
    """

    fourcc: bytes
    width: int
    height: int
    num_samples: int
    edits: tuple[Edit, ...]


def read_boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """The boxes between two offsets; stops at the first header that cannot be one."""
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


def _is_kind(kind: bytes) -> bool:
    return all(32 <= byte < 127 or byte == 0xA9 for byte in kind)


def find_box(file: BinaryIO, box: Box, *path: bytes) -> Box | None:
    """The first box at a path of types below a box."""
    for child in read_boxes(file, box.payload, box.end):
        if child.kind == path[0]:
            return child if len(path) == 1 else find_box(file, child, *path[1:])
    return None


def video_tracks(file: BinaryIO, moov: Box) -> list[VideoTrack]:
    """What the video tracks of a movie declare."""
    tracks = [box for box in read_boxes(file, moov.payload, moov.end) if box.kind == b"trak"]
    return [track for box in tracks if (track := _video_track(file, box)) is not None]


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
    )


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
