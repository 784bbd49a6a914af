"""Two models compared: their answers exchanged match by match, p values worked out by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest

from touchline.pipeline.evaluation.clips import clip_figures, compare_clips, count_clips, join_clips
from touchline.pipeline.evaluation.evaluate import METRICS, compare_events
from touchline.pipeline.evaluation.event_sets import EventSet
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.evaluation.ranking import match_units
from touchline.pipeline.evaluation.record import comparison_record
from touchline.pipeline.evaluation.significance import compare, join_metrics, swap_counts
from touchline.pipeline.types import Event


def as_set(events):
    flags = {video: [True] * len(found) for video, found in events.items()}
    return EventSet(events, flags, flags, {})


def goals(*found):
    """Matches with a goal each; in those marked True it is predicted."""
    goal = Event("goal", 100.0, 104.0, 102.0, 0.9)
    truth = {f"m{m}": [goal] for m in range(len(found))}
    return as_set(truth), as_set({f"m{m}": [goal] for m, one in enumerate(found) if one})


def drawn_counts(rng, num_units, labels="ab", right=0.7, clips=10):
    """Clips of a model that is right with probability `right` in every match."""
    N = num_units * clips
    truth = np.tile(np.arange(2), N // 2)
    probs = np.zeros((N, len(labels)), dtype=np.float32)
    probs[np.arange(N), np.where(rng.random(N) < right, truth, 1 - truth)] = 1
    groups = [f"m{u}" for u in range(num_units) for _ in range(clips)]
    return count_clips(probs, truth, tuple(labels), groups)


def test_every_exchange_is_tried_where_they_are_few():
    # The last match stays: exchanging all others instead only turns the sign.
    assert swap_counts(3, resamples=1000).tolist() == [
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [0, 0, 1, 1, 1, 0],
    ]
    assert swap_counts(1, resamples=1000) is None
    assert swap_counts(3, resamples=0) is None


def test_of_many_exchanges_some_are_drawn_and_the_first_exchanges_nothing():
    some = swap_counts(30, resamples=200, seed=1)
    assert some.shape == (201, 60)
    assert some[0].tolist() == [1] * 30 + [0] * 30
    assert (some[:, :30] + some[:, 30:] == 1).all()
    assert (some == swap_counts(30, resamples=200, seed=1)).all()


@pytest.mark.parametrize(("num", "p"), [(2, 2 / 4), (3, 2 / 8), (5, 2 / 32), (6, 2 / 64)])
def test_better_in_every_match_is_as_rare_as_equal_tosses_of_a_coin(num, p):
    truth, none = goals(*[False] * num)
    _, every = goals(*[True] * num)
    found = compare_events(truth, none, every)["spotting"]
    assert found.p == p
    assert ("significantly better" in found.verdict) == (num >= 6)
    assert ("too few to test" in found.verdict) == (num < 6)


def test_better_in_seven_matches_of_eight_is_nine_tosses_of_a_hundred_and_twenty_eight():
    truth, first = goals(*[False] * 7, True)
    _, second = goals(*[True] * 7, False)
    # 2 (1 + 8) of 2^8 ways give a difference of 6 / 8 or more.
    assert compare_events(truth, first, second)["spotting"].p == 18 / 256


@pytest.mark.parametrize("num", [2, 3, 6, 9])
def test_equally_good_models_are_seldom_told_apart(num):
    rng = np.random.default_rng(num)
    pairs = [(drawn_counts(rng, num), drawn_counts(rng, num)) for _ in range(150)]
    found = [compare_clips(*pair, resamples=300)["top1"] for pair in pairs]
    told = sum("significantly" in one.verdict for one in found)
    assert told <= (0 if num < 6 else 14)  # 14 of 150: 1 % of chance at a rate of 5 %


@pytest.mark.parametrize("name", METRICS)
def test_exchanging_no_match_or_every_match_gives_the_figures_of_either(name):
    rng = np.random.default_rng(0)

    def drawn(score):
        times = {f"m{m}": np.sort(rng.uniform(0, 900, 30)) for m in range(4)}
        return {
            video: [Event("xy"[int(t) % 2], t, t + 40, t + 20, score(rng)) for t in found]
            for video, found in times.items()
        }

    truth = as_set(drawn(lambda rng: 1.0))
    # Two digits: scores tie.
    a, b = (drawn(lambda rng: round(float(rng.uniform(0, 1)), 2)) for _ in range(2))
    metric = METRICS[name]
    units = match_units(list(truth.events))
    pair = [
        metric.measure(truth, one, metric.thresholds, units, EvaluateOptions()) for one in (a, b)
    ]
    both = join_metrics(*pair)
    swaps = np.array([[1.0] * 4 + [0.0] * 4, [0.0] * 4 + [1.0] * 4])
    figures = both.headline(both.per_class(swaps))
    assert figures == pytest.approx([one.value() for one in pair])
    assert figures[0] != figures[1] or name == "soccernet-unshown"


def test_models_of_other_class_lists_are_joined_by_the_names():
    rng = np.random.default_rng(0)
    a, b = drawn_counts(rng, 3, labels="ab"), drawn_counts(rng, 3, labels="abc")
    both = join_clips(a, b)
    swaps = np.array([[1.0] * 3 + [0.0] * 3, [0.0] * 3 + [1.0] * 3])
    figures = clip_figures(both, swaps)
    for k, one in enumerate((a, b)):
        assert figures.top1[k] == pytest.approx(clip_figures(one).top1[0])
        assert figures.macro_f1[k] == pytest.approx(clip_figures(one).macro_f1[0])


def test_one_match_cannot_tell_a_difference_from_chance():
    found = compare(0.1, 0.9, None, None, None, num_units=1)
    assert found.p is None
    assert "one match is not enough" in found.verdict


def test_a_difference_that_cannot_be_told_is_null_in_files():
    truth, found = goals(*[True] * 6)
    truth = as_set(
        {v: [replace(e, label="Ambiguous") for e in es] for v, es in found.events.items()}
    )
    compared = compare_events(truth, found, found, EvaluateOptions(metrics=("thumos",)))
    assert "nothing to compare" in compared["thumos"].verdict
    record = json.loads(json.dumps(comparison_record(compared), allow_nan=False))["thumos"]
    assert (record["a"], record["b"], record["p"]) == (None, None, None)


def test_without_resamples_nothing_is_tested():
    truth, first = goals(*[False] * 8)
    _, second = goals(*[True] * 8)
    found = compare_events(truth, first, second, EvaluateOptions(resamples=0))["spotting"]
    assert (found.p, found.difference.value) == (None, 1.0)
    assert "not tested" in found.verdict
