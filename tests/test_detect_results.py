"""What a run of detection leaves to look at: reports, the match clock, other formats."""

from dataclasses import replace
from pathlib import Path

import pytest
import typer
from tiny import brightness_model, write_levels
from typer.testing import CliRunner

from touchline.pipeline.batch import detect_all
from touchline.pipeline.detect import DetectOptions
from touchline.pipeline.timing import MatchClock
from touchline.pipeline.write import WRITERS, read_events_json
from touchline.tools.console import LogLines
from touchline.tools.detect import detect_command

OPTIONS = DetectOptions(hop_s=0.25, device="cpu")

app = typer.Typer()
app.command()(detect_command)


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 16 Hz: bright in seconds 3 to 5 and 8 to 9.5."""
    levels = [20] * 48 + [235] * 32 + [20] * 48 + [235] * 24 + [20] * 40
    return write_levels(tmp_path_factory.mktemp("detect") / "match.mp4", levels)


def test_the_match_clock_of_a_run_is_kept_and_asked_for_again(match: Path, tmp_path: Path) -> None:
    clocks = {match: MatchClock({1: 2.0})}
    model = brightness_model()
    (result,) = detect_all([match], model, tmp_path, OPTIONS, clocks=clocks, report=True)
    assert result.error is None
    assert "clock" in (tmp_path / "match" / "events.csv").read_text().splitlines()[0]
    assert '"name":"1H"' in (tmp_path / "match" / "report.html").read_text()
    started: list[Path] = []
    for given in (clocks, {match: MatchClock({1: 1.0})}):
        list(
            detect_all(
                [match], model, tmp_path, OPTIONS, clocks=given, skip_done=True,
                on_start=started.append,
            )
        )  # fmt: skip
    assert started == [match]
    again = read_events_json(tmp_path / "match" / "events.json")
    assert again.options["match_clock"]["kickoff_s"] == {"1": 1.0}


def test_an_unknown_format_is_refused_before_anything_is_decoded(
    match: Path, tmp_path: Path
) -> None:
    run = detect_all([match], brightness_model(), tmp_path, OPTIONS, formats=["csv", "xls"])
    with pytest.raises(ValueError, match="no output format 'xls'"):
        next(run)


def test_a_format_that_refuses_the_footage_costs_itself_not_the_events(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(sheet: object) -> str:
        raise ValueError("no timecode at 16 frames per second")

    monkeypatch.setitem(WRITERS, "edl", replace(WRITERS["edl"], text=refuse))
    formats = ["edl", "csv", "json"]
    (result,) = detect_all(
        [match], brightness_model(), tmp_path, OPTIONS, formats=formats, report=True
    )
    assert "no timecode at 16" in str(result.error)
    assert {p.name for p in (tmp_path / "match").iterdir()} == {
        *("scores.npz", "events.csv", "events.json", "report.html")
    }


def test_logs_get_a_line_now_and_then_and_short_runs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("touchline.tools.console.time.monotonic", lambda: clock[0])
    log = LogLines(quiet=False)
    log.begin("[final].mp4")
    for now_s, done in ((59.0, 100.0), (90.0, 150.0), (140.0, 200.0), (180.0, 300.0)):
        clock[0] = now_s
        log.tell(done, 600.0)
    quiet = LogLines(quiet=True)
    quiet.begin("final.mp4")
    clock[0] = 900.0
    quiet.tell(1.0, 2.0)
    # 150 of 600 took 90 s: 270 s are left; 300 of 600 took 180 s.
    assert capsys.readouterr().err.splitlines() == [
        "[final].mp4: 25%, 0:04:30 left",
        "[final].mp4: 50%, 0:03:00 left",
    ]


def test_the_command_leaves_reports_formats_and_a_page_over_the_run(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This model's head is no part of any architecture, so that no checkpoint can hold it.
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    missing = tmp_path / "gone.mp4"
    out = tmp_path / "out"
    arguments = [match, missing, "--model", "bright", "-o", out, "--to", "csv,json,vtt",
                 "--kickoff", f"1={match.name}@0:00:02", "--hop", 0.25]  # fmt: skip
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})
    assert done.exit_code == 1, done.output
    assert {p.name for p in (out / "match").iterdir()} == {
        "events.csv",
        "events.json",
        "events.vtt",
        "report.html",
        "scores.npz",
    }
    index = (out / "index.html").read_text()
    assert 'href="./match/report.html"' in index
    assert "no such file" in index
    assert "1H 0:0" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
