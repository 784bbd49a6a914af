"""Frames from PyAV: packet by packet, so that damage costs what it touched and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
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
from touchline.pipeline.footage.open import OpenFootage, open_footage, packets_of, reason
from touchline.pipeline.footage.sniff import MAX_PIXELS
from touchline.pipeline.types import UInt8

# How far before the wanted start to seek, one after the other, until the frame shown at the
# start is among those decoded; None decodes from the file's beginning.
REACH_BACK_S = (Fraction(0), Fraction(2), Fraction(10), Fraction(60), None)

# In a program stream only the first frame that begins in a packet of some 2000 bytes has a stamp,
# and after a seek those of the others are guessed until the next: frames of a static picture are
# small, and most of a second may go by. So much earlier to seek; half of it is not to be used.
PROGRAM_STREAM_RUN_UP_S = Fraction(2)

NO_FRAME = "not one frame could be decoded: is the file complete?"

# Reading goes on behind an unreadable place, but not forever.
MAX_READ_ERRORS = 64


@dataclass(frozen=True)
class AvPicture:
    """A frame that is scaled when, and only if, it is asked for."""

    frame: VideoFrame
    renderer: Renderer

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) at the size asked for."""
        return self.renderer.shape(self.frame)

    def draw(self, out: UInt8) -> None:
        """Put the picture, RGB and upright, into (3, H, W) uint8."""
        self.renderer.draw(self.frame, out)


@dataclass(frozen=True)
class Pass:
    """One way through the packets of an open file.

    drop_unneeded: leave out frames that no instant falls on and no other frame needs.
    frame_threads: decode several frames at once; what is lost at the end is then fetched again.
    trusted_from_s: frames stamped earlier are left away.
    """

    footage: OpenFootage
    wanted: Wanted
    renderer: Renderer
    log: DecodeLog
    drop_unneeded: bool = True
    frame_threads: bool = True
    trusted_from_s: Fraction | None = None


def pyav_frames(
    path: Path,
    wanted: Wanted,
    log: DecodeLog,
    *,
    drop_unneeded: bool = True,
    hwaccel: HWAccel | None = None,
) -> Iterator[ShownFrame]:
    """Frames in presentation order, from the one shown at the first instant on.

    Where a seek does not lead to that frame, the next begins earlier: indexes lie.
    """
    instants = wanted.instants
    first_s = instants.start_s
    if instants.rate_hz is not None:
        first_s = instants.time_of(instants.first_at(first_s))
    for reach in REACH_BACK_S:
        footage = open_footage(path, stream=wanted.stream, hwaccel=hwaccel)
        try:
            log.reset()
            target_s = None if reach is None else first_s + TIMESTAMP_ROUNDING_S - reach
            sought = target_s is not None and _seek(footage, target_s)
            renderer = renderer_of(footage, wanted.size_px)
            from_s = _trusted_from_s(footage, target_s) if sought else None
            shown = _shown(
                Pass(footage, wanted, renderer, log, drop_unneeded, trusted_from_s=from_s)
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
    """Frames decoded by the first CUDA device, then brought to memory and scaled there."""
    if "cuda" not in hwdevices_available():
        raise ValueError("the decoder pyav-cuda cannot be used here: this PyAV has no CUDA")
    # Without software fallback: a decoder chosen for its speed must not silently be another.
    hwaccel = HWAccel(device_type="cuda", allow_software_fallback=False)
    yield from pyav_frames(path, wanted, log, hwaccel=hwaccel)


def _covers(first: ShownFrame, first_s: Fraction) -> bool:
    return first.time_s - TIMESTAMP_ROUNDING_S <= first_s and not first.damaged


def _seek(footage: OpenFootage, target_s: Fraction) -> bool:
    """Go to the key frame at or before a time; False where decoding begins at the beginning."""
    context, stream = footage.stream.codec_context, footage.stream
    if _is_program_stream(footage):
        target_s -= PROGRAM_STREAM_RUN_UP_S
    if target_s <= 0:
        return False
    if not footage.stamped and (footage.is_raw or context.has_b_frames):
        return False
    try:
        ticks = int((target_s + footage.origin_s) / footage.time_base)
        footage.container.seek(ticks, stream=stream)
    except (av.error.FFmpegError, OSError):
        return True
    return True


def _trusted_from_s(footage: OpenFootage, target_s: Fraction | None) -> Fraction | None:
    """From when on the times after a seek are right; None where they all are."""
    if target_s is None or not _is_program_stream(footage):
        return None
    return target_s - PROGRAM_STREAM_RUN_UP_S / 2


def _is_program_stream(footage: OpenFootage) -> bool:
    return footage.container.format.name == "mpeg"


def _judge(footage: OpenFootage, instants: Instants, log: DecodeLog) -> None:
    declared_s = footage.declared_end_s
    if instants.end_s is None and declared_s and declared_s - log.end_s > 1:
        log.warn(f"ends early: at {log.end_s:.3f} s of {float(declared_s):.3f} s declared")


def renderer_of(footage: OpenFootage, size_px: int | None) -> Renderer:
    """What scales the pictures of a file to one size."""
    context = footage.stream.codec_context
    return Renderer(
        width=context.width,
        height=context.height,
        pixel_aspect=footage.stream.sample_aspect_ratio,
        size_px=size_px,
    )


def _shown(one_pass: Pass) -> Iterator[ShownFrame]:
    footage, log = one_pass.footage, one_pass.log
    for warning in footage.warnings:
        log.warn(warning)
    for shown in continuous(_trusted(one_pass), footage.interval_s, log):
        log.num_frames += one_pass.wanted.instants.cover(shown.time_s)
        yield shown


def _trusted(one_pass: Pass) -> Iterator[StampedFrame]:
    """Decoded frames with their raw times, from the first on whose time can be trusted."""
    from_s = one_pass.trusted_from_s
    for stamped in _stamped(one_pass):
        if from_s is None or stamped.stamp_s is None or stamped.stamp_s >= from_s:
            yield stamped


class _Reading:
    """What is known while packets go into the decoder and frames come out."""

    def __init__(self, one_pass: Pass) -> None:
        footage = one_pass.footage
        self.one_pass = one_pass
        self.in_flight = InFlight()
        self.stamps = Stamps(footage)
        self.damage = Damage(footage.stream, frame_threads=one_pass.frame_threads)
        self.latest_s = Fraction(-1)
        self.left_out: list[tuple[Fraction, int]] = []

    def leave_out(self, planned: Planned) -> None:
        """Count a packet that is not decoded as having gone by."""
        packet, log = planned.packet, self.one_pass.log
        # What an edit list hides is no frame of the footage.
        if packet.is_discard or packet.pts is None:
            return
        time_s = self.one_pass.footage.seconds(packet.pts)
        counted = self.one_pass.wanted.instants.cover(time_s)
        log.num_frames += counted
        log.num_skipped += counted
        self.left_out.append((time_s, planned.seq))

    def decoded(self, planned: Planned) -> list[VideoFrame]:
        """The frames that come out when a packet goes in."""
        packet = planned.packet
        self.in_flight.sent(planned)
        self.stamps.sent(packet)
        self.damage.sent(planned.seq, is_corrupt=packet.is_corrupt)
        try:
            return packet.decode()
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError):
            self.damage.failed()
            return []

    def drained(self) -> list[VideoFrame]:
        """The frames that are left in the decoder at the end."""
        try:
            return self.one_pass.footage.stream.codec_context.decode(None)
        except EOFError:
            return []
        except (av.error.FFmpegError, OSError, ValueError):
            self.damage.failed()
            return []

    def stamped(self, frame: VideoFrame) -> StampedFrame:
        """A frame with what its packet tells about it."""
        footage = self.one_pass.footage
        planned = self.in_flight.made(frame)
        stamp_s = self.stamps.of(frame, None if planned is None else planned.packet)
        self.latest_s = self.latest_s if stamp_s is None else stamp_s
        # Asked before the frame, which may be the key frame that ends the damage.
        left_out_s = self._left_out_before(self.latest_s)
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
        )

    def _left_out_before(self, time_s: Fraction) -> tuple[Fraction, ...]:
        """When the frames are shown that were left out before a time and are not damaged."""
        before = sorted(frame for frame in self.left_out if frame[0] < time_s)
        self.left_out = [frame for frame in self.left_out if frame[0] >= time_s]
        return tuple(shown_s for shown_s, seq in before if self.damage.spares(seq))


def _stamped(one_pass: Pass) -> Iterator[StampedFrame]:
    """Decoded frames with their raw times; damage is noted and never ends the pass."""
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


def _configure(one_pass: Pass) -> None:
    context = one_pass.footage.stream.codec_context
    context.thread_type = "AUTO" if one_pass.frame_threads else "SLICE"
    context.thread_count = one_pass.wanted.threads
    context.options = {"max_pixels": str(MAX_PIXELS)}


def _planned(one_pass: Pass) -> Iterator[Planned]:
    footage = one_pass.footage
    drop = one_pass.drop_unneeded and footage.stamped
    return plan(
        _packets(footage, one_pass.log),
        instants=one_pass.wanted.instants,
        time_of=footage.seconds,
        role_of=role_reader(footage.stream) if drop else None,
        gap_ticks=int(GAP_S / footage.time_base),
    )


def _packets(footage: OpenFootage, log: DecodeLog) -> Iterator[Packet[VideoStream]]:
    """The stream's packets, on behind unreadable places."""
    errors = 0
    while True:
        try:
            for packet in packets_of(footage.container, footage.stream):
                log.num_packets += 1
                yield packet
            return
        except (av.error.FFmpegError, OSError) as error:
            errors += 1
            log.warn(f"an unreadable place in the file ({reason(error)})")
            if errors == MAX_READ_ERRORS:
                return


def _tail(one_pass: Pass, latest: Fraction) -> Iterator[StampedFrame]:
    """The frames after a time, decoded one by one: an error among several decoded at once at the
    very end takes the others with it.
    """
    again = open_footage(one_pass.footage.path, stream=one_pass.footage.stream.index)
    try:
        _seek(again, latest)
        log = DecodeLog()
        slow = replace(one_pass, footage=again, log=log, frame_threads=False)
        for stamped in _stamped(slow):
            if stamped.stamp_s is not None and stamped.stamp_s > latest:
                yield stamped
    finally:
        again.container.close()
