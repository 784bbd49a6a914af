"""Clips and reels: what is refused before any work, which encoder is taken, how clips are named."""

import math
from pathlib import Path
from typing import Any

import pytest
from drawn_footage import write_footage
from footage_made import read_index, write_video

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.reels import encode
from touchline.pipeline.reels.coded_video import CodedVideo, exact_span
from touchline.pipeline.reels.encode import HARDWARE, SOFTWARE, choose_encoder, picture_format
from touchline.pipeline.reels.options import MODES, RenderOptions
from touchline.pipeline.reels.plan import Cut
from touchline.pipeline.reels.render import (
    clip_name,
    cut_clips,
    cut_reel,
    render_cuts,
)
from touchline.pipeline.types import Event

GOAL = Event("goal", 3.3, 4.1, 3.5, 0.9)


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 s at 25 fps, MP4."""
    return write_footage(tmp_path_factory.mktemp("footage") / "match.mp4", seconds=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"before_s": -1.0}, "before_s is -1.0"),
        ({"after_s": math.nan}, "after_s is nan"),
        ({"crossfade_s": math.inf}, "crossfade_s is inf"),
        ({"height_px": 0}, "height_px is 0"),
        ({"mode": "fast"}, "mode is 'fast'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RenderOptions(**options)


@pytest.mark.parametrize("max_s", [0.0, -1.0, math.nan])
def test_a_reel_without_length_is_refused(match: Path, tmp_path: Path, max_s: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        cut_reel(match, (GOAL,), tmp_path / "reel.mp4", max_s=max_s)


def test_events_of_another_file_are_reported_before_a_clip_is_written(
    match: Path, tmp_path: Path
) -> None:
    late = Event("goal", 500.0, 501.0, 500.5, 0.9)
    with pytest.raises(
        ValueError,
        match="Check that the events belong to this file",
    ):
        list(cut_clips(match, (GOAL, late), tmp_path / "clips"))
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize("mode", MODES)
def test_clips_and_reels_show_the_stream_asked_for(mode: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(50), streams=2, default_stream=0)
    options = RenderOptions(0.0, 0.0, mode=mode, stream=1)
    event = Event("goal", 0.96, 1.44, 1.2)
    made = [
        cut_reel(path, [event], tmp_path / "reel.mp4", options=options),
        *cut_clips(path, [event], tmp_path / "clips", options=options),
    ]
    for one in made:
        chunks = decode(one.path, rate_hz=None, size_px=96)
        numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
        # Key frames are 24 and 36: all modes cut there.
        assert numbers == list(range(1024, 1036))


def test_copying_refuses_what_needs_encoding() -> None:
    with pytest.raises(ValueError, match="Leave them out, or leave out --copy"):
        RenderOptions(mode="copy", titles=True)


def test_a_codec_that_mp4_does_not_take_is_refused_for_copying(tmp_path: Path) -> None:
    path = write_footage(tmp_path / "match.avi", seconds=3, codec="msmpeg4v3", options={"b": "4M"})
    with pytest.raises(FootageError, match="is msmpeg4v3, which cannot be copied into MP4"):
        render_cuts(
            path, [Cut(1.0, 2.0, ())], tmp_path / "c.mp4", options=RenderOptions(mode="copy")
        )
    assert [p.name for p in tmp_path.iterdir()] == ["match.avi"]


def test_the_machine_s_own_encoder_is_taken_where_it_works(
    match: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = {"h264_qsv", "h264_amf"}
    monkeypatch.setattr(encode.av, "codecs_available", {*HARDWARE, SOFTWARE})
    monkeypatch.setattr(encode, "_works", lambda name, picture: name in working)
    with CodedVideo(match) as video:
        picture = picture_format(video, exact_span(video, 1.0, 2.0))
    assert choose_encoder(picture, "auto") == "h264_qsv"
    assert choose_encoder(picture, "h264_amf") == "h264_amf"
    assert choose_encoder(picture, SOFTWARE) == SOFTWARE
    working.clear()
    assert choose_encoder(picture, "auto") == SOFTWARE


def test_an_encoder_that_does_not_work_is_refused_by_name(match: Path, tmp_path: Path) -> None:
    options = RenderOptions(mode="encode", encoder="h265_magic")
    with pytest.raises(ValueError, match="'h265_magic' does not work on this machine"):
        render_cuts(match, [Cut(1.0, 2.0, ())], tmp_path / "c.mp4", options=options)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("goal", "007-goal-1h02m03s.mp4"),
        ("../../etc/passwd", "007-etc-passwd-1h02m03s.mp4"),
        ("CON", "007-CON_-1h02m03s.mp4"),
        ('a<b>:"/\\|?*\x00\n', "007-a-b-1h02m03s.mp4"),
        ("Ärger 進球", "007-Ärger-進球-1h02m03s.mp4"),
        ("...", "007-event-1h02m03s.mp4"),
        ("x" * 300, "007-" + "x" * 120 + "-1h02m03s.mp4"),
        ("進" * 90, "007-" + "進" * 40 + "-1h02m03s.mp4"),
    ],
)
def test_names_of_clips_are_safe_on_every_file_system(label: str, name: str) -> None:
    assert clip_name(7, Event(label, 3723.9, 3724.0, 3724.0)) == name


@pytest.mark.parametrize(
    ("start_s", "end_s", "frames"),
    [
        (0.4, 0.8, range(10, 20)),
        # Frame 9 would be shown for 5 of its 40 ms, frame 20 for 5.
        (0.395, 0.805, range(10, 20)),
        (0.39, 0.81, range(9, 21)),
        # A cut always has a frame.
        (0.395, 0.4, range(9, 10)),
    ],
)
def test_a_sliver_of_a_frame_at_the_ends_of_a_cut_is_left_out(
    start_s: float, end_s: float, frames: range, match: Path
) -> None:
    with CodedVideo(match) as video:
        span = exact_span(video, start_s, end_s)
        assert [round(float(video.seconds(pts)) * 25) for pts in span.frame_pts] == list(frames)
