"""The pictures of a reel as packets of one video track: copied, encoded, or both in turn.

To encode only what must be, a cut is divided at the places where its stream can be parted:

    cut        |<-------------------------------------------->|
    packets  I . . . . I . . . . . . I . . . . . . I . . . . . . . I
    parts      |encode|copy                               |encode|
                      ^ the first IDR frame inside        ^ the last clean point inside

Parts of the footage and parts of our encoder use different H.264 parameter sets. Both stand in the
track's header under different numbers, so that every slice finds its own.
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
from touchline.pipeline.footage.nal_units import START_CODE, parameter_sets
from touchline.pipeline.reels.coded_video import CodedVideo, Span, clean_points
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
"""What Apple's players want HEVC in MP4 to be called."""


@dataclass(frozen=True)
class Part:
    """Frames first_pts <= pts < end_pts of a placed span: rows to copy, or None to encode."""

    placed: Placed
    first_pts: int
    end_pts: int
    rows: range | None = None

    @property
    def num_frames(self) -> int:
        return sum(self.first_pts <= pts < self.end_pts for pts in self.placed.span.frame_pts)


def whole_parts(placed: Sequence[Placed]) -> list[Part]:
    """Every span in one part to encode, up to where the next one fades in."""
    return [Part(p, p.span.first_pts, end) for p, end in _ends(placed)]


def spliced_parts(placed: Sequence[Placed], video: CodedVideo) -> list[Part]:
    """Every span in as few frames to encode as its stream allows."""
    return [part for p, end in _ends(placed) for part in _parts(p, end, _drawn_on(p, video))]


def _ends(placed: Sequence[Placed]) -> list[tuple[Placed, int]]:
    fades = [*(p.fade_in for p in placed[1:]), 0]
    return [(p, p.span.end_pts - fade) for p, fade in zip(placed, fades, strict=True)]


def _drawn_on(placed: Placed, video: CodedVideo) -> list[tuple[int, int]]:
    """Where pictures are changed: under titles and while fading in."""
    titles = [(video.pts_of(t.start_s), video.pts_of(t.end_s)) for t in placed.titles]
    first = placed.span.first_pts
    return sorted([*titles, *([(first, first + placed.fade_in)] if placed.fade_in else [])])


def _parts(placed: Placed, end_pts: int, drawn_on: Sequence[tuple[int, int]]) -> Iterator[Part]:
    at = placed.span.first_pts
    encode_from = at
    while at < end_pts:
        until = next((b for a, b in drawn_on if a <= at < b), None)
        if until is None:
            limit = min([end_pts, *(a for a, _ in drawn_on if a > at)])
            copied = _copy_from(placed.span, at, limit)
            if copied is not None:
                if encode_from < at:
                    yield Part(placed, encode_from, at)
                yield copied_part(placed, copied)
                at = encode_from = _after(placed.span, copied)
                continue
        # To the next frame at which copying may begin.
        floor = at + 1 if until is None else until
        at = min([end_pts, *(r.pts for r in placed.span.rows if r.idr and r.pts >= floor)])
    if encode_from < end_pts:
        yield Part(placed, encode_from, end_pts)


def copied_part(placed: Placed, rows: range) -> Part:
    return Part(placed, placed.span.rows[rows.start].pts, _after(placed.span, rows), rows)


def _copy_from(span: Span, pts: int, limit: int) -> range | None:
    """The rows from the IDR frame at `pts` to the last clean point before `limit`, if any."""
    begin = next((k for k, row in enumerate(span.rows) if row.idr and row.pts == pts), None)
    if begin is None:
        return None
    fitting = [k for k in clean_points(span.rows, begin) if _after(span, range(begin, k)) <= limit]
    return range(begin, fitting[-1]) if fitting else None


def _after(span: Span, rows: range) -> int:
    """When the frame after `rows`, which end at a clean point, is shown."""
    later = [row.pts for row in span.rows[rows.stop :]]
    return min(later) if later else max(r.pts + r.duration for r in span.rows)


def why_not_spliced(video: CodedVideo, picture: PictureFormat, *, scaled: bool) -> str:
    """Why parts of this footage and encoded ones cannot stand in one track; empty if they can."""
    context = video.stream.codec_context
    if scaled:
        return "the size is changed"
    if not video.h264:
        return f"the footage is {context.name}, not h264"
    if video.untimed:
        return "the footage has no presentation times"
    if picture.turns:
        return "the footage is rotated"
    if picture.interlaced:
        return "the footage is interlaced"
    if context.pix_fmt != picture.pix_fmt or (context.width, context.height) != (
        picture.width,
        picture.height,
    ):
        return f"the footage is {context.pix_fmt}, {context.width}x{context.height}"
    if (video.stream.sample_aspect_ratio or 1) != (context.sample_aspect_ratio or 1):
        return "the container alone declares the shape of its pixels"
    if not parameter_sets(context.extradata or b"")[0]:
        return "the footage declares no parameter sets"
    return ""


def copied_packets(
    output: OutputContainer, video: CodedVideo, parts: Sequence[Part]
) -> Iterator[VideoPacket]:
    """A video track of the footage's packets, shifted in time; the stream is added at once."""
    if video.untimed:
        raise FootageError(video.path, "has no presentation times to copy by: leave out --copy")
    try:
        stream = output.add_stream_from_template(video.stream, opaque=True)
    except ValueError:
        codec = video.stream.codec_context.name
        raise FootageError(
            video.path, f"{codec} cannot be put into MP4 as it is: leave out --copy"
        ) from None
    if video.stream.codec_context.name == "hevc":
        stream.codec_context.codec_tag = HEVC_TAG
    if video.stream.sample_aspect_ratio:
        stream.codec_context.sample_aspect_ratio = video.stream.sample_aspect_ratio
    return _timed(stream, video, parts, None)


def encoded_packets(
    output: OutputContainer, drawing: Drawing, parts: Sequence[Part], encoder: str
) -> Iterator[VideoPacket]:
    """A video track encoded in one go; the stream is added at once."""
    stream = output.add_stream(encoder, rate=drawing.picture.rate)
    if not isinstance(stream, VideoStream):
        raise ValueError(f"{encoder} is no video encoder")
    options = HARDWARE.get(encoder, X264_OPTIONS)
    set_up(stream.codec_context, drawing.picture, options)
    stream.time_base = drawing.picture.time_base
    return encode_all((f for part in parts for f in _pictures(drawing, part)), stream)


def spliced_packets(
    output: OutputContainer, video: CodedVideo, drawing: Drawing, parts: Sequence[Part]
) -> Iterator[VideoPacket]:
    """A video track of copied and encoded parts in turn; the stream is added at once."""
    ours, taken = parameter_sets(video.stream.codec_context.extradata or b"")
    number = min(set(range(32)) - taken)
    header = io.BytesIO(
        b"".join(START_CODE + unit for unit in ours) + _sample(drawing.picture, number)
    )
    with av.open(header, format="h264") as template:
        # The demuxer gathers all parameter sets of its first frame into the stream's header.
        stream = output.add_stream_from_template(template.streams.video[0], opaque=True)
    stream.time_base = video.time_base
    return _timed(stream, video, parts, Splice(drawing, number))


@dataclass(frozen=True)
class Splice:
    """How the parts between copied ones are encoded; `number` is that of their parameter sets."""

    drawing: Drawing
    number: int

    def packets(self, part: Part) -> Iterator[VideoPacket]:
        encoder = fitting_encoder(self.drawing.picture, number=self.number)
        return encode_all(_pictures(self.drawing, part), encoder)


def _sample(picture: PictureFormat, number: int) -> bytes:
    """One black frame as the encoder of the spliced parts writes it."""
    black = VideoFrame(picture.width, picture.height, picture.pix_fmt)
    black.pts, black.time_base = 0, picture.time_base
    encoder = fitting_encoder(picture, number=number)
    return b"".join(bytes(packet) for packet in encode_all([black], encoder))


def _pictures(drawing: Drawing, part: Part) -> Iterator[VideoFrame]:
    return drawing.pictures(part.placed, part.first_pts, part.end_pts)


def _timed(
    stream: VideoStream, video: CodedVideo, parts: Sequence[Part], splice: Splice | None
) -> Iterator[VideoPacket]:
    """The parts' packets on the output's timeline, decoding times rising."""
    # Frames encoded without reordering are decoded as long before they are shown as copied ones.
    delay = max(r.pts - r.dts for part in parts for r in part.placed.span.rows)
    last_dts: int | None = None
    for part in parts:
        durations = _durations(part)
        for packet in _packets(video, part, splice):
            shown = int(packet.pts or 0) + (part.placed.offset if part.rows is not None else 0)
            decoded = (
                int(packet.dts or 0) + part.placed.offset
                if part.rows is not None
                else shown - delay
            )
            if last_dts is not None:
                decoded = max(decoded, last_dts + 1)
            if decoded > shown:
                raise FootageError(
                    video.path, "its timestamps cannot be joined by copying: use --encode"
                )
            packet.stream, packet.time_base = stream, video.time_base
            packet.pts, packet.dts, last_dts = shown, decoded, decoded
            packet.duration = durations[shown - part.placed.offset]
            yield packet


def _durations(part: Part) -> dict[int, int]:
    """How long each frame of a part is shown, by its pts in the footage."""
    shown = [p for p in part.placed.span.frame_pts if part.first_pts <= p < part.end_pts]
    return {a: b - a for a, b in zip(shown, [*shown[1:], part.end_pts], strict=True)}


def _packets(video: CodedVideo, part: Part, splice: Splice | None) -> Iterator[VideoPacket]:
    if part.rows is None:
        if splice is None:
            raise ValueError("a part to encode needs an encoder")
        return splice.packets(part)
    packets = (
        packet
        for packet in video.rows_of(part.placed.span, part.rows)
        if packet.pts is not None and packet.pts >= part.first_pts
    )
    if splice is None or video.length_bytes == 0:
        return packets
    annex_b = BitStreamFilterContext("h264_mp4toannexb", video.stream)
    return (out for packet in packets for out in annex_b.filter(packet))
