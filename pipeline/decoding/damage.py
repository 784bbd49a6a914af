"""Track which decoded frames damage reaches."""

from __future__ import annotations

from collections import deque

from av.codec import Capabilities
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from touchline.pipeline.decoding.frame_times import IN_FLIGHT_AT_MOST


class Damage:
    """Tracks which frames are damaged, by the numbers of their packets in decode order.

        packet    0K  1   2   3   4   5K  6        K: key frame; decoding packet 2 fails
        damaged           x   x   x

    A decoder that works on several frames at once does not tell which of the last packets failed.
    Then all of them count as damaged, and only a key frame after all of them ends the damage.
    Packets that are not decoded have numbers too, so the last packets sent are remembered.
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
        """Note a packet given to the decoder, and whether the container marks it as damaged."""
        self.recent.append(seq)
        if is_corrupt:
            self._spread(seq, seq)

    def failed(self) -> None:
        """Note that decoding failed at the newest packet, or after it at the end of the file."""
        self._spread(self._sent_before(self._delay()), self.newest)
        self.loss = True

    def reaches(self, frame: VideoFrame, seq: int) -> bool:
        """Tell whether the frame of packet `seq` is damaged."""
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
        """Tell whether packet `seq`, which was not decoded, comes before all known damage."""
        return self.first is None or seq < self.first

    def after_loss(self) -> bool:
        """Tell whether a packet gave no frame since the last call."""
        loss, self.loss = self.loss, False
        return loss

    @property
    def newest(self) -> int:
        """The number of the last packet given to the decoder; -1 before the first."""
        return self.recent[-1] if self.recent else -1

    @property
    def at_once_since(self) -> int:
        """The first packet that the decoder may still work on; newest + 1 if there is none."""
        delay = self._delay()
        return self._sent_before(delay - 1) if delay else self.newest + 1

    def _sent_before(self, count: int) -> int:
        """The packet sent `count` packets before the newest one, or the oldest one remembered."""
        return self.recent[-min(count + 1, len(self.recent))] if self.recent else -1

    def _spread(self, first: int, last: int) -> None:
        self.first = first if self.first is None else min(self.first, first)
        self.last = max(self.last, last)

    def _delay(self) -> int:
        return self.context.thread_count if self.several_at_once else 0
