"""Read the packets of a live stream in a thread of its own: connections, breaks, one time line.

Times come from the stream's own timestamps. If they step back, jump ahead, or start anew after a
connection was made again, the wall clock says how much time has passed since the last packet.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeAlias

import av
from av.packet import Packet
from av.video.stream import VideoStream

from touchline.models.errors import FootageError
from touchline.pipeline.footage.log import GAP_S, STEP_BACK_S
from touchline.pipeline.footage.open import OpenFootage, packets_of, reason
from touchline.pipeline.footage.packet_scan import MAX_READ_ERRORS
from touchline.pipeline.live.source import LiveSource

# A stream's own clock is believed if it is this close to the wall clock after a break.
TRUST_S = 10.0

# Packets that wait for the decoder. A full queue stops reading.
MAX_WAITING = 6000
MAX_WAITING_BYTES = 192 << 20

RETRY_S = 1.0

# Why a connection ended.
SENDER_CLOSED = "the sender closed it"
PLAYLIST_ENDS = "the playlist is complete"

# FFmpeg holds the last packets before a silence back until the stream goes on.
HELD_BACK = 4

VideoPacket: TypeAlias = "Packet[VideoStream]"


@dataclass(frozen=True)
class Place:
    """Where a packet lies: its time on the time line, and when it came by the wall clock."""

    time_s: Fraction
    wall_s: float


class Waiting:
    """The packets between reader and decoder, in order; connections and the end among them."""

    def __init__(self) -> None:
        self._items: deque[tuple[object, int, Fraction | None]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self.closed = False

    def put(self, item: object, *, num_bytes: int = 0, time_s: Fraction | None = None) -> None:
        """Add an item; wait while too many packets wait.

        Args:
            item: A packet, an open connection, an error, or None for the end.
            num_bytes: The size of a packet.
            time_s: The time of a packet at which decoding can begin.
        """
        with self._changed:
            while not self.closed and (
                len(self._items) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES
            ):
                self._changed.wait(0.5)
            self._items.append((item, num_bytes, time_s))
            self._bytes += num_bytes
            self._changed.notify_all()

    def get(self) -> object:
        """Take the next item; wait for one."""
        with self._changed:
            while not self._items and not self.closed:
                self._changed.wait(0.5)
            if not self._items:
                return None
            item, num_bytes, _ = self._items.popleft()
            self._bytes -= num_bytes
            self._changed.notify_all()
            return item

    def skip_to(self, time_s: Fraction) -> None:
        """Drop what waits before the last place up to a time at which decoding can begin."""
        with self._changed:
            starts = [k for k, row in enumerate(self._items) if _begins_by(row[2], time_s)]
            packets = (isinstance(row[0], Packet) for row in self._items)
            if starts and all(p for _, p in zip(range(starts[-1]), packets, strict=False)):
                for _ in range(starts[-1]):
                    self._bytes -= self._items.popleft()[1]
                self._changed.notify_all()

    def close(self) -> None:
        """Wake everybody: nothing is wanted any more."""
        with self._changed:
            self.closed = True
            self._items.clear()
            self._changed.notify_all()


def _begins_by(start_s: Fraction | None, time_s: Fraction) -> bool:
    return start_s is not None and start_s <= time_s


class Reader:
    """Reads a live stream in a thread.

    Args:
        source: Where it comes from.
        stream: Index of the video stream in the container; None chooses one.
        tell: Called with a sentence about each break, from the reader's thread.
    """

    def __init__(
        self,
        source: LiveSource,
        stream: int | None,
        *,
        tell: Callable[[str], None],
    ) -> None:
        self.source = source
        self.waiting = Waiting()
        self.first: Place | None = None
        self.latest: Place | None = None
        self._stream = stream
        self._tell = tell
        self._has_ended = False
        self._offset_s = Fraction(0)
        self._suspect: VideoPacket | None = None
        self._came: deque[float] = deque(maxlen=HELD_BACK)
        self._thread = threading.Thread(target=self._run, name="live reader", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it does so with the next packet or time-out."""
        self.waiting.close()

    def connections(self) -> Iterator[tuple[OpenFootage, Iterator[VideoPacket]]]:
        """Yield each connection with its packets, as they come.

        Raises:
            FootageError: The stream cannot be read.
        """
        item = self.waiting.get()
        while isinstance(item, OpenFootage):
            following: list[object] = []
            yield item, self._packets(following)
            item = following[0] if following else None
        if isinstance(item, Exception):
            raise item

    def live_edge_s(self) -> float:
        """Return the time of what happens now, as far as packets and the wall clock tell."""
        first, latest = self.first, self.latest
        if first is None or latest is None:
            return 0.0
        by_wall_s = float(first.time_s) + time.monotonic() - first.wall_s
        return min(float(latest.time_s), by_wall_s)

    def silent_s(self) -> float:
        """Return for how long nothing has come; 0 before the first packet and after the last."""
        if self.latest is None or self._has_ended:
            return 0.0
        return time.monotonic() - self.latest.wall_s

    def _packets(self, following: list[object]) -> Iterator[VideoPacket]:
        while isinstance(item := self.waiting.get(), Packet):
            yield item
        following.append(item)

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:
            self.waiting.put(error)
        self._has_ended = True
        self.waiting.put(None)

    def _read(self) -> None:
        footage: OpenFootage | None = self._open()
        origin_s: Fraction | None = None
        while footage is not None:
            origin_s = footage.origin_s if origin_s is None else origin_s
            # One time line for all connections.
            placed = replace(footage, origin_s=origin_s)
            self.waiting.put(placed)
            why = self._pump(placed)
            if self.waiting.closed or why is None:
                return
            if not self.source.is_network:
                # Its own clock may have jumped: only the decoder knows the time.
                self._tell(f"the stream ended ({why})")
                return
            at_s = 0.0 if self.latest is None else float(self.latest.time_s)
            if why == PLAYLIST_ENDS or not self.source.reconnects:
                self._tell(f"the stream ended at {at_s:.1f} s ({why})")
                return
            self._tell(
                f"the connection broke at {at_s:.1f} s ({why}); "
                f"waiting up to {self.source.wait_s:g} s for it"
            )
            footage = self._again()
            if footage is None:
                self._tell("the stream did not come back")

    def _open(self) -> OpenFootage:
        return self.source.open(stream=self._stream, is_wanted=lambda: not self.waiting.closed)

    def _again(self) -> OpenFootage | None:
        until = time.monotonic() + self.source.wait_s
        while not self.waiting.closed:
            try:
                return self._open()
            except FootageError:
                if time.monotonic() + RETRY_S > until:
                    return None
            time.sleep(RETRY_S)
        return None

    def _pump(self, footage: OpenFootage) -> str | None:
        """Read a connection to its end. Return why it ended; None if nothing more is wanted."""
        is_fresh, errors, failed_s = True, 0, 0.0
        while True:
            try:
                for packet in packets_of(footage.container, footage.stream):
                    if self.waiting.closed:
                        return None
                    errors = 0
                    for placed in self._placed(footage, packet, is_fresh=is_fresh):
                        self._hand_over(footage, placed)
                    is_fresh = is_fresh and packet.dts is None and packet.pts is None
            except av.error.ExitError:
                return "nothing came"
            except (av.error.InvalidDataError, av.error.BlockingIOError):
                # FFmpeg gives up after 64 kB without a packet; the next ones may be whole again.
                failed_s = failed_s if errors else time.monotonic()
                errors += 1
                lasts_s = time.monotonic() - failed_s
                if errors < MAX_READ_ERRORS or lasts_s < self.source.wait_s:
                    continue
                return "what comes is not readable"
            except (av.error.FFmpegError, OSError) as error:
                return reason(error)
            if not self.source.is_network:
                return self.source.end
            return PLAYLIST_ENDS if footage.container.format.name == "hls" else SENDER_CLOSED

    def _hand_over(self, footage: OpenFootage, packet: VideoPacket) -> None:
        start_s = None
        if packet.is_keyframe and packet.pts is not None:
            start_s = footage.seconds(packet.pts)
        self.waiting.put(packet, num_bytes=packet.size, time_s=start_s)

    def _placed(
        self, footage: OpenFootage, packet: VideoPacket, *, is_fresh: bool
    ) -> Iterator[VideoPacket]:
        """Give a packet its time on the time line; a lone strange timestamp breaks nothing."""
        ticks = packet.pts if packet.dts is None else packet.dts
        if ticks is None or footage.is_raw:
            yield packet
            return
        now = time.monotonic()
        time_s = footage.seconds(ticks) + self._offset_s
        if self.latest is not None and self.source.is_network:
            suspect, self._suspect = self._suspect, None
            if not self._fits(time_s, now, is_fresh=is_fresh):
                if not is_fresh and not self._agrees(footage, suspect, time_s):
                    self._suspect = packet
                    if suspect is not None:
                        yield self._shifted(footage, suspect)
                    return
                self._restart(footage, time_s, now, is_fresh=is_fresh)
                time_s = footage.seconds(ticks) + self._offset_s
            elif float(time_s - self.latest.time_s) > GAP_S:
                self._tell(
                    f"no pictures from {float(self.latest.time_s):.1f} to {float(time_s):.1f} s"
                )
            if suspect is not None:
                yield self._shifted(footage, suspect)
        if self.latest is None or time_s > self.latest.time_s:
            self.latest = Place(time_s, now)
            self.first = self.first or self.latest
        self._came.append(now)
        yield self._shifted(footage, packet)

    def _fits(self, time_s: Fraction, now: float, *, is_fresh: bool) -> bool:
        """Whether the stream's own clock goes on."""
        assert self.latest is not None
        step_s, passed_s = float(time_s - self.latest.time_s), now - self._came[0]
        if is_fresh:
            return abs(step_s - passed_s) <= TRUST_S
        return -STEP_BACK_S < step_s <= passed_s + TRUST_S

    def _agrees(self, footage: OpenFootage, suspect: VideoPacket | None, time_s: Fraction) -> bool:
        """Whether the packet before had a strange time too, near this one."""
        if suspect is None:
            return False
        ticks = suspect.pts if suspect.dts is None else suspect.dts
        return abs(footage.seconds(ticks or 0) + self._offset_s - time_s) < STEP_BACK_S

    def _restart(
        self, footage: OpenFootage, time_s: Fraction, now: float, *, is_fresh: bool
    ) -> None:
        assert self.latest is not None
        passed_s = Fraction(now - self._came[0]).limit_denominator(1000)
        to_s = self.latest.time_s + max(passed_s, footage.interval_s)
        self._offset_s += to_s - time_s
        what = "starts anew after the break" if is_fresh else "jumps"
        self._tell(
            f"the clock of the stream {what}. Times go on at {float(to_s):.1f} s, by the wall clock"
        )

    def _shifted(self, footage: OpenFootage, packet: VideoPacket) -> VideoPacket:
        if self._offset_s:
            ticks = round(self._offset_s / footage.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        return packet
