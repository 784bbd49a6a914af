"""The three metric families against golden values; each rule, changed, moves one of them."""

import csv
import json
from itertools import pairwise

import numpy as np
import pytest

from touchline.pipeline.evaluation.intervals import ACTIVITYNET_TIOUS, activitynet_map, thumos_map
from touchline.pipeline.evaluation.spotting import SOCCERNET_WIDTHS_S, soccernet_map, spotting_map
from touchline.pipeline.types import Event


def spot(at_s, score=1.0, label="goal"):
    return Event(label, at_s, at_s, at_s, score)


def interval(start_s, end_s, score=1.0, label="goal"):
    return Event(label, start_s, end_s, (start_s + end_s) / 2, score)


def per_threshold(result):
    return result.per_threshold(result.per_class())[0].tolist()


def test_spotting_gives_the_golden_values():
    # Classes x, y and z of one video, in frames.
    truth = {"v": [spot(10, label="x"), spot(20, label="x"), spot(50, label="y")]}
    guesses = [spot(11, 0.9, "x"), spot(12, 0.8, "x"), spot(20, 0.7, "x")]
    guesses += [spot(53, 0.6, "y"), spot(5, 0.99, "z")]
    result = spotting_map(truth, {"v": guesses}, tolerances_s=(0, 1, 2, 4))
    assert per_threshold(result) == pytest.approx([0.0833, 0.4167, 0.4167, 0.9167], abs=5e-5)
    assert result.value() == pytest.approx(0.4583, abs=5e-5)


def test_a_spotting_tolerance_is_half_the_window_and_inclusive():
    for apart_s, found in [(0.99, 1.0), (1.0, 1.0), (1.01, 0.0)]:
        result = spotting_map(
            {"x": [spot(10)]}, {"x": [spot(10 + apart_s, 0.5)]}, tolerances_s=(1,)
        )
        assert result.value() == found
    # 10.3 - 10 is 0.3000000000000007 in floating point.
    assert (
        spotting_map({"x": [spot(10)]}, {"x": [spot(10.3, 0.5)]}, tolerances_s=(0.3,)).value() == 1
    )


def test_a_prediction_takes_the_closest_free_truth():
    # 12 (.9) takes 13, not 10; 10.5 (.8) takes 10. Were 12 to take 10, 14 could not match.
    truth = {"x": [spot(10), spot(13)]}
    guesses = {"x": [spot(12, 0.9), spot(10.5, 0.8)]}
    assert spotting_map(truth, guesses, tolerances_s=(2,)).value() == 1.0
    # The second one near 10 is a false alarm, for 10 is taken: precision 1, 1/2... recall 1/2.
    twice = {"x": [spot(10, 0.9), spot(10.1, 0.8)]}
    assert spotting_map(truth, twice, tolerances_s=(2,)).value() == 0.5


def test_precision_is_interpolated_in_spotting():
    # False, hit, hit: precisions 1/2, 2/3; the first hit is credited with 2/3.
    truth = {"x": [spot(10), spot(30)]}
    guesses = {"x": [spot(50, 0.9), spot(10, 0.8), spot(30, 0.7)]}
    assert spotting_map(truth, guesses, tolerances_s=(1,)).value() == pytest.approx(2 / 3)


def test_only_classes_of_the_truth_count_in_the_spotting_mean():
    truth = {"x": [spot(10, label="goal"), spot(20, label="card")]}
    guesses = {"x": [spot(10, 0.9), spot(70, 0.9, label="corner")]}
    result = spotting_map(truth, guesses, tolerances_s=(1,))
    assert result.labels == ("card", "goal")
    assert result.value() == 0.5


@pytest.mark.parametrize(
    ("off_s", "tight"),
    [(0, 1), (0.5, 1), (1, 0.875), (1.5, 0.625), (2, 0.375), (2.5, 0.125), (3, 0)],
)
def test_soccernet_tight_gives_the_golden_values(off_s, tight):
    truth, guess = {"half": [spot(100)]}, {"half": [spot(100 + off_s, 0.9)]}
    result = soccernet_map(truth, guess, widths_s=SOCCERNET_WIDTHS_S["tight"])
    assert result.value() == pytest.approx(tight, abs=1e-9)


@pytest.mark.parametrize(
    ("off_s", "loose"), [(5, 0.9545), (10, 0.7727), (20, 0.4091), (30, 0.0455), (31, 0)]
)
def test_soccernet_loose_gives_the_golden_values(off_s, loose):
    truth, guess = {"half": [spot(100)]}, {"half": [spot(100 - off_s, 0.9)]}
    result = soccernet_map(truth, guess, widths_s=SOCCERNET_WIDTHS_S["loose"])
    assert result.value() == pytest.approx(loose, abs=5e-5)


def test_soccernet_truths_choose_in_time_order_the_best_prediction():
    # 100 takes 101.5 (.9), the better one, though 100 (.5) is nearer; 103 is left with nothing.
    truth = {"half": [spot(100), spot(103)]}
    guesses = {"half": [spot(100, 0.5), spot(101.5, 0.9)]}
    # Hit at .9: precision 1, recall 1/2; then 1/2. Eleven points: 6 of them at precision 1.
    result = soccernet_map(truth, guesses, widths_s=(3,))
    assert result.value() == pytest.approx(6 / 11)


def test_a_soccernet_class_without_truth_counts_nothing():
    truth, guess = {"half": [spot(100)]}, {"half": [spot(100, 0.9)]}
    result = soccernet_map(truth, guess, widths_s=(1,), labels=["goal", "card"])
    assert result.value() == 0.5


def test_soccernet_judges_shown_and_unshown_actions_apart():
    truth = {"half": [spot(100), spot(200)]}
    guesses = {"half": [spot(100, 0.9), spot(230, 0.8)]}
    options = {"widths_s": (5,), "visible": {"half": [True, False]}}
    assert soccernet_map(truth, guesses, shown="visible", **options).value() == 1
    assert soccernet_map(truth, guesses, shown="unshown", **options).value() == 0
    # 230 belongs to the unshown 200; within a window of 60 s it hits.
    options["widths_s"] = (60,)
    assert soccernet_map(truth, guesses, shown="unshown", **options).value() == 1


def test_activitynet_gives_the_golden_values():
    truth = {"v": [interval(0, 10), interval(20, 30)]}
    guesses = {"v": [interval(1, 11, 0.9), interval(0, 10, 0.8), interval(21.2, 30, 0.7)]}
    result = activitynet_map(truth, guesses)
    golden = [0.8333] * 7 + [0.6667, 0.25, 0.25]
    assert per_threshold(result) == pytest.approx(golden, abs=5e-5)
    assert result.value() == pytest.approx(0.7, abs=5e-5)
    assert result.thresholds == ACTIVITYNET_TIOUS


def test_the_activitynet_threshold_is_inclusive_and_the_thumos_one_is_not():
    truth, half = {"v": [interval(0, 10)]}, {"v": [interval(0, 5, 0.9)]}
    assert activitynet_map(truth, half, tious=(0.5,)).value() == 1
    assert thumos_map(truth, half, tious=(0.5,)).value() == 0
    assert thumos_map(truth, half, tious=(0.49,)).value() == 1


def test_thumos_precision_is_not_interpolated():
    truth = {"v": [interval(0, 10), interval(20, 30)]}
    guesses = {"v": [interval(50, 60, 0.9), interval(0, 10, 0.8), interval(20, 30, 0.7)]}
    assert thumos_map(truth, guesses, tious=(0.5,)).value() == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert activitynet_map(truth, guesses, tious=(0.5,)).value() == pytest.approx(2 / 3)


def test_a_thumos_truth_takes_what_overlaps_it_most():
    # [1, 11] overlaps [0, 10] more than [3, 13] does, though it scores less; [3, 13] is false.
    truth = {"v": [interval(0, 10)]}
    guesses = {"v": [interval(3, 13, 0.9), interval(1, 11, 0.8)]}
    assert thumos_map(truth, guesses, tious=(0.5,)).value() == 0.5
    assert activitynet_map(truth, guesses, tious=(0.5,)).value() == 1.0


def test_thumos_drops_predictions_on_ambiguous_stretches_that_hit_nothing():
    truth = {"v": [interval(0, 10), interval(40, 60, label="Ambiguous")]}
    guesses = {"v": [interval(50, 70, 0.9), interval(0, 10, 0.8)]}
    assert thumos_map(truth, guesses, tious=(0.5,)).value() == 1.0
    assert thumos_map(truth, guesses, tious=(0.5,)).labels == ("goal",)


def read_thumos(folder):
    truth, predictions = {}, {}
    with (folder / "ground_truth.csv").open() as file:
        for row in csv.DictReader(file):
            event = interval(float(row["start_s"]), float(row["end_s"]), label=row["label"])
            truth.setdefault(row["video"], []).append(event)
    with (folder / "predictions_iou0.5.csv").open() as file:
        for row in csv.DictReader(file):
            start_s, end_s = float(row["t_start"]), float(row["t_end"])
            event = interval(start_s, end_s, float(row["score"]), row["label"])
            predictions.setdefault(row["video"], []).append(event)
    return truth, predictions


def test_the_published_thumos_figures_of_scnn_are_reproduced(shared):
    folder = shared / "labels" / "thumos14_scnn"
    expected = json.loads((folder / "expected_iou0.5.json").read_text())
    truth, predictions = read_thumos(folder)
    result = thumos_map(truth, predictions, tious=(0.5,))
    ap = dict(zip(result.labels, result.per_class()[0, :, 0].tolist(), strict=True))
    assert ap == pytest.approx(expected["AP_stored"], abs=1e-4)
    assert result.value() == pytest.approx(0.1897, abs=5e-5)


def brute_force_spotting_ap(truth, predictions, tolerance_s):
    """E2E-Spot's loop as one reads it: no columns, no sorting of pairs."""
    ranked = sorted(
        ((e.score, v, e.peak_s) for v, es in predictions.items() for e in es), reverse=True
    )
    total = sum(len(events) for events in truth.values())
    free = {v: [e.peak_s for e in es] for v, es in truth.items()}
    precision = []
    for n, (_, video, at_s) in enumerate(ranked, 1):
        nearest = min(free.get(video, []), key=lambda t: abs(t - at_s), default=None)
        if nearest is not None and abs(nearest - at_s) <= tolerance_s:
            free[video].remove(nearest)
            precision.append((len(precision) + 1) / n)
    best = np.maximum.accumulate(precision[::-1]) if precision else np.zeros(0)
    return float(best.sum()) / total


def test_spotting_agrees_with_a_plain_loop_on_random_events():
    rng = np.random.default_rng(3)
    for _ in range(50):
        truth = {v: [spot(t) for t in rng.choice(60, 6, replace=False)] for v in "ab"}
        scores = rng.permutation(40) / 40
        guesses = {
            v: [spot(t, s) for t, s in zip(rng.uniform(0, 60, 20), part, strict=True)]
            for v, part in zip("ab", (scores[:20], scores[20:]), strict=True)
        }
        result = spotting_map(truth, guesses, tolerances_s=(1, 3, 8))
        expected = [brute_force_spotting_ap(truth, guesses, t) for t in (1, 3, 8)]
        assert per_threshold(result) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [spotting_map, soccernet_map, activitynet_map, thumos_map])
def test_counting_a_match_twice_is_the_same_as_having_it_twice(metric):
    rng = np.random.default_rng(5)

    def events(n, shift_s):
        starts = rng.uniform(0, 500, n)
        scores = rng.permutation(n * 2)[:n] / (2 * n) + shift_s
        return [interval(s, s + 20, x) for s, x in zip(starts, scores, strict=True)]

    truth = {v: [interval(e.start_s, e.end_s) for e in events(12, 0)] for v in "abc"}
    guesses = {v: events(40, shift) for v, shift in zip("abc", (0, 0.003, 0.006), strict=True)}
    counts = np.array([[2.0, 0.0, 1.0]])
    once = metric(truth, guesses)
    weighted = once.per_class(counts)
    copied = metric(
        {"a": truth["a"], "a2": truth["a"], "c": truth["c"]},
        {"a": guesses["a"], "a2": guesses["a"], "c": guesses["c"]},
    )
    assert 0 < copied.value() < 1
    assert once.headline(weighted)[0] == pytest.approx(copied.value())


@pytest.mark.parametrize("metric", [spotting_map, activitynet_map, thumos_map, soccernet_map])
def test_a_class_that_no_drawn_match_has_is_skipped(metric):
    truth = {"a": [interval(10, 20)], "b": [interval(10, 20, label="card")]}
    result = metric(truth, truth)
    drawn = result.per_class(np.array([[2.0, 0.0], [0.0, 0.0]]))
    assert result.headline(drawn) == pytest.approx([1.0, np.nan], nan_ok=True)


def test_a_class_of_soccernet_without_any_truth_counts_zero_whatever_is_drawn():
    truth = {"a": [interval(10, 20)], "b": [interval(10, 20, label="card")]}
    result = soccernet_map(truth, truth, labels=("card", "corner", "goal"))
    assert result.value() == pytest.approx(2 / 3)
    drawn = result.per_class(np.array([[2.0, 0.0], [0.0, 0.0]]))
    # One of goal and corner; where neither goal nor card is drawn there is nothing to tell.
    assert result.headline(drawn) == pytest.approx([1 / 2, np.nan], nan_ok=True)


def test_looser_thresholds_never_find_less():
    rng = np.random.default_rng(9)
    truth = {"v": [interval(s, s + 8) for s in np.arange(10) * 30.0]}
    guesses = {
        "v": [interval(s, s + 8, rng.uniform()) for s in np.arange(10) * 30 + rng.normal(0, 4, 10)]
    }
    values = per_threshold(activitynet_map(truth, guesses, tious=(0.9, 0.7, 0.5, 0.3)))
    assert all(tight <= loose for tight, loose in pairwise(values))


@pytest.mark.parametrize("metric", [spotting_map, soccernet_map, activitynet_map, thumos_map])
def test_no_predictions_score_nothing_and_perfect_ones_everything(metric):
    truth = {"v": [interval(10, 20), interval(40, 50)], "w": [interval(5, 9)]}
    assert metric(truth, {}).value() == 0
    assert metric(truth, truth).value() == 1
