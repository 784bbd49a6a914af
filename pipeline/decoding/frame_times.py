"""Match each decoded frame with the timestamp of the packet it came from."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from fractions import Fraction

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.pipeline.decoding.skipping import Planned
from touchline.pipeline.footage.open import OpenFootage

# Packets without a presentation time get this plus their number in place of it. It comes back with
# the frame. No file has such timestamps: at a microsecond per tick they are 36,000 years ago.
NUMBERED = -(1 << 60)

# More than any decoder holds. Older packets gave no frame of their own (a second field, a hidden
# frame) and are forgotten.
IN_FLIGHT_AT_MOST = 256


class InFlight:
    """The packets inside the decoder. Packet and frame are matched by their timestamp.

    A packet without timestamp is given a number instead.

    (PyAV can attach an object to a packet, but frees it on the decoder's threads. These then wait
    for the interpreter, and closing a file while they work would wait for them for ever.)
    """

    def __init__(self) -> None:
        self.packets: OrderedDict[tuple[int | None, int], Planned] = OrderedDict()

    def sent(self, planned: Planned) -> None:
        """Note a packet that will be given to the decoder."""
        if planned.packet.pts is None:
            planned.packet.pts = NUMBERED + planned.seq
        stamp, copy = planned.packet.pts, 0
        while (stamp, copy) in self.packets:
            copy += 1
        self.packets[stamp, copy] = planned
        if len(self.packets) > IN_FLIGHT_AT_MOST:
            self.packets.popitem(last=False)

    def made(self, frame: VideoFrame) -> Planned | None:
        """Return the packet of a frame, and forget it; None if the timestamp does not tell."""
        if frame.pts is None:
            return None
        copies = [key for key in self.packets if key[0] == frame.pts]
        return self.packets.pop(copies[0]) if copies else None

    def any_since(self, seq: int) -> bool:
        """Tell whether a packet with this number or a later one has given no frame yet."""
        return any(planned.seq >= seq for planned in self.packets.values())


class Stamps:
    """Presentation times of frames, in the order in which the decoder gives the frames.

    AVI has no presentation times. It numbers packets in decode order, and the n-th frame shown
    takes the n-th of these numbers. Raw streams have no times at all: frames are counted.
    """

    def __init__(self, footage: OpenFootage) -> None:
        self.footage = footage
        self.waiting: list[Fraction] = []
        self.count = 0

    def sent(self, packet: Packet[VideoStream]) -> None:
        """Note a packet given to the decoder."""
        if not self.footage.stamped and packet.dts is not None:
            heapq.heappush(self.waiting, self.footage.seconds(packet.dts))

    def of(self, frame: VideoFrame, packet: Packet[VideoStream] | None) -> Fraction | None:
        """Return the time of the next frame in seconds; None if the file has none for it."""
        self.count += 1
        if self.footage.stamped:
            if frame.pts is None or frame.pts < NUMBERED // 2:
                return None
            return self.footage.seconds(frame.pts)
        if self.footage.is_raw or packet is None or packet.dts is None:
            return (self.count - 1) * self.footage.interval_s
        # Numbers of packets that gave no frame must not make later frames late.
        reorder = self.footage.stream.codec_context.reorder_depth * self.footage.interval_s
        earliest = self.footage.seconds(packet.dts) - reorder
        while self.waiting and self.waiting[0] < earliest:
            heapq.heappop(self.waiting)
        return heapq.heappop(self.waiting) if self.waiting else None
