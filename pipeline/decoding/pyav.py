"""Decode with PyAV, packet by packet, so that damage costs only the frames it touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.clock import continuous
from touchline.pipeline.decoding.contract import Instants, ShownFrame, StampedFrame, Wanted
from touchline.pipeline.decoding.damage import Damage
from touchline.pipeline.decoding.frame_times import InFlight, Stamps
from touchline.pipeline.decoding.skipping import Planned, plan, role_reader
from touchline.pipeline.decoding.to_rgb import Renderer
from touchline.pipeline.footage.log import GAP_S, TIMESTAMP_ROUNDING_S, DecodeLog
from touchline.pipeline.footage.open import OpenFootage, open_footage
from touchline.pipeline.footage.packet_scan import all_packets, clock_restarts
from touchline.pipeline.footage.sniff import MAX_PIXELS
from touchline.pipeline.types import UInt8

# How far before the wanted start to seek: one after the other, until the frame shown at the start
# is decoded. None decodes from the beginning of the file.
REACH_BACK_S = (Fraction(0), Fraction(2), Fraction(10), Fraction(60), None)

# In a program stream only the first frame in each pack (about 2000 bytes) has a timestamp. After a
# seek FFmpeg guesses the times of the frames up to the next timestamp. Frames of a static picture
# are small, so that can be most of a second. Seek this much earlier and drop the first half.
PROGRAM_STREAM_RUN_UP_S = Fraction(2)

CHANGES = (
    "pictures change their size or format within the footage. All are shown in the first size."
)
BEGINS_INSIDE = (
    "begins inside a group of pictures. What comes before the first key frame cannot be decoded."
)

NO_FRAME = "no frame could be decoded. Check that the file is complete."


def pyav_frames(
    path: Path,
    wanted: Wanted,
    log: DecodeLog,
    *,
    drop_unneeded: bool = True,
    hwaccel: HWAccel | None = None,
) -> Iterator[ShownFrame]:
    """Decode frames in presentation order, from the one shown at the first instant on.

    Indexes can be wrong. If a seek does not lead to that frame, the next one starts earlier.

    Args:
        path: The footage.
        wanted: Which frames to give.
        log: Gets damage, warnings and counts.
        drop_unneeded: Do not decode frames that no sample and no other frame needs.
        hwaccel: Decode on a GPU; None: on the CPU.

    Raises:
        FootageError: The file cannot be read, or no frame of it can be decoded.
    """
    instants = wanted.instants
    first_s = instants.start_s
    if instants.rate_hz is not None:
        first_s = instants.time_of(instants.first_at(first_s))
    from_beginning = wanted.from_beginning or first_s <= instants.zero_s
    for reach in REACH_BACK_S:
        footage = open_footage(path, stream=wanted.stream, hwaccel=hwaccel)
        try:
            from_beginning = from_beginning or not _seeks(footage, log)
            log.reset()
            target_s = None
            if reach is not None and not from_beginning:
                target_s = first_s + TIMESTAMP_ROUNDING_S - reach
            sought = target_s is not None and _seek(footage, target_s)
            renderer = renderer_of(footage, wanted.size_px)
            from_s = _trusted_from_s(footage, target_s) if sought else None
            shown = _shown(
                _Pass(
                    footage,
                    wanted,
                    renderer,
                    log,
                    drop_unneeded,
                    trusted_from_s=from_s,
                    from_beginning=not sought,
                )
            )
            first = next(shown, None)
            if not sought or (first is not None and _covers(first, first_s)):
                if first is None and instants.start_s == 0:
                    raise FootageError(path, NO_FRAME)
                yield from chain(() if first is None else (first,), shown)
                _judge(footage, instants, log)
                return
        finally:
            footage.container.close()


def pyav_cuda_frames(path: Path, wanted: Wanted, log: DecodeLog) -> Iterator[ShownFrame]:
    """Decode on the first CUDA device; frames are copied to main memory and scaled there.

    Args:
        path: The footage.
        wanted: Which frames to give.
        log: Gets damage, warnings and counts.

    Raises:
        FootageError: The file cannot be read, or no frame of it can be decoded.
        ValueError: PyAV cannot use CUDA here.
    """
    if "cuda" not in hwdevices_available():
        raise ValueError(
            "the decoder pyav-cuda cannot be used here (this PyAV has no CUDA). "
            "Use the decoder pyav."
        )
    # No fallback: a decoder that was chosen for its speed must not silently become another one.
    hwaccel = HWAccel(device_type="cuda", allow_software_fallback=False)
    yield from pyav_frames(path, wanted, log, hwaccel=hwaccel)


def stream_frames(
    footage: OpenFootage,
    packets: Iterable[Packet[VideoStream]],
    wanted: Wanted,
    *,
    renderer: Renderer,
    log: DecodeLog,
) -> Iterator[StampedFrame]:
    """Decode packets of a live stream, each as soon as it comes: every frame, one at a time.

    Args:
        footage: The open stream.
        packets: Its packets.
        wanted: What to decode.
        renderer: Converts the frames to RGB.
        log: Gets damage and warnings.
    """
    for warning in footage.warnings:
        log.warn(warning)
    yield from _stamped(
        _Pass(
            footage,
            wanted,
            renderer,
            log,
            drop_unneeded=False,
            frame_threads=False,
            from_beginning=True,
            packets=packets,
        )
    )


def renderer_of(footage: OpenFootage, size_px: int | None) -> Renderer:
    """Return a renderer for the pictures of a file.

    Args:
        footage: The open file.
        size_px: The shorter side of the pictures in pixels; None keeps the stored size.
    """
    context = footage.stream.codec_context
    return Renderer(
        width=context.width,
        height=context.height,
        pixel_aspect=footage.pixel_aspect,
        size_px=size_px,
    )


@dataclass(frozen=True)
class AvPicture:
    """A decoded frame. It is scaled only when it is drawn."""

    frame: VideoFrame
    renderer: Renderer

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) after scaling."""
        return self.renderer.shape(self.frame)

    def draw(self, out: UInt8) -> None:
        """Write the picture, RGB and upright, into `out`: (3, H, W) uint8."""
        self.renderer.draw(self.frame, out)


@dataclass(frozen=True)
class _Pass:
    """One pass through the packets of an open file.

    Attributes:
        footage: The open file.
        wanted: Which frames to give.
        renderer: Converts the frames to RGB.
        log: Gets damage, warnings and counts.
        drop_unneeded: Do not decode frames that no sample and no other frame needs.
        frame_threads: Decode several frames at once. Frames lost at the end are decoded again.
        trusted_from_s: Drop frames with an earlier timestamp; None keeps all.
        from_beginning: The first packet read is that of the file.
        packets: The packets to decode; None reads those of the file.
    """

    footage: OpenFootage
    wanted: Wanted
    renderer: Renderer
    log: DecodeLog
    drop_unneeded: bool = True
    frame_threads: bool = True
    trusted_from_s: Fraction | None = None
    from_beginning: bool = False
    packets: Iterable[Packet[VideoStream]] | None = None


def _covers(first: ShownFrame, first_s: Fraction) -> bool:
    return first.time_s - TIMESTAMP_ROUNDING_S <= first_s and not first.damaged


def seeks_by_time(path: Path, stream: int | None, log: DecodeLog) -> bool:
    """Tell whether a part of a file can be decoded without reading it from its beginning.

    Args:
        path: The footage.
        stream: Index of the video stream in the container; None chooses one.
        log: Shows the caller that reading makes progress.

    Raises:
        FootageError: The file cannot be read.
    """
    footage = open_footage(path, stream=stream)
    with footage.container:
        return _seeks(footage, log)


def _seeks(footage: OpenFootage, log: DecodeLog) -> bool:
    timed = footage.stamped or not (footage.is_raw or footage.stream.codec_context.has_b_frames)
    return timed and not clock_restarts(footage, log)


def _seek(footage: OpenFootage, target_s: Fraction) -> bool:
    """Seek to the key frame at or before a time; False if decoding starts at the beginning."""
    stream = footage.stream
    if _is_program_stream(footage):
        target_s -= PROGRAM_STREAM_RUN_UP_S
    if target_s <= 0:
        return False
    try:
        ticks = int((target_s + footage.origin_s) / footage.time_base)
        footage.container.seek(ticks, stream=stream)
    except (av.error.FFmpegError, OSError):
        return True
    return True


def _trusted_from_s(footage: OpenFootage, target_s: Fraction | None) -> Fraction | None:
    """From when on the times after a seek are right; None if all are."""
    if target_s is None or not _is_program_stream(footage):
        return None
    return target_s - PROGRAM_STREAM_RUN_UP_S / 2


def _is_program_stream(footage: OpenFootage) -> bool:
    return footage.container.format.name == "mpeg"


def _judge(footage: OpenFootage, instants: Instants, log: DecodeLog) -> None:
    declared_s = footage.declared_end_s
    if instants.end_s is not None or not declared_s or footage.is_raw or log.num_restarts:
        # A closed break of the clock has changed the length.
        return
    said = f"The headers declare {float(declared_s):.3f} s."
    if declared_s - log.end_s > 1:
        log.warn(f"ends early: at {log.end_s:.3f} s. {said}")
    elif log.end_s - declared_s > 1:
        log.warn(f"goes on after its declared end, to {log.end_s:.3f} s. {said}")


def _shown(one_pass: _Pass) -> Iterator[ShownFrame]:
    footage, log = one_pass.footage, one_pass.log
    for warning in footage.warnings:
        log.warn(warning)
    timed = continuous(_trusted(one_pass), footage.interval_s, log, keeps_gaps=footage.keeps_gaps)
    for shown in timed:
        log.num_frames += one_pass.wanted.instants.cover(shown.time_s)
        yield shown


def _trusted(one_pass: _Pass) -> Iterator[StampedFrame]:
    """Decoded frames with the times of the file, from the time on at which these are right."""
    from_s = one_pass.trusted_from_s
    for stamped in _stamped(one_pass):
        if from_s is None or stamped.stamp_s is None or stamped.stamp_s >= from_s:
            yield stamped


def _stamped(one_pass: _Pass) -> Iterator[StampedFrame]:
    """Decoded frames with the times of the file. Damage is noted and does not end the pass."""
    _configure(one_pass)
    reading = _Reading(one_pass)
    for planned in _planned(one_pass):
        if planned.skip:
            reading.leave_out(planned)
            continue
        for frame in reading.decoded(planned):
            yield reading.stamped(frame)
    for frame in reading.drained():
        yield reading.stamped(frame)
    if one_pass.footage.stamped and reading.in_flight.any_since(reading.damage.at_once_since):
        yield from _tail(one_pass, reading.latest_s)


class _Reading:
    """What is known while packets go into the decoder and frames come out of it."""

    def __init__(self, one_pass: _Pass) -> None:
        footage = one_pass.footage
        self.one_pass = one_pass
        self.in_flight = InFlight()
        self.stamps = Stamps(footage)
        self.damage = Damage(footage.stream, frame_threads=one_pass.frame_threads)
        self.latest_s = Fraction(-1)
        self.left_out: list[tuple[Fraction, int]] = []
        context = footage.stream.codec_context
        self.size = (context.width, context.height)
        self.pixel_format: str | None = None

    def leave_out(self, planned: Planned) -> None:
        """Count the frame of a packet that is not decoded."""
        packet, log = planned.packet, self.one_pass.log
        # A frame that an edit list hides does not count.
        if packet.is_discard or packet.pts is None:
            return
        time_s = self.one_pass.footage.seconds(packet.pts)
        counted = self.one_pass.wanted.instants.cover(time_s)
        log.num_frames += counted
        log.num_skipped += counted
        self.left_out.append((time_s, planned.seq))

    def decoded(self, planned: Planned) -> list[VideoFrame]:
        """Give a packet to the decoder and return the frames that come out."""
        packet = planned.packet
        if planned.seq == 0 and self.one_pass.from_beginning and not packet.is_keyframe:
            self.one_pass.log.warn(BEGINS_INSIDE)
        self.stamps.sent(packet)
        self.in_flight.sent(planned)
        self.damage.sent(planned.seq, is_corrupt=packet.is_corrupt)
        try:
            return packet.decode()
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError):
            self.damage.failed()
            return []

    def drained(self) -> list[VideoFrame]:
        """Return the frames left in the decoder at the end."""
        try:
            return self.one_pass.footage.stream.codec_context.decode(None)
        except EOFError:
            return []
        except (av.error.FFmpegError, OSError, ValueError):
            self.damage.failed()
            return []

    def stamped(self, frame: VideoFrame) -> StampedFrame:
        """Return a frame with what its packet says about it."""
        footage = self.one_pass.footage
        planned = self.in_flight.made(frame)
        stamp_s = self.stamps.of(frame, None if planned is None else planned.packet)
        self.latest_s = self.latest_s if stamp_s is None else stamp_s
        # Before asking about the frame: it may be the key frame that ends the damage.
        left_out_s = self._left_out_before(self.latest_s)
        self._look(frame)
        ticks = frame.duration or 0
        return StampedFrame(
            picture=AvPicture(frame, self.one_pass.renderer),
            stamp_s=stamp_s,
            duration_s=ticks * footage.time_base,
            damaged=self.damage.reaches(
                frame, self.damage.newest if planned is None else planned.seq
            ),
            after_loss=self.damage.after_loss(),
            until_s=None if planned is None else planned.until_s,
            left_out_s=left_out_s,
            seq=None if planned is None else planned.seq,
        )

    def _look(self, frame: VideoFrame) -> None:
        """Warn of pictures that differ from the declared size or the first one's format."""
        self.pixel_format = self.pixel_format or frame.format.name
        changed = all(self.size) and (frame.width, frame.height) != self.size
        if changed or frame.format.name != self.pixel_format:
            self.one_pass.log.warn(CHANGES)

    def _left_out_before(self, time_s: Fraction) -> tuple[Fraction, ...]:
        """When the frames before a time are shown that were not decoded and are not damaged."""
        before = sorted(frame for frame in self.left_out if frame[0] < time_s)
        self.left_out = [frame for frame in self.left_out if frame[0] >= time_s]
        return tuple(shown_s for shown_s, seq in before if self.damage.spares(seq))


def _configure(one_pass: _Pass) -> None:
    context = one_pass.footage.stream.codec_context
    context.thread_type = "AUTO" if one_pass.frame_threads else "SLICE"
    context.thread_count = one_pass.wanted.threads
    context.options = {"max_pixels": str(MAX_PIXELS)}


def _planned(one_pass: _Pass) -> Iterator[Planned]:
    footage = one_pass.footage
    drop = one_pass.drop_unneeded and footage.stamped
    return plan(
        all_packets(footage, one_pass.log) if one_pass.packets is None else one_pass.packets,
        instants=one_pass.wanted.instants,
        time_of=footage.seconds,
        role_of=role_reader(footage.stream) if drop else None,
        gap_ticks=int(GAP_S / footage.time_base),
    )


def _tail(one_pass: _Pass, latest: Fraction) -> Iterator[StampedFrame]:
    """The frames after a time, decoded one at a time.

    With several frames decoded at once, an error at the very end loses the others too.
    """
    again = open_footage(one_pass.footage.path, stream=one_pass.footage.stream.index)
    try:
        _seek(again, latest)
        log = DecodeLog()
        slow = replace(one_pass, footage=again, log=log, frame_threads=False, from_beginning=False)
        for stamped in _stamped(slow):
            if stamped.stamp_s is not None and stamped.stamp_s > latest:
                yield stamped
    finally:
        again.container.close()
