"""The simulated person: what is marked, answered and counted."""

import numpy as np
import pytest

from touchline.pipeline.benchmarks import teach
from touchline.pipeline.benchmarks.teach import (
    ORDERS,
    bench_teach,
    learning_seconds,
    plot_lessons,
)
from touchline.pipeline.scoring.feature_track import TrackRows
from touchline.pipeline.teaching.learning import learn
from touchline.pipeline.types import Event

RATE_HZ, PERIOD_S = 4.0, 20.0


def made_match(*, shown, num_events=16):
    """Features of a match with an event of 2 s every 20 s; `shown` is how clearly they show."""
    rng = np.random.default_rng(0)
    num_rows = int(num_events * PERIOD_S * RATE_HZ)
    start_s = np.arange(num_rows) / RATE_HZ
    features = rng.standard_normal((num_rows, 32))
    truth = []
    for k in range(num_events):
        label, at_s = ("dunk", "block")[k % 2], k * PERIOD_S + 10
        truth.append(Event(label, at_s, at_s + 2, peak_s=at_s + 1))
        inside = (start_s >= at_s) & (start_s < at_s + 2)
        features[inside, k % 2] += shown
    end_s = start_s + 1 / RATE_HZ
    rows = TrackRows(features.astype(np.float16), start_s, end_s, np.zeros(num_rows, np.bool_))
    return rows, truth


def test_events_that_show_are_found_after_a_few_marks_in_every_order():
    rows, truth = made_match(shown=12.0)
    lessons = bench_teach(rows, truth, marks=(2,), rounds=1)
    assert [(one.order, one.answers) for one in lessons] == [
        (order, answers) for order in ORDERS for answers in (0, 10)
    ]
    for one in lessons:
        assert (one.rest, one.found) == (12, 12)
        assert one.f1 == 24 / (24 + one.false) > 0.75


def test_events_that_do_not_show_are_not_found_without_answers():
    rows, truth = made_match(shown=0.0)
    for one in bench_teach(rows, truth, marks=(4,), rounds=0):
        assert one.f1 < 0.35


def test_answers_reject_what_is_false_and_confirm_what_is_right():
    # One event in three shows as the other class does: the person corrects it.
    rows, truth = made_match(shown=12.0)
    swapped = [
        Event("block" if k % 3 == 0 else e.label, e.start_s, e.end_s, e.peak_s)
        for k, e in enumerate(truth)
    ]
    lessons = bench_teach(rows, swapped, marks=(2,), rounds=2)
    for order in ORDERS:
        first, *_, last = [one for one in lessons if one.order == order]
        assert last.found > first.found
        assert last.false <= first.false


def test_the_curve_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows, truth = made_match(shown=12.0)
    lessons = bench_teach(rows, truth, marks=(1, 2), rounds=0)
    assert plot_lessons(lessons, tmp_path / "teach.png").read_bytes()[1:4] == b"PNG"


def test_a_longer_match_is_learnt_from_all_its_marks(monkeypatch):
    seen = []

    def watched(matches, marks, rejected):
        seen.append((matches, marks))
        return learn(matches, marks, rejected)

    monkeypatch.setattr(teach, "learn", watched)
    rows, truth = made_match(shown=12.0)
    learning_seconds(rows, truth, duration_s=2 * PERIOD_S * len(truth), num_marks=10)
    [(matches, marks)] = seen
    [long] = matches.values()
    assert len(long) == 2 * len(rows)
    assert (np.diff(long.start_s) > 0).all()
    assert len({mark.start_s for mark in marks}) == 10
    assert max(mark.start_s for mark in marks) > rows.end_s[-1]
