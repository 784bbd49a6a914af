"""The command `touchline evaluate`, as its user meets it."""

import json

import numpy as np
import pytest
import typer
from calibration_material import make_season, two_event_model
from typer.testing import CliRunner

from touchline.models.errors import LabelsError
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event
from touchline.tools.results.evaluate import evaluate_command

app = typer.Typer()
app.command()(evaluate_command)


def run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code, result.exception if code == 0 else None) == (code, None)
    return result


def refusal(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, ValueError)
    return str(result.exception)


def told(printed):
    """Without the breaks of lines."""
    return " ".join(printed.split())


@pytest.fixture
def season(tmp_path):
    """Labels of three matches, one goal and one card each, and two output folders of detect."""
    rows = ["video,label,start_s,end_s,group"]
    for m in range(3):
        rows += [f"m{m}.mp4,goal,10,14,m{m}", f"m{m}.mp4,card,50,54,m{m}"]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    for out, found in (("good", ("goal", "card")), ("half", ("goal",))):
        for m in range(3):
            times = {"goal": (10.0, 14.0, 12.0), "card": (50.0, 54.0, 52.0)}
            events = tuple(Event(label, *times[label], 0.9) for label in found)
            low = Event("goal", 90.0, 92.0, 91.0, 0.1)
            result = MatchResult(tmp_path / f"m{m}.mp4", (*events, low), events)
            write_result(result, tmp_path / out / f"m{m}")
    return tmp_path


def test_an_output_folder_is_measured_against_labels(season):
    out = season / "metrics.json"
    printed = run(season / "half", season / "labels.csv", "-o", out).stdout
    record = json.loads(out.read_text())
    spotting = record["metrics"]["spotting"]
    assert spotting["value"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert spotting["per_class"]["card"]["average"]["value"] == 0
    assert spotting["per_class"]["goal"]["predictions"] == 6  # candidates too
    errors = record["errors"][0]["per_class"]
    assert (errors["goal"]["hit"], errors["goal"]["false"], errors["card"]["missed"]) == (3, 0, 3)
    assert "average 0.500 [0.500, 0.500]" in printed
    narrow = "95 % confidence intervals from 3 matches. Fewer than 10 make them too narrow"
    assert narrow in told(printed)


def test_results_of_several_models_in_one_folder_are_warned_of(season):
    def written_by(m, sha256, path):
        video = season / f"m{m}.mp4"
        result = MatchResult(
            video,
            options=AppliedOptions(hop_s=0.5),
            model=ModelSummary(sha256=sha256, path=path),
            clock=MatchClock({1: m}),
        )
        write_result(result, season / "mixed" / f"m{m}")

    for m in range(3):
        written_by(m, "1" * 64, f"there/{m}.safetensors")
    assert "warning" not in run(season / "mixed", season / "labels.csv").stderr
    written_by(2, "2" * 64, "there/2.safetensors")
    warned = run(season / "mixed", season / "labels.csv").stderr
    assert "mixed mixes results of 2 different models or options" in told(warned)


def test_figures_are_printed_as_json_or_not_at_all(season):
    out, labels = season / "metrics.json", season / "labels.csv"
    printed = run(season / "half", labels, "-o", out, "--json").stdout
    assert json.loads(printed) == json.loads(out.read_text())
    compared = ("--compare", season / "half", season / "good", labels)
    assert "spotting" in json.loads(run(*compared, "--json").stdout)
    for quiet in ((season / "half", labels), compared):
        assert run(*quiet, "--quiet").stdout == ""


def test_detections_can_stand_for_labels(season):
    out = season / "metrics.json"
    run(season / "good", season / "good", "-o", out, "--quiet", "--metric", "spotting")
    # What was not accepted is no truth, but stays a prediction.
    goal = json.loads(out.read_text())["metrics"]["spotting"]["per_class"]["goal"]
    assert (goal["truth"], goal["predictions"], goal["average"]["value"]) == (3, 6, 1.0)


def test_two_sets_of_predictions_are_compared(season):
    out = season / "compared.json"
    printed = run("--compare", season / "half", season / "good", season / "labels.csv", "-o", out)
    found = json.loads(out.read_text())["spotting"]
    assert found["difference"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["p"] == 2 / 2**3
    assert "too few to test" in told(printed.stdout)
    assert "95 % confidence intervals from 3 matches. Fewer than 10" in told(printed.stdout)
    assert "Fewer than 10" in json.loads(out.read_text())["intervals"]


def test_without_resamples_no_intervals_are_claimed(season):
    printed = run(season / "half", season / "labels.csv", "--resamples", 0).stdout
    assert "3 videos. No confidence intervals: resamples is 0" in told(printed)
    pair = (season / "half", season / "good")
    printed = run("--compare", *pair, season / "labels.csv", "--resamples", 0).stdout
    assert "not tested: resamples is 0" in told(printed)
    assert "one match" not in told(printed)


def test_curves_are_drawn_for_every_metric(season):
    run(season / "good", season / "labels.csv", "--curves", season / "curves", "--quiet")
    for name in ("spotting", "activitynet"):
        assert (season / "curves" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_videos_without_labels_are_refused_until_their_meaning_is_said(season):
    labels = season / "labels.csv"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join(lines[:-2]) + "\n")
    assert "m2.mp4" in refusal(season / "good", labels)
    out = season / "metrics.json"
    for meaning, false in (("false", 1), ("skip", 0)):
        run(season / "good", labels, "--unlabelled", meaning, "-o", out, "--quiet")
        errors = json.loads(out.read_text())["errors"][0]["per_class"]
        assert (errors["goal"]["false"], errors["card"]["false"]) == (false, false)


def test_nothing_predicted_is_measured_as_everything_missed(season):
    (season / "none.csv").write_text("video,label,start_s,end_s,group\n")
    result = run(season / "none.csv", season / "labels.csv", "-o", season / "m.json")
    assert "missed +1.000" in result.stdout
    assert "nan" not in result.stdout
    assert "no predictions for 3 labelled videos" in " ".join(result.stderr.split())
    assert json.loads((season / "m.json").read_text())["errors"][0]["gained_by_correcting"] == {
        "mistimed": 0,
        "wrong_class": 0,
        "duplicate": 0,
        "false": 0,
        "missed": 1,
    }


def test_labels_without_an_event_are_refused_by_name(season):
    empty = season / "empty.csv"
    empty.write_text("video,label,start_s,end_s,group\n")
    assert f"{empty} holds no event" in refusal(season / "good", empty)
    empty.write_text("video,label,start_s,end_s,group\nm0.mp4,background,0,90,m0\n")
    assert f"{empty} holds no event" in refusal(season / "good", empty)


def test_only_verified_stretches_are_judged_and_the_rest_is_reported(season):
    rows = ["m0.mp4,verified,0,30,m0", "m1.mp4,verified,,,m1"]
    labels = season / "labels.csv"
    labels.write_text(labels.read_text() + "\n".join(rows) + "\n")
    out = season / "metrics.json"
    # Without the card at 52 s, and without a third match that nobody verified.
    result = run(season / "good", labels, "--resamples", 0, "-o", out)
    errors = json.loads(out.read_text())["errors"][0]["per_class"]
    assert (errors["goal"]["hit"], errors["card"]["hit"]) == (2, 1)
    assert (errors["goal"]["false"], errors["goal"]["missed"], errors["card"]["missed"]) == (
        0,
        0,
        0,
    )
    assert "3 events of" in told(result.stderr)
    assert "labels.csv outside of the verified stretches: left out" in told(result.stderr)
    # The cards of two matches, and what is below the threshold in the two that are left out.
    assert "5 predictions outside of the verified stretches: neither" in told(result.stderr)


def test_footage_and_checkpoints_are_no_events(season):
    for name, word in (("m0.mp4", "detect"), ("model.safetensors", "--model")):
        result = CliRunner().invoke(app, [str(season / name), str(season / "labels.csv")])
        assert isinstance(result.exception, LabelsError)
        assert word in str(result.exception)


def test_the_printed_tables_fit_eighty_columns(season):
    printed = run(season / "good", season / "labels.csv", "--metric", "soccernet-loose").stdout
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_arguments_that_do_not_fit_are_refused(season):
    assert "PREDICTIONS and LABELS" in refusal(season / "labels.csv")
    assert "LABELS alone" in refusal("--model", "x.safetensors", "a", "b")
    assert "--unlabelled" in refusal(season / "good", season / "labels.csv", "--unlabelled", "no")
    assert "soccernet-tight" in refusal(
        season / "good", season / "labels.csv", "--metric", "soccernet"
    )


@pytest.fixture
def clips(tmp_path):
    """Clips of two classes in three matches, one of them trained on, and an untouched model."""
    return make_season(tmp_path, two_event_model())


def test_a_checkpoint_is_evaluated_on_clips_it_never_saw(clips):
    out = clips / "metrics.json"
    result = run(
        *("--model", clips / "model.safetensors", clips / "labels.csv", "-o", out),
    )
    record = json.loads(out.read_text())
    assert (record["clips"], record["resampled"]) == (6, {"number": 2, "unit": "matches"})
    assert np.array(record["confusion_matrix"]).sum() == 6
    assert record["figures"]["top5"]["value"] == 1.0
    assert "trained on (A)" in " ".join(result.stderr.split())


def test_two_checkpoints_are_compared_on_the_same_clips(clips):
    same = clips / "model.safetensors"
    result = run("--compare", same, same, clips / "labels.csv")
    assert "too few to test" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--model", "m.safetensors", "--metric", "spotting"], "--metric"),
        (["--model", "m.safetensors", "--tolerance", 2, "--block", 20], "--tolerance and --block"),
        (["--compare", "a.safetensors", "b.safetensors", "--unlabelled", "skip"], "--unlabelled"),
        (["--compare", "good", "half", "--curves", "c"], "--curves"),
        (["--compare", "good", "half", "--max-clip", 2], "--max-clip"),
    ],
)
def test_options_that_would_have_no_effect_are_refused(season, options, named):
    assert refusal(season / "labels.csv", *options).startswith(f"{named} would have no effect here")
