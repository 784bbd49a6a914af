"""touchline export, highlights and report, as they are called."""

import json
from pathlib import Path

import av
import pytest
import typer
from drawn_footage import read_video, write_footage
from typer.testing import CliRunner, Result

from touchline.pipeline.decode import probe_footage
from touchline.pipeline.types import Event, MatchResult
from touchline.pipeline.write import WRITERS, write_result
from touchline.tools.export import export_command
from touchline.tools.highlights import highlights_command
from touchline.tools.report import report_command

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
    names = {writer.file_name for writer in WRITERS.values()}
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
    assert "give --footage or --rate" in str(error)


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


def test_highlights_takes_classes_and_weights(footage: Path, events: Path, tmp_path: Path) -> None:
    run = ("highlights", footage, events, "--no-clips", "--json", "--copy", "-o")
    made = json.loads(touchline(*run, tmp_path / "a", "--only", "goal").output)
    assert [e["label"] for cut in made[0]["cuts"] for e in cut["events"]] == ["goal"]
    assert made[0]["num_encoded"] == 0
    made = json.loads(touchline(*run, tmp_path / "b", "--weight", "goal=0").output)
    assert [e["label"] for cut in made[0]["cuts"] for e in cut["events"]] == ["card"]
    for bad, message in (
        (["--only", "gaol"], "no event is a 'gaol'"),
        (["--weight", "goal"], "must be CLASS=FACTOR"),
        (["--weight", "gaol=2"], "no event is a 'gaol'"),
        (["--titles"], "leave out --copy"),
        (["--encode"], "exclude each other"),
        (["--no-reel"], "leave nothing to make"),
    ):
        assert message in str(touchline(*run, tmp_path / "c", *bad, fails=True).exception)


def test_highlights_says_what_it_made(footage: Path, events: Path, tmp_path: Path) -> None:
    printed = touchline("highlights", footage, events, "-o", tmp_path / "show", "--copy").output
    assert "2 clips" in printed
    assert "2 of 2 events" in printed
    assert printed.rstrip().endswith("copied")
    quiet = touchline("highlights", footage, events, "-o", tmp_path / "show", "--copy", "-q").output
    assert quiet == ""


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
    assert "spotting" in text
    with av.open(str(events.with_name("proxy.mp4"))) as container:
        assert container.streams.video[0].height <= 360


def test_reports_of_several_matches_get_a_page_over_them(footage: Path, tmp_path: Path) -> None:
    rows = []
    for name in ("a", "b"):
        result = MatchResult(footage, EVENTS, EVENTS, probe_footage(footage))
        rows += write_result(result, tmp_path / "out" / name, formats=["json"])
    touchline("report", *rows, "-q")
    text = (tmp_path / "out" / "index.html").read_text()
    assert 'href="./a/report.html"' in text
    assert 'href="./b/report.html"' in text


def test_bad_events_are_refused_by_name(tmp_path: Path) -> None:
    broken = tmp_path / "events.json"
    broken.write_text("{")
    for command in (["export", "--to", "vtt"], ["report"]):
        error = touchline(*command, broken, fails=True).exception
        assert str(error).startswith(str(broken))
