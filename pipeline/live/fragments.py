"""Keep the coded video of the last minutes, group of pictures by group, without decoding it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from touchline.pipeline.footage.open import OpenFootage

# NUT holds every codec with its exact timestamps.
FORMAT = "nut"


@dataclass(frozen=True)
class Fragment:
    """Coded video from one key frame to the next, as a small file of its own.

    Attributes:
        start_s: Time of its first frame, in seconds.
        end_s: When its last frame ends, in seconds.
        content: The file. Its timestamps count from the start of the stream.
    """

    start_s: float
    end_s: float
    content: bytes


class Fragments:
    """Makes fragments of packets.

    Args:
        give: Called with each fragment.
    """

    def __init__(self, give: Callable[[Fragment], None]) -> None:
        self._give = give
        self._of: OpenFootage | None = None
        self._file = io.BytesIO()
        self._out: OutputContainer | None = None
        self._start_s = self._end_s = Fraction(0)

    def add(self, footage: OpenFootage, packet: Packet[VideoStream]) -> None:
        """Take the next packet of a connection.

        Args:
            footage: The connection.
            packet: Its packet. A copy of it is kept.
        """
        if packet.pts is None or packet.dts is None:
            return
        if packet.is_keyframe or footage is not self._of:
            self.end()
        time_s = footage.seconds(packet.pts)
        if self._out is None:
            if not packet.is_keyframe:
                return
            self._file, self._of = io.BytesIO(), footage
            self._out = av.open(self._file, "w", format=FORMAT)
            self._out.add_stream_from_template(footage.stream)
            self._start_s = self._end_s = time_s
        copy = Packet(bytes(packet))
        origin = round(footage.origin_s / footage.time_base)
        copy.pts, copy.dts = packet.pts - origin, packet.dts - origin
        copy.time_base, copy.is_keyframe = footage.time_base, packet.is_keyframe
        copy.stream = self._out.streams.video[0]
        self._out.mux_one(copy)
        self._end_s = max(self._end_s, time_s + footage.interval_s)

    def end(self) -> None:
        """Give what has been collected."""
        if self._out is None:
            return
        self._out.close()
        self._out = None
        self._give(Fragment(float(self._start_s), float(self._end_s), self._file.getvalue()))
