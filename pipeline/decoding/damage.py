"""Which presentation time a decoded frame has, and whether damage reaches it."""

from __future__ import annotations

from collections import deque

from av.codec import Capabilities
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.pipeline.decoding.frame_times import IN_FLIGHT_AT_MOST


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
