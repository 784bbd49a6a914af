"""Memory does not grow with the footage."""

from __future__ import annotations

import gc
import tracemalloc
from fractions import Fraction
from pathlib import Path

import pytest
from av.video.frame import VideoFrame
from footage_made import looped, repeated, write_video

from touchline.pipeline.benchmarks.decode import sampled_here
from touchline.pipeline.decoding.contract import Instants, Wanted
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.parallel import Request, bounds_here, workers_for
from touchline.pipeline.footage import isolation, packet_scan
from touchline.pipeline.footage.log import DecodeLog
from touchline.pipeline.footage.open import open_footage
from touchline.pipeline.footage.packet_scan import clock_parts, clock_restarts, scan_packets
from touchline.pipeline.reels.coded_video import CodedVideo

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


FRAMES = 300_000


@pytest.fixture(scope="module")
def long_footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Footage with an index of FRAMES frames."""
    folder = tmp_path_factory.mktemp("long")
    options = {"preset": "ultrafast", "g": "10", "bf": "0", "threads": "1"}
    source = write_video(folder / "source.mp4", indices=range(100), size=(64, 48), options=options)
    return repeated(source, folder / "long.mp4", times=FRAMES // 100)


def scanned(path: Path) -> None:
    footage = open_footage(path)
    with footage.container:
        assert len(scan_packets(footage, DecodeLog())) == FRAMES


def bounded(path: Path) -> None:
    request = Request(str(path), "pyav", Wanted(Instants(F(8))))
    (bounds,) = bounds_here(DecodeLog(), request=request)
    assert len(bounds) == FRAMES // 25 // 10 - 1


def numbered(path: Path) -> None:
    # As for a transport stream, whose packets are all read.
    assert not any(clock_parts(iter(range(0, FRAMES * 40, 40)), F(1, 1000)))


def coded(path: Path) -> None:
    with CodedVideo(path) as video:
        assert len(video.rows) == len(video.frame_pts) == FRAMES
        assert video.row_shown_at(int(video.frame_pts[-1])) == FRAMES - 1


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("step", "bytes_a_frame"),
    [(scanned, 60), (bounded, 8), (numbered, 1), pytest.param(coded, 160, marks=pytest.mark.slow)],
)
def test_a_long_index_takes_few_bytes_for_each_frame(step, bytes_a_frame: int, long_footage: Path):
    # FFmpeg's own 40 bytes are not counted.
    tracemalloc.start()
    try:
        step(long_footage)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < FRAMES * bytes_a_frame + 1e6


def test_an_index_is_not_held_twice(long_footage: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(packet_scan, "open_footage")
    footage = open_footage(long_footage)
    with footage.container:
        assert not clock_restarts(footage, DecodeLog())


def test_few_workers_hold_a_long_index(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    two_hours, two_weeks = 2 * 3600 * 25, 14 * 24 * 3600 * 25
    assert workers_for(two_hours / 25, two_hours) == 4
    assert workers_for(two_weeks / 25, two_weeks) == 1
    assert workers_for(two_hours / 25) == 4


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
