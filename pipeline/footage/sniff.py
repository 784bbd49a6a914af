"""Recognise files that are not footage by their first bytes, and say what to do."""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path
from typing import BinaryIO

from touchline.pipeline.footage.mp4_boxes import read_boxes

# An 8-bit 4:2:0 frame of this size takes 200 MB, and a decoder holds a dozen.
MAX_PIXELS = 1 << 27

HEAD_BYTES = 64 * 1024
TS_PACKET_BYTES = 188

_PLAYLIST = "It only names other files, which are never opened. Give the footage itself."
_UNPACK = "Unpack it and give the footage inside."
_NO_VIDEO = "not a video"
_SOUND = "without pictures. Give the video that it belongs to."

# How files begin that are certainly not footage.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself. Run `git lfs pull`."),
    (b"/annex/objects/", "a git-annex pointer, not the file itself. Run `git annex get`."),
    (b"PK\x03\x04", f"a ZIP archive. {_UNPACK}"),
    (b"\x1f\x8b", f"a gzip archive. {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive. {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive. {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"an XZ archive. {_UNPACK}"),
    (b"BZh", f"a bzip2 archive. {_UNPACK}"),
    (b"%PDF-", f"a PDF document, {_NO_VIDEO}"),
    (b"\xff\xd8\xff", f"a photo (JPEG), {_NO_VIDEO}"),
    (b"\x89PNG\r\n\x1a\n", f"a photo (PNG), {_NO_VIDEO}"),
    (b"BM", f"a photo (BMP), {_NO_VIDEO}"),
    (b"II*\x00", f"a photo (TIFF), {_NO_VIDEO}"),
    (b"MM\x00*", f"a photo (TIFF), {_NO_VIDEO}"),
    (b"ID3", f"an audio file (MP3), {_SOUND}"),
    (b"fLaC", f"an audio file (FLAC), {_SOUND}"),
    (b"FORM", f"an audio file (AIFF), {_SOUND}"),
    (b"#!AMR", f"an audio file (AMR), {_SOUND}"),
    (b"MThd", f"an audio file (MIDI), {_SOUND}"),
    (b"#EXTM3U", f"an HLS playlist. {_PLAYLIST}"),
    (b"ffconcat version", f"a concat script. {_PLAYLIST}"),
    (b"[playlist]", f"a PLS playlist. {_PLAYLIST}"),
    (b"WEBVTT", f"subtitles (WebVTT), {_NO_VIDEO}"),
    (b"SQLite format 3\x00", f"a database, {_NO_VIDEO}"),
    (b"\x7fELF", f"a program, {_NO_VIDEO}"),
    (b"MZ", f"a program, {_NO_VIDEO}"),
)

_RIFF = {
    b"WAVE": f"an audio file (WAV), {_SOUND}",
    b"WEBP": f"a photo (WebP), {_NO_VIDEO}",
}

# Still pictures in an ISO container.
_STILL_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}

_TEXT_KINDS: tuple[tuple[str, str], ...] = (
    (r"<!doctype html|<html|<head|<body", "an HTML page, not a video. The server sent a "
     "web page instead: check whether the download needs a login."),
    (r"<mpd[\s>]|urn:mpeg:dash", f"a DASH manifest. {_PLAYLIST}"),
    (r"<smoothstreamingmedia", f"a Smooth Streaming manifest. {_PLAYLIST}"),
    (r"<smil[\s>]|<asx[\s>]|<playlist[\s>]", f"a playlist. {_PLAYLIST}"),
    (r"^v=0\r?\n(o|s)=", f"an SDP session description. {_PLAYLIST}"),
    (r"^\s*file\s+\S+", f"a concat script. {_PLAYLIST}"),
    (r"^#ext(m3u|inf|-x-)", f"an HLS playlist. {_PLAYLIST}"),
    (r"^\d+\r?\n\d\d:\d\d:\d\d,\d{3} -->", "subtitles (SubRip), not a video"),
    (r"^\[script info\]", "subtitles (SubStation Alpha), not a video"),
    (r"^\s*[{\[]", "a JSON file, not a video"),
    (r"^\s*<\?xml|^\s*<svg", "an XML file, not a video"),
)  # fmt: skip


# How files with moving pictures begin.
_FOOTAGE_SIGNATURES = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"FLV\x01",
    b"GIF8",
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x00\x00\x00\x01\x67",  # H.264, its parameter set first
    b"\x00\x00\x00\x01\x40\x01",  # H.265, its parameter set first
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"DKIF",  # IVF
    b"YUV4MPEG2",
    b"nut/multimedia container",
    b".RMF",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11",  # WTV
)
_ASF, _ASF_VIDEO = bytes.fromhex("3026b2758e66cf11"), bytes.fromhex("c0ef19bc4d5bcf11")
_ISO_KINDS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp")
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
M2TS_PACKET_BYTES = 192


def is_footage(path: Path) -> bool:
    """Tell whether a file begins like a container with moving pictures, whatever its name is."""
    try:
        if not path.is_file():  # opening a named pipe would wait for a writer
            return False
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    if head[4:8] in _ISO_KINDS:
        return head[8:12] not in (*_STILL_BRANDS, *_AUDIO_BRANDS)
    if head.startswith(b"RIFF"):
        return head[8:12] == b"AVI "
    if head.startswith(b"OggS"):
        return b"theora" in head
    if head.startswith(_ASF):
        return _ASF_VIDEO in head
    is_stream = _is_ts(head, 0) or _is_ts(head, 4, M2TS_PACKET_BYTES)
    return is_stream or head.startswith(_FOOTAGE_SIGNATURES)


def refuse_place(path: Path) -> str | None:
    """Say why nothing can be read at a path (no file, or not a regular file); None if it can."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return f"a link to {os.fspath(path.readlink())}, which does not exist"
        return "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "a directory. Give the footage files inside."
    if stat.S_ISFIFO(mode):
        return "a named pipe, which cannot be read twice. Write the footage to a file first."
    if stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device, not a file. Record the footage to a file first."
    if path.stat().st_size == 0:
        return "an empty file. Copy or download it again."
    return None


def refuse_content(file: BinaryIO, size: int) -> str | None:
    """Say what a file is if it is certainly not footage; None if it may be.

    Args:
        file: The open file.
        size: Its length in bytes.
    """
    file.seek(0)
    head = file.read(HEAD_BYTES)
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[257:262] == b"ustar":
        return f"a tar archive. {_UNPACK}"
    if _is_mp3(head):
        return f"an audio file (MP3), {_SOUND}"
    if not any(head):
        return "nothing but zero bytes. Copy or download it again."
    if head[:4] == b"GIF8" and len(head) > 10:
        W, H = struct.unpack("<HH", head[6:10])
        return refuse_size(W, H)
    return _refuse_text(head) or _refuse_iso(file, head, size) or _refuse_scrambled(head)


def refuse_size(W: int, H: int) -> str | None:
    """Say why pictures of this size, in pixels, are not decoded; None if they are."""
    if W * H <= MAX_PIXELS:
        return None
    return f"declares pictures of {W}x{H}. They are too large to decode, or the file is damaged."


def second_flv(file: BinaryIO, size: int) -> bool:
    """Tell whether a second FLV file begins where the tags of the first one end.

    Args:
        file: The open file.
        size: Its length in bytes.
    """
    file.seek(0)
    if file.read(4) != b"FLV\x01":
        return False
    # Header of 9 bytes, then for each tag the size of the one before, 4 bytes (Adobe, annex E).
    k = 9 + 4
    while k + 11 < size:
        file.seek(k)
        tag = file.read(11)
        if tag[:3] == b"FLV":
            return True
        if tag[0] & 31 not in (8, 9, 18):
            return False
        k += 11 + int.from_bytes(tag[1:4], "big") + 4
    return False


def codec_name(head: bytes, format_name: str) -> str:
    """Return the name of an unknown video codec, as the file spells it.

    Args:
        head: The first HEAD_BYTES of the file.
        format_name: PyAV's name of the container.
    """
    if format_name == "avi":
        found = re.search(rb"strh.{4}vids(.{4})", head, re.DOTALL)
    elif format_name.startswith("matroska"):
        found = re.search(rb"\x86[\x80-\xff]\x00*(V_[ -~]+)", head)
    else:
        found = None
    return found.group(1).decode("ascii", "replace").strip("\x00 ") if found else "unnamed"


def _is_mp3(head: bytes) -> bool:
    # Two frame headers in a row with the same version, layer and sampling rate (ISO/IEC 11172-3).
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 not in (0xE2,):
        return False
    rates = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
    sampling = (44100, 48000, 32000, 0)[head[2] >> 2 & 3]
    if head[1] & 0x18 != 0x18 or not sampling:
        return False
    length = 144_000 * rates[head[2] >> 4] // sampling + (head[2] >> 1 & 1)
    following = head[length : length + 2]
    return length > 4 and len(following) == 2 and following[0] == 0xFF and following[1] == head[1]


def _refuse_text(head: bytes) -> str | None:
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip("﻿ \t\r\n").lower()
    for pattern, what in _TEXT_KINDS:
        if re.search(pattern, start[:2000], re.MULTILINE if pattern.startswith("^#") else 0):
            return what
    return "a text file, not a video"


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", errors="replace")
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # The head may end within a character.
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode("utf-8")
    return text if all(char.isprintable() or char in "\t\r\n\f" for char in text[:4096]) else None


def _refuse_iso(file: BinaryIO, head: bytes, size: int) -> str | None:
    if head[4:8] not in _ISO_KINDS:
        return None
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS and b"moov" not in head:
        return f"a photo ({_STILL_BRANDS[head[8:12]]}), {_NO_VIDEO}"
    kinds = [box.kind for box in read_boxes(file, 0, size)]
    if b"moov" in kinds:
        return None
    if b"moof" in kinds:
        return "a fragment without its beginning (no moov box). Give the whole recording."
    return (
        "the recording was not finalised: its index (moov box) is missing. "
        "Let the camera repair it, or copy the file again."
    )


def _refuse_scrambled(head: bytes) -> str | None:
    """Transport streams whose payload is scrambled (ISO/IEC 13818-1, 2.4.3.2)."""
    start = next((k for k in range(TS_PACKET_BYTES) if _is_ts(head, k)), None)
    if start is None:
        return None
    packets = [head[k : k + 4] for k in range(start, len(head) - 4, TS_PACKET_BYTES)]
    bits = [p[3] >> 6 for p in packets if p[0] == 0x47 and p[1:3] != b"\x1f\xff" and p[3] & 0x10]
    if bits and sum(bit >= 2 for bit in bits) > len(bits) / 2:
        return "encrypted (a scrambled broadcast). Give a recording that has been descrambled."
    return None


def _is_ts(head: bytes, start: int, packet_bytes: int = TS_PACKET_BYTES) -> bool:
    marks = head[start::packet_bytes][:5]
    return len(marks) >= 3 and all(mark == 0x47 for mark in marks)
