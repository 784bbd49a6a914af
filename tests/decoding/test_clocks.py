"""The same pictures are sampled in every container, and a clock that restarts is no obstacle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from drawn_footage import write_footage
from footage_bad_cases import long_video
from footage_made import read_index, write_video

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage


def remuxed(source: Path, target: Path) -> Path:
    """Picture and sound of a file in another container."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        streams = {s: writing.add_stream_from_template(s) for s in reading.streams}
        for packet in reading.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                writing.mux(packet)
    return target


@pytest.mark.parametrize("container", ["mkv", "ts", "flv", "mov"])
@pytest.mark.parametrize("rate_hz", [8.0, 12.5, 25.0])
def test_the_same_pictures_are_sampled_in_every_container(
    container: str, rate_hz: float, tmp_path: Path
) -> None:
    # AAC begins 1024 samples before the sound. MP4 hides them; elsewhere the picture starts later.
    source = write_footage(tmp_path / "a.mp4", seconds=4, options={"preset": "veryfast"})
    target = remuxed(source, tmp_path / f"b.{container}")
    sampled = []
    for path in (source, target):
        chunks = list(decode(path, rate_hz=rate_hz, size_px=96))
        sampled.append([p.tobytes() for chunk in chunks for p in chunk.pixels])
        first_s = probe_footage(path).first_frame_s
        # Times stay those that a player shows.
        assert chunks[0].sample_s[0] == pytest.approx(first_s, abs=1e-3)
    assert sampled[0] == sampled[1]
    if container in ("mkv", "ts"):
        assert first_s == pytest.approx(1024 / 48000, abs=1e-3)


def joined_recordings(folder: Path) -> Path:
    """Two transport streams, 4 s each, one after the other: the clock steps back from 4 to 2 s."""
    from_2_s = [2 + Fraction(k, 25) for k in range(100)]
    parts = [
        long_video(folder / "first.ts"),
        long_video(folder / "second.ts", stamps=from_2_s),
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("start_s", [1.0, 3.0, 5.0, 7.0])
def test_a_part_of_footage_whose_clock_restarts_is_that_part(
    start_s: float, tmp_path: Path
) -> None:
    path = joined_recordings(tmp_path)
    how = {"start_s": start_s, "end_s": start_s + 0.4}
    chunks = list(decode(path, rate_hz=25, size_px=96, **how))
    numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
    first = round(start_s * 25) % 100
    assert numbers == list(range(first, first + 10))


@pytest.mark.slow
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_hours_without_frames_stay_on_a_timeline_and_are_reported(
    container: str, tmp_path: Path
) -> None:
    stamps = [Fraction(k, 25) + (0 if k < 50 else 36_000) for k in range(100)]
    path = write_video(
        tmp_path / f"a.{container}", indices=range(100), stamps=stamps, time_base=Fraction(1, 1000)
    )
    stream = decode(path, rate_hz=None, size_px=96)
    frames = [
        (read_index(p), float(t)) for c in stream for p, t in zip(c.pixels, c.time_s, strict=True)
    ]
    assert frames == [(k, pytest.approx(float(stamp))) for k, stamp in enumerate(stamps)]
    assert any("a gap of 36000 s without frames at 1.960 s" in w for w in stream.log.warnings)
    # Ten hours of one picture are not sampled: half a minute at either end is.
    sampled = np.concatenate([c.sample_s for c in decode(path, rate_hz=5, size_px=32)])
    assert sampled[0] == 0
    assert sampled[-1] == pytest.approx(36_003.8)
    assert 600 * 0.5 <= len(sampled) <= 600 * 0.5 + 40
    assert np.diff(sampled).max() == pytest.approx(36_000 - 60, abs=1)


def test_a_clock_on_which_every_frame_is_hours_away_is_repaired(tmp_path: Path) -> None:
    stamps = [7200 * k for k in range(10)]
    path = write_video(
        tmp_path / "a.mp4", indices=range(10), stamps=stamps, time_base=Fraction(1, 1000)
    )
    stream = decode(path, rate_hz=None, size_px=96)
    times = np.concatenate([chunk.time_s for chunk in stream])
    assert times[-1] < 60
    assert sum("jump ahead" in warning for warning in stream.log.warnings) == 6
