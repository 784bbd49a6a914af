"""Measure how much faster a reel is copied than encoded, and whether it stays in sync.

The footage is made for the measurement: a camera pans over grass. Once a second a white square
appears and a beep sounds at the same time, so that picture and sound can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.render import Rendered, cut_reel
from touchline.pipeline.types import Event, UInt8

RATE = 25
SOUND_RATE_HZ = 48_000

# A whole number of AAC packets (1024 samples each), so that parts join without a gap.
PART_S = 32

# At a frame (25 per second), and not at a full second, where parts join.
MARK_AT_S, MARK_S = 0.48, 0.08

X264 = {"preset": "veryfast", "crf": "20"}
KEY_FRAME_EVERY = 50


@dataclass(frozen=True)
class ReelRow:
    """One way of making the same reel, and what its file contains.

    Attributes:
        mode: "encode", "exact" or "copy".
        seconds: Wall-clock seconds.
        cpu_s: CPU seconds of all threads.
        reel: The reel.
        num_bytes: Size of the file.
        video_end_s: When the last video packet ends.
        audio_end_s: When the last audio packet ends.
        apart_s: Largest time between a square and its beep.
        num_marks: Number of squares compared with their beeps.
    """

    mode: str
    seconds: float
    cpu_s: float
    reel: Rendered
    num_bytes: int
    video_end_s: float
    audio_end_s: float
    apart_s: float
    num_marks: int


def bench_reel(
    folder: Path, *, height_px: int, num_parts: int = 19, num_events: int = 20
) -> Iterator[ReelRow]:
    """Make the same reel three times: encoded, exact and copied. The match has ten minutes.

    Args:
        folder: Where to write the match and the reels.
        height_px: Height of the match's picture.
        num_parts: Length of the match in parts of PART_S seconds.
        num_events: Events in the reel.
    """
    match = made_match(folder / "match.mp4", num_parts=num_parts, height_px=height_px)
    events = spread_events(num_events, num_parts * PART_S)
    for mode in ("encode", "exact", "copy"):
        options = RenderOptions(mode=mode, encoder="libx264")
        path = folder / f"{mode}.mp4"
        started, started_cpu = time.perf_counter(), time.process_time()
        reel = cut_reel(match, events, path, options=options)
        seconds = time.perf_counter() - started
        cpu_s = time.process_time() - started_cpu
        seen, heard = marks_seen(path), marks_heard(path)
        ends = stream_ends(path)
        yield ReelRow(
            mode=mode,
            seconds=seconds,
            cpu_s=cpu_s,
            reel=reel,
            num_bytes=path.stat().st_size,
            video_end_s=ends["video"],
            audio_end_s=ends["audio"],
            apart_s=max(min(abs(mark - beep) for beep in heard) for mark in seen),
            num_marks=len(seen),
        )


def spread_events(num_events: int, duration_s: float, *, seed: int = 0) -> list[Event]:
    """Events of one second at irregular times, far enough apart to give separate cuts.

    Args:
        num_events: Number of events.
        duration_s: Length of the match in seconds.
        seed: Seed of the random times.
    """
    rng = np.random.default_rng(seed)
    room_s = duration_s / num_events
    starts = [k * room_s + float(rng.uniform(0.2, 0.6)) * room_s for k in range(num_events)]
    return [Event("goal", s, s + 1, s + 0.5, 0.9) for s in starts]


def made_match(path: Path, *, num_parts: int, height_px: int) -> Path:
    """Write an MP4 with H.264 and AAC that repeats one encoded part of PART_S seconds.

    Args:
        path: The file to write.
        num_parts: How often the part is repeated.
        height_px: Height of the picture.
    """
    part = path.with_name(f"{path.stem}-part.mp4")
    with av.open(str(part), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options=X264)
        video.width, video.height = height_px * 16 // 9 // 2 * 2, height_px
        video.pix_fmt = "yuv420p"
        video.codec_context.gop_size = KEY_FRAME_EVERY
        audio = output.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        samples = _beeps()
        for number, i420 in enumerate(_pictures(video.width, video.height)):
            output.mux(video.encode(VideoFrame.from_ndarray(i420, format="yuv420p")))
            begin, end = (k * SOUND_RATE_HZ // RATE for k in (number, number + 1))
            sound = AudioFrame.from_ndarray(samples[:, begin:end], format="fltp", layout="mono")
            sound.sample_rate, sound.pts = SOUND_RATE_HZ, begin
            sound.time_base = Fraction(1, SOUND_RATE_HZ)
            output.mux(audio.encode(sound))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))
    _repeat(part, path, num_parts)
    part.unlink()
    return path


def _pictures(width: int, height: int) -> Iterator[UInt8]:
    """Frames (H * 3 / 2, W) uint8 YUV 4:2:0: a pan over grass, with the white squares."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(90, 14, (height // 24 + 8, width // 24 + 30))
    grass = np.kron(coarse, np.ones((24, 24)))
    grass = np.clip(grass + rng.normal(0, 18, grass.shape), 16, 235).astype(np.uint8)
    for number in range(PART_S * RATE):
        phase = 2 * np.pi * number / (PART_S * RATE)
        x, y = round(240 + 230 * np.sin(phase)), round(60 + 55 * np.sin(3 * phase))
        i420 = np.full((height * 3 // 2, width), 112, np.uint8)
        i420[:height] = grass[y : y + height, x : x + width]
        if MARK_AT_S - 1e-6 <= number / RATE % 1 < MARK_AT_S + MARK_S - 1e-6:
            i420[: height // 8, : height // 8] = 235
        yield i420


def _beeps() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Samples (1, N) float32: silence, and a tone while a square is shown."""
    at_s = np.arange(PART_S * SOUND_RATE_HZ) / SOUND_RATE_HZ
    since_s = at_s % 1 - MARK_AT_S
    tone = 0.7 * np.sin(2 * np.pi * 1000 * at_s) * ((since_s >= 0) & (since_s < MARK_S))
    return tone.astype(np.float32)[None]


def _repeat(part: Path, path: Path, times: int) -> None:
    """Copy the packets of a part several times, each time later by its length."""
    with av.open(str(part)) as ours, av.open(str(path), "w") as output:
        targets = {s: output.add_stream_from_template(s, opaque=True) for s in ours.streams}
        last = dict.fromkeys(ours.streams, -(10**9))
        for k in range(times):
            ours.seek(0)
            for packet in ours.demux(*ours.streams):
                if packet.pts is None or packet.dts is None:
                    continue
                stream = packet.stream
                shift = round(k * PART_S / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                # The first AAC packet overlaps the end of the part before. Leave it out.
                if packet.dts > last[stream]:
                    last[stream] = packet.dts
                    packet.stream = targets[stream]
                    output.mux(packet)


def marks_seen(path: Path) -> list[float]:
    """When each white square appears, in seconds from the container's start."""
    seen, before = [], False
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start_s = (container.start_time or 0) / 1_000_000
        for frame in container.decode(stream):
            corner = np.frombuffer(bytes(frame.planes[0]), np.uint8, 8).mean()
            if corner > 200 and not before:
                seen.append(float(frame.time or 0) - start_s)
            before = bool(corner > 200)
    return seen


def marks_heard(path: Path) -> list[float]:
    """When each beep begins, in seconds from the container's start."""
    heard: list[float] = []
    loud_until_s = -1.0
    with av.open(str(path)) as container:
        start_s = (container.start_time or 0) / 1_000_000
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(np.float32)).max(axis=0) > 0.25)
            for k in loud:
                time_s = float(frame.time or 0) - start_s + int(k) / frame.sample_rate
                if time_s - loud_until_s > MARK_S:
                    heard.append(time_s)
                loud_until_s = time_s
    return heard


def stream_ends(path: Path) -> dict[str, float]:
    """When the last packet of the video and of the audio ends, in seconds."""
    ends = {"video": 0.0, "audio": 0.0}
    with av.open(str(path)) as container:
        start_s = (container.start_time or 0) / 1_000_000
        streams = container.streams.get(video=0, audio=0)
        for packet in container.demux(streams):
            if packet.pts is not None:
                end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start_s
                ends[packet.stream.type] = max(ends[packet.stream.type], end_s)
    return ends
