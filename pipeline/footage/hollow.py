"""Read the packets of an MP4 file without their contents, which may be many gigabytes.

MP4 keeps times, places and key frames in tables of their own. FFmpeg gives them only together with
the contents of each packet, so it is handed a file whose contents read as zeros.
"""

from __future__ import annotations

import io
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.mp4_boxes import Box, read_boxes
from touchline.pipeline.footage.nal_units import begins_group, length_bytes, nal_headers
from touchline.pipeline.footage.open import OpenFootage, open_container

# FFmpeg parses the packets of other codecs (VP9, AV1) and needs what is in them.
CODECS = ("h264", "hevc")

# How many key frames of an index are looked at, and how much of each: slices come after a few
# parameter sets and messages.
KEYS_TRIED = 64
HEAD_BYTES = 4096


class HollowFile(io.RawIOBase):
    """A file in which some places read as zeros, once `is_hollow` is set.

    Args:
        path: The file.
        holes: (start, end) of each such place in bytes, in order.

    Attributes:
        is_hollow: Zeros are given in place of what is there.
        num_read: Bytes read from the file.
    """

    def __init__(self, path: Path, holes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.is_hollow = False
        self.num_read = 0
        self._holes = holes
        self._starts = [start for start, _ in holes]
        self._file = path.open("rb", buffering=0)

    def read(self, num_bytes: int = -1, /) -> bytes:
        """Read at most this many bytes."""
        if self.is_hollow and num_bytes > 0:
            at = self._file.tell()
            k = bisect_right(self._starts, at) - 1
            if k >= 0 and at < self._holes[k][1]:
                num_bytes = min(num_bytes, self._holes[k][1] - at)
                self._file.seek(num_bytes, os.SEEK_CUR)
                return bytes(num_bytes)
            if k + 1 < len(self._starts):
                num_bytes = min(num_bytes, self._starts[k + 1] - at)
        content = self._file.read(num_bytes)
        self.num_read += len(content)
        return content

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, as in any file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._file.tell()

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def can_be_hollow(footage: OpenFootage) -> bool:
    """Tell whether the packets of a file can be read without their contents."""
    is_mp4 = footage.container.format.name.startswith("mov")
    if isinstance(footage.path, Address) or not is_mp4:
        return False
    # Fragments have their tables between the contents, so the first table does not name all.
    in_one = all(box.kind != b"moof" for box in _boxes(footage.path))
    return in_one and footage.stream.codec_context.name in CODECS and _names_keys(footage)


def _names_keys(footage: OpenFootage) -> bool:
    """Whether decoding can start where the index says so, judged by some of its entries."""
    keys = [(entry.pos, entry.size) for entry in footage.stream.index_entries if entry.is_keyframe]
    with footage.path.open("rb") as file:
        for place, size in keys[:: max(1, len(keys) // KEYS_TRIED)]:
            file.seek(place)
            if not is_key(footage, file.read(min(size, HEAD_BYTES))):
                return False
    return bool(keys)


def is_key(footage: OpenFootage, head: bytes) -> bool:
    """Tell whether decoding can start at a packet.

    Args:
        footage: The open file, for which `can_be_hollow` holds.
        head: The first HEAD_BYTES of the packet, or all of it.
    """
    context = footage.stream.codec_context
    prefix = length_bytes(context.extradata, at=21 if context.name == "hevc" else 4)
    return begins_group(context.name, nal_headers(memoryview(head), prefix))


def _boxes(path: Path) -> list[Box]:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        return [replace(box, end=min(box.end, size)) for box in read_boxes(file, 0, size)]


def sync_places(footage: OpenFootage) -> array[int]:
    """Return where the packets are at which decoding can start, in bytes, sorted.

    Without their contents, FFmpeg does not mark the packets themselves.
    """
    return array("q", sorted(e.pos for e in footage.stream.index_entries if e.is_keyframe))


@contextmanager
def without_contents(footage: OpenFootage) -> Iterator[OpenFootage]:
    """Open a file again, for packets without contents; see `sync_places` for the key frames.

    Args:
        footage: The open file, for which `can_be_hollow` holds.

    Raises:
        FootageError: The file can no longer be read.
    """
    holes = [(box.payload, box.end) for box in _boxes(footage.path) if box.kind == b"mdat"]
    with (
        HollowFile(footage.path, holes) as source,
        open_container(footage.path, source) as container,
    ):
        # Opening looks into the first packets: only now.
        source.is_hollow = True
        stream = next(s for s in container.streams.video if s.index == footage.stream.index)
        yield replace(footage, container=container, stream=stream)
