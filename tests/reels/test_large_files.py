"""Clips from files of many gigabytes: the right frames, and no more read than is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage_made import X264_B, read_index, spread, write_noise, write_video

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.reels.options import MODES, RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import render_cuts

IO = Path("/proc/self/io")


def numbers(path: Path) -> list[int]:
    chunks = decode(path, rate_hz=None, size_px=96, isolation=False)
    return [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]


def num_read() -> int:
    """How many bytes this process has read so far."""
    return int(IO.read_text().split("rchar:")[1].split()[0])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", MODES)
def test_clips_beyond_two_and_four_gigabytes(mode: str, tmp_path: Path):
    small = write_video(tmp_path / "small.mp4", indices=range(240), options=X264_B)
    path = spread(small, tmp_path / "large.mp4", gaps={60: 5 << 29, 120: 5 << 29})
    assert path.stat().st_size > 5 << 30
    assert path.stat().st_blocks * 512 < 10 << 20
    for first in (24, 96, 204):
        target = tmp_path / f"{mode}-{first}.mp4"
        options = RenderOptions(mode=mode, encoder="libx264")
        (cut,) = render_cuts(
            path, [Cut(first / 25, first / 25 + 1, ())], target, options=options
        ).cuts
        begin, end = round(cut.start_s * 25), round(cut.end_s * 25)
        assert numbers(target) == list(range(begin, end))
        assert begin <= first
        assert end >= first + 25
        assert end - begin == 25 or mode == "copy"


@pytest.mark.timeout(120)
@pytest.mark.skipif(not IO.exists(), reason="this system does not count what a process reads")
@pytest.mark.parametrize("mode", MODES)
def test_only_what_is_shown_is_read(mode: str, tmp_path: Path):
    path = write_noise(tmp_path / "a.mp4", num_frames=300)
    options = RenderOptions(mode=mode, encoder="libx264")
    before = num_read()
    render_cuts(path, [Cut(9, 9.5, ())], tmp_path / "clip.mp4", options=options)
    assert num_read() - before < path.stat().st_size / 2
