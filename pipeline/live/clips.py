"""Cut a clip for each event while the stream goes on."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from touchline.models.atomic_files import atomic_path
from touchline.models.errors import FootageError
from touchline.pipeline.files import safe_name
from touchline.pipeline.footage.isolation import AVAILABLE, run_isolated
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.live.fragments import Fragment
from touchline.pipeline.types import Event

CLIP_TASK = "touchline.pipeline.live.clips:write_here"

# The newest part of the stream is kept: at most this long, and at most this large.
KEPT_S = 180.0
KEPT_BYTES = 512 << 20

# Footage before and after each event.
PAD_S = 2.0


class Clips:
    """Holds the last minutes of coded video and writes the clip of each event.

    Args:
        folder: Where the clips go.
        tell: Called with a sentence about each clip that cannot be whole.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self._tell = tell
        self._kept: deque[Fragment] = deque()
        self._bytes = 0
        self._wanted: list[Event] = []
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, fragment: Fragment) -> None:
        """Take the next piece of coded video."""
        self._kept.append(fragment)
        self._bytes += len(fragment.content)
        while len(self._kept) > 1 and (
            self._bytes > KEPT_BYTES or fragment.end_s - self._kept[0].end_s > KEPT_S
        ):
            self._bytes -= len(self._kept.popleft().content)
        ready = [event for event in self._wanted if event.end_s + PAD_S <= fragment.end_s]
        self._wanted = [event for event in self._wanted if event not in ready]
        for event in ready:
            self._write(event)

    def want(self, event: Event) -> None:
        """Write the clip of an event, at once or as soon as the footage after it is there."""
        if self._kept and event.end_s + PAD_S <= self._kept[-1].end_s:
            self._write(event)
        else:
            self._wanted.append(event)

    def end(self) -> None:
        """Write the clips that wait for footage which will not come."""
        for event in self._wanted:
            self._write(event)
        self._wanted = []

    def _write(self, event: Event) -> None:
        start_s, end_s = max(0.0, event.start_s - PAD_S), event.end_s + PAD_S
        pieces = [f for f in self._kept if f.start_s < end_s and f.end_s > start_s]
        name = safe_name(event.label, fallback="event")
        path = self.folder / f"{event.peak_s:09.2f}_{name}.mp4"
        if not pieces:
            self._tell(f"no clip of {event.label} at {event.peak_s:.1f} s: its footage is gone")
            return
        if pieces[0].start_s > event.start_s:
            self._tell(f"the clip of {event.label} at {event.peak_s:.1f} s lacks its beginning")
        arguments: dict[str, Any] = {
            "path": str(path),
            "pieces": [piece.content for piece in pieces],
        }
        try:
            if AVAILABLE:
                list(run_isolated(CLIP_TASK, arguments, path=path))
            else:
                list(write_here(DecodeLog(), **arguments))
        except (FootageError, OSError, ValueError) as error:
            self._tell(f"no clip of {event.label} at {event.peak_s:.1f} s: {error}")


def write_here(log: DecodeLog, *, path: str, pieces: Sequence[bytes]) -> Iterator[None]:
    """Write pieces of coded video to one MP4 file, without encoding anything.

    Args:
        log: Shows the caller that writing makes progress.
        path: The file to write.
        pieces: The content of fragments, in time order.

    Raises:
        FootageError: MP4 cannot hold this codec.
    """
    yield from ()
    with atomic_path(path) as beside:
        try:
            _write(log, beside, pieces)
        except av.error.FFmpegError as error:
            raise FootageError(path, f"MP4 cannot hold this video ({error.strerror})") from None


def _write(log: DecodeLog, path: Path, pieces: Sequence[bytes]) -> None:
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as out:
        track = None
        first_s = Fraction(0)
        for piece in pieces:
            with av.open(io.BytesIO(piece), "r") as container:
                stream = container.streams.video[0]
                for packet in container.demux(stream):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue
                    if track is None:
                        track = out.add_stream_from_template(stream)
                        first_s = packet.pts * packet.time_base
                    shift = round(first_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    packet.stream = track
                    out.mux_one(packet)
                    log.num_packets += 1
