"""What training says at its end: figures by hand, the advice follows the evidence."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_material import tiny_model

from touchline.models.training_record import PeakWidths
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.heads.learning_curve import CurvePoint
from touchline.pipeline.labels.split import Split
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.summary import (
    accuracy,
    class_figures,
    confusions,
    label_next,
    next_command,
    summarise,
)
from touchline.pipeline.types import Example

LABELS = ("background", "card", "goal", "penalty")


def answered(pairs, groups):
    """Clips as (true class, answer), sure of it."""
    examples = [Example(Path(f"{n}.mp4"), LABELS[t], groups[n]) for n, (t, _) in enumerate(pairs)]
    true, given = (np.array(column) for column in zip(*pairs, strict=True))
    eye = np.eye(4)
    return HeldOut(
        tuple(examples), LABELS, eye[given], eye[true].astype(np.float32), np.ones(len(true), bool)
    )


# Ten cards, four taken for goals and one for a penalty; five goals, one taken for a card.
PAIRS = [(1, 1)] * 5 + [(1, 2)] * 4 + [(1, 3)] + [(2, 2)] * 4 + [(2, 1)]
GROUPS = [f"match {n % 3}" for n in range(15)]


def test_figures_of_classes_are_those_counted_by_hand():
    rows = class_figures(answered(PAIRS, GROUPS))
    assert list(rows) == ["card", "goal"]
    assert rows["card"] == {
        "clips": 10,
        "matches": 3,
        "recall": 0.5,
        "precision": pytest.approx(5 / 6),
    }
    assert rows["goal"]["recall"] == pytest.approx(0.8)
    assert rows["goal"]["precision"] == pytest.approx(4 / 8)


def test_the_largest_confusions_come_first():
    assert confusions(answered(PAIRS, GROUPS)) == [
        {"true": "card", "predicted": "goal", "clips": 4, "of": 10},
        {"true": "goal", "predicted": "card", "clips": 1, "of": 5},
        {"true": "card", "predicted": "penalty", "clips": 1, "of": 10},
    ]


def test_the_interval_of_accuracy_resamples_matches_not_clips():
    # All clips of half of the matches are right, none of the others: clips would say 0.4 to 0.6.
    right = answered([(1, 1)] * 50 + [(1, 2)] * 50, [f"m{n // 25}" for n in range(100)])
    row = accuracy(right)
    assert (row["value"], row["clips"], row["matches"]) == (0.5, 100, 4)
    assert (row["low"], row["high"]) == (0.0, 1.0)
    assert row["too_narrow"]
    alone = accuracy(answered(PAIRS, ["m"] * 15))
    assert alone["value"] == pytest.approx(9 / 15)
    assert alone["low"] is None


def row(clips, recall, matches=9):
    return {"clips": clips, "matches": matches, "recall": recall, "precision": 1.0}


def curve(**half):
    return [CurvePoint(0.25, {}), CurvePoint(0.5, half), CurvePoint(1.0, {})]


def test_a_class_that_is_missed_and_still_rises_is_labelled_next():
    per_class = {"goal": row(30, 0.55), "penalty": row(5, 0.60, matches=2)}
    advice = label_next(per_class, curve(goal=0.55, penalty=0.40))
    assert advice["label"] == "penalty"
    assert advice["sentence"] == (
        "Label more penalty clips first: 5 clips, recall 0.60, and it rose from 0.40 with half "
        "of them. They are of 2 matches, so take clips of other matches."
    )


def test_a_class_that_does_not_rise_is_to_be_checked_first():
    advice = label_next({"goal": row(30, 0.95), "card": row(25, 0.40)}, curve(goal=0.9, card=0.45))
    assert advice["sentence"] == (
        "Label more card clips first: 25 clips, recall 0.40, and it did not rise from 0.45 with "
        "half of them. Check these clips in suspects.csv before you label more."
    )


def test_a_class_that_is_always_found_is_not_labelled_next_however_it_rose():
    advice = label_next({"goal": row(30, 1.0), "card": row(25, 0.9)}, curve(goal=0.2, card=0.9))
    assert advice["label"] == "card"


def test_without_a_curve_the_lowest_recall_decides_and_then_the_fewest_clips():
    per_class = {"goal": row(30, 0.8), "card": row(12, 0.7), "penalty": row(5, 0.7)}
    advice = label_next(per_class, ())
    assert advice["label"] == "penalty"
    assert advice["recall_with_half"] is None
    assert advice["sentence"] == "Label more penalty clips first: 5 clips, recall 0.70."


def test_if_all_clips_are_right_other_matches_are_what_is_missing():
    advice = label_next({"goal": row(30, 1.0)}, ())
    assert advice["sentence"].startswith("Every clip was recognised. Label clips of other matches")


def test_missed_background_asks_for_footage_without_events():
    advice = label_next({"background": row(8, 0.5), "goal": row(30, 0.9)}, ())
    assert advice["sentence"] == "Add footage without events first: 8 clips, recall 0.50."


def test_figures_by_class_are_of_cross_validation_if_there_is_one():
    cross, val = answered(PAIRS, GROUPS), answered([(2, 2)], ["match 9"])
    both = summarise({"cross-validation": cross, "validation": val}, (), "touchline detect ...")
    assert both["per_class"]["card"]["clips"] == 10
    assert both["accuracy"]["validation"]["clips"] == 1
    assert both["suspects"] == 6
    alone = summarise({"validation": val}, (), "touchline detect ...")
    assert alone["per_class"]["goal"]["clips"] == 1
    nothing = summarise({}, (), "touchline detect ...")
    assert nothing["accuracy"] == nothing["per_class"] == {}
    assert nothing["label_next"] is None


def test_the_next_command_calibrates_what_is_not_calibrated_if_there_are_matches_for_it():
    split = Split((Example(Path("b.mp4"), "goal", "n"),), (Example(Path("a.mp4"), "goal", "m"),))
    job, path, model = TrainJob(Path("my labels.csv"), "tiny"), Path("run/m.st"), tiny_model()
    assert next_command(job, split, model, path) == (
        "touchline calibrate run/m.st 'my labels.csv' --groups val"
    )
    detect = "touchline detect MATCH.mp4 --model run/m.st"
    assert next_command(job, replace(split, val=()), model, path) == f"{detect} -o out/"
    calibrated = replace(model, thresholds={"red": 0.4})
    assert next_command(job, split, calibrated, path) == f"{detect} -o out/"
    for_spots = replace(calibrated, widths={"red": PeakWidths(0.8, 2.0)})
    assert next_command(job, split, for_spots, path) == f"{detect} --spots -o out/"
