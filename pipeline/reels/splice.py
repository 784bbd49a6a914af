"""Make the packets of a reel's video track: copied, encoded, or both in turn.

To encode as few frames as possible, a cut is divided where its stream can be cut:

    cut        |<-------------------------------------------->|
    packets  I . . . . I . . . . . . I . . . . . . I . . . . . . . I
    parts      |encode|copy                               |encode|
                      ^ the first IDR frame inside        ^ the last clean point inside

Copied and encoded parts use different H.264 parameter sets. The track's header holds both under
different numbers, so every slice finds its own.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import av
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.to_rgb import Orientation
from touchline.pipeline.footage.nal_units import START_CODE, parameter_sets
from touchline.pipeline.reels.coded_video import CodedVideo
from touchline.pipeline.reels.encode import (
    HARDWARE,
    X264_OPTIONS,
    Drawing,
    PictureFormat,
    Placed,
    encode_all,
    fitting_encoder,
    set_up,
)

VideoPacket: TypeAlias = "Packet[VideoStream]"

HEVC_TAG = "hvc1"
"""The codec tag that Apple's players need for HEVC in MP4."""


@dataclass(frozen=True)
class Part:
    """A part of a placed span that is either copied or encoded.

    Attributes:
        placed: The span.
        first_pts: Timestamp of the first frame, in the footage.
        end_pts: Timestamp of the first frame after the part, in the footage.
        rows: The rows of the video to copy; None encodes the part.
    """

    placed: Placed
    first_pts: int
    end_pts: int
    rows: range | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames shown."""
        return sum(self.first_pts <= pts < self.end_pts for pts in self.placed.span.frame_pts)


def whole_parts(placed: Sequence[Placed]) -> list[Part]:
    """One part to encode for each span, up to where the next span fades in."""
    return [Part(p, p.span.first_pts, end) for p, end in _ends(placed)]


def spliced_parts(placed: Sequence[Placed], video: CodedVideo) -> list[Part]:
    """The parts of each span, with as few frames to encode as its stream allows."""
    return [part for p, end in _ends(placed) for part in _parts(p, video, end)]


def _ends(placed: Sequence[Placed]) -> list[tuple[Placed, int]]:
    fades = [*(p.fade_in for p in placed[1:]), 0]
    return [(p, p.span.end_pts - fade) for p, fade in zip(placed, fades, strict=True)]


def _drawn_on(placed: Placed, video: CodedVideo) -> list[tuple[int, int]]:
    """Where the picture changes: under titles and during a fade-in."""
    titles = [(video.pts_of(t.start_s), video.pts_of(t.end_s)) for t in placed.titles]
    first = placed.span.first_pts
    return sorted([*titles, *([(first, first + placed.fade_in)] if placed.fade_in else [])])


def _parts(placed: Placed, video: CodedVideo, end_pts: int) -> Iterator[Part]:
    drawn_on = _drawn_on(placed, video)
    clean_starts = [pts for pts in placed.span.frame_pts if _idr_row(video, pts) is not None]
    at = placed.span.first_pts
    encode_from = at
    while at < end_pts:
        until = next((b for a, b in drawn_on if a <= at < b), None)
        if until is None:
            limit = min([end_pts, *(a for a, _ in drawn_on if a > at)])
            copied = _copy_from(video, at, limit)
            if copied is not None:
                if encode_from < at:
                    yield Part(placed, encode_from, at)
                yield copied_part(placed, copied, video)
                at = encode_from = video.after(video.latest(copied.stop))
                continue
        # Go on to the next frame at which copying can begin.
        floor = at + 1 if until is None else until
        at = min([end_pts, *(pts for pts in clean_starts if pts >= floor)])
    if encode_from < end_pts:
        yield Part(placed, encode_from, end_pts)


def copied_part(placed: Placed, rows: range, video: CodedVideo) -> Part:
    """The part of a span that consists of these rows, to copy."""
    after = video.after(video.latest(rows.stop))
    return Part(placed, video.rows[rows.start].pts or 0, after, rows)


def _copy_from(video: CodedVideo, pts: int, limit: int) -> range | None:
    """The rows from the IDR frame at `pts` to the last clean point before `limit`, or None."""
    begin = _idr_row(video, pts)
    if begin is None:
        return None
    for stop in video.clean_before(limit):
        if stop <= begin:
            return None
        fits = video.after(video.latest(stop)) <= limit
        if fits and not video.hides_some(range(begin, stop)):
            return range(begin, stop)
    return None


def _idr_row(video: CodedVideo, pts: int) -> int | None:
    row = video.row_shown_at(pts)
    return row if row is not None and video.is_idr(row) else None


def why_not_spliced(video: CodedVideo, picture: PictureFormat, *, scaled: bool) -> str:
    """Why copied and encoded parts of this footage cannot share a track; empty if they can.

    Args:
        video: The footage.
        picture: The format of the encoded parts.
        scaled: The picture changes its size.
    """
    context = video.stream.codec_context
    if scaled:
        return "the size changes"
    if not video.h264:
        return f"the footage is {context.codec.canonical_name}, not h264"
    if not video.matched:
        return "the footage does not tell which packet belongs to which frame"
    if picture.upright != Orientation():
        return "the footage is rotated or mirrored"
    if picture.interlaced:
        return "the footage is interlaced"
    if context.pix_fmt != picture.pix_fmt or (context.width, context.height) != (
        picture.width,
        picture.height,
    ):
        return f"the footage is {context.pix_fmt}, {context.width}x{context.height}"
    if video.pixel_aspect != (context.sample_aspect_ratio or 1):
        return "only the container declares the pixel shape"
    if not parameter_sets(context.extradata or b"")[0]:
        return "the footage declares no parameter sets"
    return ""


def copied_packets(
    output: OutputContainer, video: CodedVideo, parts: Sequence[Part]
) -> Iterator[VideoPacket]:
    """The packets of a video track that is copied, with their times in the output.

    The stream is added to the output at once, before the first packet is asked for.

    Args:
        output: The file to write.
        video: The footage.
        parts: Parts to copy.

    Raises:
        FootageError: MP4 does not allow the codec.
    """
    try:
        stream = output.add_stream_from_template(video.stream, opaque=True)
    except ValueError:
        codec = video.stream.codec_context.codec.canonical_name
        raise FootageError(
            video.path, f"is {codec}, which cannot be copied into MP4. Leave out --copy."
        ) from None
    if video.stream.codec_context.name == "hevc":
        stream.codec_context.codec_tag = HEVC_TAG
    stream.codec_context.sample_aspect_ratio = video.pixel_aspect
    return _timed(stream, video, parts, None)


def encoded_packets(
    output: OutputContainer, drawing: Drawing, parts: Sequence[Part], encoder: str
) -> Iterator[VideoPacket]:
    """The packets of a video track that is encoded as a whole.

    The stream is added to the output at once, before the first packet is asked for.

    Args:
        output: The file to write.
        drawing: Makes the frames.
        parts: Parts to encode.
        encoder: The encoder's name.

    Raises:
        ValueError: The encoder is not one for video.
    """
    stream = output.add_stream(encoder, rate=drawing.picture.rate)
    if not isinstance(stream, VideoStream):
        raise ValueError(f"{encoder} is not a video encoder")
    options = HARDWARE.get(encoder, X264_OPTIONS)
    set_up(stream.codec_context, drawing.picture, options)
    stream.time_base = drawing.picture.time_base
    return encode_all((f for part in parts for f in _pictures(drawing, part)), stream)


def spliced_packets(
    output: OutputContainer, video: CodedVideo, drawing: Drawing, parts: Sequence[Part]
) -> Iterator[VideoPacket]:
    """The packets of a video track of copied and encoded parts.

    The stream is added to the output at once, before the first packet is asked for.

    Args:
        output: The file to write.
        video: The footage, for the copied parts.
        drawing: Makes the frames of the encoded parts.
        parts: Parts to copy or to encode.
    """
    ours, taken = parameter_sets(video.stream.codec_context.extradata or b"")
    number = min(set(range(32)) - taken)
    header = io.BytesIO(
        b"".join(START_CODE + unit for unit in ours) + _sample(drawing.picture, number)
    )
    with av.open(header, format="h264") as template:
        # The demuxer collects all parameter sets of the first frame in the stream's header.
        stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = video.time_base
    return _timed(stream, video, parts, Splice(drawing, number))


@dataclass(frozen=True)
class Splice:
    """Encodes the parts between copied parts; `number` identifies their parameter sets."""

    drawing: Drawing
    number: int

    def packets(self, part: Part) -> Iterator[VideoPacket]:
        """The encoded packets of a part."""
        encoder = fitting_encoder(self.drawing.picture, number=self.number)
        return encode_all(_pictures(self.drawing, part), encoder)


def _sample(picture: PictureFormat, number: int) -> bytes:
    """One black frame, encoded as the spliced parts are; it holds the parameter sets."""
    black = VideoFrame(picture.width, picture.height, picture.pix_fmt)
    black.pts, black.time_base = 0, picture.time_base
    encoder = fitting_encoder(picture, number=number)
    return b"".join(bytes(packet) for packet in encode_all([black], encoder))


def _pictures(drawing: Drawing, part: Part) -> Iterator[VideoFrame]:
    return drawing.pictures(part.placed, part.first_pts, part.end_pts)


def _timed(
    stream: VideoStream, video: CodedVideo, parts: Sequence[Part], splice: Splice | None
) -> Iterator[VideoPacket]:
    """The packets of all parts with their times in the output; decoding times increase."""
    # Encoded frames are not reordered. Decode them as early as the copied frames are decoded.
    delay = max(_delay(video, part) for part in parts)
    for part in parts:
        durations = _durations(part)
        in_order = iter(durations)
        for shown, packet in _packets(video, part, splice):
            packet.stream, packet.time_base = stream, video.time_base
            packet.pts = shown + part.placed.offset
            packet.dts = next(in_order) + part.placed.offset - delay
            packet.duration = durations[shown]
            yield packet


def _delay(video: CodedVideo, part: Part) -> int:
    """How much earlier frames must be decoded so that each is decoded before it is shown."""
    if part.rows is None:
        return 0
    decoded = [pts for k in part.rows if (pts := video.rows[k].pts or 0) >= part.first_pts]
    return max(early - pts for early, pts in zip(sorted(decoded), decoded, strict=True))


def _durations(part: Part) -> dict[int, int]:
    """How long each frame of a part is shown, by its timestamp in the footage."""
    shown = [p for p in part.placed.span.frame_pts if part.first_pts <= p < part.end_pts]
    return {a: b - a for a, b in zip(shown, [*shown[1:], part.end_pts], strict=True)}


def _packets(
    video: CodedVideo, part: Part, splice: Splice | None
) -> Iterator[tuple[int, VideoPacket]]:
    """The packets of a part in decode order, each with its timestamp in the footage."""
    if part.rows is None:
        if splice is None:
            raise ValueError("a part without rows to copy needs an encoder")
        for packet in splice.packets(part):
            yield int(packet.pts or 0) - part.placed.offset, packet
        return
    for shown, packet in zip(part.rows, _as_mp4_takes_them(video, part.rows, splice), strict=True):
        pts = video.rows[shown].pts
        if pts is not None and pts >= part.first_pts:
            yield pts, packet


def _as_mp4_takes_them(
    video: CodedVideo, rows: range, splice: Splice | None
) -> Iterator[VideoPacket]:
    """The packets of these rows; spliced H.264 has start codes, MPEG-4 one frame a packet."""
    packets = video.packets(rows)
    context = video.stream.codec_context
    if splice is not None and video.length_bytes:
        change = BitStreamFilterContext("h264_mp4toannexb", video.stream)
    elif context.name == "mpeg4":
        change = BitStreamFilterContext("mpeg4_unpack_bframes", video.stream)
    else:
        return packets
    return (out for packet in packets for out in change.filter(packet))
