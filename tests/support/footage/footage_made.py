"""Footage made for tests, with PyAV alone: every frame carries its number as a readable pattern.

A picture is a grid of 4 x 4 cells. Three corners are white and the lower right one is black, which
shows turns and mirrorings; the other twelve cells are the bits of the frame's number, most
significant first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet

CORNERS = {(0, 0): 1, (0, 3): 1, (3, 0): 1, (3, 3): 0}
BIT_CELLS = [(r, c) for r in range(4) for c in range(4) if (r, c) not in CORNERS]

X264 = {"preset": "ultrafast", "g": "12", "threads": "1"}
X264_B = {"preset": "veryfast", "g": "12", "bf": "3", "threads": "1", "b-pyramid": "normal"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1:keyint=12"}
AV1 = {"preset": "8", "crf": "20", "g": "12", "svtav1-params": "lp=1"}
VPX = {"deadline": "realtime", "cpu-used": "8", "g": "12", "threads": "1"}

QUICK = {
    "libx264": X264,
    "libx264rgb": X264,
    "libx265": X265,
    "libsvtav1": AV1,
    "libvpx-vp9": VPX,
    "libvpx": VPX,
    "gif": {},
}


def burn(index: int, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """The picture of a frame: (H, W, 3) uint8."""
    cells = np.zeros((4, 4), np.uint8)
    for cell, bit in CORNERS.items():
        cells[cell] = bit
    for k, cell in enumerate(BIT_CELLS):
        cells[cell] = index >> (11 - k) & 1
    W, H = size
    rows = np.arange(H) * 4 // H
    columns = np.arange(W) * 4 // W
    gray = cells[rows][:, columns] * 255
    return np.repeat(gray[:, :, None], 3, axis=2).astype(np.uint8)


def read_index(pixels: np.ndarray) -> int:
    """The number burnt into a picture (3, H, W); -1 where it is not upright or not readable."""
    gray = pixels.mean(axis=0)
    H, W = gray.shape
    value = 0
    for (r, c), bit in CORNERS.items():
        if _cell(gray, H, W, r, c) != bit:
            return -1
    for r, c in BIT_CELLS:
        bit = _cell(gray, H, W, r, c)
        if bit < 0:
            return -1
        value = value * 2 + bit
    return value


def _cell(gray: np.ndarray, H: int, W: int, r: int, c: int) -> int:
    rows = slice((8 * r + 3) * H // 32, max((8 * r + 5) * H // 32, (8 * r + 3) * H // 32 + 1))
    columns = slice((8 * c + 3) * W // 32, max((8 * c + 5) * W // 32, (8 * c + 3) * W // 32 + 1))
    level = gray[rows, columns].mean()
    return 1 if level > 165 else 0 if level < 90 else -1


def write_video(
    path: Path,
    *,
    indices: Sequence[int] = range(25),
    stamps: Sequence[Fraction | int] | None = None,
    rate: Fraction | int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (128, 96),
    options: dict[str, str] | None = None,
    format: str | None = None,
    muxer: dict[str, str] | None = None,
    time_base: Fraction | None = None,
    pixel_aspect: Fraction | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    audio_from: Fraction | None = None,
    audio_s: float = 1.0,
    picture: Callable[[int], np.ndarray] | None = None,
    prepare: Callable[[av.VideoFrame], None] | None = None,
    streams: int = 1,
    default_stream: int | None = None,
) -> Path:
    """Write one file; stamps are seconds, by default index / rate. Returns the path.

    With several streams, stream s shows the numbers 1000 * s + index.
    """
    time_base = time_base or Fraction(1, 1) / Fraction(rate)
    stamps = [k / Fraction(rate) for k in range(len(indices))] if stamps is None else stamps
    with av.open(str(path), "w", format=format, container_options=muxer or {}) as container:
        videos = []
        for s in range(streams):
            video = container.add_stream(
                codec, rate=Fraction(rate), options=dict(options or QUICK.get(codec, {}))
            )
            video.width, video.height = size
            video.pix_fmt = pix_fmt
            video.codec_context.time_base = time_base
            if pixel_aspect:
                video.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation or mirrored:
                video.set_display_rotation(rotation, hflip=mirrored)
            if default_stream is not None:
                mark = av.stream.Disposition.default
                video.disposition = mark if s == default_stream else av.stream.Disposition(0)
            videos.append(video)
        audio = None if audio_from is None else _add_audio(container)
        packets: list[Packet] = []
        for s, video in enumerate(videos):
            for index, stamp in zip(indices, stamps, strict=True):
                rgb = picture(index) if picture else burn(1000 * s + index, size)
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                frame = frame.reformat(format=pix_fmt, dst_colorspace=5, threads=1)
                frame.time_base = time_base
                frame.pts = round(Fraction(stamp) / time_base)
                if prepare:
                    prepare(frame)
                packets += video.encode(frame)
            packets += video.encode(None)
        if audio is not None and audio_from is not None:
            packets += _silence(audio, audio_from, audio_s)
        for packet in sorted(packets, key=_dts):
            container.mux(packet)
    return path


def _dts(packet: Packet) -> Fraction:
    return (packet.dts if packet.dts is not None else packet.pts or 0) * packet.time_base


def _add_audio(container: av.container.OutputContainer) -> av.audio.stream.AudioStream:
    name = "mp2" if container.format.name == "mpegts" else "pcm_s16le"
    audio = container.add_stream(name, rate=48000, layout="mono")
    audio.codec_context.time_base = Fraction(1, 48000)
    return audio


def _silence(audio: av.audio.stream.AudioStream, start: Fraction, length_s: float) -> list[Packet]:
    packets: list[Packet] = []
    audio.codec_context.open(strict=False)
    step = audio.codec_context.frame_size or 1152
    # The encoder moves its packets back by its delay (ISO/IEC 11172-3: 481 samples).
    padding = 481 if audio.codec_context.name.startswith("mp2") else 0
    for k in range(round(length_s * 48000 / step)):
        planar = audio.codec_context.format.name
        frame = av.AudioFrame(format=planar, layout="mono", samples=step)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = 48000
        frame.time_base = Fraction(1, 48000)
        frame.pts = round(start * 48000) + k * step + padding
        packets += audio.encode(frame)
    return packets + audio.encode(None)


def write_audio(path: Path, *, codec: str = "mp2", cover: bool = False) -> Path:
    """Sound alone, or sound with a cover picture."""
    with av.open(str(path), "w") as container:
        audio = container.add_stream(codec, rate=48000, layout="mono")
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 128, 96, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        packets = _silence(audio, Fraction(0), 0.5)
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(burn(0), format="rgb24").reformat(
                format="yuvj420p", threads=1
            )
            frame.pts = 0
            packets = picture.encode(frame) + picture.encode(None) + packets
        for packet in packets:
            container.mux(packet)
    return path


def remux(
    source: Path,
    target: Path,
    edit: Callable[[list[Packet]], list[Packet]],
    *,
    format: str | None = None,
    muxer: dict[str, str] | None = None,
) -> Path:
    """Copy the first video stream's packets after an edit of their list."""
    with (
        av.open(str(source)) as reading,
        av.open(str(target), "w", format=format, container_options=muxer or {}) as writing,
    ):
        stream = writing.add_stream_from_template(reading.streams.video[0])
        packets = [p for p in reading.demux(reading.streams.video[0]) if p.size]
        for packet in edit(packets):
            packet.stream = stream
            writing.mux(packet)
    return target


def looped(source: Path, target: Path, *, times: int, step_s: Fraction, format: str) -> Path:
    """The packets of a file over and over, each round later by its length: long footage, quickly.

    step_s is the time between frames of the result.
    """
    with av.open(str(source)) as reading, av.open(str(target), "w", format=format) as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        packets = [p for p in reading.demux(reading.streams.video[0]) if p.size]
        bodies = [(bytes(p), p.is_keyframe) for p in packets]
        time_base = Fraction(1, 90_000)
        for k in range(times * len(bodies)):
            body, key = bodies[k % len(bodies)]
            packet = Packet(body)
            packet.stream, packet.time_base, packet.is_keyframe = stream, time_base, key
            packet.pts = packet.dts = round(k * step_s / time_base)
            packet.duration = round(step_s / time_base)
            writing.mux(packet)
    return target


def edit_box(body: bytes, path: Sequence[bytes], change: Callable[[bytes], bytes]) -> bytes:
    """An MP4 with the payload of one box changed and all sizes above it put right.

    `change` gets b"" and its result makes the last box where it is missing. Only for files whose
    moov comes after their mdat: no offset moves.
    """
    out, k, found = b"", 0, False
    while k + 8 <= len(body):
        size, kind = struct.unpack(">I4s", body[k : k + 8])
        size = size or len(body) - k
        payload = body[k + 8 : k + size]
        if kind == path[0] and not found:
            found = True
            payload = change(payload) if len(path) == 1 else edit_box(payload, path[1:], change)
            out += struct.pack(">I4s", len(payload) + 8, kind) + payload
        else:
            out += body[k : k + size]
        k += size
    if not found and len(path) == 1:
        payload = change(b"")
        out += struct.pack(">I4s", len(payload) + 8, path[0]) + payload
    return out + body[k:]


def with_edits(path: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """Give an MP4 an edit list of (duration in ms, media time in the track's ticks)."""
    rows = b"".join(struct.pack(">IiI", ms, media, 0x10000) for ms, media in edits)
    payload = struct.pack(">II", 0, len(edits)) + rows
    body = edit_box(path.read_bytes(), (b"moov", b"trak", b"edts", b"elst"), lambda old: payload)
    path.write_bytes(body)
    return path


def change_packets(path: Path, change: Callable[[int, bytearray], bytes | None]) -> Path:
    """A transport stream with its 188-byte packets changed, or dropped where None comes back."""
    body = path.read_bytes()
    packets = [bytearray(body[k : k + 188]) for k in range(0, len(body), 188)]
    changed = (change(k, packet) for k, packet in enumerate(packets))
    path.write_bytes(b"".join(bytes(packet) for packet in changed if packet is not None))
    return path


def packet_places(path: Path) -> list[tuple[int, int, bool]]:
    """Offset, size and key flag of every video packet of a file, in decode order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(stream) if p.size]


def overwrite(path: Path, start: int, junk: bytes) -> Path:
    """Put other bytes in place of those at an offset."""
    body = bytearray(path.read_bytes())
    body[start : start + len(junk)] = junk
    path.write_bytes(body)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file."""
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * share)])
    return path


def write_noise(path: Path, *, num_frames: int) -> Path:
    """Footage of noise, about 100 kB a frame, a key frame every half second."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), np.uint8)
    return write_video(
        path, indices=range(num_frames), size=(320, 240), options={**X264, "qp": "1"},
        picture=lambda k: noise[k % 8],
    )  # fmt: skip


def _full_box(*parts: bytes) -> bytes:
    return b"".join([bytes(4), *parts])


def repeated(path: Path, target: Path, *, times: int) -> Path:
    """An MP4 whose index names the frames of a file `times` over: long footage in a small file.

    For files with one track, without B-frames, that begin with a key frame.
    """
    places = packet_places(path)
    count = len(places) * times
    sizes = struct.pack(f">{len(places)}I", *(size for _, size, _ in places))
    keys = [k + 1 for k, place in enumerate(places) if place[2]]
    keys = [k + r * len(places) for r in range(times) for k in keys]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        ticks = round(1 / (stream.average_rate * stream.time_base))
    table = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
    body = path.read_bytes()
    for name, parts in {
        b"stts": [struct.pack(">III", 1, count, ticks)],
        b"stsz": [struct.pack(">II", 0, count), sizes * times],
        b"stsc": [struct.pack(">IIII", 1, 1, len(places), 1)],
        b"stss": [struct.pack(f">{len(keys) + 1}I", len(keys), *keys)],
        b"stco": [struct.pack(">I", times), struct.pack(">I", places[0][0]) * times],
    }.items():
        body = edit_box(body, (*table, name), lambda old, parts=parts: _full_box(*parts))
    body = edit_box(body, (b"moov", b"trak", b"edts"), lambda old: b"")
    target.write_bytes(body)
    return target


def spread(path: Path, target: Path, *, gaps: dict[int, int]) -> Path:
    """An MP4 with holes, in bytes by the packet that follows. Holes take no room on the disk.

    For files with one track.
    """
    source = path.read_bytes()
    with target.open("wb") as file:
        start = source.index(b"mdat") - 4
        file.write(source[:start] + struct.pack(">I4sQ", 1, b"mdat", 0))
        offsets = []
        for k, (place, size, _) in enumerate(packet_places(path)):
            file.seek(gaps.get(k, 0), 1)
            offsets.append(file.tell())
            file.write(source[place : place + size])
        end = file.tell()
        table = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
        moov = source[source.index(b"moov") - 4 :]
        chunks = _full_box(struct.pack(f">I{len(offsets)}Q", len(offsets), *offsets))
        moov = edit_box(moov, (*table, b"co64"), lambda old: chunks)
        each = _full_box(struct.pack(">IIII", 1, 1, 1, 1))
        moov = edit_box(moov, (*table, b"stsc"), lambda old: each)
        file.write(moov.replace(b"stco", b"free"))
        file.seek(start + 8)
        file.write(struct.pack(">Q", end - start))
    return target
