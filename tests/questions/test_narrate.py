"""Lines and reports: every number, time and name in them stands in the events."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from ask_material import read_timelines

from touchline.pipeline.questions.answer import score_of
from touchline.pipeline.questions.narrate import STYLES, event_lines, match_report

TIMELINES = read_timelines()
FOOTBALL = TIMELINES["football"]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", TIMELINES)
def test_a_line_tells_one_event_and_no_more(style: str, name: str) -> None:
    timeline = TIMELINES[name]
    lines = event_lines(timeline, style)
    assert len(lines) == len(timeline.accepted)
    for event, line in zip(timeline.accepted, lines, strict=True):
        when = timeline.when(event)
        assert when in line
        assert event.label in line
        assert all(value in line for _, value in event.attributes)
        assert not re.search(r"\d", line.replace(when, "")), "a number that is not the time"


@pytest.mark.parametrize("style", STYLES)
def test_wording_varies_and_is_the_same_each_time(style: str) -> None:
    lines = event_lines(FOOTBALL, style)
    assert lines == event_lines(FOOTBALL, style)
    bare = [re.sub(r"\(.*?\)|\d\S*|1H|2H", "", line) for line in lines]
    starts = {line.split()[0] for line in bare} | {line.split()[-1] for line in bare}
    assert len(starts) >= 3


@pytest.mark.parametrize("style", STYLES)
def test_the_report_counts_what_is_there(style: str) -> None:
    report = "\n".join(match_report(FOOTBALL, style, score_of(FOOTBALL)))
    for fact in (
        "12 events",
        "Rovers 2, United 2",
        "4 goals",
        "4 cards",
        "3 substitutions",
        "1 penalty",
        "1H: 5 events",
        "2H: 7 events",
        "First: card at 1H 7:12 (0:08:12), Silva, Rovers.",
        "Last: card at 2H 90:00+3:10 (1:53:10), Brandt, United.",
    ):
        assert fact in report
    assert score_of(TIMELINES["rendered_11"]) == ""


@pytest.mark.parametrize("style", STYLES)
def test_a_match_without_events(style: str) -> None:
    empty = replace(FOOTBALL, accepted=())
    assert event_lines(empty, style) == []
    assert match_report(empty, style)[-1] == ("This model finds card, goal, penalty, substitution.")


def test_a_style_that_is_not_known() -> None:
    with pytest.raises(ValueError, match="plain, lively, radio"):
        event_lines(FOOTBALL, "shouty")
