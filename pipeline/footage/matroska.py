"""Tell from the elements of a Matroska or WebM file whether its end is missing (RFC 8794, 9559)."""

from __future__ import annotations

from typing import BinaryIO

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = b"\x18\x53\x80\x67"

# An element header: an identifier of up to 4 bytes and a size of up to 8.
HEADER_BYTES = 12

# Browsers write every frame as one element of the file. Ten hours have fewer.
MAX_ELEMENTS = 5_000_000


def is_cut_short(file: BinaryIO, size: int) -> bool:
    """Tell whether a Matroska file ends inside an element. Other files are never cut short.

    A file that was closed says how long its segment is. One that was not (a crash, a stream) says
    nothing, so its elements are followed to the end.

    Args:
        file: The open file.
        size: Its length in bytes.
    """
    file.seek(0)
    if file.read(4) != EBML:
        return False
    at = 0
    for _ in range(MAX_ELEMENTS):
        if at == size:
            return False
        file.seek(at)
        header = file.read(HEADER_BYTES)
        first = _width(header[:1])
        second = _width(header[first : first + 1])
        if first > 4 or second > 8:
            # Not an element: the file is damaged here.
            return False
        if len(header) < first + second:
            return True
        name, coded = header[:first], header[first : first + second]
        unknown = (1 << 7 * second) - 1
        length = int.from_bytes(coded, "big") & unknown
        # Where a length is not known, what is inside follows.
        at += first + second + (0 if length == unknown else length)
        if at > size or (name == SEGMENT and length != unknown):
            return at > size
    return False


def _width(first: bytes) -> int:
    """How many bytes a number has that begins with this byte; 9: it is none; 1 past the end."""
    return 9 - first[0].bit_length() if first else 1
