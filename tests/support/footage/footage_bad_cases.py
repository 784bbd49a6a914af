"""Damaged files, and files that are refused: the second half of the cases."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from footage_cases import F, damaged, refused, video, warned, written
from footage_made import (
    X264,
    burn,
    change_packets,
    cut,
    edit_box,
    overwrite,
    packet_places,
    remux,
    write_audio,
    write_video,
)
from footage_time_cases import CASES

__all__ = ["CASES"]

LONG = range(100)
KEYS = {**X264, "g": "20", "sc_threshold": "0"}


def noisy(index: int) -> np.ndarray:
    """The frame's pattern under noise that differs from frame to frame: no packet is tiny."""
    noise = np.random.default_rng(index).integers(-30, 31, (96, 128, 3))
    return (burn(index).astype(int) * 0.6 + 50 + noise).clip(0, 255).astype(np.uint8)


def long_video(path: Path, **how: object) -> Path:
    """100 frames, a key frame every 20."""
    how.setdefault("options", KEYS)
    return write_video(path, indices=LONG, picture=noisy, **how)


# --- damage ---------------------------------------------------------------------------------------


def truncated(file: str, frame: int, **how: object) -> Callable[[Path], Path]:
    """A file that ends in the middle of the packet of one frame."""

    def make(folder: Path) -> Path:
        path = long_video(folder / file, **how)
        pos, size, _ = packet_places(path)[frame]
        path.write_bytes(path.read_bytes()[: pos + size // 2])
        return path

    return make


FAST = {"muxer": {"movflags": "faststart"}}
FRAGMENTS = {"muxer": {"movflags": "frag_keyframe+empty_moov"}}
XVID = {"codec": "mpeg4", "options": {"g": "20"}}
VP9 = {
    "codec": "libvpx-vp9",
    "options": {"deadline": "realtime", "cpu-used": "8", "g": "20", "threads": "1"},
}
X265_KEYS = {
    "codec": "libx265",
    "options": {
        "preset": "ultrafast",
        "x265-params": "log-level=none:pools=none:frame-threads=1:keyint=20:min-keyint=20",
    },
}
MJPEG = {"codec": "mjpeg", "pix_fmt": "yuvj420p", "options": {}}
damaged("cut_off.ts", "", 50, truncated("a.ts", 50))
damaged("cut_off.mkv", "ends early", 50, truncated("a.mkv", 50))
damaged("cut_off_faststart.mp4", "ends early", 50, truncated("a.mp4", 50, **FAST))
damaged("cut_off_fragmented.mp4", "", 50, truncated("a.mp4", 50, **FRAGMENTS))
damaged("cut_off.avi", "ends early", 50, truncated("a.avi", 50, **XVID))
damaged("cut_off.flv", "ends early", 50, truncated("a.flv", 50))
damaged("cut_off.webm", "ends early", 50, truncated("a.webm", 50, **VP9))
damaged("cut_off_hevc.mp4", "ends early", 50, truncated("a.mp4", 50, **FAST, **X265_KEYS))


def junk(num_bytes: int) -> bytes:
    """Bytes that are surely wrong, the same every time."""
    return random.Random(7).randbytes(num_bytes)


def spoilt(file: str, frame: int, **how: object) -> Callable[[Path], Path]:
    """The packet of one frame, and nothing else, overwritten with junk."""

    def make(folder: Path) -> Path:
        path = long_video(folder / file, **how)
        pos, size, _ = packet_places(path)[frame]
        return overwrite(path, pos + 40, junk(size - 40))

    return make


damaged("one_packet_spoilt.mp4", "", 88, spoilt("a.mp4", 30))
damaged("key_packet_spoilt.mp4", "", 78, spoilt("a.mp4", 40))
damaged("last_packet_spoilt.mp4", "", 97, spoilt("a.mp4", 99))
damaged("one_packet_spoilt_hevc.mp4", "", 88, spoilt("a.mp4", 30, **X265_KEYS), (1.1, 1.6))
damaged("one_packet_spoilt_mjpeg.mov", "", 97, spoilt("a.mov", 30, **MJPEG))


def spoilt_middle(file: str, **how: object) -> Callable[[Path], Path]:
    """A stretch in the middle of the file overwritten with zeros."""

    def make(folder: Path) -> Path:
        path = long_video(folder / file, **how)
        size = path.stat().st_size
        return overwrite(path, size // 2, bytes(size // 20))

    return make


damaged("zeros_in_the_middle.mkv", "", 75, spoilt_middle("a.mkv"))
damaged("zeros_in_the_middle.ts", "", 75, spoilt_middle("a.ts"))
damaged("zeros_in_the_middle.flv", "", 75, spoilt_middle("a.flv"))


def dropped(file: str, lost: range) -> Callable[[Path], Path]:
    """Transport packets lost on the way."""

    def make(folder: Path) -> Path:
        path = long_video(folder / file)
        return change_packets(path, lambda k, packet: None if k in lost else bytes(packet))

    return make


damaged("packets_lost.ts", "", 75, dropped("a.ts", range(1000, 1003)))


def flipped(folder: Path) -> Path:
    """One bit of every fiftieth transport packet wrong."""

    def flip(k: int, packet: bytearray) -> bytes:
        if k % 500 == 440:
            packet[100] ^= 0x10
        return bytes(packet)

    return change_packets(long_video(folder / "a.ts"), flip)


damaged("bits_flipped.ts", "", 20, flipped, (0.0, 4.0))


def without_frame(frame: int) -> Callable[[Path], Path]:
    """A reference frame's packet missing from an otherwise whole file."""

    def make(folder: Path) -> Path:
        source = long_video(folder / "source.mp4")
        return remux(
            source, folder / "a.mkv", lambda packets: packets[:frame] + packets[frame + 1 :]
        )

    return make


damaged("reference_missing.mkv", "", 80, without_frame(30), (1.2, 1.6))


def from_frame(file: str, frame: int) -> Callable[[Path], Path]:
    """A recording that begins in the middle of a group of pictures."""

    def make(folder: Path) -> Path:
        source = long_video(folder / f"source{Path(file).suffix}")
        return remux(source, folder / file, lambda packets: packets[frame:])

    return make


damaged("starts_inside_a_group.ts", "", 80, from_frame("a.ts", 5), first=5)
damaged("starts_inside_a_group.mkv", "", 80, from_frame("a.mkv", 5), first=5)


def no_index(folder: Path) -> Path:
    """An AVI whose index (idx1) was never written."""
    path = long_video(folder / "a.avi", **XVID)
    body = path.read_bytes()
    path.write_bytes(body[: body.rindex(b"idx1")])
    return path


damaged("no_index.avi", "", 100, no_index)


# --- refusals -------------------------------------------------------------------------------------

refused("empty.mp4", "an empty file", written("a.mp4", b""))
refused("missing.mp4", "no such file", lambda folder: folder / "missing.mp4")
refused("directory", "a directory", lambda folder: folder)


def fifo(folder: Path) -> Path:
    """A named pipe that nobody writes to."""
    os.mkfifo(folder / "a.mp4")
    return folder / "a.mp4"


def dangling(folder: Path) -> Path:
    """A link to nothing."""
    (folder / "a.mp4").symlink_to(folder / "gone.mp4")
    return folder / "a.mp4"


refused("fifo.mp4", "a named pipe", fifo)
refused("device", "a device", lambda folder: Path("/dev/zero"))
refused("dangling_link.mp4", "which does not exist", dangling)

HTML = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>...</body></html>"
refused("web_page.mp4", "an HTML page", written("a.mp4", HTML))
refused("text.mp4", "a text file", written("a.mp4", "Final score 2:1, see you next week.\n" * 50))
refused("utf16_text.mp4", "a text file", written("a.mp4", "Spielbericht\n".encode("utf-16")))
refused("json.mp4", "a JSON file", written("a.mp4", json.dumps({"error": "not found"})))
refused("xml.mp4", "an XML file", written("a.mp4", '<?xml version="1.0"?><Error>denied</Error>'))
refused("subtitles.mp4", "subtitles", written("a.mp4", "1\n00:00:01,000 --> 00:00:02,000\nGoal!\n"))
refused(
    "lfs_pointer.mp4",
    "git lfs pull",
    written("a.mp4", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
)
refused("pdf.mp4", "a PDF", written("a.mp4", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + junk(500)))
refused("jpeg.mp4", "a photo (JPEG)", written("a.mp4", b"\xff\xd8\xff\xe0\x00\x10JFIF" + junk(500)))
refused("png.mp4", "a photo (PNG)", written("a.mp4", b"\x89PNG\r\n\x1a\n" + junk(500)))
refused("webp.mp4", "a photo (WebP)", written("a.mp4", b"RIFF\x00\x02\x00\x00WEBPVP8 " + junk(500)))
refused(
    "heic.mp4",
    "a photo (HEIC)",
    written("a.mp4", b"\x00\x00\x00\x18ftypheic\0\0\0\0mif1heic" + junk(99)),
)
refused("noise.mp4", "not a video format", written("a.mp4", junk(5000)))
refused("zeros.mp4", "nothing but zero bytes", written("a.mp4", bytes(5000)))
refused("gzip.mp4", "a gzip archive", written("a.mp4", gzip.compress(junk(500), mtime=0)))


def zipped(folder: Path) -> Path:
    """A video in an archive."""
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.write(write_video(folder / "a.mp4"))
    return folder / "a.zip"


refused("zip.mp4", "a ZIP archive", zipped)
refused("mp3.mp3", "an audio file (MP3)", lambda f: write_audio(f / "a.mp3", codec="mp3"))
refused("wav.wav", "an audio file (WAV)", lambda f: write_audio(f / "a.wav", codec="pcm_s16le"))
refused("flac.flac", "an audio file (FLAC)", lambda f: write_audio(f / "a.flac", codec="flac"))
refused("sound.m4a", "only sound", lambda f: write_audio(f / "a.m4a", codec="aac"))
refused("sound.mkv", "only sound", lambda f: write_audio(f / "a.mka", codec="mp2"))
refused("sound.ts", "only sound", lambda f: write_audio(f / "a.ts"))
refused(
    "cover.mp4", "only a cover picture", lambda f: write_audio(f / "a.mp4", codec="aac", cover=True)
)


def without_moov(folder: Path) -> Path:
    """A camera that lost power: the index at the end was never written."""
    path = write_video(folder / "a.mp4")
    body = path.read_bytes()
    path.write_bytes(body[: body.rindex(b"moov") - 4])
    return path


refused("not_finalised.mp4", "the recording was not finalised", without_moov)
refused(
    "not_finalised_cut.mp4", "the recording was not finalised",
    lambda f: cut(write_video(f / "a.mp4", indices=range(50)), 0.5),
)  # fmt: skip


def only_headers(folder: Path) -> Path:
    """A recording stopped before its first frame."""
    path = folder / "a.mkv"
    body = write_video(folder / "source.mkv").read_bytes()
    path.write_bytes(body[: body.index(b"\x1f\x43\xb6\x75")])
    return path


refused("no_frames.mkv", "ends before its first frame", only_headers)

SCHEME = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "00112233445566778899aabbccddeeff",
    "encryption_kid": "ffeeddccbbaa99887766554433221100",
}
refused("encrypted.mp4", "encrypted", video("a.mp4", muxer=SCHEME))


def scrambled(folder: Path) -> Path:
    """A pay channel recorded without its key: the payload is noise, and marked so."""

    def scramble(k: int, packet: bytearray) -> bytes:
        if packet[1] & 0x1F == 1 and packet[2] == 0:
            packet[3] |= 0x80
            packet[20:] = junk(168)
        return bytes(packet)

    return change_packets(write_video(folder / "a.ts"), scramble)


refused("scrambled.ts", "encrypted", scrambled)


def renamed_codec(file: str, old: bytes, new: bytes, **how: object) -> Callable[[Path], Path]:
    """A codec nobody has heard of."""

    def make(folder: Path) -> Path:
        path = write_video(folder / file, **how)
        path.write_bytes(path.read_bytes().replace(old, new))
        return path

    return make


refused(
    "unknown_codec.avi", "(XQZW)",
    renamed_codec("a.avi", b"MJPG", b"XQZW", codec="mjpeg", pix_fmt="yuvj420p"),
)  # fmt: skip
refused("unknown_codec.mp4", "(xqzw)", renamed_codec("a.mp4", b"avc1\0\0\0\0", b"xqzw\0\0\0\0"))
refused(
    "unknown_codec.mkv", "(V_MYSTERY/CODEC)",
    renamed_codec("a.mkv", b"V_MPEG4/ISO/AVC", b"V_MYSTERY/CODEC"),
)  # fmt: skip

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">'
    "<BaseURL>{target}</BaseURL></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=match\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
PLAYLISTS = {
    "hls.m3u8": HLS,
    "hls.mp4": HLS,
    "hls_without_its_tag.mp4": HLS.removeprefix("#EXTM3U\n"),
    "concat.txt": "ffconcat version 1.0\nfile {target}\n",
    "concat.mp4": "file '{target}'\nduration 3\n",
    "dash.mpd": DASH,
    "dash.mp4": DASH,
    "session.sdp": SDP,
    "session.mp4": SDP,
    "pls.mp4": "[playlist]\nFile1={target}\n",
    "asx.mp4": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
}


def pointing(file: str, text: str) -> Callable[[Path], Path]:
    """A playlist that points to a real video beside it."""

    def make(folder: Path) -> Path:
        target = write_video(folder / "target.mp4")
        return written(file, text.replace("{target}", str(target)))(folder)

    return make


for file, text in PLAYLISTS.items():
    refused(f"playlist_{file}", "", pointing(file, text))


def with_field(
    file: str, path: tuple[bytes, ...], start: int, value: bytes
) -> Callable[[Path], Path]:
    """An MP4 with some bytes of one box replaced."""

    def make(folder: Path) -> Path:
        target = write_video(folder / file)

        def change(payload: bytes) -> bytes:
            return payload[:start] + value + payload[start + len(value) :]

        target.write_bytes(edit_box(target.read_bytes(), path, change))
        return target

    return make


TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
warned(
    "declares_huge_pictures.mp4", "declares pictures of 65535x65535, but they are 128x96",
    with_field("a.mp4", (*TABLE, b"stsd"), 40, b"\xff\xff\xff\xff"),
)  # fmt: skip
refused(
    "declares_a_billion_frames.mp4", "declares 1073741824 frames",
    with_field("a.mp4", (*TABLE, b"stsz"), 4, struct.pack(">II", 1, 1 << 30)),
)  # fmt: skip


def huge_gif(folder: Path) -> Path:
    """A GIF with a canvas of 65535 x 65535."""
    path = write_video(folder / "a.gif", codec="gif", pix_fmt="rgb8")
    return overwrite(path, 6, b"\xff\xff\xff\xff")


refused("declares_huge_pictures.gif", "65535x65535", huge_gif)


def months(folder: Path) -> Path:
    """An MP4 whose frames stand two days each."""
    delta = struct.pack(">I", 0x7FFFFFFF)
    path = with_field("a.mp4", (*TABLE, b"stts"), 12, delta)(folder)
    path.write_bytes(path.read_bytes().replace(b"edts", b"free"))
    return path


def ages(folder: Path) -> Path:
    """Matroska that declares thirty thousand years."""
    path = write_video(folder / "a.mkv")
    body = path.read_bytes()
    k = body.index(b"\x44\x89\x88") + 3
    path.write_bytes(body[:k] + struct.pack(">d", 1e15) + body[k + 8 :])
    return path


warned("declares_months.mp4", "jump ahead", months)
warned("declares_ages.mkv", "ends early", ages, tolerance_s=F(1, 1000))
