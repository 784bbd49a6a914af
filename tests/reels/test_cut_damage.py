"""Clips of damaged footage: what can be shown is shown, and nothing ends in an error of FFmpeg."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage_bad_cases import CASES, long_video
from footage_cases import Case
from footage_made import overwrite, packet_places, read_index

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.reels.options import RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import render_cuts

DAMAGED = [case for case in CASES if case.outcome == "damaged"]


def clip_of(case: Case, folder: Path, start_s: float, end_s: float, mode: str) -> list[int]:
    """The numbers of the frames in a clip."""
    options = RenderOptions(mode=mode, encoder="libx264")
    cut = Cut(start_s, end_s, ())
    made = render_cuts(case.make(folder), [cut], folder / "clip.mp4", options=options)
    chunks = decode(made.path, rate_hz=None, size_px=96, isolation=False)
    return [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["exact", "encode"])
@pytest.mark.parametrize("case", DAMAGED, ids=str)
def test_a_clip_over_the_damage_is_made(case: Case, mode: str, tmp_path: Path) -> None:
    assert clip_of(case, tmp_path, 0.9, 2.2, mode)


def test_where_copying_fails_everything_is_encoded(tmp_path: Path) -> None:
    # The length of a unit is wrong: it cannot be copied, and a decoder skips it.
    path = long_video(tmp_path / "a.mp4")
    pos, _, _ = packet_places(path)[45]
    overwrite(path, pos, b"\x7f\xff\xff\xff")
    made = render_cuts(path, [Cut(0.7, 3.0, ())], tmp_path / "clip.mp4")
    assert made.note.startswith("copying failed: Invalid data")
    assert made.num_encoded == made.num_frames


@pytest.mark.parametrize("mode", ["exact", "copy", "encode"])
@pytest.mark.parametrize("name", ["starts_inside_a_group.ts", "starts_inside_a_group.mkv"])
def test_a_recording_that_begins_inside_a_group_begins_with_its_first_key_frame(
    name: str, mode: str, tmp_path: Path
) -> None:
    case = next(one for one in DAMAGED if one.name == name)
    # The recording begins with frame 5, decoding with the key frame 20, at 0.6 s.
    assert clip_of(case, tmp_path, 0.0, 1.0, mode) == list(range(20, 30))
