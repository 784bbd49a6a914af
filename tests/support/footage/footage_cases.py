"""Every kind of file decoding must get right, warn about or refuse, with the outcome of each.

A case makes its file in a folder. `frames` are the true numbers and times of all its frames;
`damaged` cases promise that frames not marked as damaged are true, and how many those are at least.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from footage_made import (
    X264,
    X264_B,
    burn,
    write_video,
)

F = Fraction
STEADY = tuple((k, F(k, 25)) for k in range(25))


@dataclass(frozen=True)
class Case:
    """One file: how to make it and what must come of it.

    outcome: "ok", "warn" (decoded, and `says` stands among the warnings), "damaged" (as "warn";
    `frames` are the true times by number) or "refuse" (`says` stands in the error).
    tolerance_s: what the container rounds times to.
    size: (W, H) of the pictures at size_px None.
    at_least: how many frames of a damaged file come out unharmed.
    blind_s: a span whose damage no decoder notices, as its bits still make sense.
    """

    name: str
    make: Callable[[Path], Path]
    outcome: str
    frames: tuple[tuple[int, Fraction], ...] = ()
    says: str = ""
    tolerance_s: Fraction = Fraction(0, 1)
    size: tuple[int, int] = (128, 96)
    at_least: int = 0
    blind_s: tuple[float, float] = (0.0, 0.0)

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []


def good(name: str, make: Callable[[Path], Path], **facts: object) -> None:
    """A case that is decoded without a word."""
    facts.setdefault("frames", STEADY)
    CASES.append(Case(name, make, "ok", **facts))


def warned(name: str, says: str, make: Callable[[Path], Path], **facts: object) -> None:
    """A case that is decoded with a warning."""
    facts.setdefault("frames", STEADY)
    CASES.append(Case(name, make, "warn", says=says, **facts))


def damaged(
    name: str,
    says: str,
    at_least: int,
    make: Callable[[Path], Path],
    blind_s: tuple[float, float] = (0.0, 0.0),
    first: int = 0,
) -> None:
    """A file of 100 frames of which part is lost; the clock starts at frame `first`."""
    frames = tuple((k, F(k - first, 25)) for k in range(first, 100))
    CASES.append(Case(name, make, "damaged", frames, says=says, at_least=at_least, blind_s=blind_s))


def refused(name: str, says: str, make: Callable[[Path], Path]) -> None:
    """A case that is not decoded at all."""
    CASES.append(Case(name, make, "refuse", says=says))


def video(file: str, **how: object) -> Callable[[Path], Path]:
    """A maker of one plain file."""
    return lambda folder: write_video(folder / file, **how)


def written(file: str, body: bytes | str) -> Callable[[Path], Path]:
    """A maker of a file with given bytes."""

    def make(folder: Path) -> Path:
        path = folder / file
        path.write_bytes(body.encode() if isinstance(body, str) else body)
        return path

    return make


# --- codecs and containers ------------------------------------------------------------------------

MS = F(1, 1000)
good("h264.mp4", video("a.mp4"))
good("h264_b_frames.mp4", video("a.mp4", options=X264_B))
good("h264.mov", video("a.mov", options=X264_B))
good("h264.mkv", video("a.mkv", options=X264_B), tolerance_s=MS)
good("h264.ts", video("a.ts", options=X264_B))
good("h264.flv", video("a.flv", options=X264_B), tolerance_s=MS)
good("h264_b_frames.avi", video("a.avi", options=X264_B))
good(
    "h264_fragmented.mp4",
    video("a.mp4", muxer={"movflags": "frag_keyframe+empty_moov"}, options=X264_B),
)
good("h264_faststart.mp4", video("a.mp4", muxer={"movflags": "faststart"}))
good("h264.m2ts", video("a.m2ts", format="mpegts", muxer={"mpegts_m2ts_mode": "1"}))
good("hevc.mp4", video("a.mp4", codec="libx265"))
good("hevc.mkv", video("a.mkv", codec="libx265"), tolerance_s=MS)
good("hevc.ts", video("a.ts", codec="libx265"))
good("av1.mkv", video("a.mkv", codec="libsvtav1"), tolerance_s=MS)
good("av1.mp4", video("a.mp4", codec="libsvtav1"))
good("vp9.webm", video("a.webm", codec="libvpx-vp9"), tolerance_s=MS)
good("vp9.mp4", video("a.mp4", codec="libvpx-vp9"))
good("vp8.webm", video("a.webm", codec="libvpx"), tolerance_s=MS)
good("vp8.ivf", video("a.ivf", codec="libvpx"))
good("mpeg1.mpg", video("a.mpg", codec="mpeg1video", options={"bf": "2"}))
good("mpeg2.mpg", video("a.mpg", format="vob", codec="mpeg2video", options={"bf": "2"}))
good("mpeg2.ts", video("a.ts", codec="mpeg2video", options={"bf": "2", "g": "12"}))
good("mpeg2.mxf", video("a.mxf", codec="mpeg2video"))
good("mpeg4.avi", video("a.avi", codec="mpeg4"))
good("mpeg4_b_frames.avi", video("a.avi", codec="mpeg4", options={"bf": "2"}))
good("mpeg4.mp4", video("a.mp4", codec="mpeg4", options={"bf": "2"}))
good("msmpeg4.avi", video("a.avi", codec="msmpeg4"))
good("prores.mov", video("a.mov", codec="prores_ks", pix_fmt="yuv422p10le"))
good("dnxhr.mov", video("a.mov", codec="dnxhd", pix_fmt="yuv422p", size=(256, 128),
                        options={"profile": "dnxhr_lb"}), size=(256, 128))  # fmt: skip
good("mjpeg.avi", video("a.avi", codec="mjpeg", pix_fmt="yuvj420p"))
good("mjpeg.mov", video("a.mov", codec="mjpeg", pix_fmt="yuvj420p"))
good("wmv2.wmv", video("a.wmv", codec="wmv2"), tolerance_s=MS)
good("wmv1.asf", video("a.asf", codec="wmv1"), tolerance_s=MS)
good("flv1.flv", video("a.flv", codec="flv"), tolerance_s=MS)
good("h263.3gp", video("a.3gp", codec="h263", size=(176, 144), options={"b": "2M"}),
     size=(192, 144))  # fmt: skip
good("gif.gif", video("a.gif", codec="gif", pix_fmt="rgb8"))
good("ffv1.mkv", video("a.mkv", codec="ffv1"), tolerance_s=MS)
good("ffv1.nut", video("a.nut", codec="ffv1"))
good("huffyuv.avi", video("a.avi", codec="huffyuv", pix_fmt="yuv422p"))
good("rawvideo.avi", video("a.avi", codec="rawvideo"))
good("y4m.y4m", video("a.y4m", codec="wrapped_avframe"))
good("dv.dv", video("a.dv", codec="dvvideo", size=(720, 576), indices=range(5)),
     frames=STEADY[:5], size=(768, 576))  # fmt: skip
warned("raw.h264", "without timestamps", video("a.h264", options=X264_B))
warned("raw.hevc", "without timestamps", video("a.hevc", codec="libx265"))
warned("raw.m2v", "without timestamps", video("a.m2v", codec="mpeg2video", options={"bf": "2"}))

# --- pictures -------------------------------------------------------------------------------------

TALL = (96, 128)
for degrees, stored in {90: TALL, 180: (128, 96), -90: TALL}.items():
    good(f"turned_{degrees}.mp4", video(
        "a.mp4", rotation=degrees, size=stored,
        picture=lambda k, n=-degrees // 90: np.rot90(burn(k), k=n).copy()))  # fmt: skip
good("mirrored.mp4", video("a.mp4", mirrored=True, picture=lambda k: burn(k)[:, ::-1].copy()))
# FFmpeg turns first and mirrors then, so the stored picture is mirrored first and turned then.
good("turned_and_mirrored.mp4", video("a.mp4", rotation=90, mirrored=True, size=TALL,
     picture=lambda k: np.rot90(burn(k)[:, ::-1], k=-1).copy()))  # fmt: skip
good("wide_pixels.mp4", video("a.mp4", pixel_aspect=F(2)), size=(256, 96))
good("tall_pixels.mkv", video("a.mkv", pixel_aspect=F(1, 2)), size=(128, 192), tolerance_s=MS)
good("odd_size.mkv", video("a.mkv", codec="ffv1", pix_fmt="yuv444p", size=(127, 95)),
     size=(127, 95), tolerance_s=MS)  # fmt: skip
good("odd_size.mp4", video("a.mp4", pix_fmt="yuv444p", size=(127, 95)), size=(127, 95))


def two_fields(index: int) -> np.ndarray:
    """The number in the upper field, its opposite in the lower: a mixture shows nothing."""
    picture = burn(index)
    picture[1::2] = 255 - picture[1::2]
    return picture


good("interlaced_h264.mp4", video("a.mp4", picture=two_fields, options={
    "preset": "veryfast", "g": "12", "threads": "1", "x264-params": "tff=1"}))  # fmt: skip
good("interlaced_mpeg2.ts", video("a.ts", picture=two_fields, codec="mpeg2video",
     options={"flags": "+ildct+ilme", "b": "4M"}))  # fmt: skip
good("ten_bit_h264.mp4", video("a.mp4", pix_fmt="yuv420p10le"))
good("ten_bit_hevc.mp4", video("a.mp4", codec="libx265", pix_fmt="yuv420p10le"))
good("ten_bit_422.mkv", video("a.mkv", pix_fmt="yuv422p10le"), tolerance_s=MS)
HDR = "log-level=none:pools=none:frame-threads=1:colorprim=bt2020:colormatrix=bt2020nc:transfer="
good("hdr10.mp4", video("a.mp4", codec="libx265", pix_fmt="yuv420p10le", options={
    "preset": "ultrafast", "x265-params": HDR + "smpte2084"}))  # fmt: skip
good("hlg.mp4", video("a.mp4", codec="libx265", pix_fmt="yuv420p10le", options={
    "preset": "ultrafast", "x265-params": HDR + "arib-std-b67"}))  # fmt: skip
good("yuv444.mp4", video("a.mp4", pix_fmt="yuv444p"))
good("yuv422.mp4", video("a.mp4", pix_fmt="yuv422p"))
good("rgb.mkv", video("a.mkv", codec="libx264rgb", pix_fmt="rgb24"), tolerance_s=MS)
good("gray.mkv", video("a.mkv", codec="ffv1", pix_fmt="gray"), tolerance_s=MS)
good("gray_h264.mp4", video("a.mp4", pix_fmt="gray"))
good("full_range.mp4", video("a.mp4", pix_fmt="yuvj420p"))
good("alpha_prores.mov", video("a.mov", codec="prores_ks", pix_fmt="yuva444p10le",
                               options={"profile": "4444"}))  # fmt: skip
good("alpha_qtrle.mov", video("a.mov", codec="qtrle", pix_fmt="argb"))
good("palette.avi", video("a.avi", codec="zmbv", pix_fmt="bgr0"))


def switched(size: tuple[int, int], pix_fmt: str) -> Callable[[Path], Path]:
    """One stream whose pictures become others from frame 12 on, as when a broadcast switches."""

    def make(folder: Path) -> Path:
        path = folder / "a.ts"
        with av.open(str(path), "w") as writing:
            stream = writing.add_stream("libx264", rate=25, options=X264)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            second = av.CodecContext.create("libx264", "w")
            second.width, second.height = size
            second.pix_fmt, second.options = pix_fmt, X264
            second.time_base = stream.codec_context.time_base = F(1, 25)
            for encoder, indices in (
                (stream.codec_context, range(12)),
                (second, range(12, 25)),
            ):
                packets = []
                for index in indices:
                    picture = burn(index, (encoder.width, encoder.height))
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame = frame.reformat(format=encoder.pix_fmt, threads=1)
                    frame.pts, frame.time_base = index, F(1, 25)
                    packets += encoder.encode(frame)
                for packet in packets + encoder.encode(None):
                    packet.stream, packet.time_base = stream, F(1, 25)
                    writing.mux(packet)
        return path

    return make


warned("changes_size.ts", "change their size", switched((256, 192), "yuv420p"))
warned("changes_format.ts", "change their size", switched((128, 96), "yuv444p10le"))
warned("two_videos.mkv", "0 is used", video("a.mkv", streams=2), tolerance_s=MS)
warned("two_videos.mp4", "0 is used", video("a.mp4", streams=2))
warned("second_is_default.mkv", "1 is used", video("a.mkv", streams=2, default_stream=1),
       frames=tuple((1000 + k, t) for k, t in STEADY), tolerance_s=MS)  # fmt: skip


def with_cover(folder: Path) -> Path:
    """A video with an attached picture before it."""
    path = folder / "a.mp4"
    plain = write_video(folder / "plain.mp4")
    with av.open(str(plain)) as reading, av.open(str(path), "w") as writing:
        cover = writing.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = writing.add_stream_from_template(reading.streams.video[0])
        frame = av.VideoFrame.from_ndarray(burn(4000, (640, 480)), format="rgb24")
        frame = frame.reformat(format="yuvj420p", threads=1)
        frame.pts = 0
        for packet in cover.encode(frame) + cover.encode(None):
            writing.mux(packet)
        for packet in reading.demux(video=0):
            if packet.size:
                packet.stream = stream
                writing.mux(packet)
    return path


good("cover_beside_video.mp4", with_cover)

# --- names ----------------------------------------------------------------------------------------

good("name_like_an_address.mp4", video("http:x.mp4", format="mp4"))
good("name_like_a_pattern.mp4", video("a%03d[1-9]*.mp4", format="mp4"))
good("name_in_japanese.mp4", video("決勝 №1.mp4"))
good("no_extension", video("recording", format="mp4"))
good("wrong_extension.txt", video("a.txt", format="matroska"), tolerance_s=MS)


def linked(folder: Path) -> Path:
    """A link to a video."""
    (folder / "link.mp4").symlink_to(write_video(folder / "a.mp4"))
    return folder / "link.mp4"


def not_utf8(folder: Path) -> Path:
    """A name that is not UTF-8."""
    path = write_video(folder / "a.mp4")
    return path.rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4"))


good("link.mp4", linked)
good("name_not_utf8.mp4", not_utf8)
