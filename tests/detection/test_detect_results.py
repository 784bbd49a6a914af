"""What a run of detection leaves to look at: reports, the match clock, other formats."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny import brightness_model, write_levels
from typer.testing import CliRunner

from touchline.models.training_record import PeakWidths
from touchline.pipeline.detection import batch
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event
from touchline.tools.detect import detect_command
from touchline.tools.results.report import report_command

OPTIONS = DetectOptions(hop_s=0.25, device="cpu")

app = typer.Typer()
app.command()(detect_command)


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
    assert again.clock == MatchClock({1: 1.0})


def test_an_unknown_format_is_refused_before_anything_is_decoded(
    match: Path, tmp_path: Path
) -> None:
    run = detect_all([match], brightness_model(), tmp_path, OPTIONS, formats=["csv", "xls"])
    with pytest.raises(ValueError, match="no output format 'xls'"):
        next(run)


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


def test_the_page_over_a_run_links_what_was_written(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    out, other = tmp_path / "out", write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)

    def beside_another_run(path: Path, *rest: Any, **more: Any) -> MatchResult:
        monkeypatch.undo()
        list(detect_all([other], brightness_model(), out, OPTIONS))
        return detect(path, *rest, **more)

    monkeypatch.setattr(batch, "detect", beside_another_run)
    arguments = [match, "--model", "bright", "-o", out, "--hop", 0.25, "--quiet"]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    (report,) = out.glob("*/report.html")
    assert report.parent != out / "match"
    assert f'href="./{report.parent.name}/report.html"' in (out / "index.html").read_text()


def test_a_page_over_several_runs_is_made_of_their_events(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    out, other = tmp_path / "out", write_levels(tmp_path / "other.mp4", [20] * 48 + [235] * 32)

    def linked() -> set[str]:
        return set(re.findall(r'href="(\S+/report\.html)"', (out / "index.html").read_text()))

    for footage in (match, other):
        arguments = [footage, "--model", "bright", "-o", out, "--hop", 0.25, "--quiet"]
        assert CliRunner().invoke(app, [str(a) for a in arguments]).exit_code == 0
        assert linked() == {f"./{footage.stem}/report.html"}
    report_command(sorted(out.glob("*/events.json")), quiet=True)
    assert linked() == {"./match/report.html", "./other/report.html"}


def test_the_command_s_options_decide_what_becomes_an_event(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda *_, **__: brightness_model())

    def found(*options: str) -> list[Event]:
        arguments = [
            str(match),
            "--model",
            "m",
            "-o",
            str(tmp_path),
            "--no-report",
            "--hop",
            "0.25",
        ]
        result = CliRunner().invoke(app, [*arguments, "-q", *options])
        assert result.exit_code == 0, result.output
        return list(read_events_json(tmp_path / "match" / "events.json").accepted)

    # Bright from 3 to 5 and from 8 to 9.5.
    first, second = found()
    assert 0 < first.end_s - first.start_s < 3
    spots = found("--spots")
    assert [spot.start_s == spot.end_s == spot.peak_s for spot in spots] == [True, True]
    assert [spot.peak_s for spot in spots] == pytest.approx([first.peak_s, second.peak_s], abs=0.3)
    assert found("--refractory", "6") == [first]
    assert found("--refractory", "4") == [first, second]
    (joined,) = found("--join", "5")
    assert (joined.start_s, joined.end_s) == (first.start_s, second.end_s)
    assert [e.end_s - e.start_s for e in found("--max-length", "1")] == pytest.approx([1, 1])
    assert found("--min-length", "4") == []
    (long, _) = found("--low", "0.05")
    assert long.end_s - long.start_s > first.end_s - first.start_s
    assert found("--nms", "6") in ([first], [second])
    weaker = found("--nms", "6", "--soft-nms")
    assert len(weaker) == 2
    assert min(e.score for e in weaker) < min(first.score, second.score)
    assert all(
        a.score > b.score for a, b in zip([first, second], found("--smooth", "1"), strict=True)
    )


def test_calibrated_widths_are_used_and_recorded_and_options_outweigh_them(
    match: Path, tmp_path: Path
) -> None:
    widths = {"bright": PeakWidths(smooth_s=1.0, nms_s=6.0)}
    model = replace(brightness_model(), widths=widths)
    spots = replace(OPTIONS, events=EventOptions(spots=True))
    # The two bright stretches peak about 4.8 s apart.
    plain, wide = detect(match, brightness_model(), spots), detect(match, model, spots)
    assert (len(plain.accepted), len(wide.accepted)) == (2, 1)
    near = detect(match, model, replace(OPTIONS, events=EventOptions(spots=True, nms_s=2.0)))
    assert len(near.accepted) == 2
    assert near.accepted[0].score < plain.accepted[0].score
    asked = EventOptions(spots=True, nms_s=2.0, smooth_s=0.25)
    assert detect(match, model, replace(OPTIONS, events=asked)).accepted == plain.accepted
    intervals = detect(match, model, OPTIONS)
    assert len(intervals.accepted) == 2
    (result,) = detect_all([match], model, tmp_path, spots, report=True)
    kept = read_events_json(tmp_path / "match" / "events.json")
    assert kept.options == result.options
    assert kept.options is not None
    assert kept.options.events == EventOptions(spots=True, widths=widths)
    assert "events.widths.bright.nms_s" in (tmp_path / "match" / "report.html").read_text()
    # With other widths, an earlier result is not the same.
    started: list[Path] = []
    again = replace(model, widths={"bright": PeakWidths(smooth_s=1.0, nms_s=5.0)})
    for one in (model, again):
        run = detect_all([match], one, tmp_path, spots, skip_done=True, on_start=started.append)
        list(run)
    assert started == [match]


def test_low_may_be_as_high_as_calibrated_thresholds(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lengths(thresholds: dict[str, float] | None, low: str) -> list[float]:
        model = replace(brightness_model(), thresholds=thresholds)
        monkeypatch.setattr("touchline.models.load.load_model", lambda *_, **__: model)
        arguments = [str(match), "--model", "m", "-o", str(tmp_path), "--no-report", "--hop"]
        result = CliRunner().invoke(app, [*arguments, "0.25", "-q", "--low", low])
        if thresholds is None:
            assert "low is 0.6; it must be in (0, 0.5]" in str(result.exception)
            return []
        assert result.exit_code == 0, result.output
        events = read_events_json(tmp_path / "match" / "events.json").accepted
        return [event.end_s - event.start_s for event in events]

    calibrated = {"bright": 0.8}
    at_06, at_02 = lengths(calibrated, "0.6"), lengths(calibrated, "0.2")
    assert len(at_06) == len(at_02) == 2
    assert all(a < b for a, b in zip(at_06, at_02, strict=True))
    assert lengths(None, "0.6") == []


def test_a_format_that_cannot_hold_the_footage_is_named_and_the_rest_written(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    arguments = [match, "--model", "bright", "-o", tmp_path / "out", "--to", "csv,edl,vtt",
                 "--hop", 0.25]  # fmt: skip
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert done.exit_code == 1
    assert {"events.csv", "events.vtt"} < {p.name for p in (tmp_path / "out/match").iterdir()}
    told = " ".join(done.stderr.split())
    assert told.count("no events.edl for match.mp4.") == 1
    assert "touchline export --to edl --rate 48" in told
    assert "1 of 1 file done" in done.stdout
    assert "1 file without edl" in " ".join(done.stdout.split())


def test_a_kick_off_after_the_end_of_the_footage_is_refused_before_decoding(
    match: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("touchline.models.load.load_model", lambda _, labels: brightness_model())
    arguments = [match, "--model", "bright", "-o", tmp_path / "out", "--kickoff", "1=0:50"]
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "period 1 kicks off at 0:00:50.000, but match.mp4 ends at" in str(done.exception)
    assert not (tmp_path / "out").exists()
