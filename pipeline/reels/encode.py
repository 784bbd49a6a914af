"""Decode the frames of cuts, draw titles and cross-fades, and encode them as H.264."""

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
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.pyav import AvPicture, pyav_frames
from touchline.pipeline.decoding.to_rgb import Orientation, orientation
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.reels.coded_video import CodedVideo, ShownPictures, Span
from touchline.pipeline.reels.titles import Title, draw_title, planes, title_image
from touchline.pipeline.types import UInt8

SOFTWARE = "libx264"

# Hardware encoders in the order in which "auto" tries them. The options give about the quality of
# CRF 20 of libx264.
HARDWARE = {
    "h264_videotoolbox": {"q:v": "62"},
    "h264_nvenc": {"preset": "p4", "rc": "vbr", "cq": "22"},
    "h264_qsv": {"global_quality": "22"},
    "h264_amf": {"rc": "cqp", "qp_i": "21", "qp_p": "23"},
}

X264_OPTIONS = {"preset": "veryfast", "crf": "20"}

KEY_FRAME_EVERY_S = 2

# Range, primaries, transfer and matrix (ITU-T H.273) of RGB frames converted to YUV: BT.601.
RGB_AS_YUV = (1, 2, 2, 6)


@dataclass(frozen=True)
class PictureFormat:
    """Size, timing and colours of the encoded picture, from the first frame of the footage.

    Attributes:
        width: Pixels, even, after rotation.
        height: Pixels, even, after rotation.
        pix_fmt: "yuv420p" or "yuvj420p".
        time_base: Length of one tick in seconds.
        rate: Average frames per second.
        aspect: Width of a pixel divided by its height.
        upright: How to turn the picture upright.
        interlaced: The footage is interlaced; frames are deinterlaced before encoding.
        colours: Range, primaries, transfer and matrix (ITU-T H.273).
    """

    width: int
    height: int
    pix_fmt: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction
    upright: Orientation
    interlaced: bool
    colours: tuple[int, int, int, int]

    @property
    def full_range(self) -> bool:
        """Luma goes from 0 to 255 instead of 16 to 235."""
        return self.pix_fmt == "yuvj420p" or self.colours[0] == 2

    @property
    def bt709(self) -> bool:
        """The YUV matrix is BT.709, otherwise BT.601."""
        # 1 is BT.709, 2 is unspecified (ITU-T H.273); then players decide by the height.
        return self.colours[3] == 1 or (self.colours[3] == 2 and self.height >= 720)


def picture_format(video: CodedVideo, span: Span, *, height_px: int | None = None) -> PictureFormat:
    """The format of a span's first frame, after rotation.

    Args:
        video: The footage.
        span: The span to encode.
        height_px: Scale to this height; None keeps the size.

    Raises:
        FootageError: No frame of the span can be decoded.
    """
    frame = next(decode_frames(video, span.first_pts, span.end_pts), None)
    if frame is None:
        raise FootageError(
            video.path, f"no frame can be decoded at {float(video.seconds(span.first_pts)):.3f} s"
        )
    upright = orientation(frame)
    context = video.stream.codec_context
    W, H = frame.width, frame.height
    aspect = video.pixel_aspect
    if upright.exchanged:
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
        rate=video.rate,
        aspect=aspect,
        upright=upright,
        interlaced=bool(frame.interlaced_frame),
        colours=RGB_AS_YUV if frame.format.is_rgb else colours,
    )


def decode_frames(video: CodedVideo, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
    """The frames with first_pts <= pts < end_pts, as `decode` gives them.

    Args:
        video: The footage.
        first_pts: Timestamp of the first frame.
        end_pts: Timestamp of the first frame after the last one.
    """
    # After a restart of the clock, and without times in the file, a seek by time does not help.
    frames = None if video.one_clock else video.frames(first_pts, end_pts)
    for frame in frames or _decoded_by_time(video, first_pts, end_pts):
        pts = int(frame.pts or 0)
        frame.time_base, frame.duration = video.time_base, video.after(pts) - pts
        yield frame


def _decoded_by_time(video: CodedVideo, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
    wanted = Wanted(
        Instants(rate_hz=None, start_s=video.seconds(first_pts), end_s=video.seconds(end_pts)),
        stream=video.stream.index,
        from_beginning=not video.one_clock,
    )
    for shown in pyav_frames(video.path, wanted, DecodeLog()):
        pts = video.pts_of(shown.time_s)
        if pts >= end_pts:
            return
        if pts >= first_pts and isinstance(shown.picture, AvPicture):
            frame = shown.picture.frame
            frame.pts = pts
            yield frame


def deinterlace(frames: Iterable[VideoFrame], video: CodedVideo) -> Iterator[VideoFrame]:
    """One progressive frame per interlaced frame, at the same time."""
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
    """A span placed on the output's timeline. Times are ticks of the footage's time base.

    Attributes:
        span: The frames shown.
        out_pts: When the first frame is shown in the output.
        titles: Titles to draw.
        fade_in: How long its beginning overlaps the end of `before`.
        before: The span that it fades in from.
    """

    span: Span
    out_pts: int
    titles: tuple[Title, ...] = ()
    fade_in: int = 0
    before: Span | None = None

    @property
    def out_end(self) -> int:
        """When it ends in the output."""
        return self.out_pts + self.span.length

    @property
    def offset(self) -> int:
        """Added to a timestamp of the footage it gives the timestamp in the output."""
        return self.out_pts - self.span.first_pts


@dataclass
class Drawing:
    """Turns spans of one file into frames ready to encode.

    Attributes:
        video: The footage.
        picture: The format of the frames.
        font: A font file for titles; None uses the built-in font.
    """

    video: CodedVideo
    picture: PictureFormat
    font: Path | None = None
    _cache: dict[Title, UInt8] = field(default_factory=dict)

    def pictures(self, placed: Placed, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
        """The frames of a placed span, with their times in the output.

        Args:
            placed: The span.
            first_pts: Timestamp of the first frame, in the footage.
            end_pts: Timestamp of the first frame after the last one, in the footage.
        """
        earlier = self._earlier(placed) if placed.fade_in else None
        for frame in self._frames(first_pts, end_pts):
            pts = frame.pts or 0
            since = pts - placed.span.first_pts
            now_s = self.video.seconds(pts)
            drawn = [(t, a) for t in placed.titles if (a := t.opacity(now_s)) > 0]
            fades = earlier is not None and since < placed.fade_in
            if drawn or fades or self.picture.upright != Orientation():
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
            # Let the encoder choose its own key frames.
            frame.pict_type = PictureType.NONE
            yield frame

    def _frames(self, first_pts: int, end_pts: int) -> Iterator[VideoFrame]:
        frames = decode_frames(self.video, first_pts, end_pts)
        return deinterlace(frames, self.video) if self.picture.interlaced else frames

    def _earlier(self, placed: Placed) -> ShownPictures[UInt8]:
        span = placed.before
        if span is None:
            raise ValueError("a span with fade_in needs the span before it")
        begin = span.end_pts - placed.fade_in
        frames = self._frames(begin, span.end_pts)
        return ShownPictures(((f.pts or 0) - begin, self._upright(f)) for f in frames)

    def _upright(self, frame: VideoFrame) -> UInt8:
        """A copy (H * 3 / 2, W) uint8 of a frame, upright and scaled, to draw on."""
        size = (self.picture.width, self.picture.height)
        upright = self.picture.upright
        width, height = size[::-1] if upright.exchanged else size
        same = frame.reformat(width=width, height=height, format=self.picture.pix_fmt)
        i420 = np.array(same.to_ndarray(), dtype=np.uint8)
        if upright == Orientation():
            return i420
        turned = [upright.turned(p).reshape(-1) for p in planes(i420)]
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


def _crossfaded(before: UInt8 | None, after: UInt8, share: float) -> UInt8:
    if before is None:
        return after
    # In 1/256: integers are several times faster than floats here.
    weight = round(share * 256)
    mixed = (before.astype(np.uint16) * (256 - weight) + after.astype(np.uint16) * weight) >> 8
    return mixed.astype(np.uint8)


def choose_encoder(picture: PictureFormat, wanted: str) -> str:
    """The name of an encoder that works on this machine.

    Args:
        picture: The format to encode.
        wanted: An encoder's name, or "auto" for the first hardware encoder that works, otherwise
            libx264.

    Raises:
        ValueError: The encoder wanted does not work on this machine.
    """
    if wanted == SOFTWARE:
        return wanted
    for name in HARDWARE if wanted == "auto" else [wanted]:
        if name in HARDWARE and name in av.codecs_available and _works(name, picture):
            return name
    if wanted == "auto":
        return SOFTWARE
    known = ", ".join(["auto", SOFTWARE, *HARDWARE])
    raise ValueError(
        f"the encoder {wanted!r} does not work on this machine. Touchline knows {known}."
    )


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
        raise ValueError(f"{name} is not a video encoder")
    return context


def set_up(context: VideoCodecContext, picture: PictureFormat, options: dict[str, str]) -> None:
    """Set an encoder's size, timing and colours.

    Args:
        context: The encoder.
        picture: The format to encode.
        options: Options of this encoder, by FFmpeg's names.
    """
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
    """A libx264 encoder for the parts between copied parts.

    It makes no B-frames, so decode order is display order.

    Args:
        picture: The format to encode.
        number: Identifies its parameter sets. It must differ from the footage's numbers, because
            both are in one MP4 track.
    """
    context = _video_encoder(SOFTWARE)
    parameters = f"sps-id={number}:bframes=0:scenecut=0"
    set_up(context, picture, {"preset": "veryfast", "crf": "18", "x264-params": parameters})
    return context


def encode_all(
    frames: Iterable[VideoFrame], stream: VideoStream | VideoCodecContext
) -> Iterator[Packet[VideoStream]]:
    """The packets of all frames, including those that the encoder holds back until the end."""
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)
