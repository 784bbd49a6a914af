"""Half a day and a day of footage: the last frame is as exact as the first."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from footage_made import looped, read_index, write_video

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage

F = Fraction
NTSC = F(1001, 30_000)

# 12 and 24 hours at one frame every half minute, and at 30000/1001 a second.
SPARSE = {12: 12 * 3600 // 30, 24: 24 * 3600 // 30}
FULL = {12: 12 * 3600 * 30_000 // 1001, 24: 24 * 3600 * 30_000 // 1001}

# What the container rounds times to.
CONTAINERS = {"mp4": F(1, 12_800), "matroska": F(1, 1000), "mpegts": F(1, 90_000)}


def long_footage(folder: Path, format: str, *, num_frames: int, step_s: Fraction) -> Path:
    """Frames that show their number modulo 16, a key frame every 16."""
    options = {"preset": "ultrafast", "g": "16", "threads": "1"}
    source = write_video(folder / "source.mp4", indices=range(16), size=(64, 48), options=options)
    return looped(source, folder / "long", times=-(-num_frames // 16), step_s=step_s, format=format)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("hours", SPARSE)
@pytest.mark.parametrize("format", CONTAINERS)
def test_every_frame_of_a_long_recording_has_its_time(format: str, hours: int, tmp_path: Path):
    path = long_footage(tmp_path, format, num_frames=SPARSE[hours], step_s=F(30))
    chunks = list(decode(path, rate_hz=None, size_px=48))
    times = [float(time) for chunk in chunks for time in chunk.time_s]
    numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
    num_frames = -(-SPARSE[hours] // 16) * 16
    assert numbers == [k % 16 for k in range(num_frames)]
    assert max(abs(time - 30 * k) for k, time in enumerate(times)) <= float(CONTAINERS[format])
    assert times[-1] >= hours * 3600 - 30


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format", CONTAINERS)
def test_a_day_at_a_broken_rate_does_not_drift(format: str, tmp_path: Path):
    path = long_footage(tmp_path, format, num_frames=FULL[24], step_s=NTSC)
    num_frames = -(-FULL[24] // 16) * 16
    for start_s in (12 * 3600, 24 * 3600 - 5):
        chunk = next(decode(path, rate_hz=None, size_px=48, start_s=start_s))
        for time, pixels in zip(chunk.time_s, chunk.pixels, strict=True):
            k = round(float(time) / float(NTSC))
            assert abs(float(time) - float(k * NTSC)) <= float(CONTAINERS[format])
            assert read_index(pixels) == k % 16
    health = probe_footage(path, depth="packets")
    assert health.actual_frames == num_frames
    # Matroska does not say how long its last frame stands.
    assert health.actual_duration_s == pytest.approx(float(num_frames * NTSC), abs=0.01)
    assert health.frame_rate == "30000/1001"
