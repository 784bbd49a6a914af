"""The health report: declared against actual, damage, and the command that prints it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest
import typer
from footage_bad_cases import CASES, long_video
from footage_cases import Case
from footage_made import write_video
from typer.testing import CliRunner

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.probe import PROBE_TASK, probe_footage, probe_here
from touchline.pipeline.footage.isolation import run_isolated
from touchline.pipeline.footage.log import DecodeLog
from touchline.tools.probe import probe_command

F = Fraction
pytestmark = pytest.mark.timeout(150)


def made(name: str, folder: Path) -> Path:
    return next(case for case in CASES if case.name == name).make(folder)


@pytest.mark.parametrize("isolation", [True, False])
def test_an_ordinary_file_is_what_it_declares(isolation: bool, tmp_path: Path):
    path = made("h264_b_frames.mp4", tmp_path)
    health = probe_footage(path, depth="frames", isolation=isolation)
    assert (health.codec, health.width, health.height) == ("h264", 128, 96)
    assert health.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert (health.frame_rate, health.variable_rate) == ("25/1", False)
    assert (health.num_frames, health.actual_frames) == (25, 25)
    assert (health.duration_s, health.actual_duration_s) == (1.0, 1.0)
    assert (health.damaged_s, health.gaps_s, health.warnings) == ((), (), ())
    assert health.verdict == "ok"


@pytest.mark.parametrize("case", [c for c in CASES if c.outcome == "ok" and c.frames], ids=str)
def test_the_first_frame_is_shown_when_it_is_declared(case: Case, tmp_path: Path):
    health = probe_footage(case.make(tmp_path), isolation=False)
    assert health.first_frame_s == pytest.approx(float(case.frames[0][1]), abs=2e-3)


def test_a_recording_that_does_not_say_its_length_is_read_for_it(tmp_path: Path):
    path = write_video(tmp_path / "live.mkv", indices=range(50), muxer={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
    for depth in ("headers", "packets", "frames"):
        assert probe_footage(path, depth=depth).duration_s == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("isolation", [True, False])
def test_reading_a_recording_for_its_length_is_progress(isolation: bool, tmp_path: Path):
    # What is counted in this log is what keeps the worker from being taken for a hanging one.
    path = write_video(tmp_path / "live.mkv", indices=range(50), muxer={"live": "1"})
    log, arguments = DecodeLog(), {"path": str(path), "depth": "headers", "stream": None}
    if isolation:
        list(run_isolated(PROBE_TASK, arguments, path=path, log=log))
    else:
        list(probe_here(log, **arguments))
    assert log.num_packets == 50


def test_headers_alone_say_nothing_of_what_is_in_the_file(tmp_path: Path):
    health = probe_footage(made("h264.mkv", tmp_path))
    assert health.actual_frames is None
    assert health.actual_duration_s is None
    assert health.frame_rate == "25/1"


@pytest.mark.parametrize("depth", ["packets", "frames"])
def test_frames_that_an_edit_list_hides_are_declared_but_not_there(depth: str, tmp_path: Path):
    health = probe_footage(made("edit_list_cuts_the_start.mp4", tmp_path), depth=depth)
    assert (health.num_frames, health.actual_frames) == (25, 15)
    assert health.actual_duration_s == pytest.approx(0.6)


@pytest.mark.parametrize("depth", ["packets", "frames"])
@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv", "vfr.ts"])
def test_a_variable_rate_is_called_so(name: str, depth: str, tmp_path: Path):
    health = probe_footage(made(name, tmp_path), depth=depth)
    assert health.variable_rate
    assert health.frame_rate is None


@pytest.mark.parametrize("name", ["rate_29.97.mp4", "rate_29.97.mkv", "rate_29.97.ts"])
def test_a_constant_rate_is_an_exact_fraction(name: str, tmp_path: Path):
    health = probe_footage(made(name, tmp_path), depth="frames")
    assert not health.variable_rate
    assert health.frame_rate == "30000/1001"


def test_a_rate_is_told_from_its_neighbour_by_the_timestamps(tmp_path: Path):
    # 30 is declared, and over 4 s its frames would come 4 ms earlier.
    stamps = [F(k * 1001, 30_000) for k in range(120)]
    path = write_video(
        tmp_path / "a.mkv", indices=range(120), rate=30, stamps=stamps, time_base=F(1, 1000)
    )
    assert probe_footage(path).frame_rate == "30/1"
    assert probe_footage(path, depth="packets").frame_rate == "30000/1001"


def test_the_raw_start_is_kept(tmp_path: Path):
    health = probe_footage(made("far_start.ts", tmp_path), depth="packets")
    # The muxer adds its delay of 1.4 s.
    assert health.start_s == pytest.approx(36_000, abs=2)
    assert health.actual_duration_s == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("interlaced_h264.mp4", {"interlaced": True}),
        ("turned_90.mp4", {"turned": True}),
        ("wide_pixels.mp4", {"pixel_aspect": "2/1"}),
        ("hdr10.mp4", {"dynamic_range": "HDR10", "pixel_format": "yuv420p10le"}),
        ("hlg.mp4", {"dynamic_range": "HLG"}),
        ("second_is_default.mkv", {"stream_index": 1, "verdict": "warnings"}),
    ],
)
def test_what_is_special_about_the_pictures_is_reported(
    name: str, facts: dict[str, object], tmp_path: Path
):
    health = probe_footage(made(name, tmp_path), depth="frames")
    assert {key: getattr(health, key) for key in facts} == facts


def test_another_stream_can_be_looked_at(tmp_path: Path):
    path = made("second_is_default.mkv", tmp_path)
    assert probe_footage(path, stream=0).stream_index == 0
    with pytest.raises(ValueError, match="stream is 7; the video streams of this file are 0, 1"):
        probe_footage(path, stream=7)


def test_damaged_spans_stand_in_the_report(tmp_path: Path):
    health = probe_footage(made("one_packet_spoilt.mp4", tmp_path), depth="frames")
    # Frame 30 is spoilt, the next key frame is 40.
    ((start, end),) = health.damaged_s
    assert start == pytest.approx(1.2)
    assert end == pytest.approx(1.6)
    assert health.verdict == "damaged"


def test_a_recording_that_was_cut_off_declares_more_than_it_has(tmp_path: Path):
    health = probe_footage(made("cut_off_faststart.mp4", tmp_path), depth="frames")
    assert (health.num_frames, health.actual_frames) == (100, 50)
    assert health.actual_duration_s == pytest.approx(2.0)
    assert health.warnings == ("ends early: at 2.000 s. The headers declare 4.000 s.",)


def test_gaps_stand_in_the_report(tmp_path: Path):
    health = probe_footage(made("gap.mp4", tmp_path), depth="frames")
    ((start, end),) = health.gaps_s
    # The last frame before the gap is shown at 0.36 s for a usual interval; 10 comes at 5.4 s.
    assert start == pytest.approx(0.4, abs=0.2)
    assert end == pytest.approx(5.4)


def test_an_unknown_depth_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="it must be one of headers, packets, frames"):
        probe_footage(tmp_path / "a.mp4", depth="deep")


# --- the command ----------------------------------------------------------------------------------


def probe(*arguments: str | Path):
    app = typer.Typer()
    app.command()(probe_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_table_shows_declared_and_actual(tmp_path: Path):
    result = probe(made("cut_off_faststart.mp4", tmp_path))
    assert result.exit_code == 0
    for words in ("a.mp4", "50, 100 declared", "2.000 s, 4.000 s declared", "ends early"):
        assert words in result.output


def test_the_json_holds_a_report_for_every_file_and_the_exit_code_tells(tmp_path: Path):
    good = write_video(tmp_path / "good.mp4")
    bad = tmp_path / "bad.mp4"
    bad.write_text("nothing to see")
    spoilt = long_video(tmp_path / "long.mp4")
    result = probe("--json", good, bad, spoilt)
    reports = json.loads(result.output)
    assert result.exit_code == 1
    assert [report["verdict"] for report in reports] == ["ok", "refused", "ok"]
    assert reports[1] == {
        "path": str(bad),
        "verdict": "refused",
        "error": "a text file, not a video",
    }
    assert reports[2]["actual_frames"] == 100


def test_a_quick_look_does_not_claim_to_have_looked_for_damage(tmp_path: Path):
    result = probe("--quick", write_video(tmp_path / "a.mp4"))
    assert "not checked (--quick)" in result.output
    (report,) = json.loads(probe("--quick", "--json", tmp_path / "a.mp4").output)
    assert report["decoded"] is False
    assert report["actual_frames"] == 25


def test_a_name_that_looks_like_markup_is_printed_as_it_is(tmp_path: Path):
    result = probe(write_video(tmp_path / "[red]derby[bold].mp4"))
    assert result.exit_code == 0
    assert "[red]derby[bold].mp4" in result.output


def test_the_command_raises_no_error_class_for_a_bad_file(tmp_path: Path):
    result = probe(tmp_path / "missing.mp4")
    assert result.exit_code == 1
    assert "no such file" in result.output
    assert not isinstance(result.exception, FootageError)


@pytest.mark.parametrize("container", ["mov", "mkv"])
def test_the_start_timecode_is_read_whatever_the_case_of_its_name(container: str, tmp_path: Path):
    path = tmp_path / f"a.{container}"
    plain = write_video(tmp_path / "plain.mp4")
    with av.open(str(plain)) as reading, av.open(str(path), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        stream.metadata["timecode"] = "10:11:12:13"
        for packet in reading.demux(video=0):
            if packet.size:
                packet.stream = stream
                writing.mux(packet)
    assert probe_footage(path).start_timecode == "10:11:12:13"


def test_headers_say_how_a_picture_is_turned(tmp_path: Path):
    facts = {"turned_90.mp4": (True, True), "turned_180.mp4": (True, False)}
    facts |= {"mirrored.mp4": (True, False), "h264.mp4": (False, False)}
    for name, turned in facts.items():
        for depth in ("headers", "frames"):
            health = probe_footage(made(name, tmp_path), depth=depth)
            assert (health.turned, health.sideways) == turned
    assert probe_footage(made("turned_90.mp4", tmp_path)).shown_size == (128, 96)
