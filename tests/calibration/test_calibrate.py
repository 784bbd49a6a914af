"""Thresholds against values worked out by hand; the command end to end."""

import math
from dataclasses import replace

import numpy as np
import pytest
import typer
from calibration_material import (
    LABELS,
    RECORD,
    make_footage,
    make_season,
    scores_of,
)
from typer.testing import CliRunner

from touchline.models.checkpoint import load_checkpoint
from touchline.models.training_record import (
    CalibrationTarget,
    ThresholdChoice,
    TrainedGroups,
    TrainingRecord,
)
from touchline.pipeline.calibration.calibrate import calibrate, calibration_examples, refuse_trained
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.thresholds import (
    LEAST_THRESHOLD,
    choose_above,
    choose_for_rate,
    choose_threshold,
    common_threshold,
    join_curves,
    most_events_per_hour,
    window_curve,
)
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.types import Example, ScoreTrack
from touchline.tools.calibrate import calibrate_command

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
POSITIVE = np.array([True, True, False, True, False, False])


def test_the_best_f1_lies_halfway_to_the_next_window():
    # F1 down the list: 1/2, 4/5, 2/3, 6/7, 3/4, 2/3. Of 30 events none is as good as the fourth.
    many = window_curve(np.repeat(SCORES, 10), np.repeat(POSITIVE, 10))
    found = choose_threshold(many, Target("f1"))
    assert found.threshold == pytest.approx(0.55)
    assert (found.precision, found.recall, found.f1) == (0.75, 1.0, pytest.approx(6 / 7))
    assert found.positives == 30


def test_of_few_events_one_is_no_reason_to_leave_the_default():
    # Of 9 events that is 1/9: F1 may fall from 6/7 to 3/4, which .5 still has. Of 12 it is 1/12.
    few = window_curve(np.repeat(SCORES, 3), np.repeat(POSITIVE, 3))
    found = choose_threshold(few, Target("f1"))
    assert (found.threshold, found.f1) == (0.5, 0.75)
    more = window_curve(np.repeat(SCORES, 4), np.repeat(POSITIVE, 4))
    assert choose_threshold(more, Target("f1")).threshold == pytest.approx(0.55)
    # Counted twice, six events are still six.
    assert choose_threshold(more, Target("f1"), copies=2).threshold == 0.5


def test_all_classes_together_choose_what_each_starts_from():
    # Of both classes, what scores .3 is right and what scores .2 is false.
    plenty = window_curve(np.repeat([0.3, 0.2], 20), np.repeat([True, False], 20))
    rare = window_curve(np.repeat([0.3, 0.2], 3), np.repeat([True, False], 3))
    common = common_threshold([plenty, rare])
    assert common == pytest.approx(0.3)
    assert choose_threshold(rare, Target("f1"), common=common).threshold == pytest.approx(0.3)
    # F1 may fall by 2/13 to 0.87, but not by 2/15 to 0.8.
    for count, threshold in ((3, 0.3), (5, 0.15)):
        scores = np.concatenate([np.repeat(0.3, 10), np.repeat(0.15, count)])
        own = window_curve(scores, np.ones(len(scores), dtype=bool))
        found = choose_threshold(own, Target("f1"), common=common)
        assert found.threshold == pytest.approx(threshold)


def test_the_curve_of_all_classes_counts_each_at_the_same_threshold():
    first = window_curve(np.array([0.9, 0.4]), np.array([True, False]))
    second = window_curve(np.array([0.6, 0.4, 0.2]), np.array([True, True, False]))
    joined = join_curves([first, second])
    assert joined.score.tolist() == [0.9, 0.6, 0.4, 0.2]
    assert joined.hits.tolist() == [1, 2, 3, 3]
    assert joined.kept.tolist() == [1, 2, 4, 5]
    assert joined.num_positive == 3


def test_without_labelled_events_the_default_is_common():
    assert common_threshold([]) == 0.5
    assert common_threshold([], floor=0.7) == 0.7


def test_no_threshold_is_below_the_floor():
    curve = window_curve(np.repeat([0.4, 0.1], 20), np.repeat([True, False], 20))
    assert choose_threshold(curve, Target("f1")).threshold == 0.4
    found = choose_threshold(curve, Target("f1"), floor=0.5)
    assert (found.threshold, found.recall) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("right", "wrong", "threshold"),
    [
        (0.9, 0.1, 0.5),  # anything between them keeps the same
        (0.4, 0.1, 0.4),  # up to the lowest right one
        (0.9, 0.7, 0.8),  # down to halfway to the highest wrong one
    ],
)
def test_of_thresholds_that_keep_the_same_the_nearest_to_the_default_is_chosen(
    right, wrong, threshold
):
    curve = window_curve(np.repeat([right, wrong], 20), np.repeat([True, False], 20))
    found = choose_threshold(curve, Target("f1"))
    assert (found.threshold, found.f1) == (pytest.approx(threshold), 1.0)


def test_a_wanted_precision_is_reached_with_as_many_found_as_possible():
    strict = choose_threshold(window_curve(SCORES, POSITIVE), Target("precision", 0.9))
    assert (strict.threshold, strict.recall, strict.reached) == (0.75, pytest.approx(2 / 3), True)
    loose = choose_threshold(window_curve(SCORES, POSITIVE), Target("precision", 0.75))
    assert loose.threshold == pytest.approx(0.55)


def test_a_precision_out_of_reach_is_reported():
    curve = window_curve(np.array([0.9, 0.8]), np.array([False, True]))
    found = choose_threshold(curve, Target("precision", 0.9))
    assert not found.reached
    assert found.precision == 0.5


def test_equal_scores_are_kept_or_left_out_together():
    curve = window_curve(np.repeat([0.8, 0.2], [8, 4]), np.repeat([True, False, True], 4))
    found = choose_threshold(curve, Target("f1"))
    assert found.f1 == pytest.approx(0.8)
    assert found.threshold == pytest.approx(0.2)


def eventless(*peaks, hours=2.0):
    """A track without events of `goal`: one window in every ten has such a score."""
    N = 10 * len(peaks)
    probs = np.zeros((N, 3), dtype=np.float32)
    probs[5::10, 1] = peaks
    probs[:, 0] = 1 - probs[:, 1]
    hop_s = hours * 3600 / N
    start_s = np.arange(N) * hop_s
    return ScoreTrack(LABELS, start_s, start_s + hop_s, probs, np.zeros(N, dtype=bool))


SIX_FIVE_FOUR = window_curve(  # six right at .95, five wrong at .75, four right at .3
    np.repeat([0.95, 0.75, 0.3], [6, 5, 4]), np.repeat([True, False, True], [6, 5, 4])
)


@pytest.mark.parametrize(
    ("least", "threshold", "f1"),
    [
        (0.01, 0.3, 0.8),  # the best F1 of all: 10 of 10 found beside 5 wrong
        (0.2, 0.3, 0.8),
        (0.5, 0.85, 0.75),  # not .5, which gives 6 of 10 beside 5 wrong
        (0.9, 0.9, 0.75),
        (0.96, 0.96, 0.0),
    ],
)
def test_above_the_rate_the_best_f1_is_chosen(least, threshold, f1):
    found = choose_above(SIX_FIVE_FOUR, ThresholdChoice(least, False, false_events=1, hours=2.0))
    assert (found.threshold, found.f1) == (pytest.approx(threshold), pytest.approx(f1))
    assert (found.reached, found.positives) == (False, 10)


@pytest.mark.parametrize(
    ("per_hour", "threshold", "false_events"),
    [(0, 0.95, 0), (0.5, 0.75, 1), (0.9, 0.75, 1), (1.0, 0.45, 2), (2.0, LEAST_THRESHOLD, 4)],
)
def test_a_rate_of_false_events_sets_the_threshold(per_hour, threshold, false_events):
    # Two hours with peaks .9, .6, .3, .1: one event per hour leaves .9 and .6.
    found = choose_for_rate(
        [eventless(0.6, 0.1, 0.9, 0.3)],
        "goal",
        Target("false_per_hour", per_hour),
        EventOptions(smooth_s=0),
    )
    assert found.threshold == pytest.approx(threshold, abs=1e-6)
    assert (found.false_events, found.hours, found.reached) == (false_events, 2.0, True)


def test_a_false_event_of_score_one_cannot_be_kept_out():
    found = choose_for_rate(
        [eventless(1.0)], "goal", Target("false_per_hour", 0), EventOptions(smooth_s=0)
    )
    assert (found.threshold, found.reached, found.false_events) == (1.0, False, 1)


def test_little_footage_bounds_the_rate_loosely():
    # None in one hour: e^-3 is about 5 %. One: (1 + m) e^-m = 5 % at 4.744.
    assert most_events_per_hour(0, 1.0) == pytest.approx(-math.log(0.05))
    assert most_events_per_hour(0, 0.01) == pytest.approx(-100 * math.log(0.05))
    assert most_events_per_hour(1, 1.0) == pytest.approx(4.744, abs=1e-3)


def test_the_rate_raises_a_threshold_that_clips_would_set_too_low(model):
    scores = scores_of([0, 1, 2])
    tracks = {"quiet.mp4": eventless(0.99, hours=0.1)}
    fixed = {"tracks": tracks, "temperature": 1.0, "events": EventOptions(smooth_s=0)}
    by_clips = calibrate(model, scores, target=Target("f1"), **fixed)
    assert by_clips.choices["goal"].false_events == 1
    by_rate = calibrate(model, scores, target=Target("false_per_hour", 1), **fixed)
    assert by_rate.thresholds["goal"] == pytest.approx(0.995, abs=1e-6)
    assert by_rate.choices["goal"].false_events == 0
    # Nothing false of card: the clips decide.
    assert by_rate.thresholds["card"] == pytest.approx(by_clips.thresholds["card"])


def test_calibrating_for_a_rate_takes_the_best_f1_above_it(model):
    # Clips of goal: 18 at .95 are goals, 15 at .75 none, 12 goals at .3; footage reaches .5.
    probs = np.repeat([0.95, 0.75, 0.3], [18, 15, 12])
    logits = np.zeros((45, 1, 3), dtype=np.float32)
    logits[:, 0, 1] = np.log(probs / (1 - probs))
    logits[:, 0, 2] = -50
    truth = np.repeat([1, 0, 1], [18, 15, 12])
    scores = ClipScores(
        tuple(Example("x.mp4", LABELS[k], f"B{n}") for n, k in enumerate(truth)), logits, truth
    )
    found = calibrate(
        model,
        scores,
        target=Target("false_per_hour", 0),
        tracks={"quiet.mp4": eventless(0.5)},
        temperature=1.0,
        events=EventOptions(smooth_s=0),
    )
    assert found.thresholds["goal"] == pytest.approx(0.85)
    assert found.choices["goal"].false_events == 0


def test_windows_of_eventless_footage_are_negatives_beside_the_clips(model):
    scores = scores_of([0, 1, 2])
    fixed = {"target": Target("f1"), "temperature": 1.0}
    alone = calibrate(model, scores, **fixed).choices["goal"]
    # Softmax of 3, 0, 0 is 0.909 for the goal and 0.045 elsewhere; ten windows of 0.6 lie between.
    assert alone.threshold == 0.5
    tracks = {"quiet.mp4": eventless(*[0.6] * 10, hours=0.1)}
    beside = calibrate(model, scores, tracks=tracks, **fixed).choices["goal"]
    assert beside.threshold == pytest.approx((0.9094 + 0.6) / 2, abs=1e-3)
    assert (beside.precision, beside.recall) == (1.0, 1.0)


def test_a_class_without_clips_gets_no_threshold(model):
    found = calibrate(model, scores_of([0, 1]), target=Target("f1"))
    assert list(found.thresholds) == ["goal"]


def test_what_cannot_be_calibrated_is_refused(model):
    with pytest.raises(ValueError, match="--eventless"):
        calibrate(model, scores_of([0, 1]), target=Target("false_per_hour", 1))
    with pytest.raises(ValueError, match="never learnt"):
        calibrate(replace(model, has_background=False), scores_of([0, 1]), target=Target("f1"))
    with pytest.raises(ValueError, match="precision"):
        Target("precision", 0.0)


def examples(*groups):
    return [Example(f"{group}.mp4", "goal", group) for group in groups]


def test_groups_that_were_trained_on_are_refused(model):
    with pytest.raises(ValueError, match=r"trained on A.*--groups val"):
        calibration_examples(model, examples("A", "B", "C"))
    assert calibration_examples(model, examples("A", "B", "C"), ["val"]) == examples("B")
    assert calibration_examples(model, examples("A", "B", "C"), ["C"]) == examples("C")
    with pytest.raises(ValueError, match="'D'"):
        calibration_examples(model, examples("A", "B"), ["D"])
    with pytest.raises(ValueError, match="A"):
        refuse_trained(model, ["A"])


def test_eventless_footage_that_was_trained_on_is_refused(model):
    trained = replace(model, record=TrainingRecord(groups=TrainedGroups(train=("clips/m1.mp4",))))
    with pytest.raises(ValueError, match="trained on m1"):
        refuse_trained(trained, ["m1"])  # eventless footage m1.mp4


@pytest.fixture
def season(tmp_path, model):
    return make_season(tmp_path, model)


def run(command, *arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_operating_points_and_their_evidence_into_the_checkpoint(season):
    out = season / "calibrated.safetensors"
    result = run(
        calibrate_command,
        *(season / "model.safetensors", season / "labels.csv", "--groups", "B,C"),
        *("--eventless", season / "quiet.mp4", "--false-per-hour", 0),
        *("-o", out, "--curves", season / "curves"),
    )
    assert result.exit_code == 0, result.output
    before, after = (load_checkpoint(path) for path in (season / "model.safetensors", out))
    assert before.thresholds is None
    assert set(after.thresholds) == {"goal", "card"}
    assert after.temperature != 1.0
    assert after.record.groups == RECORD.groups
    evidence = after.record.calibration
    assert (evidence.thresholds_of, evidence.stitched_orders) == ("events", 3)
    assert (evidence.clips, evidence.windows, evidence.groups) == (6, 18, ("B", "C"))
    assert evidence.held_out
    printed = " ".join(result.stdout.split())
    assert "each group at the temperature fitted on the others" in printed
    assert "F1 are measured on the events that chose the thresholds: too optimistic" in printed
    assert evidence.per_class["goal"].hours == pytest.approx(4 / 3600, rel=0.2)
    assert evidence.per_class["goal"].false_per_hour_at_most > 1000
    for name in ("reliability.png", "thresholds.png"):
        assert (season / "curves" / name).read_bytes().startswith(b"\x89PNG")


def test_the_command_makes_the_folder_it_writes_to_and_leaves_hidden_events_out(season):
    rows = (season / "labels.csv").read_text().splitlines()
    hidden = [f"{row},{str(not row.startswith('3.mp4')).lower()}" for row in rows[1:]]
    (season / "seen.csv").write_text("\n".join([rows[0] + ",visible", *hidden]) + "\n")
    model, out = season / "model.safetensors", season / "new" / "calibrated.safetensors"
    result = run(calibrate_command, model, season / "seen.csv", "--groups", "B,C", "-o", out)
    assert result.exit_code == 0, result.output
    assert "left out 1 event that the broadcast does not show" in " ".join(result.stderr.split())
    assert load_checkpoint(out).record.calibration.clips == 5
    refused = run(calibrate_command, model, season / "seen.csv", "--groups", "B", "--views", 0)
    assert refused.exit_code == 2


def test_the_command_says_what_clips_cannot_tell(season):
    result = run(
        calibrate_command, season / "model.safetensors", season / "labels.csv", "--groups", "val"
    )
    assert result.exit_code == 0, result.output
    assert "false events per hour is unknown, because only clips were used" in " ".join(
        result.stderr.split()
    )
    assert "on the one group that the temperature was fitted on: too optimistic" in " ".join(
        result.stdout.split()
    )
    refused = run(
        calibrate_command,
        season / "model.safetensors",
        season / "labels.csv",
        *("--groups", "val", "--false-per-hour", 1),
    )
    assert "--eventless" in str(refused.exception)


def test_the_command_can_set_thresholds_on_windows(season):
    out = season / "windows.safetensors"
    arguments = (season / "model.safetensors", season / "labels.csv", "--groups", "val", "-o", out)
    result = run(calibrate_command, *arguments, "--on", "windows", "--min-precision", 0.9)
    assert result.exit_code == 0, result.output
    evidence = load_checkpoint(out).record.calibration
    assert (evidence.thresholds_of, evidence.stitched_orders) == ("windows", 0)
    assert evidence.target == CalibrationTarget("precision", 0.9)
    assert evidence.per_class["goal"].positives == 3  # one clip in three windows
    wrong = run(calibrate_command, *arguments, "--on", "clips")
    assert "events or windows" in str(wrong.exception)
    both = run(calibrate_command, *arguments, "--min-precision", 0.9, "--false-per-hour", 1)
    assert "two targets" in str(both.exception)


def test_the_earlier_name_of_min_precision_works_with_a_notice(season):
    out = season / "out.safetensors"
    arguments = (season / "model.safetensors", season / "labels.csv", "--groups", "val", "-o", out)
    result = run(calibrate_command, *arguments, "--on", "windows", "--precision", 0.9)
    assert "--precision of calibrate is now called --min-precision" in result.stderr
    evidence = load_checkpoint(out).record.calibration
    assert evidence.target == CalibrationTarget("precision", 0.9)


def test_calibrating_in_place_keeps_the_file_as_it_was(season):
    model = season / "model.safetensors"
    before = model.read_bytes()
    result = run(calibrate_command, model, season / "labels.csv", "--groups", "val")
    assert result.exit_code == 0, result.output
    kept = season / "model.old.safetensors"
    assert f"Wrote {model}. The file as it was: {kept}" in " ".join(result.stdout.split())
    assert kept.read_bytes() == before
    assert load_checkpoint(kept).thresholds is None
    assert load_checkpoint(model).thresholds is not None


def test_few_labels_are_warned_of(season):
    out = season / "out.safetensors"
    arguments = (season / "model.safetensors", season / "labels.csv", "--groups", "val", "-o", out)
    told = " ".join(run(calibrate_command, *arguments).stderr.split())
    assert "too few labels for a sure threshold: goal 1, card 1. Label 5 or more" in told


def test_the_command_takes_unlabelled_time_for_eventless_only_where_labels_say_verified(season):
    make_footage(season / "match_B.mp4", shade=60, seconds=20)
    rows = (season / "labels.csv").read_text() + "match_B.mp4,goal,9,11,B\n"
    (season / "timed.csv").write_text(rows)
    (season / "told.csv").write_text(rows + "match_B.mp4,verified,3,16,B\n")

    def evidence(labels, *options):
        out = season / "out.safetensors"
        arguments = (season / "model.safetensors", season / labels, "--groups", "B", "-o", out)
        result = run(calibrate_command, *arguments, *options)
        assert result.exit_code == 0, result.output
        return load_checkpoint(out).record.calibration

    assert evidence("timed.csv").eventless == ()
    told = evidence("told.csv", "--false-per-hour", 100000)
    # More than 2 s from the goal: 3 to 7 and 13 to 16 s.
    assert told.eventless == ("match_B.mp4 3 to 7 s", "match_B.mp4 13 to 16 s")
    assert told.per_class["goal"].hours == pytest.approx(7 / 3600, rel=0.1)
    assert told.clips == 4
    without = (season / "model.safetensors", season / "timed.csv", "--groups", "B")
    refused = run(calibrate_command, *without, "--false-per-hour", 1)
    assert "label stretches as verified" in str(refused.exception)


def test_the_command_refuses_footage_that_was_trained_on(season):
    make_footage(season / "A.mp4", shade=10)
    result = run(
        calibrate_command,
        *(season / "model.safetensors", season / "labels.csv", "--groups", "val"),
        *("--eventless", season / "A.mp4"),
    )
    assert "trained on A" in str(result.exception)
