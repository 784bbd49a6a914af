"""Which presentation time a decoded frame has, and whether damage reaches it."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from fractions import Fraction

from av.codec import Capabilities
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.pipeline.footage import OpenFootage
from touchline.pipeline.packets import Planned

# More than any decoder holds: packets without a frame of their own (a second field, a hidden
# frame) are forgotten.
IN_FLIGHT_AT_MOST = 256


class InFlight:
    """The packets inside the decoder, by their timestamp, which their frames bear too.

    (PyAV can tie an object to a packet. It is freed on the decoder's threads, which then want the
    interpreter; closing a file while they work would wait for them forever.)
    """

    def __init__(self) -> None:
        self.packets: OrderedDict[tuple[int | None, int], Planned] = OrderedDict()

    def sent(self, planned: Planned) -> None:
        """Note a packet given to the decoder."""
        stamp, copy = planned.packet.pts, 0
        while (stamp, copy) in self.packets:
            copy += 1
        self.packets[stamp, copy] = planned
        if len(self.packets) > IN_FLIGHT_AT_MOST:
            self.packets.popitem(last=False)

    def made(self, frame: VideoFrame) -> Planned | None:
        """The packet that a frame was made from; None where no stamp tells."""
        if frame.pts is None:
            return None
        copies = [key for key in self.packets if key[0] == frame.pts]
        return self.packets.pop(copies[0]) if copies else None

    def any_since(self, seq: int) -> bool:
        """Whether a packet with this number or a later one has given no frame yet."""
        return any(planned.seq >= seq for planned in self.packets.values())


class Stamps:
    """Presentation times of frames in the order they come out.

    AVI numbers its packets in decode order and knows no presentation time: the n-th frame shown
    takes the n-th of those numbers. Raw streams have nothing: frames are counted.
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
        """The time of the next frame, made from a packet."""
        self.count += 1
        if self.footage.stamped:
            return None if frame.pts is None else self.footage.seconds(frame.pts)
        if self.footage.is_raw or packet is None or packet.dts is None:
            return (self.count - 1) * self.footage.interval_s
        # Numbers of packets that gave no frame must not push later frames forward.
        reorder = self.footage.stream.codec_context.reorder_depth * self.footage.interval_s
        earliest = self.footage.seconds(packet.dts) - reorder
        while self.waiting and self.waiting[0] < earliest:
            heapq.heappop(self.waiting)
        return heapq.heappop(self.waiting) if self.waiting else None


class Damage:
    """From where on frames are damaged, by their packets' numbers in decode order.

        packet    0K  1   2   3   4   5K  6        K: key frame; decoding 2 fails
        damaged           x   x   x

    With several frames decoded at once it is not known which of the last packets sent failed: all
    of them count as damaged, and only a key frame behind all of them ends the damage. Packets left
    out have numbers too, so that the last ones sent are remembered.
    """

    def __init__(self, stream: VideoStream, *, frame_threads: bool) -> None:
        self.context = stream.codec_context
        can = self.context.codec.capabilities & Capabilities.frame_threads
        self.several_at_once = frame_threads and bool(can)
        self.first: int | None = None
        self.last = -1
        self.loss = False
        self.recent: deque[int] = deque(maxlen=IN_FLIGHT_AT_MOST)

    def sent(self, seq: int, *, is_corrupt: bool) -> None:
        """Note a packet given to the decoder, and whether its container calls it corrupt."""
        self.recent.append(seq)
        if is_corrupt:
            self._spread(seq, seq)

    def failed(self) -> None:
        """Decoding failed when the newest packet was given, or after it at the end."""
        self._spread(self._sent_before(self._delay()), self.newest)
        self.loss = True

    def reaches(self, frame: VideoFrame, seq: int) -> bool:
        """Whether a frame made from packet seq is damaged."""
        if frame.is_corrupt:
            self._spread(seq, seq)
            return True
        if self.first is None:
            return False
        if frame.key_frame and seq > self.last:
            self.first = None
            return False
        return seq >= self.first

    def spares(self, seq: int) -> bool:
        """Whether packet seq, which was left out, lies before all damage known so far."""
        return self.first is None or seq < self.first

    def after_loss(self) -> bool:
        """Whether a packet gave no frame since this was last asked."""
        loss, self.loss = self.loss, False
        return loss

    @property
    def newest(self) -> int:
        """The number of the last packet given to the decoder; -1 before the first."""
        return self.recent[-1] if self.recent else -1

    @property
    def at_once_since(self) -> int:
        """The first of the packets whose decoding is under way; past the newest where none is."""
        delay = self._delay()
        return self._sent_before(delay - 1) if delay else self.newest + 1

    def _sent_before(self, count: int) -> int:
        """The number of the packet sent so many before the newest, else of the first sent."""
        return self.recent[-min(count + 1, len(self.recent))] if self.recent else -1

    def _spread(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)

    def _delay(self) -> int:
        return self.context.thread_count if self.several_at_once else 0
