"""Turn a live stream into sampled frames, in a worker process or here: the worker's half.

reader thread          decoder thread             caller
packets  -> Waiting -> frames, samples, chunks -> live_here yields
"""

from __future__ import annotations

import math
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from touchline.pipeline.decoding.clock import continuous
from touchline.pipeline.decoding.contract import Instants, Picture, ShownFrame, StampedFrame, Wanted
from touchline.pipeline.decoding.decode import chunks_of, samples_of
from touchline.pipeline.decoding.probe import declared_health
from touchline.pipeline.decoding.pyav import renderer_of, stream_frames
from touchline.pipeline.decoding.to_rgb import Renderer
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.footage.open import OpenFootage
from touchline.pipeline.live.fragments import Fragment, Fragments
from touchline.pipeline.live.reader import Reader, VideoPacket
from touchline.pipeline.live.source import LiveSource
from touchline.pipeline.types import FootageHealth, Frames

LIVE_TASK = "touchline.pipeline.live.frames:live_here"

# A chunk of frames holds this much time: frames wait for their chunk to be full.
CHUNK_S = 0.5

# Chunks between decoder and network.
CHUNKS_AHEAD = 3

# If frames lag by more than the first number, they are dropped until they lag by the second.
MAX_LAG_S, LAG_LEFT_S = 10.0, 2.0

IDLE_S = 0.5

# A silence of this length is reported. Playlists bring their pictures in pieces of several seconds.
SILENCE_TOLD_S, PLAYLIST_SILENCE_TOLD_S = 3.0, 30.0


@dataclass(frozen=True)
class Notice:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Dropped:
    """Whole seconds that were not looked at because the network is too slow."""

    start_s: float
    end_s: float


@dataclass(frozen=True)
class Idle:
    """Nothing has come; the caller may look whether it should stop."""


News = Frames | FootageHealth | Notice | Dropped | Idle | Fragment


def live_here(
    log: DecodeLog,
    *,
    source: LiveSource,
    rate_hz: float,
    size_px: int,
    stream: int | None,
    fragments: bool,
) -> Generator[News, None, None]:
    """Yield the frames of a live stream as they come, and what happens to it.

    Args:
        log: Gets damage, gaps and counts.
        source: Where the stream comes from.
        rate_hz: Samples per second.
        size_px: The shorter side of the pictures in pixels.
        stream: Index of the video stream in the container; None chooses one.
        fragments: Also yield the coded video, for clips.

    Raises:
        FootageError: The stream cannot be read.
    """
    told: deque[News] = deque()
    kept = Fragments(told.append) if fragments else None
    reader = Reader(source, stream, tell=lambda text: told.append(Notice(text)))
    wanted = Wanted(Instants.of(rate_hz, 0.0, None), size_px, stream)
    decoder = _Decoder(reader, wanted, log, told, kept)
    reader.start()
    decoder.start()
    is_playlist = source.scheme.startswith("http")
    told_after_s = PLAYLIST_SILENCE_TOLD_S if is_playlist else SILENCE_TOLD_S
    is_silent = False
    try:
        while True:
            while told:
                yield told.popleft()
            item = decoder.next(IDLE_S)
            if item is None:
                break
            yield item
            if (reader.silent_s() > told_after_s) != is_silent:
                is_silent = not is_silent
                if is_silent and source.is_network and reader.latest is not None:
                    at_s = float(reader.latest.time_s)
                    yield Notice(f"nothing has come since {at_s:.1f} s; waiting")
        if kept is not None:
            kept.end()
        yield from told
    finally:
        reader.stop()


class _Decoder:
    """Decodes in a thread, so that the caller never waits long."""

    def __init__(
        self,
        reader: Reader,
        wanted: Wanted,
        log: DecodeLog,
        told: deque[News],
        kept: Fragments | None = None,
    ) -> None:
        self._reader = reader
        self._wanted = wanted
        self._log = log
        self._told = told
        self._kept = kept
        self._chunks: queue.Queue[Frames | Exception | None] = queue.Queue(CHUNKS_AHEAD)
        self._thread = threading.Thread(target=self._run, name="live decoder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self, timeout_s: float) -> Frames | Idle | None:
        """The next chunk; Idle if none has come in time; None at the end."""
        try:
            item = self._chunks.get(timeout=timeout_s)
        except queue.Empty:
            return Idle()
        if isinstance(item, Exception):
            raise item
        return item

    def _run(self) -> None:
        end: Exception | None = None
        try:
            for chunk in self._decoded():
                if not self._put(chunk):
                    return
        except Exception as error:
            end = error
        self._put(end)

    def _put(self, item: Frames | Exception | None) -> bool:
        while not self._reader.waiting.closed:
            try:
                self._chunks.put(item, timeout=IDLE_S)
                return True
            except queue.Full:
                continue
        return False

    def _decoded(self) -> Iterator[Frames]:
        connections = self._reader.connections()
        first = next(connections, None)
        if first is None:
            return
        footage = first[0]
        # The file is not complete: what the headers say of its length is not known yet.
        self._told.append(
            replace(declared_health(footage), duration_s=0.0, warnings=footage.warnings)
        )
        wanted = replace(
            self._wanted, instants=replace(self._wanted.instants, zero_s=footage.first_frame_s)
        )
        renderer = renderer_of(footage, wanted.size_px)

        def stamped() -> Iterator[StampedFrame]:
            yield from self._frames(*first, wanted, renderer)
            for connection in connections:
                yield from _joined(
                    self._frames(*connection, wanted, renderer), float(self._log.end_s)
                )

        keeps_gaps = footage.keeps_gaps or self._reader.source.is_network
        shown = self._counted(
            continuous(stamped(), footage.interval_s, self._log, keeps_gaps=keeps_gaps)
        )
        samples = samples_of(shown, wanted.instants)
        if self._reader.source.is_network:
            samples = self._keeping_up(samples)
        rate = wanted.instants.rate_hz or Fraction(1)
        yield from chunks_of(samples, max(1, round(float(rate) * CHUNK_S)))

    def _frames(
        self,
        footage: OpenFootage,
        packets: Iterator[VideoPacket],
        wanted: Wanted,
        renderer: Renderer,
    ) -> Iterator[StampedFrame]:
        def counted() -> Iterator[VideoPacket]:
            for packet in packets:
                self._log.num_packets += 1
                # Here and not in the reader, which may be minutes ahead in a file.
                if self._kept is not None:
                    self._kept.add(footage, packet)
                yield packet

        yield from stream_frames(footage, counted(), wanted, renderer=renderer, log=self._log)
        footage.container.close()

    def _counted(self, shown: Iterator[ShownFrame]) -> Iterator[ShownFrame]:
        for frame in shown:
            self._log.num_frames += 1
            yield frame

    def _keeping_up(
        self, samples: Iterator[tuple[Picture, float, float, bool]]
    ) -> Iterator[tuple[Picture, float, float, bool]]:
        """Leave out whole seconds while the network is too far behind; say which."""
        from_s = until_s = 0
        stands_in = False
        for picture, time_s, sample_s, is_damaged in samples:
            edge_s = self._reader.live_edge_s()
            if sample_s >= until_s and edge_s - sample_s > MAX_LAG_S:
                from_s, until_s = math.ceil(sample_s), math.floor(edge_s - LAG_LEFT_S)
                self._told.append(Dropped(float(from_s), float(until_s)))
                self._log.damage(Fraction(from_s), Fraction(until_s))
                self._reader.waiting.skip_to(Fraction(until_s))
                stands_in = True
            if not from_s <= sample_s < until_s:
                yield picture, time_s, sample_s, is_damaged
            elif stands_in:
                # One picture stands for all: windows across the hole hold it and are damaged.
                stands_in = False
                yield picture, time_s, sample_s, True


def _joined(frames: Iterator[StampedFrame], end_s: float) -> Iterator[StampedFrame]:
    """The frames of a new connection: what was sent before is left out, what is missing is lost."""
    after_loss = True
    for frame in frames:
        if frame.stamp_s is not None and after_loss and float(frame.stamp_s) < end_s - 1e-3:
            continue
        yield replace(frame, after_loss=True) if after_loss else frame
        after_loss = False
