"""How many events the open proposals hide: the estimate and its interval."""

import numpy as np
import pytest

from touchline.pipeline.teaching.actions import Mark, Rejection, State
from touchline.pipeline.teaching.review import estimate_missed


def answered(scores: list[float], truth: list[bool]) -> State:
    marks = {
        f"a{k}": Mark(f"a{k}", "m1", "c", k, k, "", "proposal", score)
        for k, (score, yes) in enumerate(zip(scores, truth, strict=True))
        if yes
    }
    rejected = {
        f"r{k}": Rejection(f"r{k}", "m1", "c", k, k, score)
        for k, (score, yes) in enumerate(zip(scores, truth, strict=True))
        if not yes
    }
    return State((), marks, rejected)


def test_few_answers_or_answers_all_alike_give_no_estimate():
    assert estimate_missed(State(), [0.5]) is None
    assert estimate_missed(answered([0.5] * 7, [True, False] * 3 + [True]), [0.5]) is None
    assert estimate_missed(answered([0.5] * 20, [True] * 20), [0.5]) is None
    assert estimate_missed(answered([0.5] * 20, [False] * 20), [0.5]) is None
    assert estimate_missed(answered([0.5] * 8, [True, False] * 4), [0.5]) is not None


def test_marks_by_hand_are_no_answers():
    hand = {f"h{k}": Mark(f"h{k}", "m1", "c", k, k) for k in range(20)}
    state = answered([0.5] * 6, [True, False] * 3)
    assert estimate_missed(State((), {**hand, **state.marks}, state.rejected), [0.5]) is None


def test_no_open_proposal_hides_nothing():
    missed = estimate_missed(answered([0.5] * 8, [True, False] * 4), [])
    assert (missed.estimate, missed.low, missed.high) == (0.0, 0, 0)


def test_scores_that_are_probabilities_are_taken_as_such():
    rng = np.random.default_rng(1)
    scores = rng.uniform(0.05, 0.95, 300)
    state = answered(scores.tolist(), (rng.random(300) < scores).tolist())
    missed = estimate_missed(state, [0.9] * 10 + [0.1] * 10)
    assert missed.estimate == pytest.approx(10, abs=1.5)
    assert missed.low <= 10 <= missed.high <= 15


@pytest.mark.parametrize("scores", [[0.0] * 10 + [1.0] * 10, [0.5] * 20, [1e-9] * 10 + [0.6] * 10])
def test_answers_that_a_score_tells_apart_entirely_are_borne(scores):
    for truth in ([False] * 10 + [True] * 10, [True] * 10 + [False] * 10):
        missed = estimate_missed(answered(scores, truth), [0.0, 0.5, 1.0])
        assert 0 <= missed.low <= missed.estimate <= missed.high <= 3


def test_the_text_says_the_numbers():
    missed = estimate_missed(answered([0.5] * 8, [True, False] * 4), [0.5] * 10)
    assert f"about {missed.estimate:.0f} ({missed.low} to {missed.high})" in str(missed)


@pytest.mark.parametrize("bias", [-1.5, 0.0, 1.5], ids=["too high", "right", "too low"])
@pytest.mark.parametrize("order", ["best first", "at random"])
def test_the_interval_holds_the_truth_nine_times_in_ten(bias, order):
    """Persons answer 20 of 80 proposals whose scores are too high, right or too low.

    Over 120 persons the share has a standard error of 2.7 %.
    """
    rng = np.random.default_rng(7)
    held = []
    for _ in range(120):
        logits = rng.normal(-1.0, 1.5, 80)
        scores = 1 / (1 + np.exp(-logits))
        truth = rng.random(80) < 1 / (1 + np.exp(-(logits + bias)))
        first = np.argsort(-scores) if order == "best first" else rng.permutation(80)
        asked, left = first[:20], first[20:]
        missed = estimate_missed(
            answered(scores[asked].tolist(), truth[asked].tolist()), scores[left].tolist()
        )
        if missed is not None:
            held.append(missed.low <= truth[left].sum() <= missed.high)
    assert len(held) > 90
    assert 0.84 <= np.mean(held) <= 1.0
