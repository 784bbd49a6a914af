"""Memory does not grow with the footage."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import pytest
from av.video.frame import VideoFrame
from footage_made import looped, write_video

from touchline.pipeline.benchmarks.decode import sampled_here
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.footage import isolation

F = Fraction


def living_frames() -> int:
    # Not isinstance: asking strangers for their class makes some of them warn.
    return sum(type(one) is VideoFrame for one in gc.get_objects())


def test_decoded_frames_are_freed_at_once(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", indices=range(200))
    gc.collect()
    gc.disable()
    try:
        before = living_frames()
        for _ in decode(path, rate_hz=None, size_px=48, isolation=False):
            assert living_frames() - before < 12
    finally:
        gc.enable()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not isolation.AVAILABLE, reason="no worker processes on this system")
@pytest.mark.parametrize("kind", ["matroska", "mp4", "mpegts"])
def test_two_hours_take_no_more_memory_than_ten_minutes(kind: str, tmp_path: Path):
    source = write_video(tmp_path / "source.mp4", indices=range(32), size=(256, 144))
    peaks = []
    for minutes in (10, 120):
        path = looped(
            source, tmp_path / f"{minutes}", times=minutes * 60 * 25 // 32, step_s=F(1, 25),
            format=kind,
        )  # fmt: skip
        isolation.close_workers()
        (measured,) = isolation.run_isolated(
            f"{sampled_here.__module__}:sampled_here",
            {"path": str(path), "decoder": "pyav", "rate_hz": 8.0},
            path=path,
        )
        assert measured.num_frames == minutes * 60 * 25 // 32 * 32
        peaks.append(measured.peak_bytes)
    assert peaks[1] - peaks[0] < 50e6
