"""Temperatures against values worked out by hand, and what is told of their gain."""

import math
from dataclasses import replace

import numpy as np
import pytest
from calibration_material import scores_of

from touchline.pipeline.calibration.calibrate import calibrate
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.temperature import (
    at_the_end,
    fit_model_temperature,
    fit_temperature,
    measure_reliability,
)
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.tools.calibrate import _notices


def two_way_logits(margin, right, wrong):
    """Windows of `goal` against background: the margin points the right way in `right` of them."""
    margins = [margin] * right + [-margin] * wrong
    logits = np.array([[0.0, m, -50.0] for m in margins], dtype=np.float32)
    return logits, np.ones(len(margins), dtype=np.int64)


def test_the_temperature_makes_scores_as_sure_as_they_are_right(model):
    # Right in 3 of 4: probability 3/4 is a margin of ln 3. The margin is 2.
    logits, truth = two_way_logits(2.0, right=3, wrong=1)
    assert fit_temperature(model, logits, truth) == pytest.approx(2 / math.log(3), rel=1e-3)


def test_too_timid_scores_get_a_temperature_below_one(model):
    logits, truth = two_way_logits(0.5, right=9, wrong=1)
    assert fit_temperature(model, logits, truth) == pytest.approx(0.5 / math.log(9), rel=1e-3)


def test_a_background_nobody_taught_takes_no_part_in_the_temperature(model):
    blind = replace(model, has_background=False)
    logits = np.array([[9.0, 2.0, 0.0]] * 3 + [[9.0, 0.0, 2.0]], dtype=np.float32)
    truth = np.ones(4, dtype=np.int64)
    assert fit_temperature(blind, logits, truth) == pytest.approx(2 / math.log(3), rel=1e-3)


def test_independent_classes_are_fitted_one_by_one(model):
    several = replace(model, multi_label=True, has_background=False)
    # Each window is a goal; sigmoid(2) says so, and of card sigmoid(-2) in 3 of 4.
    logits = np.array([[0.0, 2.0, -2.0]] * 3 + [[0.0, -2.0, 2.0]], dtype=np.float32)
    found = fit_temperature(several, logits, np.ones(4, dtype=np.int64))
    assert found == pytest.approx(2 / math.log(3), rel=1e-3)


def test_clips_that_are_all_right_leave_the_temperature_finite(model):
    # 8 clips count as certain to 9/10, and both other classes are as far off: e^(2/T) / 2 = 9.
    scores = scores_of([0, 1, 2, 1, 2, 0, 1, 2], margin=2.0)
    assert fit_model_temperature(model, scores) == pytest.approx(2 / math.log(18), rel=1e-3)
    # More windows of the same clips are no more evidence.
    twice = replace(scores, logits=np.repeat(scores.logits, 2, axis=1))
    assert fit_model_temperature(model, twice) == pytest.approx(2 / math.log(18), rel=1e-3)


def test_a_class_far_off_does_not_decide_the_temperature(model):
    logits, truth = two_way_logits(2.0, right=8, wrong=0)
    found = fit_temperature(model, logits, truth, doubt=0.1)
    assert found == pytest.approx(2 / math.log(9), rel=1e-3)


def test_the_gain_of_a_temperature_is_reported_on_groups_it_was_not_fitted_on(model):
    # Group B is right with a margin of 3, C wrong: each gives the other the wrong temperature.
    right, wrong = scores_of([1, 2] * 4, margin=3.0), scores_of([2, 1] * 4, margin=3.0)
    examples = [replace(e, group="B") for e in right.examples]
    examples += [replace(e, group="C") for e in wrong.examples]
    both = ClipScores(
        tuple(examples),
        np.concatenate([right.logits, wrong.logits]),
        np.concatenate([right.truth, right.truth]),
    )
    found = calibrate(model, both, target=Target("f1"))
    assert found.held_out
    assert found.nll_after > found.nll_before
    alone = calibrate(model, right.take(np.ones(8, dtype=bool)), target=Target("f1"))
    assert alone.held_out  # a group per clip
    one = replace(right, examples=tuple(examples[:8]))
    assert not calibrate(model, one, target=Target("f1")).held_out


def test_a_temperature_at_the_end_of_what_is_tried_is_warned_of(model):
    # Every answer is wrong: no temperature is high enough.
    wrong = replace(scores_of([1, 2] * 4), truth=np.array([2, 1] * 4))
    found = calibrate(model, wrong, target=Target("f1"))
    assert at_the_end(found.temperature)
    assert any("at the end of the range searched" in one for one in _notices(model, wrong, found))
    right = calibrate(model, scores_of([1, 2] * 4), target=Target("f1"))
    assert not at_the_end(right.temperature)


def test_reliability_compares_confidence_with_the_share_that_is_right():
    probs = np.array([[0.1, 0.9, 0.0]] * 4 + [[0.6, 0.4, 0.0]])
    found = measure_reliability(probs, np.array([1, 1, 1, 2, 0]))
    # Four at 0.9, 3/4 right; one at 0.6, right: (4 * 0.15 + 1 * 0.4) / 5.
    assert found.ece == pytest.approx(0.2)
    assert found.count.sum() == 5
    assert found.accuracy[13] == 0.75
