"""Evaluations as a whole: intervals over matches, errors by kind, comparison."""

import json

import numpy as np
import pytest

from touchline.pipeline.evaluation.breakdown import Kind, break_down_intervals, break_down_spots
from touchline.pipeline.evaluation.clips import clip_figures, count_clips, evaluate_clips
from touchline.pipeline.evaluation.evaluate import (
    METRICS,
    compare_events,
    evaluate_events,
)
from touchline.pipeline.evaluation.event_sets import EventSet
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.evaluation.record import evaluation_record
from touchline.pipeline.evaluation.significance import (
    Figure,
    describe_intervals,
    figure,
    resampled_counts,
)
from touchline.pipeline.types import Event


def spot(at_s, score=1.0, label="goal"):
    return Event(label, at_s, at_s, at_s, score)


def interval(start_s, end_s, score=1.0, label="goal"):
    return Event(label, start_s, end_s, (start_s + end_s) / 2, score)


def as_set(events, groups=None, threshold=0.0):
    return EventSet(
        events=events,
        accepted={v: [e.score >= threshold for e in es] for v, es in events.items()},
        visible={v: [True] * len(es) for v, es in events.items()},
        groups=groups or {},
    )


def matches(found, num=8):
    """`num` matches with two goals each; the first `found` matches have theirs predicted."""
    truth = {f"m{m}": [spot(100), spot(200)] for m in range(num)}
    guesses = {f"m{m}": [spot(100, 0.9), spot(200, 0.8)] for m in range(found)}
    return as_set(truth), as_set(guesses)


def test_the_interval_of_a_perfect_result_is_a_point():
    truth, guesses = matches(found=8)
    (spotting,) = evaluate_events(truth, guesses).metrics
    assert spotting.headline == Figure(1.0, 1.0, 1.0)


def test_the_interval_is_that_of_the_share_of_matches_found():
    # AP is the share of matches found: binomial, n = 8, p = 1/2, so 95 % lies in 1/8 .. 7/8.
    truth, guesses = matches(found=4)
    (spotting,) = evaluate_events(truth, guesses, EvaluateOptions(resamples=4000)).metrics
    assert spotting.headline == Figure(0.5, 0.125, 0.875)
    assert spotting.per_class[0].average == spotting.headline


def test_matches_of_one_group_are_drawn_together():
    truth, guesses = matches(found=4)
    groups = dict.fromkeys(truth.events, "first half of the season")
    one = evaluate_events(as_set(truth.events, groups), guesses)
    assert (one.num_units, one.unit) == (1, "matches")
    assert one.metrics[0].headline == Figure(0.5)


def test_one_match_can_be_resampled_in_stretches():
    truth = as_set({"m": [spot(t) for t in range(10, 400, 20)]})
    guesses = as_set({"m": [spot(t, 0.9) for t in range(10, 200, 20)]})
    evaluation = evaluate_events(truth, guesses, EvaluateOptions(block_s=30))
    assert (evaluation.num_units, evaluation.unit) == (14, "stretches of 30 s")  # 0 .. 390 s
    headline = evaluation.metrics[0].headline
    assert headline.low < headline.value == 0.5 < headline.high


def test_a_hit_stays_with_its_truth_when_stretches_are_drawn():
    # The prediction lies in the next stretch; drawn apart, recall would pass 1.
    truth = as_set({"m": [spot(29), spot(61)]})
    guesses = as_set({"m": [spot(31, 0.9), spot(61, 0.8)]})
    evaluation = evaluate_events(
        truth, guesses, EvaluateOptions(block_s=30, tolerances_s=(5.0,), resamples=500)
    )
    assert evaluation.metrics[0].headline.high <= 1.0


def test_the_same_seed_gives_the_same_intervals():
    a, b = (resampled_counts(5, resamples=10, seed=3) for _ in range(2))
    assert (a == b).all()
    assert (a.sum(axis=1) == 5).all()
    assert resampled_counts(1, resamples=10) is None
    assert resampled_counts(5, resamples=0) is None


def test_the_sentence_on_intervals_says_when_they_are_too_narrow_and_when_there_are_none():
    told = describe_intervals(3, "matches", resamples=1000)
    assert "95 % confidence intervals from 3 matches." in told
    assert "too narrow" in told
    twelve = describe_intervals(12, "matches", resamples=9)
    assert twelve == "95 % confidence intervals from 12 matches."
    none = describe_intervals(5, "matches", resamples=0)
    assert none == "No confidence intervals: resamples is 0."
    one = describe_intervals(1, "matches", resamples=9)
    assert one == "No confidence intervals: there are fewer than two matches."


def test_so_many_intervals_of_few_matches_hold_the_truth():
    # Matches differ: each has its own share of right clips, 0.7 on average.
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        right = rng.random(36) < np.repeat(rng.beta(7, 3, 3), 12)
        groups = [f"m{u}" for u in range(3) for _ in range(12)]
        counts = count_clips(np.eye(2, dtype=np.float32)[right * 1], np.ones(36, int), "ab", groups)
        top1 = evaluate_clips(counts, resamples=200).headlines["top1"]
        held += top1.low <= 0.7 <= top1.high
    assert 0.65 < held / 300 < 0.85  # 75 % is what the sentence says


def test_a_figure_without_truth_has_no_value():
    assert figure(float("nan"), None) == Figure(None)
    assert str(Figure(None)) == "-"
    assert str(Figure(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"


def test_a_clear_difference_is_more_than_chance_and_a_small_one_is_not():
    truth, few = matches(found=2, num=12)
    _, many = matches(found=11, num=12)
    _, one_more = matches(found=3, num=12)
    clear = compare_events(truth, few, many)["spotting"]
    assert clear.difference.value == pytest.approx(9 / 12)
    assert clear.p < 0.01
    assert "better" in clear.verdict
    small = compare_events(truth, few, one_more)["spotting"]
    assert small.p > 0.05
    assert "no significant difference" in small.verdict
    assert "worse" in compare_events(truth, many, few)["spotting"].verdict


def test_the_same_predictions_never_differ():
    truth, guesses = matches(found=4)
    same = compare_events(truth, guesses, guesses)["spotting"]
    assert (same.difference.value, same.p) == (0.0, 1.0)


def test_errors_are_told_apart():
    truth = {"v": [spot(100), spot(200), spot(300, label="card"), spot(400), spot(500)]}
    guesses = [
        spot(101, 0.9),  # hit
        spot(101.5, 0.8),  # the same goal again
        spot(206, 0.7),  # 6 s late: within four tolerances
        spot(300, 0.6),  # a card
        spot(700, 0.5),  # nothing there
        spot(401, 0.4, label="corner"),  # a goal
        spot(506, 0.3, label="corner"),  # too far from a goal to be one
    ]
    found = break_down_spots(truth, {"v": guesses}, tolerance_s=2)
    goal = next(row for row in found.per_class if row.label == "goal")
    assert goal.kinds == {
        Kind.HIT: 1,
        Kind.DUPLICATE: 1,
        Kind.MISTIMED: 1,
        Kind.CONFUSED: 1,
        Kind.FALSE: 1,
    }
    # The goal at 400 was confused, the one at 500 missed.
    assert (goal.num_truth, goal.num_predictions, goal.missed) == (4, 5, 1)
    assert (goal.precision, goal.recall) == (0.2, 0.25)
    assert goal.f1 == pytest.approx(2 / 9)
    corner = next(row for row in found.per_class if row.label == "corner")
    assert (corner.kinds[Kind.CONFUSED], corner.kinds[Kind.FALSE]) == (1, 1)
    (timing,) = found.timing
    assert timing.errors_s.tolist() == [1, 6]
    assert timing.quantiles_s()[0.5] == 3.5


def test_the_cost_of_an_error_is_what_mending_it_gains():
    # Ranked: false .9, hit .8, 6 s late .7. AP: 1/2 over two truths.
    truth = {"v": [spot(100), spot(200)]}
    guesses = {"v": [spot(700, 0.9), spot(100, 0.8), spot(206, 0.7)]}
    found = break_down_spots(truth, guesses, tolerance_s=2)
    assert found.average_precision == pytest.approx(1 / 4)
    # Without the false one: 1/2. With the late one on time: (2/3 + 2/3) / 2.
    assert found.cost["false"] == pytest.approx(1 / 4)
    assert found.cost["mistimed"] == pytest.approx(2 / 3 - 1 / 4)
    assert found.cost["wrong_class"] == found.cost["duplicate"] == found.cost["missed"] == 0


def test_a_missed_event_costs_recall():
    found = break_down_spots({"v": [spot(100), spot(200)]}, {"v": [spot(100, 0.9)]}, tolerance_s=2)
    assert found.cost["missed"] == pytest.approx(0.5)


@pytest.mark.parametrize("break_down", [break_down_spots, break_down_intervals])
def test_where_all_is_missed_that_costs_everything(break_down):
    threshold = {"tolerance_s": 2} if break_down is break_down_spots else {"tiou": 0.5}
    truth = {"v": [interval(100, 104), interval(200, 204)]}
    for guesses in ({}, {"v": [interval(700, 704, 0.9)]}):
        found = break_down(truth, guesses, **threshold)
        assert found.average_precision == 0
        others = {kind: gain for kind, gain in found.cost.items() if kind != "missed"}
        assert (found.cost["missed"], set(others.values())) == (1.0, {0.0})


def test_interval_errors_come_with_the_errors_of_both_ends():
    truth = {"v": [interval(10, 20), interval(50, 60)]}
    guesses = {"v": [interval(11, 20, 0.9), interval(56, 66, 0.8), interval(80, 90, 0.7)]}
    found = break_down_intervals(truth, guesses, tiou=0.5)
    kinds = found.per_class[0].kinds
    assert (kinds[Kind.HIT], kinds[Kind.MISTIMED], kinds[Kind.FALSE]) == (1, 1, 1)
    start, end = found.timing
    assert (start.what, start.errors_s.tolist()) == ("start", [1, 6])
    assert (end.what, end.errors_s.tolist()) == ("end", [0, 6])


def test_nothing_predicted_is_all_missed():
    found = break_down_spots({"v": [spot(1)]}, {}, tolerance_s=1)
    assert found.per_class[0].missed == 1
    assert found.timing[0].quantiles_s() == {}


def test_errors_are_those_of_accepted_events_and_precision_of_all():
    truth = as_set({"v": [spot(100), spot(200)]})
    guesses = as_set({"v": [spot(100, 0.9), spot(200, 0.2)]}, threshold=0.5)
    evaluation = evaluate_events(truth, guesses)
    assert evaluation.metrics[0].headline.value == 1.0
    assert evaluation.breakdowns[0].per_class[0].missed == 1


def test_precision_recall_and_f1_of_accepted_events_come_with_intervals():
    # Half of eight matches are found, and nothing else: precision 1, recall binomial.
    truth, guesses = matches(found=4)
    (accepted,) = evaluate_events(truth, guesses, EvaluateOptions(resamples=4000)).accepted
    assert accepted["precision"] == Figure(1.0, 1.0, 1.0)
    assert accepted["recall"] == Figure(0.5, 0.125, 0.875)
    assert accepted["f1"].value == pytest.approx(2 / 3)
    assert accepted["f1"].low == pytest.approx(2 * 0.125 / 1.125)
    (one,) = evaluate_events(as_set({"v": [spot(1)]}), as_set({})).accepted
    assert (one["precision"], one["recall"], one["f1"]) == (Figure(None), Figure(0.0), Figure(0.0))


def test_two_operating_points_of_one_ranking_differ_in_f1_alone():
    truth, guesses = matches(found=8)
    strict = as_set(guesses.events, threshold=0.85)  # of each match the goal of .9, not of .8
    found = compare_events(truth, strict, guesses)
    assert found["spotting"].difference.value == 0
    f1 = found["accepted F1 at 2 s"]
    assert (f1.a, f1.b) == (pytest.approx(2 / 3), 1.0)
    assert "better" in f1.verdict


def test_labels_with_lengths_are_measured_by_overlap_too():
    truth = as_set({"v": [interval(0, 10)]})
    names = [one.name for one in evaluate_events(truth, truth).metrics]
    assert names == ["spotting", "activitynet"]


def test_every_metric_gives_a_record_that_json_holds():
    truth = as_set({v: [interval(0, 10), interval(30, 40, label="card")] for v in "ab"})
    guesses = as_set({v: [interval(1, 10, 0.7), interval(70, 80, 0.6)] for v in "ab"})
    options = EvaluateOptions(metrics=tuple(METRICS), resamples=20)
    record = json.loads(
        json.dumps(evaluation_record(evaluate_events(truth, guesses, options)), allow_nan=False)
    )
    assert list(record["metrics"]) == list(METRICS)
    assert record["resampled"] == {"number": 2, "unit": "matches"}
    assert record["intervals"].startswith("95 % confidence intervals from 2 matches. Fewer than 10")
    assert record["metrics"]["activitynet"]["per_class"]["goal"]["truth"] == 2
    assert record["errors"][0]["per_class"]["card"]["missed"] == 2
    assert record["errors"][0]["accepted"]["recall"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert record["errors"][0]["timing"]["peak"]["mean_s"] == 0.5


def test_unknown_metrics_and_empty_labels_are_refused():
    truth, guesses = matches(found=1)
    with pytest.raises(ValueError, match="soccernet-tight"):
        evaluate_events(truth, guesses, EvaluateOptions(metrics=("soccernet",)))
    with pytest.raises(ValueError, match="no event"):
        evaluate_events(as_set({"v": []}), guesses)


PROBS = np.array(
    [
        [0.1, 0.6, 0.3],
        [0.2, 0.7, 0.1],
        [0.1, 0.5, 0.4],
        [0.0, 0.1, 0.9],
    ],
    dtype=np.float32,
)


def test_clip_figures_are_those_of_the_confusion_matrix():
    counts = count_clips(PROBS, np.array([1, 1, 2, 2]), ["background", "goal", "card"], "abcd")
    assert counts.confusion.sum(axis=0).tolist() == [[0, 0, 0], [0, 2, 0], [0, 1, 1]]
    figures = clip_figures(counts)
    assert figures.top1[0] == 0.75
    assert figures.top5[0] == 1.0
    assert figures.balanced_accuracy[0] == 0.75  # (2/2 + 1/2) / 2: background has no clip
    assert figures.recall[0].tolist()[1:] == [1.0, 0.5]
    assert figures.precision[0].tolist()[1:] == [pytest.approx(2 / 3), 1.0]
    assert figures.macro_f1[0] == pytest.approx((0.8 + 2 / 3) / 2)


def test_top5_asks_for_the_five_best():
    probs = np.linspace(0.1, 0.9, 8, dtype=np.float32)[None].repeat(2, axis=0)
    labels = [f"c{k}" for k in range(8)]
    assert clip_figures(count_clips(probs, np.array([3, 2]), labels, "ab")).top5[0] == 0.5


def test_drawing_a_match_twice_counts_its_clips_twice():
    counts = count_clips(PROBS, np.array([1, 1, 2, 2]), ["background", "goal", "card"], "aabb")
    twice = clip_figures(counts, np.array([[2.0, 0.0], [0.0, 2.0]]))
    assert twice.top1.tolist() == [1.0, 0.5]
