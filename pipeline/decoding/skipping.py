"""Find packets that need not be decoded, because no sampled frame depends on them.

A packet is skipped only if that is certain: no sample shows its frame, and either no other frame
refers to it (the bitstream says so) or all frames that could refer to it are skipped too, up to a
frame at which decoding can start.

    decode order   I0  P4  b2  b1  b3  P8  b6 ...      b: no other frame refers to it
    sampled        *               *
    skipped                b1      b3?  no: sampled    b6
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

from av.packet import Packet
from av.video.stream import VideoStream

from touchline.pipeline.decoding.contract import Instants
from touchline.pipeline.footage.nal_units import length_bytes, nal_headers

# No codec reorders by more than 16 frames, so two frames shown one after the other are this close
# in decode order. If they are not, more is decoded than needed, never less.
LOOK_AHEAD = 34


class Role(Enum):
    """How other frames depend on the frame of a packet."""

    REFERENCE = "others may refer to it"
    UNREFERENCED = "no other frame refers to it"
    FRESH = "nothing after it, in decode order, refers to anything before it"


@dataclass(slots=True)
class Planned:
    """A packet, and whether it must be decoded.

    A skipped packet is never given to the decoder.

    Attributes:
        packet: The packet.
        seq: Its number in decode order.
        skip: Whether it need not be decoded.
        until_s: When the next frame is shown, in seconds; None if unknown.
    """

    packet: Packet[VideoStream]
    seq: int
    skip: bool = False
    until_s: Fraction | None = None


def plan(
    packets: Iterable[Packet[VideoStream]],
    *,
    instants: Instants,
    time_of: Callable[[int], Fraction],
    role_of: Callable[[Packet[VideoStream]], Role] | None,
    gap_ticks: int,
) -> Iterator[Planned]:
    """Yield every packet in decode order, marked `skip` if it need not be decoded.

    After the first fresh start past the end of the part asked for, everything is decoded: the
    reader stops when it sees a frame from there.

    Args:
        packets: The packets of the stream in decode order.
        instants: The sample instants.
        time_of: Converts a timestamp to seconds from the start of the footage.
        role_of: Tells the role of a packet; None decodes all.
        gap_ticks: After two timestamps further apart than this, everything is decoded, because the
            clock may need repair.
    """
    if role_of is None or instants.rate_hz is None:
        for seq, packet in enumerate(packets):
            yield Planned(packet, seq)
        return
    window = _Window(instants, time_of, gap_ticks)
    for seq, packet in enumerate(packets):
        role = Role.REFERENCE if packet.is_corrupt else role_of(packet)
        window.add(_Waiting(Planned(packet, seq), role))
        if len(window.waiting) > LOOK_AHEAD:
            yield window.next()
    while window.waiting:
        yield window.next()


def role_reader(stream: VideoStream) -> Callable[[Packet[VideoStream]], Role] | None:
    """Return a function from a stream's packets to their roles; None if these are not known."""
    context = stream.codec_context
    extradata = context.extradata or b""
    if context.codec.intra_only:
        return lambda packet: Role.FRESH
    if context.name == "h264":
        prefix = length_bytes(extradata)
        return lambda packet: h264_role(memoryview(packet), prefix)
    if context.name == "hevc" and extradata[:1] == b"\x01" and len(extradata) > 21:
        # With several temporal layers a frame of another layer may refer to it.
        if extradata[21] >> 3 & 7 != 1:
            return None
        prefix = length_bytes(extradata, at=21)
        return lambda packet: hevc_role(memoryview(packet), prefix)
    if context.name in ("mpeg1video", "mpeg2video"):
        return lambda packet: mpeg12_role(bytes(packet))
    return None


def h264_role(packet: memoryview, prefix: int) -> Role:
    """Return the role of an H.264 packet.

    nal_ref_idc 0 marks a picture that no other picture refers to (ITU-T H.264, 7.4.1).

    Args:
        packet: The packet.
        prefix: The stream's `length_bytes` (see `nal_units`).
    """
    slices = [header[0] for header in nal_headers(packet, prefix) if header[0] & 31 in (1, 5)]
    if not slices:
        return Role.REFERENCE
    if slices[0] & 31 == 5:
        return Role.FRESH
    return Role.UNREFERENCED if all(h & 0x60 == 0 for h in slices) else Role.REFERENCE


def hevc_role(packet: memoryview, prefix: int) -> Role:
    """Return the role of an HEVC packet.

    Even types below 16 are sub-layer non-reference pictures (ITU-T H.265, table 7-1).

    Args:
        packet: The packet.
        prefix: The stream's `length_bytes` (see `nal_units`).
    """
    kinds = [header[0] >> 1 & 63 for header in nal_headers(packet, prefix)]
    slices = [kind for kind in kinds if kind < 32]
    if not slices:
        return Role.REFERENCE
    if slices[0] in (19, 20):
        return Role.FRESH
    unreferenced = all(kind < 16 and kind % 2 == 0 for kind in slices)
    return Role.UNREFERENCED if unreferenced else Role.REFERENCE


def mpeg12_role(packet: bytes) -> Role:
    """Return the role of an MPEG-1 or MPEG-2 packet.

    No picture refers to one of coding type 3, a B picture (ISO/IEC 13818-2, 6.3.9).
    """
    k = packet.find(b"\x00\x00\x01\x00")
    if k < 0 or k + 5 >= len(packet):
        return Role.REFERENCE
    return Role.UNREFERENCED if packet[k + 5] >> 3 & 7 == 3 else Role.REFERENCE


@dataclass(slots=True)
class _Waiting:
    planned: Planned
    role: Role
    is_needed: bool = True
    ends: bool = False


class _Window:
    """The packets just read, and the timestamps around them."""

    def __init__(
        self, instants: Instants, time_of: Callable[[int], Fraction], gap_ticks: int
    ) -> None:
        self.instants = instants
        self.time_of = time_of
        self.gap_ticks = gap_ticks
        self.waiting: deque[_Waiting] = deque()
        self.stamps: list[int] = []
        self.orderly = True
        # Past the end and after a fresh start: nothing from here on needs an earlier frame.
        self.ending = False

    def add(self, entry: _Waiting) -> None:
        packet = entry.planned.packet
        self.waiting.append(entry)
        self.ending = self.ending or self._begins_past_end(entry)
        entry.ends = self.ending
        if packet.is_discard:
            # An edit list hides its frame. It is decoded only if others need it.
            entry.is_needed = False
        elif packet.pts is None or not self._continues(packet.pts):
            # The clock will need repair: from here on everything is decoded.
            self.orderly = False
        elif self.orderly:
            bisect.insort(self.stamps, packet.pts)

    def _begins_past_end(self, entry: _Waiting) -> bool:
        pts = entry.planned.packet.pts
        if entry.role is not Role.FRESH or pts is None:
            return False
        return self.instants.past_end(self.time_of(pts))

    def _continues(self, pts: int) -> bool:
        if not self.stamps:
            return True
        k = bisect.bisect_left(self.stamps, pts)
        doubled = k < len(self.stamps) and self.stamps[k] == pts
        return not doubled and abs(pts - self.stamps[-1]) <= self.gap_ticks

    def next(self) -> Planned:
        entry = self.waiting[0]
        planned = entry.planned
        if self.orderly:
            if not self._is_needed(entry):
                planned.skip = entry.role is Role.UNREFERENCED or self._rest_unneeded()
            following = self._following(planned.packet.pts)
            planned.until_s = None if following is None else self.time_of(following)
        self.waiting.popleft()
        if len(self.stamps) > 3 * LOOK_AHEAD:
            del self.stamps[:LOOK_AHEAD]
        return planned

    def _rest_unneeded(self) -> bool:
        """Whether no packet from the first one to the next fresh start is needed."""
        for k, entry in enumerate(self.waiting):
            if k and entry.role is Role.FRESH:
                return True
            if self._is_needed(entry):
                return False
        return False

    def _is_needed(self, entry: _Waiting) -> bool:
        if entry.ends:
            return True
        pts = entry.planned.packet.pts
        if entry.is_needed and pts is not None:
            # Ask again while it seems needed: the next shown frame may have arrived meanwhile.
            following = self._following(pts)
            entry.is_needed = following is None or self.instants.any_shows(
                self.time_of(pts), self.time_of(following)
            )
        return entry.is_needed

    def _following(self, pts: int | None) -> int | None:
        if pts is None:
            return None
        k = bisect.bisect_right(self.stamps, pts)
        return self.stamps[k] if k < len(self.stamps) else None
