"""Footage for tests: drawn frames that name themselves, tones that mark the same instants."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 16
"""Each frame carries its number as white and black bars, read back by `frame_number`."""


def draw(number: int, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8: a moving gradient; the number's bits as bars in the upper third."""
    x = np.arange(width)[None, :]
    y = np.arange(height)[:, None]
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = (x + 3 * number) % 256
    picture[..., 1] = (y * 2 + number) % 256
    picture[..., 2] = 96
    bar = width // BITS
    for k in range(BITS):
        picture[: height // 3, k * bar : (k + 1) * bar] = 235 if number >> k & 1 else 16
    return picture


def frame_number(rgb: np.ndarray) -> int:
    """The number that `draw` put into an (H, W, 3) picture of whatever size."""
    height, width = rgb.shape[:2]
    bar = width / BITS
    row = rgb[height // 8 : height // 4].mean(axis=(0, 2))
    return sum(1 << k for k in range(BITS) if row[int((k + 0.5) * bar)] > 128)


def beep(rate_hz: int, seconds: float, every_s: float) -> np.ndarray:
    """(1, N) float32: silence with a 20 ms tone at every multiple of every_s."""
    n = np.arange(round(rate_hz * seconds))
    since = np.mod(n / rate_hz, every_s)
    return (0.7 * np.sin(2 * np.pi * 1000 * n / rate_hz) * (since < 0.02)).astype(np.float32)[None]


def write_footage(
    path: Path,
    *,
    seconds: float,
    rate: Fraction | int = 25,
    width: int = 160,
    height: int = 96,
    gop: int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    beep_every_s: float | None = 1.0,
    pix_fmt: str = "yuv420p",
    metadata: dict[str, str] | None = None,
    times: list[Fraction] | None = None,
    rotation: int = 0,
    muxer: dict[str, str] | None = None,
    flashes: Sequence[tuple[float, float]] = (),
) -> Path:
    """A file whose frame k shows k; a beep begins at every `beep_every_s` (None: no sound).

    times: when each frame is shown, for variable rates; else k / rate. rotation: degrees that a
    player turns the pictures by, counter-clockwise. flashes: from when to when everything below the
    bars is yellow.
    """
    rate = Fraction(rate)
    times = times or [k / rate for k in range(round(seconds * rate))]
    with av.open(str(path), "w", container_options=muxer or {}) as output:
        video = output.add_stream(codec, rate=rate, options=options or {"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.gop_size = gop
        if rotation:
            video.set_display_rotation(rotation)
        if codec in ("libx264", "libx265"):
            video.codec_context.time_base = Fraction(1, 90_000)
        if metadata:
            output.metadata.update(metadata)
        audio = None
        if beep_every_s is not None:
            sound_codec = {".webm": "libopus", ".mpg": "mp2"}.get(path.suffix, "aac")
            audio = output.add_stream(sound_codec, rate=48000)
            audio.layout = "mono"
            sound = beep(48000, seconds, beep_every_s)
        heard = 0
        for number, time_s in enumerate(times):
            picture = draw(number, width, height)
            if any(start <= time_s < end for start, end in flashes):
                picture[height // 3 :] = (235, 200, 30)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
            output.mux(video.encode(frame.reformat(format=pix_fmt)))
            until = round((time_s + 1 / rate) * 48000)
            while audio is not None and heard < min(until, sound.shape[1]):
                block = np.ascontiguousarray(sound[:, heard : heard + 1024])
                samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 48000, heard
                samples.time_base = Fraction(1, 48000)
                output.mux(audio.encode(samples))
                heard += block.shape[1]
        output.mux(video.encode(None))
        if audio is not None:
            output.mux(audio.encode(None))
    return path


def read_video(path: Path) -> tuple[list[float], list[int]]:
    """Presentation times from the container's start, and the numbers the frames show."""
    times, numbers = [], []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        start = (container.start_time or 0) / 1_000_000
        for frame in container.decode(stream):
            times.append(float(frame.pts * stream.time_base) - start)
            numbers.append(frame_number(frame.to_ndarray(format="rgb24")))
    return times, numbers


def read_beeps(path: Path) -> list[float]:
    """When each beep begins, from the container's start; found to about a millisecond."""
    starts: list[float] = []
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        start = (container.start_time or 0) / 1_000_000
        quiet_since = -1.0
        for frame in container.decode(stream):
            samples = np.abs(frame.to_ndarray().astype(np.float32)).max(axis=0)
            base_s = float(frame.pts * stream.time_base) - start
            for k in np.flatnonzero(samples > 0.25):
                time_s = base_s + int(k) / frame.sample_rate
                if time_s - quiet_since > 0.1:
                    starts.append(time_s)
                quiet_since = time_s
    return starts
