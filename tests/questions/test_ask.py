"""Questions about the events of a match: what is answered, what is refused, what it rests on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ask_material import FOLDER, read_questions, read_timelines, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st

from touchline.models.errors import LabelsError
from touchline.pipeline.questions.answer import Answer, answer
from touchline.pipeline.questions.grammar import KNOWN_WORDS
from touchline.pipeline.questions.query import RefusalError
from touchline.pipeline.questions.timeline import Timeline
from touchline.pipeline.questions.vocabulary import read_word_table
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event

TIMELINES = read_timelines()
FOOTBALL = TIMELINES["football"]


def ask(question: str, timeline: Timeline = FOOTBALL) -> Answer:
    return answer(question, [timeline])


def times(question: str, timeline: Timeline = FOOTBALL) -> list[float]:
    return [event.peak_s for _, event in ask(question, timeline).events]


def refusal(question: str, timeline: Timeline = FOOTBALL) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        ask(question, timeline)
    return caught.value


def test_numbers_have_the_english_plural_and_ending():
    events = tuple(Event("penalty", 60.0 * n, 60.0 * n, 60.0 * n) for n in range(22))
    timeline = Timeline("match", events, events, classes=("penalty",))
    assert ask("How many penalties were there?", timeline).sentences[0] == "22 penalties."
    for number, written in ((4, "4th"), (11, "11th"), (21, "21st"), (22, "22nd")):
        found = ask(f"When was the {written} penalty?", timeline)
        assert found.read_as == f'List the {written} "penalty" event.'
        assert [event.peak_s for _, event in found.events] == [60.0 * (number - 1)]


def test_of_sixty_questions_none_is_answered_wrong() -> None:
    found = verdicts()
    assert sum(found.values()) == 60
    assert sum(n for (_, name), n in found.items() if name == "wrong") == 0
    assert found["plain", "right"] == 20
    assert found["no answer", "right"] == 20
    assert found["paraphrase", "right"] >= 13


@pytest.mark.parametrize("asked", read_questions(), ids=lambda asked: asked["question"])
def test_what_was_read_is_a_question_that_reads_the_same(asked: dict[str, str]) -> None:
    timeline = TIMELINES[asked["results"]]
    refused = None
    try:
        first = ask(asked["question"], timeline)
    except RefusalError as error:
        refused = error
    if refused is not None:
        assert ask(refused.nearest, timeline).read_as == refused.nearest
        return
    again = ask(first.read_as, timeline)
    assert (again.read_as, again.events, again.count) == (
        first.read_as,
        first.events,
        first.count,
    )


@pytest.mark.parametrize("word", ["Liverpool", "red", "not", "VAR", "own", "possibly", "-", "½"])
@pytest.mark.parametrize("asked", ["How many goals were there?", "List the cards after 50:00"])
def test_a_word_that_is_not_known_is_never_ignored(word: str, asked: str) -> None:
    words = asked.split()
    for at in range(len(words) + 1):
        refusal(" ".join([*words[:at], word, *words[at:]]))


def test_a_refusal_names_the_words_and_offers_a_question() -> None:
    refused = refusal("How many goals did Liverpool score on Sunday?")
    assert refused.words == ("liverpool", "sunday")
    assert str(refused) == 'Not understood: "liverpool", "sunday".'
    assert refused.nearest == 'How many "goal" events?'
    assert refusal("How many golas in the first half?").nearest == (
        'How many "goal" events in half 1?'
    )


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which goals came after half time?", [4735, 6495]),
        ("When did Silva get booked?", [492, 4280]),
        ("List the first two goals", [810, 2384]),
        ("List the last 2 cards of the match", [4280, 6790]),
        ("What was United's first goal?", [2384]),
        ("List goals in the 39th minute", [2384]),
        ("List goals in minute 40", []),
        ("List everything from the 58th minute to 1:03:00", [4690, 4735, 4980]),
        ("What happened right before the first substitution?", [810]),
        ("Who scored the second goal?", [2384]),
        ("Which team scored first?", [810]),
        ("List cards in stoppage time in the first half", [2850]),
        ("In the second half, list the goals of United.", [4735]),
        ("List events with score below 0.5", [1260, 5700]),
        ("List goals with a score of at least 91%", [810, 2384, 4735, 6495]),
        ("List goals between the first penalty and 89:00", [4735, 6495]),
        ("List goals after 0:30:00 in the file", [2384, 4735, 6495]),
        ("List the fifth goal", []),
        ("List cards by United after the first goal", [2850, 6790]),
        ("List cards before 60:00 after the first goal", [2850, 4280]),
        ("Which cards after the first goal did United get?", [2850, 6790]),
        ('List "goal" events by "Novak"', [810, 6495]),
        ("List cards between the first card and the last card", [2850, 4280]),
        ("List goals before the 39th minute", [810]),
        ("List goals since the 39th minute", [2384, 4735, 6495]),
        ("List the first goal or card", [492]),
        ("When was the last card shown?", [6790]),
        ("When did the last card come?", [6790]),
        ("How many cards were shown before the break?", [492, 2850]),
        ("How many goals were there in total?", [810, 2384, 4735, 6495]),
    ],
)
def test_what_a_question_finds(question: str, expected: list[float]) -> None:
    assert times(question) == expected


def test_minutes_are_those_of_the_clock_where_one_is_known() -> None:
    assert times("List goals before 39:00") == [810, 2384]
    assert times("List goals before 39:00", replace(FOOTBALL, clock=None)) == [810]
    read = ask("List goals before 39:00", replace(FOOTBALL, clock=None)).read_as
    assert read == 'List "goal" events before 39:00 in the file.'


def test_added_time_comes_before_the_second_half() -> None:
    assert times("List cards before 45:00") == [492]
    assert times("List cards before 46:00") == [492, 2850]
    assert times("List cards after 90:00") == [6790]


@pytest.mark.parametrize(
    "question",
    [
        "Did United score the first goal?",  # United's first goal is not meant.
        "Who booked Silva?",  # The player of a card is the one who got it.
        "How many penalties were scored?",
        "List goals in the first ten minutes of the second half",
        "List goals before minute 10 in the second half",
        "List goals after the goal",
        "List goals after the corner",
        "How many goals in the second quarter?",
        "How many goals in period 3?",
        "How many goals? And cards?",
        "List cards after the first goal by United",  # The goal may be United's, or the cards.
        "List cards after the first goal of the second half",
        "List goals after the last card before the penalty",
        "Was there a goal right after the penalty?",  # The next goal may be far away.
        "How many goals did they score?",
        "goals",
        "the",
        "How many goals did United and Rovers score?",
        "What was the score after 80:00?",
        "List goals with a score above 7",
        "List goals between the last card and the first card",
        "How many goals between 60:00 and 30:00?",
        "How many cards in the first 10 minutes after the first goal?",
        "List goals in the opening minute after the break",
        "How many goals in the first 20 minutes after the first card?",
        "What were the first card and goal?",
        "List the last two penalties and cards",
        "List every second goal",
        "How many first cards?",
    ],
)
def test_what_could_be_misread_is_refused(question: str) -> None:
    refusal(question)


def test_seconds_are_rounded_down_as_on_a_clock() -> None:
    late = Event("card", 44.0, 46.0, 44.84)
    timeline = replace(FOOTBALL, accepted=(late,), candidates=(late,), clock=None)
    assert "card at 0:00:44." in ask("List cards before 0:45", timeline).sentences


def test_time_that_was_not_filmed_is_not_none_found() -> None:
    filmed = replace(FOOTBALL, end_s=7000.0)
    with pytest.raises(RefusalError, match=r"^football ends at 1:56:40, before 116:40 in the f"):
        ask("List goals after 1:56:40 in the file", filmed)
    with pytest.raises(RefusalError, match=r"^football ends at 1:23:20, before 88:00\.$"):
        ask("List goals in the 89th minute", replace(FOOTBALL, end_s=5000.0))
    assert times("List goals after 1:56:39 in the file", filmed) == []
    assert times("List goals before 2:30:00 in the file", filmed) == [810, 2384, 4735, 6495]


def test_a_missing_kick_off_is_noticed() -> None:
    one_half = replace(FOOTBALL, clock=MatchClock({1: 60.0}))
    for question in ("How many goals in the first half?", "List goals before 44:00"):
        assert "kick-off is missing" in str(refusal(question, one_half))


def test_teams_and_players_are_asked_for_only_where_events_carry_them() -> None:
    bare = tuple(replace(event, attributes=()) for event in FOOTBALL.accepted)
    silent = replace(FOOTBALL, accepted=bare, candidates=bare)
    assert refusal("How many goals did United score?", silent).words == ("united",)
    assert "no team" in str(refusal("What was the score?", silent))
    assert "carries no player" in str(refusal("Who scored first?", silent))
    first, *others = FOOTBALL.accepted
    one = replace(FOOTBALL, accepted=(replace(first, attributes=()), *others))
    found = ask("How many cards did Rovers get?", one)
    assert found.sentences[0] == "At least 1 card."
    assert found.sentences[-1] == "1 more event carries no team."
    assert "1 of 4 events carries no team" in str(refusal("List the first card of Rovers", one))


def test_the_score_counts_no_shoot_out() -> None:
    clock = MatchClock({1: 60.0, 2: 3900.0, 3: 6700.0, 4: 7700.0, 5: 8700.0})
    late = Event("goal", 8800, 8800, 8800, 0.9, (("team", "United"),))
    longer = replace(FOOTBALL, clock=clock, accepted=(*FOOTBALL.accepted, late))
    assert "shoot-out" in str(refusal("What was the score?", longer))


def test_absence_names_what_the_model_finds() -> None:
    found = ask("List penalties in the first half")
    assert found.sentences == ("None found. This model finds card, goal, penalty, substitution.",)


def test_several_matches_are_counted_together_and_told_apart() -> None:
    two = [TIMELINES["rendered_11"], TIMELINES["rendered_12"]]
    found = answer("How many dunks?", two)
    assert found.count == 6
    assert found.sentences[:2] == ("6 dunks in 2 matches.", "rendered_11: 3 dunks.")
    assert answer("How many dunks in rendered_12?", two).count == 3
    mixed = answer("How many dunks?", [*two, FOOTBALL])
    assert mixed.count == 6
    assert "football: its model does not find dunk." in mixed.sentences


def test_bad_questions() -> None:
    with pytest.raises(ValueError, match="empty"):
        ask(" \n")
    with pytest.raises(ValueError, match="10000 characters"):
        ask("a" * 10_000)
    assert refusal("Combien de buts y a-t-il eu ?").words
    assert refusal("试合中有几个进球").words


def test_a_table_of_words(tmp_path: Path) -> None:
    table = tmp_path / "words.txt"
    table.write_text("goal | worldie | banged in, be bagged\nscore: goal\n", encoding="utf-8")
    assert answer("How many worldies?", [FOOTBALL], read_word_table(table)).count == 4
    table.write_text("goal\n", encoding="utf-8")
    with pytest.raises(LabelsError, match="line 1 must be"):
        read_word_table(table)


WORDS = sorted(KNOWN_WORDS | {"goal", "cards", "united", "silva", "12:30", "3", "2nd", '"goal"'})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join) | st.text(max_size=60))
def test_any_text_is_answered_refused_or_too_short(text: str) -> None:
    try:
        found = ask(text)
    except (RefusalError, ValueError):
        return
    again = ask(found.read_as)
    assert (again.read_as, again.events) == (found.read_as, found.events)


def test_the_package_loads_no_torch() -> None:
    code = (
        "import sys, touchline.pipeline.questions.answer, touchline.pipeline.questions.commentary;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_rendered_matches_are_those_of_the_renderer() -> None:
    import numpy as np

    from touchline.pipeline.demonstration.court import Match
    from touchline.pipeline.demonstration.render_match import match_script

    for seed in (11, 12):
        script = match_script(np.random.default_rng(seed), plays_each=3, distractors=4)
        match = Match(script, np.random.default_rng(seed).spawn(3)[0])
        for _ in match.frames():
            pass
        document = json.loads((FOLDER / f"rendered_{seed}/events.json").read_text())
        rows = [row for row in document["events"] if row["accepted"]]
        assert [row["label"] for row in rows] == [event.label for event in match.events]
        assert [row["peak_s"] for row in rows] == pytest.approx(
            [event.peak_s for event in match.events], abs=0.01
        )
