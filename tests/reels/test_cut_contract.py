"""Every file that our decoder reads is cut to exactly the frames asked for, in every mode.

Frames carry their number. The truth of each file is that of the decoder's own tests.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from drawn_footage import read_beeps, write_footage
from footage_bad_cases import CASES
from footage_cases import Case
from footage_made import read_index

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.reels.options import MODES, RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import Rendered, render_cuts

GOOD = [case for case in CASES if case.outcome in ("ok", "warn")]

# Five places in 25 frames: the first frames, inside a group of pictures, over its ends, the last.
PLACES = ((0, 5), (3, 9), (5, 15), (12, 20), (18, 25))

# What copying says where it is impossible, before anything is written.
NOT_COPIED = ("cannot be copied into MP4", "has no key frame before")

# Two frames in the two fields of one: a deinterlaced picture shows neither.
TWO_FIELDS = {"interlaced_h264.mp4", "interlaced_mpeg2.ts"}

# A few of each kind run always, all of them with the slow tests.
ALWAYS = {
    "h264.ts", "h264.mkv", "h264_b_frames.avi", "hevc.mkv", "hevc.ts", "mpeg2.ts", "mpeg2.mpg",
    "raw.h264", "mirrored.mp4", "turned_and_mirrored.mp4", "vfr.ts", "open_gop_h264.ts",
    "edit_list_joins_two_parts.mp4", "duplicate_stamp.mkv", "stamp_far_ahead.mkv",
    "clock_restarts.mkv", "clock_jumps_ahead.ts", "declares_months.mp4", "vp8.webm",
}  # fmt: skip


def each(cases: list[Case]) -> list[object]:
    """The cases as test parameters; most of them slow."""
    return [
        pytest.param(case, id=case.name, marks=[] if case.name in ALWAYS else [pytest.mark.slow])
        for case in cases
    ]


def shown_by(path: Path) -> tuple[list[int], list[float]]:
    """The numbers that a file's frames show, and when."""
    chunks = list(decode(path, rate_hz=None, size_px=96, isolation=False))
    numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
    return numbers, [float(time) for chunk in chunks for time in chunk.time_s]


def cut_out(path: Path, cut: Cut, target: Path, mode: str) -> Rendered | None:
    """The clip; None if copying says that it cannot be done, and has written nothing."""
    options = RenderOptions(mode=mode, encoder="libx264")
    try:
        return render_cuts(path, [cut], target, options=options)
    except FootageError as error:
        refusal = error.message
    assert mode == "copy"
    assert any(words in refusal for words in NOT_COPIED)
    assert refusal.endswith("Leave out --copy.")
    assert not list(target.parent.glob("*.part*"))
    assert not target.exists()
    return None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", each(GOOD))
def test_a_clip_holds_exactly_the_frames_of_its_cut(case: Case, mode: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    path = case.make(tmp_path)
    numbers, starts = [n for n, _ in case.frames], [float(t) for _, t in case.frames]
    for begin, end in PLACES:
        if end > len(numbers):
            continue
        end_s = starts[end] if end < len(starts) else starts[-1] + 0.04
        target = tmp_path / "out" / f"{begin}.mp4"
        made = cut_out(path, Cut(starts[begin], end_s, ()), target, mode)
        if made is None:
            continue
        first, after = begin, end
        if mode == "copy":
            # From the key frame before to the first clean point after: the cut says where.
            (cut,) = made.cuts
            inside = [k for k, s in enumerate(starts) if cut.start_s - 1e-3 <= s < cut.end_s - 1e-3]
            first, after = inside[0], inside[-1] + 1
            assert first <= begin
            assert after >= end
        got, times = shown_by(target)
        if case.name not in TWO_FIELDS or mode == "copy":
            assert got == numbers[first:after]
        expected = [start - starts[first] for start in starts[first:after]]
        assert [t - times[0] for t in times] == pytest.approx(expected, abs=2.1e-3)


CONTAINERS = {
    "h264.mp4": "libx264",
    "h264.ts": "libx264",
    "h264.mkv": "libx264",
    "h264.flv": "libx264",
    "hevc.ts": "libx265",
    "hevc.mkv": "libx265",
    "mpeg2.ts": "mpeg2video",
    "mpeg2.mpg": "mpeg2video",
    "mpeg4.avi": "mpeg4",
    "vp9.webm": "libvpx-vp9",
}
CODEC_OPTIONS = {
    "libx264": {"preset": "veryfast", "bf": "3", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=25:bframes=3"},
    "mpeg2video": {"bf": "2", "b": "2M"},
    "mpeg4": {"bf": "2", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
}


@pytest.mark.timeout(120)
@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CONTAINERS)
def test_the_sound_of_a_clip_stays_with_its_picture(name: str, mode: str, tmp_path: Path) -> None:
    codec = CONTAINERS[name]
    path = write_footage(
        tmp_path / name, seconds=8, codec=codec, options=CODEC_OPTIONS[codec], beep_every_s=1.0
    )
    (tmp_path / "out").mkdir()
    beeps = read_beeps(path)
    assert len(beeps) == 8
    for start_s, end_s in ((0.0, 1.4), (0.4, 2.6), (1.8, 4.3), (3.5, 5.2), (5.9, 7.6)):
        target = tmp_path / "out" / f"{start_s}.mp4"
        made = cut_out(path, Cut(start_s, end_s, ()), target, mode)
        if made is None:
            continue
        (cut,) = made.cuts
        heard = read_beeps(target)
        # Copied sound begins with the first whole packet: a beep at the very start may be cut.
        expected = [b - cut.start_s for b in beeps if cut.start_s + 0.03 <= b < cut.end_s - 0.05]
        for beep_s in expected:
            assert min(abs(beep_s - heard_s) for heard_s in heard) < 0.025
