"""Frames of cuts, drawn on and encoded: H.264 by libx264 or the machine's own encoder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.reels.coded_video import CodedVideo, Span, decodable
from touchline.pipeline.reels.titles import Title, draw_title, planes, title_image
from touchline.pipeline.types import UInt8

SOFTWARE = "libx264"

# Tried in this order where `encoder` is "auto"; options that give about the quality of CRF 20.
HARDWARE = {
    "h264_videotoolbox": {"q:v": "62"},
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "22"},
    "h264_qsv": {"global_quality": "22"},
    "h264_amf": {"rc": "cqp", "qp_i": "21", "qp_p": "23"},
}

X264_OPTIONS = {"preset": "veryfast", "crf": "20"}

KEY_FRAME_EVERY_S = 2

# Range, primaries, transfer, matrix (ITU-T H.273) of RGB pictures after conversion: BT.601.
RGB_AS_YUV = (1, 2, 2, 6)


@dataclass(frozen=True)
class PictureFormat:
    """What is encoded, as the first frame of the footage says.

    turns: quarter turns counter-clockwise that make the picture upright. H and W are even.
    """

    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    turns: int
    interlaced: bool
    colours: tuple[int, int, int, int]

    @property
    def full_range(self) -> bool:
        return self.pix_fmt == "yuvj420p" or self.colours[0] == 2

    @property
    def bt709(self) -> bool:
        # 1 is BT.709 (ITU-T H.273); where nothing is said, players go by the height.
        return self.colours[3] == 1 or (self.colours[3] == 2 and self.height >= 720)


def picture_format(video: CodedVideo, span: Span, *, height_px: int | None = None) -> PictureFormat:
    """The picture of a span's first frame, scaled to a height if one is given."""
    frame = next(decode_frames(video, span.first_pts, span.end_pts), None)
    if frame is None:
        raise FootageError(
            video.path, f"no frame can be decoded at {float(video.seconds(span.first_pts)):.3f} s"
        )
    turns = round(frame.rotation / 90) % 4
    context = video.stream.codec_context
    W, H = frame.width, frame.height
    # What the container declares goes before what the codec does.
    aspect = Fraction(video.stream.sample_aspect_ratio or 1) or Fraction(1)
    if turns % 2:
        W, H, aspect = H, W, 1 / aspect
    if height_px is not None:
        W, H = round(W * height_px / H), height_px
    name = frame.format.name
    colours = (
        int(context.color_range),
        int(context.color_primaries),
        int(context.color_trc),
        int(context.colorspace),
    )
    return PictureFormat(
        width=max(2, W // 2 * 2),
        height=max(2, H // 2 * 2),
        pix_fmt="yuvj420p" if name.startswith("yuvj") else "yuv420p",
        time_base=video.time_base,
        rate=video.stream.average_rate or Fraction(25),
        aspect=aspect,
        turns=turns,
        interlaced=bool(frame.interlaced_frame),
        colours=RGB_AS_YUV if frame.format.is_rgb else colours,
    )


def decode_frames(video: CodedVideo, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
    """The frames with first_pts <= pts < end_pts; what cannot be decoded is left out."""
    for packet in video.packets_from(first_pts):
        for frame in decodable(packet.decode):
            if frame.pts is None:
                frame.pts = frame.dts
            if frame.pts is None or frame.pts < first_pts:
                continue
            if frame.pts >= end_pts:
                return
            yield frame
    for frame in video.stream.decode(None):
        if frame.pts is not None and first_pts <= frame.pts < end_pts:
            yield frame


def deinterlace(frames: Iterable[VideoFrame], video: CodedVideo) -> Iterator[VideoFrame]:
    """One progressive picture per interlaced frame, at the frame's own time."""
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(template=video.stream),
        graph.add("bwdif", "mode=send_frame:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    for frame in frames:
        graph.vpush(frame)
        yield from _pulled(graph, video.time_base)
    graph.vpush(None)
    yield from _pulled(graph, video.time_base)


def _pulled(graph: av.filter.Graph, time_base: Fraction) -> Iterator[VideoFrame]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        if frame.pts is not None and frame.time_base is not None:
            frame.pts = round(frame.pts * frame.time_base / time_base)
            frame.time_base = time_base
        yield frame


@dataclass(frozen=True)
class Placed:
    """A span on the output's timeline, all in ticks of the footage's time base.

    fade_in: how long its beginning overlaps the end of `before`.
    """

    span: Span
    out_pts: int
    titles: tuple[Title, ...] = ()
    fade_in: int = 0
    before: Span | None = None

    @property
    def out_end(self) -> int:
        return self.out_pts + self.span.length

    @property
    def offset(self) -> int:
        """What is added to a timestamp of the footage."""
        return self.out_pts - self.span.first_pts


@dataclass
class Drawing:
    """Turns spans of one file into pictures ready to encode; `fading` is a second reader."""

    video: CodedVideo
    fading: CodedVideo
    picture: PictureFormat
    font: Path | None = None
    _cache: dict[Title, UInt8] = field(default_factory=dict)

    def pictures(self, placed: Placed, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
        """The frames of a placed span from first_pts up to end_pts, timed for the output."""
        earlier = self._earlier(placed) if placed.fade_in else None
        for frame in self._frames(self.video, first_pts, end_pts):
            pts = frame.pts or 0
            since = pts - placed.span.first_pts
            now_s = self.video.seconds(pts)
            drawn = [(t, a) for t in placed.titles if (a := t.opacity(now_s)) > 0]
            fades = earlier is not None and since < placed.fade_in
            if drawn or fades or self.picture.turns:
                i420 = self._upright(frame)
                if earlier is not None and fades:
                    i420 = _crossfaded(earlier.at(since), i420, since / placed.fade_in)
                for title, opacity in drawn:
                    self._draw(i420, title, opacity)
                frame = VideoFrame.from_ndarray(i420, format=self.picture.pix_fmt)
            else:
                frame = frame.reformat(
                    width=self.picture.width,
                    height=self.picture.height,
                    format=self.picture.pix_fmt,
                )
            frame.pts, frame.time_base = pts + placed.offset, self.picture.time_base
            # The encoder chooses its own key frames.
            frame.pict_type = PictureType.NONE
            yield frame

    def _frames(self, video: CodedVideo, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
        frames = decode_frames(video, first_pts, end_pts)
        return deinterlace(frames, video) if self.picture.interlaced else frames

    def _earlier(self, placed: Placed) -> _Held:
        span = placed.before
        if span is None:
            raise ValueError("a span that fades in needs the span before it")
        begin = span.end_pts - placed.fade_in
        frames = self._frames(self.fading, begin, span.end_pts)
        return _Held(((f.pts or 0) - begin, self._upright(f)) for f in frames)

    def _upright(self, frame: VideoFrame) -> UInt8:
        """(H * 3 / 2, W) uint8, a copy that may be drawn on."""
        size = (self.picture.width, self.picture.height)
        width, height = size[::-1] if self.picture.turns % 2 else size
        same = frame.reformat(width=width, height=height, format=self.picture.pix_fmt)
        i420 = np.array(same.to_ndarray(), dtype=np.uint8)
        if not self.picture.turns:
            return i420
        turned = [np.rot90(p, k=self.picture.turns).reshape(-1) for p in planes(i420)]
        return np.concatenate(turned).reshape(-1, size[0])

    def _draw(self, i420: UInt8, title: Title, opacity: float) -> None:
        if title not in self._cache:
            self._cache[title] = title_image(
                title.heading, title.line, self.picture.width, self.picture.height, self.font
            )
        draw_title(
            i420,
            self._cache[title],
            opacity,
            bt709=self.picture.bt709,
            full_range=self.picture.full_range,
        )


class _Held:
    """Pictures in time order, of which the one shown at a time is asked for, going forward."""

    def __init__(self, pictures: Iterator[tuple[int, UInt8]]) -> None:
        self._pictures = pictures
        self._shown: UInt8 | None = None
        self._next: tuple[int, UInt8] | None = next(pictures, None)

    def at(self, ticks: int) -> UInt8 | None:
        while self._next is not None and (self._next[0] <= ticks or self._shown is None):
            self._shown = self._next[1]
            self._next = next(self._pictures, None)
        return self._shown


def _crossfaded(before: UInt8 | None, after: UInt8, share: float) -> UInt8:
    if before is None:
        return after
    # In 1/256: whole numbers are several times faster than floats here.
    weight = round(share * 256)
    mixed = (before.astype(np.uint16) * (256 - weight) + after.astype(np.uint16) * weight) >> 8
    return mixed.astype(np.uint8)


def choose_encoder(picture: PictureFormat, wanted: str) -> str:
    """The name of an encoder that works here; "auto" prefers the machine's own.

    ValueError where the one asked for does not work.
    """
    if wanted == SOFTWARE:
        return wanted
    for name in HARDWARE if wanted == "auto" else [wanted]:
        if name in HARDWARE and name in av.codecs_available and _works(name, picture):
            return name
    if wanted == "auto":
        return SOFTWARE
    known = ", ".join(["auto", SOFTWARE, *HARDWARE])
    raise ValueError(f"the encoder {wanted!r} does not work on this machine; there are {known}")


def _works(name: str, picture: PictureFormat) -> bool:
    try:
        context = _video_encoder(name)
        set_up(context, picture, HARDWARE[name])
        black = VideoFrame(picture.width, picture.height, "yuv420p")
        black.pts, black.time_base = 0, picture.time_base
        return bool(context.encode(black) + context.encode(None))
    except (av.error.FFmpegError, OSError, ValueError):
        return False


def _video_encoder(name: str) -> VideoCodecContext:
    context = av.CodecContext.create(name, "w")
    if not isinstance(context, VideoCodecContext):
        raise ValueError(f"{name} is no video encoder")
    return context


def set_up(context: VideoCodecContext, picture: PictureFormat, options: dict[str, str]) -> None:
    """Give an encoder the picture's size, timing and colours."""
    context.width, context.height = picture.width, picture.height
    context.pix_fmt = picture.pix_fmt
    context.time_base, context.framerate = picture.time_base, picture.rate
    context.sample_aspect_ratio = picture.aspect
    context.gop_size = max(1, round(picture.rate * KEY_FRAME_EVERY_S))
    (
        context.color_range,
        context.color_primaries,
        context.color_trc,
        context.colorspace,
    ) = picture.colours
    context.options = options


def fitting_encoder(picture: PictureFormat, *, number: int) -> VideoCodecContext:
    """libx264 for parts that stand between copied ones.

    No B-frames, so that decoding order is display order; parameter sets under a number of their
    own, so that they can stand beside the footage's in one MP4 track.
    """
    context = _video_encoder(SOFTWARE)
    parameters = f"sps-id={number}:bframes=0:scenecut=0"
    set_up(context, picture, {"preset": "veryfast", "crf": "18", "x264-params": parameters})
    return context


def encode_all(
    frames: Iterable[VideoFrame], stream: VideoStream | VideoCodecContext
) -> Iterator[Packet[VideoStream]]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)
