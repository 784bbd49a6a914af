"""touchline export, highlights and report, as they are called."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
import typer
from drawn_footage import read_video, write_footage
from footage_made import read_index, write_video
from typer.testing import CliRunner, Result

from touchline.models.errors import FootageError, LabelsError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.outputs.writers import WRITERS, write_result
from touchline.pipeline.types import Event
from touchline.tools.results.export import export_command
from touchline.tools.results.highlights import highlights_command
from touchline.tools.results.report import report_command

EVENTS = (
    Event("goal", 2.0, 4.0, 3.0, 0.9),
    Event("card", 9.0, 10.0, 9.5, 0.7),
    Event("goal", 14.0, 15.0, 14.5, 0.3),
)

app = typer.Typer()
app.command("export")(export_command)
app.command("highlights")(highlights_command)
app.command("report")(report_command)


def touchline(*arguments: object, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if fails:
        assert isinstance(result.exception, Exception)
    else:
        assert result.exception is None, result.exception
    return result


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_footage(tmp_path_factory.mktemp("footage") / "match.mp4", seconds=20)


@pytest.fixture
def events(footage: Path, tmp_path: Path) -> Path:
    result = MatchResult(footage, EVENTS, EVENTS[:2], probe_footage(footage))
    return write_result(result, tmp_path / "out" / "match", formats=["json"])[0]


def test_export_writes_all_formats_beside_the_events(events: Path) -> None:
    pytest.importorskip("opentimelineio")
    printed = touchline("export", events, "--to", "all").output
    # The Common Data Format needs --recorded.
    names = {writer.file_name for writer in WRITERS.values()} - {"video.json"}
    assert {path.name for path in events.parent.iterdir()} == names
    assert len(printed.splitlines()) >= len(names)


def test_export_lists_its_formats() -> None:
    printed = touchline("export").output
    assert all(name in printed for name in WRITERS)
    assert max(map(len, printed.splitlines())) <= 80


def test_export_of_events_as_csv_takes_rate_and_footage(events: Path, tmp_path: Path) -> None:
    touchline("export", events, "--to", "csv", "-o", tmp_path / "a")
    moved = (tmp_path / "a" / "events.csv").rename(tmp_path / "elsewhere.csv")
    text = moved.read_text().replace("match.mp4", "gone.mp4")
    moved.write_text(text)
    touchline("export", moved, "--to", "edl", "--rate", "50", "-o", tmp_path / "b")
    assert "00:00:02:00 00:00:04:00" in (tmp_path / "b" / "events.edl").read_text()
    footage = events.parent.parent.parent / "none.mp4"
    error = touchline("export", moved, "--to", "edl", "--footage", footage, fails=True).exception
    assert "no such file" in str(error)
    error = touchline("export", moved, "--to", "edl", "-o", tmp_path / "c", fails=True).exception
    assert "Give --footage or --rate" in str(error)


def test_export_of_a_csv_counts_from_the_start_timecode_of_the_footage_given(
    tmp_path: Path,
) -> None:
    rate = Fraction(30000, 1001)
    tape = write_footage(
        tmp_path / "tape.mov", seconds=8, rate=rate, metadata={"timecode": "10:00:58;00"}
    )
    (tmp_path / "spots.csv").write_text("video,label,start_s,end_s\ngone.mp4,goal,2.002,4.004\n")
    run = ("export", tmp_path / "spots.csv", "--to", "edl", "-o", tmp_path)
    touchline(*run, "--footage", tape)
    text = (tmp_path / "events.edl").read_text()
    # Frames 60 and 120 after 10:00:58;00; the minute drops numbers 00 and 01.
    assert "10:01:00;02 10:01:02;02" in text
    assert "FROM CLIP NAME: tape.mov" in text
    touchline(*run, "--rate", "29.97ndf")
    assert "00:00:02:00 00:00:04:00" in (tmp_path / "events.edl").read_text()


def test_export_shows_the_match_clock_of_halves_in_several_files(
    footage: Path, tmp_path: Path
) -> None:
    rows = []
    for half in ("first", "second"):
        path = tmp_path / f"{half}.mp4"
        path.write_bytes(footage.read_bytes())
        result = MatchResult(path, EVENTS[:1], EVENTS[:1])
        rows += write_result(result, tmp_path / half, formats=["json"])
    kickoffs = ["--kickoff", "1=first.mp4@0:00:01", "--kickoff", "2=second.mp4@0:00:02"]
    touchline("export", *rows, "--to", "vtt", "-o", tmp_path / "out", *kickoffs)
    first, second = ((tmp_path / "out" / h / "events.vtt").read_text() for h in ("first", "second"))
    assert "goal · 1H 0:02 · 90%" in first
    assert "goal · 2H 45:01 · 90%" in second
    error = touchline("export", *rows, "--to", "vtt", "--kickoff", "1=0:01", fails=True).exception
    assert "each kick-off must name its file" in str(error)


def test_a_kick_off_of_a_file_that_is_not_there_is_refused(events: Path, tmp_path: Path) -> None:
    for text, message in (
        ("1=mathc.mp4@0:01", "names mathc.mp4; the footage is match.mp4"),
        ("0:01", "must be PERIOD=H:MM:SS"),
    ):
        for command in (["export", "--to", "vtt"], ["report"]):
            error = touchline(*command, events, "--kickoff", text, fails=True).exception
            assert message in str(error)
    error = touchline("export", events, "--to", "vtt", "--period-min", 12, fails=True).exception
    assert "--period-min needs --kickoff" in str(error)


def test_export_never_writes_a_table_over_itself_nor_two_into_one(
    events: Path, tmp_path: Path
) -> None:
    touchline("export", events, "--to", "csv")
    table = events.with_name("events.csv")
    mine = table.read_text().replace("\n", ",mine\n")
    table.write_text(mine)
    error = touchline("export", table, "--to", "vtt,csv", fails=True).exception
    assert "would overwrite itself" in str(error)
    assert table.read_text() == mine
    assert not events.with_name("events.vtt").exists()
    table.write_text(mine + "other.mp4,goal,1,2,1.5,0.9,,,,\n")
    error = touchline("export", table, "--to", "vtt", fails=True).exception
    assert "files would overwrite each other" in str(error)
    touchline("export", table, "--to", "vtt", "-o", tmp_path / "apart")
    assert {p.name for p in (tmp_path / "apart").iterdir()} == {"match", "other"}


def test_variable_frame_rate_is_reported_with_the_rate_that_frames_are_counted_at(
    footage: Path, tmp_path: Path
) -> None:
    health = replace(probe_footage(footage), frame_rate="274/10", variable_rate=True)
    (events,) = write_result(
        MatchResult(footage, EVENTS, EVENTS, health), tmp_path, formats=["json"]
    )
    told = " ".join(touchline("export", events, "--to", "vtt,edl", "--quiet").stderr.split())
    assert "has a variable frame rate. Timecode in edl counts 29.97 frames per second" in told
    for options in (["--to", "vtt"], ["--to", "edl", "--rate", "25"]):
        assert touchline("export", events, *options).stderr == ""


def test_what_was_written_is_reported_as_json(events: Path, footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = ("export", events, "--to", "vtt,srt", "-o", out, "--json")
    assert json.loads(touchline(*run).stdout) == [f"{out}/events.vtt", f"{out}/events.srt"]
    assert json.loads(touchline("export", "--json").stdout)["edl"]["file"] == "events.edl"
    twice = touchline("report", events, events, "-o", out, fails=True).exception
    assert "reports would overwrite each other" in str(twice)
    other = tmp_path / "other.json"
    other.write_text(json.dumps(json.loads(events.read_text()) | {"video": "other.mp4"}))
    pages = json.loads(touchline("report", events, other, "-o", out, "--json").stdout)
    assert all(Path(page).is_file() for page in pages)
    assert pages[-1] == f"{out}/index.html"
    run = ("highlights", footage, events, "-o", out, "--copy", "--no-clips", "--json")
    (reel,) = json.loads(touchline(*run, "--kickoff", "1=0:00:02").stdout)
    assert [e["clock"] for cut in reel["cuts"] for e in cut["events"]] == ["1H 0:01", "1H 0:07"]
    with av.open(reel["path"]) as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert titles == ["goal 1H 0:01, card 1H 0:07"]


def test_moved_footage_keeps_what_was_found_in_it(footage: Path, tmp_path: Path) -> None:
    health = replace(probe_footage(footage), damaged_s=((1.0, 2.0),), actual_frames=500)
    result = MatchResult(tmp_path / "gone.mp4", EVENTS, EVENTS, health)
    (events,) = write_result(result, tmp_path, formats=["json"])
    touchline("export", events, "--to", "json", "--footage", footage)
    assert read_events_json(events).health == health
    other = write_footage(tmp_path / "other.mp4", seconds=3)
    touchline("export", events, "--to", "json", "--footage", other)
    found = read_events_json(events).health
    assert found is not None
    assert found.damaged_s == ()


def test_moved_footage_keeps_the_stream_that_was_looked_at(tmp_path: Path) -> None:
    match = write_video(tmp_path / "match.mp4", streams=2, default_stream=0)
    for stream in (0, 1):
        health = replace(probe_footage(match, stream=stream), damaged_s=((0.2, 0.4),))
        gone = MatchResult(tmp_path / "gone.mp4", EVENTS, EVENTS, health)
        (events,) = write_result(gone, tmp_path, formats=["json"])
        assert read_results(events, footage=match)[0].health == health
    # Another file without that stream: its own default one is looked at.
    other = write_video(tmp_path / "other.mp4", indices=range(50))
    found = read_results(events, footage=other)[0].health
    assert found is not None
    assert (found.stream_index, found.damaged_s) == (0, ())


def test_a_reel_is_never_written_over_the_footage(events: Path, footage: Path) -> None:
    reel = footage.with_name("reel.mp4")
    reel.write_bytes(footage.read_bytes())
    run = ("highlights", reel, events, "--no-clips", "--copy", "-o", reel.parent)
    assert "is the footage itself" in str(touchline(*run, fails=True).exception)
    assert reel.read_bytes() == footage.read_bytes()
    assert {p.name for p in reel.parent.iterdir()} == {"reel.mp4", footage.name}


def test_highlights_makes_clips_and_a_reel_of_the_accepted_events(
    footage: Path, events: Path, tmp_path: Path
) -> None:
    out = tmp_path / "show"
    options = ("--before", 1, "--after", 1, "--max-minutes", 0.05)
    made = json.loads(
        touchline("highlights", footage, events, "-o", out, *options, "--json").output
    )
    assert sorted(p.name for p in (out / "clips").iterdir()) == [
        "001-goal-0h00m02s.mp4",
        "002-card-0h00m09s.mp4",
    ]
    # Three seconds hold the card's cut and not the goal's of four.
    assert [e["label"] for cut in made[-1]["cuts"] for e in cut["events"]] == ["card"]
    assert read_video(out / "reel.mp4")[1] == list(range(200, 275))


def test_highlights_shows_the_stream_that_the_events_were_found_in(tmp_path: Path) -> None:
    match = write_video(tmp_path / "match.mp4", indices=range(100), streams=2, default_stream=0)
    health = probe_footage(match, stream=1)
    found = (Event("goal", 1.0, 2.0, 1.5, 0.9),)
    (events,) = write_result(MatchResult(match, found, found, health), tmp_path, formats=["json"])
    table = tmp_path / "events.csv"
    table.write_text("video,label,start_s,end_s\nmatch.mp4,goal,1,2\n")
    exactly = ("--before", 0, "--after", 0, "--no-clips")
    for name, asked, first in ((events, (), 1025), (table, ("--stream", 1), 1025), (table, (), 25)):
        touchline("highlights", match, name, "-o", tmp_path, *exactly, *asked)
        chunks = decode(tmp_path / "reel.mp4", rate_hz=None, size_px=96)
        numbers = [read_index(pixels) for chunk in chunks for pixels in chunk.pixels]
        assert numbers == list(range(first, first + 25))
    wrong = touchline("highlights", match, table, "-o", tmp_path, "--stream", 7, fails=True)
    assert "the video streams of this file are 0, 1" in str(wrong.exception)


def test_highlights_takes_classes_and_weights(footage: Path, events: Path, tmp_path: Path) -> None:
    run = ("highlights", footage, events, "--no-clips", "--json", "--copy", "-o")
    made = json.loads(touchline(*run, tmp_path / "a", "--only", "goal").output)
    assert [e["label"] for cut in made[0]["cuts"] for e in cut["events"]] == ["goal"]
    assert made[0]["num_encoded"] == 0
    made = json.loads(touchline(*run, tmp_path / "b", "--weight", "goal=0").output)
    assert [e["label"] for cut in made[0]["cuts"] for e in cut["events"]] == ["card"]
    for bad, message in (
        (["--only", "gaol"], "no event has the class 'gaol'"),
        (["--weight", "goal"], "must be CLASS=FACTOR"),
        (["--weight", "gaol=2"], "no event has the class 'gaol'"),
        (["--max-minutes", "0"], "--max-minutes is 0; it must be more than 0"),
        (["--titles"], "or leave out --copy"),
        (["--encode"], "--copy and --encode exclude each other"),
        (["--no-reel"], "leave nothing to write"),
    ):
        assert message in str(touchline(*run, tmp_path / "c", *bad, fails=True).exception)


def test_highlights_says_what_it_made(footage: Path, events: Path, tmp_path: Path) -> None:
    printed = touchline("highlights", footage, events, "-o", tmp_path / "show", "--copy").output
    assert "2 clips" in printed
    assert "2 of 2 events" in printed
    assert printed.rstrip().endswith("copied")
    again = ("highlights", footage, events, "-o", tmp_path / "show", "--copy", "-q")
    assert touchline(*again).output == ""
    (tmp_path / "show" / "clips" / "007-goal-0h00m03s.mp4").touch()
    warned = touchline(
        "highlights", footage, events, "-o", tmp_path / "show", "--copy", "-q"
    ).output
    assert "also holds 1 other MP4 files, such as 007-goal-0h00m03s.mp4" in " ".join(warned.split())


def test_events_without_any_accepted_make_no_reel(footage: Path, tmp_path: Path) -> None:
    (events,) = write_result(MatchResult(footage, EVENTS), tmp_path, formats=["json"])
    error = touchline("highlights", footage, events, "-o", tmp_path, fails=True).exception
    assert "holds no accepted event" in str(error)


def test_report_is_made_again_with_labels_and_a_proxy(
    footage: Path, events: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label,start_s,end_s\nmatch.mp4,goal,2.5,3.5\n")
    printed = touchline("report", events, "--labels", labels, "--proxy").output
    page = events.with_name("report.html")
    assert page.name in printed
    text = page.read_text()
    assert "Compared with the labels" in text
    assert "E2E-Spot: mAP at a tolerance" in text
    with av.open(str(events.with_name("proxy.mp4"))) as container:
        assert container.streams.video[0].height <= 360


def test_a_report_without_its_footage_says_so(footage: Path, tmp_path: Path) -> None:
    (events,) = write_result(
        MatchResult(tmp_path / "moved.mp4", EVENTS, EVENTS), tmp_path / "out", formats=["json"]
    )
    told = " ".join(touchline("report", events).stderr.split())
    assert "moved.mp4 does not exist, so the report has no thumbnails. Say where" in told
    assert "with --footage." in told
    assert touchline("report", events, "--footage", footage).stderr == ""
    assert "data:image/jpeg" in events.with_name("report.html").read_text()


def test_reports_of_several_matches_get_a_page_over_them(footage: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("a", "b"):
        result = MatchResult(footage, EVENTS, EVENTS, probe_footage(footage))
        rows += write_result(result, tmp_path / "out" / name, formats=["json"])
    touchline("report", *rows, "-q")
    text = (tmp_path / "out" / "index.html").read_text()
    assert 'href="./a/report.html"' in text
    assert 'href="./b/report.html"' in text


BAD_EVENTS = {
    "missing.json": None,
    "empty.json": b"",
    "truncated.json": b'{"version": 1, "video": "m.mp4", "events": [{"label": "go',
    "latin1.json": b'{"version": 1, "video": "m.mp4", "events": [], "note": "\xe4"}',
    "folder.json": "folder",
    "clip.mp4": b"\x00\x01\x02",
    "empty.csv": b"",
    "latin1.csv": b"video,label,start_s,end_s\nm.mp4,\xe4rger,1,2\n",
    "column.csv": b"video,lable,start_s,end_s\nm.mp4,goal,1,2\n",
    "times.csv": b"video,label,start_s,end_s\nm.mp4,goal,5,3\n",
    "whole.csv": b"video,label\nm.mp4,goal\n",
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_bad_events_are_refused_by_name_and_leave_nothing(
    footage: Path, tmp_path: Path, name: str
) -> None:
    bad = tmp_path / name
    content = BAD_EVENTS[name]
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content is not None:
        bad.mkdir()
    out = tmp_path / "out"
    for command in (
        ["export", bad, "--to", "vtt", "-o", out],
        ["report", bad, "-o", out],
        ["highlights", footage, bad, "-o", out],
    ):
        error = touchline(*command, fails=True).exception
        assert isinstance(error, LabelsError), (command, repr(error))
        assert error.path.startswith(str(bad))
        assert not out.exists()


def test_labels_without_times_are_refused_with_what_to_do(events: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.csv"
    whole.write_text("video,label,start_s,end_s\nm.mp4,goal,,\n")
    for command in (
        ["export", whole, "--to", "vtt"],
        ["report", whole],
        ["report", events, "--labels", whole],
    ):
        message = str(touchline(*command, fails=True).exception)
        assert message.startswith(f"{whole} line 2: the label has no times, so it cannot be placed")
        assert "Give labels with start_s and end_s." in message


BAD_FOOTAGE = {"missing.mp4": None, "empty.mp4": b"", "text.mp4": b"hello", "cut.mp4": 2000}


@pytest.mark.parametrize("name", BAD_FOOTAGE)
def test_bad_footage_is_refused_by_name_and_leaves_nothing(
    footage: Path, events: Path, tmp_path: Path, name: str
) -> None:
    bad = tmp_path / name
    content = BAD_FOOTAGE[name]
    if content is not None:
        bad.write_bytes(content if isinstance(content, bytes) else footage.read_bytes()[:content])
    out = tmp_path / "show"
    for command in (
        ["highlights", bad, events, "-o", out],
        ["export", events, "--to", "edl", "--footage", bad, "-o", out],
        ["report", events, "--footage", bad, "-o", out],
    ):
        error = touchline(*command, fails=True).exception
        assert isinstance(error, FootageError), (command, repr(error))
        assert error.path == str(bad)
        assert not out.exists()


def test_a_format_that_cannot_hold_the_footage_leaves_the_others(tmp_path: Path) -> None:
    write_footage(tmp_path / "slow.mp4", seconds=4, rate=Fraction(15))
    (tmp_path / "spots.csv").write_text("video,label,start_s,end_s\nslow.mp4,goal,1,2\n")
    spots = str(tmp_path / "spots.csv")

    def export(*arguments: object) -> Result:
        return CliRunner().invoke(app, ["export", spots, *map(str, arguments)])

    every = export("--to", "all", "-o", tmp_path / "all")
    assert every.exit_code == 0
    written = {path.name for path in (tmp_path / "all").iterdir()}
    assert {writer.file_name for writer in WRITERS.values()} - written == {
        "events.edl",
        "premiere.xml",
        "markers.edl",
        "premiere_markers.csv",
        "video.json",
    }
    told = " ".join(every.stderr.split())
    assert "no events.edl." in told
    for name in ("edl", "premiere", "resolve-markers", "premiere-markers"):
        # Every second frame at 30 per second is one at 15.
        assert f"touchline export --to {name} --rate 30." in told
    some = export("--to", "edl,vtt", "-o", tmp_path / "some")
    assert some.exit_code == 1
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["events.vtt"]
    assert export("--to", "edl", "--rate", 30, "-o", tmp_path / "some").exit_code == 0


@pytest.mark.parametrize("command", ["export", "report", "highlights"])
def test_a_kick_off_after_the_end_of_the_footage_is_refused(
    events: Path, footage: Path, tmp_path: Path, command: str
) -> None:
    given = [footage, events] if command == "highlights" else [events]
    given += ["--to", "vtt"] if command == "export" else []
    given += ["-o", tmp_path / "x", "--kickoff", "2=0:00:20"]
    error = touchline(command, *given, fails=True).exception
    assert "period 2 kicks off at 0:00:20.000, but match.mp4 ends at 0:00:20.000" in str(error)
    assert not (tmp_path / "x").exists()


def test_options_of_highlights_that_would_have_no_effect_are_reported(
    events: Path, footage: Path, tmp_path: Path
) -> None:
    given = ("highlights", footage, events, "-o", tmp_path / "cut", "--no-reel")
    error = touchline(*given, "--font", "x.ttf", fails=True).exception
    assert str(error) == "--font is for titles. Add --titles, or leave it out."
    error = touchline(*given, "--copy", "--encoder", "libx264", fails=True).exception
    assert "--encoder has no effect with --copy" in str(error)
    told = touchline(*given, "--encoder", "libx264").stderr
    assert "--encoder has no effect where cuts need no encoding" in " ".join(told.split())
    assert touchline(*given, "--encoder", "libx264", "--encode").stderr == ""


def test_rolls_and_ascii_are_options_of_export(footage: Path, tmp_path: Path) -> None:
    moments = (Event("Tor für A", 8.0, 8.0, 8.0), Event("card", 12.0, 12.0, 12.0))
    result = MatchResult(footage, moments, moments, probe_footage(footage))
    (events,) = write_result(result, tmp_path, formats=["json"])
    rolls = ("--roll", "1,2", "--roll", "card=3,0.5", "--ascii")
    touchline("export", events, "--to", "sportscode", *rolls)
    instances = list(ElementTree.parse(tmp_path / "sportscode.xml").iter("instance"))
    assert [[one.findtext(name) for name in ("code", "start", "end")] for one in instances] == [
        ["Tor f?r A", "7.000000", "10.000000"],
        ["card", "9.000000", "12.500000"],
    ]


def test_export_writes_beside_the_video_and_never_over_a_project(
    events: Path, footage: Path, tmp_path: Path
) -> None:
    project = footage.with_name("match-proj.llc")
    try:
        printed = touchline("export", events, "--to", "losslesscut", "--beside-video").output
        assert printed.split() == [str(project)]
        again = touchline(
            "export", events, "--to", "losslesscut", "--beside-video", fails=True
        ).exception
        assert "match-proj.llc is there already" in str(again)
    finally:
        project.unlink(missing_ok=True)
    elsewhere = ("--to", "losslesscut", "--beside-video", "-o", tmp_path)
    error = touchline("export", events, *elsewhere, fails=True).exception
    assert "--beside-video writes beside the video" in str(error)


def test_export_writes_the_common_data_format_if_the_time_is_given(events: Path) -> None:
    given = ("--kickoff", "1=0:00:02", "--recorded", "2026-05-10T19:45:00Z")
    touchline("export", events, "--to", "cdf", *given)
    document = json.loads((events.parent / "video.json").read_text())
    assert [whistle["video_time"] for whistle in document["whistles"]] == [2000]
    error = touchline("export", events, "--to", "cdf", fails=True).exception
    assert "Give --kickoff" in str(error)
