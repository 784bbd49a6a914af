"""Which events a reel shows, and for how long."""

import math

import pytest

from touchline.pipeline.reels.plan import Cut, padded_cut, plan_reel
from touchline.pipeline.types import Event

GOAL = Event("goal", 100.0, 104.0, 102.0, 0.9)
CARD = Event("card", 200.0, 202.0, 201.0, 0.8)
THROW = Event("throw-in", 206.0, 207.0, 206.5, 0.7)
LATE = Event("goal", 595.0, 599.0, 597.0, 0.5)


def plan(*events: Event, **options: object) -> list[Cut]:
    defaults: dict[str, object] = {"duration_s": 600.0, "before_s": 3.0, "after_s": 2.0}
    return plan_reel(events, **(defaults | options))  # type: ignore[arg-type]


def spans(cuts: list[Cut]) -> list[tuple[float, float]]:
    return [(cut.start_s, cut.end_s) for cut in cuts]


def test_cuts_are_padded_kept_inside_the_footage_and_in_time_order() -> None:
    early = Event("kick-off", 1.0, 2.0, 1.5, 0.1)
    assert spans(plan(LATE, GOAL, early)) == [(0.0, 4.0), (97.0, 106.0), (592.0, 600.0)]


def test_cuts_that_touch_become_one_that_names_all_its_events() -> None:
    # 197 to 204 and 203 to 209.
    assert plan(THROW, CARD) == [Cut(197.0, 209.0, (CARD, THROW))]
    assert spans(plan(THROW, CARD, before_s=2.0)) == [(198.0, 209.0)]
    assert spans(plan(THROW, CARD, before_s=1.9)) == [(198.1, 204.0), (204.1, 209.0)]


def test_the_best_events_fill_the_time_there_is() -> None:
    # goal 9 s, card 7 s; the throw-in would make the card's cut 12 s.
    assert spans(plan(GOAL, CARD, THROW, LATE, max_s=16.0)) == [(97.0, 106.0), (197.0, 204.0)]


def test_an_event_too_long_for_the_rest_is_passed_over_for_a_shorter_one() -> None:
    long = Event("goal", 300.0, 330.0, 310.0, 0.85)
    assert spans(plan(GOAL, long, CARD, max_s=16.0)) == [(97.0, 106.0), (197.0, 204.0)]


def test_class_weights_rank_before_scores() -> None:
    chosen = plan(GOAL, CARD, THROW, max_s=7.0, weights={"card": 1.2, "goal": 0})
    # Weighted: card 0.96, throw-in 0.7; together 12 s is too long.
    assert chosen == [Cut(197.0, 204.0, (CARD,))]


def test_a_weight_that_is_no_factor_is_refused() -> None:
    for weight in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"weight of 'goal' is {weight}"):
            plan(GOAL, weights={"goal": weight})


def test_an_instant_without_time_around_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no length.*Give --before or --after"):
        padded_cut(Event("goal", 1.5, 1.5, 1.5, 0.9), before_s=0.0, after_s=0.0, duration_s=4.0)


def test_an_event_outside_the_footage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'goal' at 100\.000 s is outside the footage"):
        padded_cut(GOAL, before_s=3, after_s=2, duration_s=90.0)
