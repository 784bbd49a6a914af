"""What a file is when it is not footage, from its first bytes, and what to do about it."""

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

_PLAYLIST = "it only points to other files, and those are never followed; give the footage itself"
_UNPACK = "unpack it and give the footage in it"
_NO_VIDEO = "not a video"

# Signatures at the start of a file that is surely not footage.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer, not the file itself: run `git annex get`"),
    (b"PK\x03\x04", f"a ZIP archive: {_UNPACK}"),
    (b"\x1f\x8b", f"a gzip archive: {_UNPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive: {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7-Zip archive: {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"an XZ archive: {_UNPACK}"),
    (b"BZh", f"a bzip2 archive: {_UNPACK}"),
    (b"%PDF-", f"a PDF document, {_NO_VIDEO}"),
    (b"\xff\xd8\xff", f"a photo (JPEG), {_NO_VIDEO}"),
    (b"\x89PNG\r\n\x1a\n", f"a photo (PNG), {_NO_VIDEO}"),
    (b"BM", f"a photo (BMP), {_NO_VIDEO}"),
    (b"II*\x00", f"a photo (TIFF), {_NO_VIDEO}"),
    (b"MM\x00*", f"a photo (TIFF), {_NO_VIDEO}"),
    (b"ID3", "an audio file (MP3), without pictures: give the video it belongs to"),
    (b"fLaC", "an audio file (FLAC), without pictures: give the video it belongs to"),
    (b"FORM", "an audio file (AIFF), without pictures: give the video it belongs to"),
    (b"#!AMR", "an audio file (AMR), without pictures: give the video it belongs to"),
    (b"MThd", "an audio file (MIDI), without pictures: give the video it belongs to"),
    (b"#EXTM3U", f"an HLS playlist: {_PLAYLIST}"),
    (b"ffconcat version", f"a concat script: {_PLAYLIST}"),
    (b"[playlist]", f"a PLS playlist: {_PLAYLIST}"),
    (b"WEBVTT", f"subtitles (WebVTT), {_NO_VIDEO}"),
    (b"SQLite format 3\x00", f"a database, {_NO_VIDEO}"),
    (b"\x7fELF", f"a program, {_NO_VIDEO}"),
    (b"MZ", f"a program, {_NO_VIDEO}"),
)

_RIFF = {
    b"WAVE": "an audio file (WAV), without pictures: give the video it belongs to",
    b"WEBP": f"a photo (WebP), {_NO_VIDEO}",
}

# Still pictures in an ISO container.
_STILL_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}

_TEXT_KINDS: tuple[tuple[str, str], ...] = (
    (r"<!doctype html|<html|<head|<body", "an HTML page, not a video: the download was answered "
     "with a web page; is a login needed?"),
    (r"<mpd[\s>]|urn:mpeg:dash", f"a DASH manifest: {_PLAYLIST}"),
    (r"<smoothstreamingmedia", f"a Smooth Streaming manifest: {_PLAYLIST}"),
    (r"<smil[\s>]|<asx[\s>]|<playlist[\s>]", f"a playlist: {_PLAYLIST}"),
    (r"^v=0\r?\n(o|s)=", f"an SDP session description: {_PLAYLIST}"),
    (r"^\s*file\s+\S+", f"a concat script: {_PLAYLIST}"),
    (r"^#ext(m3u|inf|-x-)", f"an HLS playlist: {_PLAYLIST}"),
    (r"^\d+\r?\n\d\d:\d\d:\d\d,\d{3} -->", "subtitles (SubRip), not a video"),
    (r"^\[script info\]", "subtitles (SubStation Alpha), not a video"),
    (r"^\s*[{\[]", "a JSON file, not a video"),
    (r"^\s*<\?xml|^\s*<svg", "an XML file, not a video"),
)  # fmt: skip


def refuse_place(path: Path) -> str | None:
    """Why nothing can be read at a path: no file, or not a regular one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            return f"a link to {os.fspath(path.readlink())}, which does not exist"
        return "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "a directory: give the footage files in it"
    if stat.S_ISFIFO(mode):
        return "a named pipe, which cannot be read twice: write the footage to a file first"
    if stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device, not a file: record the footage to a file first"
    if path.stat().st_size == 0:
        return "an empty file: was the copy interrupted?"
    return None


def refuse_content(file: BinaryIO, size: int) -> str | None:
    """What the bytes are if they are surely not footage, None where they may be."""
    file.seek(0)
    head = file.read(HEAD_BYTES)
    for signature, what in _SIGNATURES:
        if head.startswith(signature):
            return what
    if head[:4] == b"RIFF" and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if head[257:262] == b"ustar":
        return f"a tar archive: {_UNPACK}"
    if _is_mp3(head):
        return "an audio file (MP3), without pictures: give the video it belongs to"
    if not any(head):
        return "nothing but zero bytes: the copy or download did not finish"
    if head[:4] == b"GIF8" and len(head) > 10:
        W, H = struct.unpack("<HH", head[6:10])
        return refuse_size(W, H)
    return _refuse_text(head) or _refuse_iso(file, head, size) or _refuse_scrambled(head)


def refuse_size(W: int, H: int) -> str | None:
    """Why pictures of this size are not decoded, if they are not."""
    if W * H <= MAX_PIXELS:
        return None
    return f"declares pictures of {W}x{H}: damaged, or larger than can be decoded here"


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
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp"):
        return None
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS and b"moov" not in head:
        return f"a photo ({_STILL_BRANDS[head[8:12]]}), {_NO_VIDEO}"
    kinds = [box.kind for box in read_boxes(file, 0, size)]
    if b"moov" in kinds:
        return None
    if b"moof" in kinds:
        return "a fragment without its beginning (no moov box): give the whole recording"
    return (
        "the recording was not finalised: its index (moov box) is missing; let the camera repair "
        "it or copy the file again"
    )


def _refuse_scrambled(head: bytes) -> str | None:
    """Transport streams whose payload is scrambled (ISO/IEC 13818-1, 2.4.3.2)."""
    start = next((k for k in range(TS_PACKET_BYTES) if _is_ts(head, k)), None)
    if start is None:
        return None
    packets = [head[k : k + 4] for k in range(start, len(head) - 4, TS_PACKET_BYTES)]
    bits = [p[3] >> 6 for p in packets if p[0] == 0x47 and p[1:3] != b"\x1f\xff" and p[3] & 0x10]
    if bits and sum(bit >= 2 for bit in bits) > len(bits) / 2:
        return "encrypted (a scrambled broadcast): give a recording that has been descrambled"
    return None


def _is_ts(head: bytes, start: int) -> bool:
    marks = head[start::TS_PACKET_BYTES][:5]
    return len(marks) >= 3 and all(mark == 0x47 for mark in marks)


def codec_name(head: bytes, format_name: str) -> str:
    """How a file names the codec of its video, for a codec that no decoder knows."""
    if format_name == "avi":
        found = re.search(rb"strh.{4}vids(.{4})", head, re.DOTALL)
    elif format_name.startswith("matroska"):
        found = re.search(rb"\x86[\x80-\xff]\x00*(V_[ -~]+)", head)
    else:
        found = None
    return found.group(1).decode("ascii", "replace").strip("\x00 ") if found else "unnamed"
