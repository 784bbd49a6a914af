"""Answer a query from the events of the matches, in sentences with the times they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from touchline.models.spelling import counted
from touchline.pipeline.questions.grammar import parse
from touchline.pipeline.questions.query import Bound, Kind, Query, RefusalError
from touchline.pipeline.questions.timeline import MAX_ADDED_S, Timeline, file_time
from touchline.pipeline.questions.vocabulary import Vocabulary, WordTable, vocabulary_of
from touchline.pipeline.types import Event

PENALTY_SHOOTOUT = 5

_Sentence = tuple[str, Event | None]
"""What is said, and the event whose time it names."""


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        read_as: How the question was read.
        sentences: The answer.
        events: The events that it rests on, with the name of their match.
        count: How many events fit.
        counts: Goals by team, for a question about the score.
        told: For each sentence, the event whose time it names; None if it names no time.
    """

    read_as: str
    sentences: tuple[str, ...]
    events: tuple[tuple[str, Event], ...]
    count: int
    counts: Mapping[str, int] = field(default_factory=dict)
    told: tuple[Event | None, ...] = ()


def answer(question: str, timelines: Sequence[Timeline], table: WordTable | None = None) -> Answer:
    """Answer a question about matches from their events alone.

    Args:
        question: The question, in English.
        timelines: The matches.
        table: Words for the classes. None: those of the sport that the classes belong to.

    Raises:
        ValueError: The question is empty or too long.
        RefusalError: It has no answer in these events. The message says why, and names every word
            that is not known.
    """
    vocabulary = vocabulary_of(timelines, table)
    classes = vocabulary.classes[:1]
    try:
        query = parse(question, vocabulary)
        classes = query.classes or classes
        return answer_query(query, timelines, vocabulary)
    except RefusalError as refusal:
        plain = Query(Kind.COUNT, classes).text()
        raise _with_nearest(refusal, plain, timelines, vocabulary) from None


def _with_nearest(
    refusal: RefusalError, plain: str, timelines: Sequence[Timeline], vocabulary: Vocabulary
) -> RefusalError:
    """The refusal with a question that has an answer, if there is one."""
    for question in (refusal.nearest, plain):
        try:
            answer_query(parse(question, vocabulary), timelines, vocabulary)
        except (RefusalError, ValueError):
            continue
        return RefusalError(str(refusal), refusal.words, question)
    return RefusalError(str(refusal), refusal.words)


def answer_query(query: Query, timelines: Sequence[Timeline], vocabulary: Vocabulary) -> Answer:
    """Answer a query.

    Args:
        query: The query.
        timelines: The matches.
        vocabulary: Knows the classes, and what counts in the score.

    Raises:
        RefusalError: The events do not carry what is asked for.
    """
    meant = [t for t in timelines if query.match in (None, t.name)]
    if query.kind is Kind.SCORE:
        query = _score_query(query, vocabulary)
    said: list[_Sentence] = []
    for timeline in meant:
        if missing := [name for name in query.classes if name not in timeline.classes]:
            said.append((f"{timeline.name}: its model does not find {', '.join(missing)}.", None))
    meant = [t for t in meant if not set(query.classes) - set(t.classes)]
    if not meant:
        raise RefusalError(f"No match has a model for all of {', '.join(query.classes)}.")
    parts = [_answer_one(_on_file(query, timeline), timeline) for timeline in meant]
    for timeline, part in zip(meant, parts, strict=True):
        before = f"{timeline.name}: " if len(meant) > 1 else ""
        pairs = zip(part.sentences, part.told, strict=True)
        said += [(before + sentence, event) for sentence, event in pairs]
    count = sum(part.count for part in parts)
    if len(meant) > 1 and query.kind is Kind.COUNT:
        said.insert(0, (f"{_number(query, count)} in {len(meant)} matches.", None))
    return Answer(
        parts[0].read_as,
        tuple(sentence for sentence, _ in said),
        tuple(event for part in parts for event in part.events),
        count,
        parts[0].counts if len(parts) == 1 else {},
        tuple(event for _, event in said),
    )


def _score_query(query: Query, vocabulary: Vocabulary) -> Query:
    """The goals before some time; refused if goals are unknown or anything else is asked for."""
    if not vocabulary.score:
        raise RefusalError(f"The score does not follow from {', '.join(vocabulary.classes)}.")
    allowed = Query(Kind.SCORE, before=query.before, match=query.match)
    if query != allowed:
        raise RefusalError("The score can only be given for a whole match, or up to a time in it.")
    return replace(query, classes=vocabulary.score)


def _on_file(query: Query, timeline: Timeline) -> Query:
    """The query with times in the file where no match clock is known."""
    if timeline.clock is not None:
        return query
    bounds = {
        name: replace(bound, in_file=True)
        for name in ("after", "before")
        if (bound := getattr(query, name)) is not None and bound.time_s is not None
    }
    return replace(query, **bounds)


def _answer_one(query: Query, timeline: Timeline) -> Answer:
    fitting = _in_time(query, timeline, [e for e in _source(query, timeline) if _is_of(query, e)])
    fitting, unknown = _by_whom(query, fitting)
    if query.ordinal is not None:
        at = query.ordinal - 1 if query.ordinal > 0 else query.ordinal
        fitting = fitting[at:][:1]
    elif query.limit is not None:
        fitting = fitting[: query.limit] if query.limit > 0 else fitting[query.limit :]
    counts: dict[str, int] = {}
    if query.kind is Kind.SCORE:
        counts = _goals_by_team(fitting, timeline)
        score = ", ".join(f"{team} {n}" for team, n in counts.items())
        said = [(f"{score}, by goals found.", None), *_told_all(query, timeline, fitting)]
    else:
        said = _sentences(query, timeline, fitting, unknown)
    read_as = replace(query, classes=()) if query.kind is Kind.SCORE else query
    named = tuple((timeline.name, event) for event in fitting)
    return Answer(
        read_as.text(),
        tuple(sentence for sentence, _ in said),
        named,
        len(fitting),
        counts,
        tuple(event for _, event in said),
    )


def _source(query: Query, timeline: Timeline) -> Sequence[Event]:
    """A question about scores is about all candidates."""
    return timeline.candidates if query.above or query.below else timeline.accepted


def _is_of(query: Query, event: Event) -> bool:
    """Whether an event has the class and the score of the query."""
    least, over = query.above or (0.0, False)
    most, under = query.below or (1.0, False)
    if not least <= event.score <= most:
        return False
    if (over and event.score == least) or (under and event.score == most):
        return False
    return not query.classes or event.label in query.classes


# ── time ─────────────────────────────────────────────────────────────────────────────────────


def _in_time(query: Query, timeline: Timeline, events: list[Event]) -> list[Event]:
    """The events in the periods and between the limits of the query."""
    _check_order(query, timeline)
    if query.periods or query.added:
        _check_clock(timeline)
    if query.periods:
        _check_periods(query, timeline)
        events = [e for e in events if _period(timeline, e) in query.periods]
    if query.added:
        events = [e for e in events if (place := timeline.place(e.peak_s)) and place[1] > 0]
    if query.after:
        bound, closed = query.after, not query.after.is_event
        events = [e for e in events if _side(bound, query, timeline, e) >= (0 if closed else 1)]
    if query.before:
        bound = query.before
        least = 0 if query.inclusive and bound.time_s is not None else -1
        events = [e for e in events if _side(bound, query, timeline, e) <= least]
    return events


def _check_order(query: Query, timeline: Timeline) -> None:
    """RefusalError if nothing can lie between the limits, or the footage ends before them."""
    after, before = query.after, query.before
    if after and after.time_s is not None and timeline.end_s is not None:
        begin_s = _file_time(after, query, timeline)
        if begin_s is not None and begin_s >= timeline.end_s:
            raise RefusalError(
                f"{timeline.name} ends at {file_time(timeline.end_s)}, before {after.text()}."
            )
    if after and before:
        begin, end = _limit_place(after, timeline), _limit_place(before, timeline)
        # A time in the file and one on the clock cannot be compared.
        if begin and end and len(begin) == len(end) and begin > end:
            text = f"{after.text()} comes later than {before.text()} in {timeline.name}."
            raise RefusalError(text[0].upper() + text[1:])


def _file_time(bound: Bound, query: Query, timeline: Timeline) -> float | None:
    """The first second of the file at which the clock shows a time; None if it never does."""
    assert bound.time_s is not None
    clock = timeline.clock
    if bound.in_file or clock is None:
        return bound.time_s
    found = []
    for period in query.periods or clock.kickoff_s:
        if period in clock.kickoff_s:
            start_s, end_s = (60 * minutes for minutes in clock.span_min(period))
            if bound.time_s <= end_s or start_s == end_s:
                found.append(clock.kickoff_s[period] + max(0.0, bound.time_s - start_s))
    return min(found, default=None)


def _limit_place(bound: Bound, timeline: Timeline) -> tuple[float, ...] | None:
    """A limit as (file time,), or as (match clock, added time) where the clock is known."""
    if bound.in_file and bound.time_s is not None:
        return (bound.time_s,)
    if timeline.clock is None:
        return (_instant(bound, timeline) if bound.time_s is None else bound.time_s,)
    if bound.time_s is not None:
        return (bound.time_s, 0.0)
    return timeline.place(_instant(bound, timeline))


def _period(timeline: Timeline, event: Event) -> int | None:
    return None if timeline.clock is None else timeline.clock.period(event.peak_s)


def _check_clock(timeline: Timeline) -> None:
    """RefusalError if the match clock is not known, or ends long before the events do."""
    if timeline.clock is None:
        raise RefusalError(
            f"The match clock of {timeline.name} is not known. {timeline.clock_hint}"
        )
    places = (timeline.place(event.peak_s) for event in timeline.accepted)
    if any(place is not None and place[1] > MAX_ADDED_S for place in places):
        raise RefusalError(
            f"Events of {timeline.name} lie more than {MAX_ADDED_S // 60} minutes after the end of "
            "a period, so a kick-off is missing. Give all kick-offs with --kickoff."
        )


def _check_periods(query: Query, timeline: Timeline) -> None:
    """RefusalError if a period of the query is not one of the match, as far as that is known."""
    clock = timeline.clock
    assert clock is not None
    football = clock.period_min is None
    if query.period_word == "half" and not football:
        raise RefusalError(
            f"The match clock of {timeline.name} has periods of {clock.period_min:g} minutes, not "
            "halves of football. Ask for a period."
        )
    if query.period_word == "quarter" and football:
        raise RefusalError(f"The match clock of {timeline.name} has halves, not quarters.")
    for period in query.periods:
        if period not in clock.kickoff_s:
            raise RefusalError(f"The kick-off of period {period} in {timeline.name} is not known.")


def _side(bound: Bound, query: Query, timeline: Timeline, event: Event) -> int:
    """-1 if the event is before the limit, 1 after it, 0 at it. No place on the clock: outside."""
    if bound.time_s is None:
        limit_s = _instant(bound, timeline)
        return (event.peak_s > limit_s) - (event.peak_s < limit_s)
    if bound.in_file:
        return (event.peak_s > bound.time_s) - (event.peak_s < bound.time_s)
    place = _checked_place(bound.time_s, query, timeline, event)
    if place is None:
        return 2 if bound is query.before else -2
    limit = (bound.time_s, 0.0)
    return (place > limit) - (place < limit)


def _checked_place(
    time_s: float, query: Query, timeline: Timeline, event: Event
) -> tuple[float, float] | None:
    """The event's place on the clock; RefusalError if no known period has the time on its clock."""
    _check_clock(timeline)
    clock = timeline.clock
    assert clock is not None
    spans = [clock.span_min(p) for p in query.periods or clock.kickoff_s]
    if not any(60 * start <= time_s <= 60 * end for start, end in spans):
        which = (
            "These periods do not have" if query.periods else "No period with a known kick-off has"
        )
        minutes, seconds = divmod(round(time_s), 60)
        raise RefusalError(f"{which} {minutes}:{seconds:02d} on the clock of {timeline.name}.")
    return timeline.place(event.peak_s)


def _instant(bound: Bound, timeline: Timeline) -> float:
    """The time in the file of an event, or of a kick-off."""
    if bound.kickoff is not None:
        _check_clock(timeline)
        clock = timeline.clock
        assert clock is not None
        if clock.period_min is not None or bound.kickoff not in clock.kickoff_s:
            raise RefusalError(
                f"The break of {timeline.name} is not known. Give --kickoff 2=H:MM:SS."
            )
        return clock.kickoff_s[bound.kickoff]
    found = [e for e in timeline.accepted if not bound.classes or e.label in bound.classes]
    name = " or ".join(bound.classes) or "event"
    if bound.ordinal is None:
        if len(found) > 1:
            raise RefusalError(
                f"{timeline.name} has {counted(len(found), name)}. Say which one, such as the "
                f"first {name}."
            )
        at = 0
    else:
        at = bound.ordinal - 1 if bound.ordinal > 0 else bound.ordinal
    chosen = found[at:][:1]
    if not chosen:
        raise RefusalError(
            f"{timeline.name} has {counted(len(found), name)}, not the one you name."
        )
    return chosen[0].peak_s


# ── who ──────────────────────────────────────────────────────────────────────────────────────


def _by_whom(query: Query, events: list[Event]) -> tuple[list[Event], int]:
    """The events of the team, player and number of the query; how many others do not say."""
    unknown = 0
    for name in ("team", "player", "jersey"):
        wanted = getattr(query, name)
        if wanted is None:
            continue
        silent = [event for event in events if not dict(event.attributes).get(name)]
        if silent and (len(silent) == len(events) or query.ordinal or query.limit):
            raise RefusalError(
                f"{_of(len(silent), len(events))} no {name}, so this cannot be told."
            )
        unknown += len(silent)
        events = [event for event in events if dict(event.attributes).get(name) == wanted]
    if query.jersey and not events and not unknown:
        raise RefusalError("The events carry no number on a shirt.")
    return events, unknown


def _of(some: int, everything: int) -> str:
    if some == everything:
        return "These events carry"
    return f"{some} of {counted(everything, 'event')} {'carries' if some == 1 else 'carry'}"


def _goals_by_team(goals: Sequence[Event], timeline: Timeline) -> dict[str, int]:
    """Goals of each team; RefusalError if a goal carries no team, or belongs to a shoot-out."""
    teams = timeline.values("team")
    if not teams:
        raise RefusalError("These events carry no team, so the score cannot be told.")
    silent = [goal for goal in goals if not dict(goal.attributes).get("team")]
    if silent:
        raise RefusalError(f"{_of(len(silent), len(goals))} no team, so the score cannot be told.")
    if any(_period(timeline, goal) == PENALTY_SHOOTOUT for goal in goals):
        raise RefusalError(
            "There are goals of a penalty shoot-out, which do not count in the score."
        )
    return {team: sum(dict(g.attributes)["team"] == team for g in goals) for team in teams}


# ── sentences ────────────────────────────────────────────────────────────────────────────────


def _sentences(
    query: Query, timeline: Timeline, events: Sequence[Event], unknown: int
) -> list[_Sentence]:
    note: list[_Sentence] = []
    if unknown:
        names = [name for name in ("team", "player", "jersey") if getattr(query, name)]
        verb = "carries" if unknown == 1 else "carry"
        more = f"{counted(unknown, 'more event')} {verb} no {' or '.join(names)}."
        note = [(more, None)]
    if not events:
        finds = f"None found. {timeline.finder} {', '.join(timeline.classes)}."
        return [(finds if timeline.classes else "None found.", None), *note]
    if query.kind in (Kind.PLAYER, Kind.TEAM):
        return [*((_who(query.kind, timeline, event), event) for event in events), *note]
    sentences = _told_all(query, timeline, events)
    if query.kind is Kind.LIST:
        return sentences + note
    number = _number(query, len(events))
    lead = f"Yes, {number}." if query.kind is Kind.EXISTS else f"{number}."
    lead = f"At least {lead[0].lower()}{lead[1:]}" if unknown else lead
    return [(lead, None), *sentences, *note]


def _number(query: Query, count: int) -> str:
    name = query.classes[0] if len(query.classes) == 1 else "event"
    return counted(count, name)


def _who(kind: Kind, timeline: Timeline, event: Event) -> str:
    name = "player" if kind is Kind.PLAYER else "team"
    value = dict(event.attributes).get(name)
    if not value:
        raise RefusalError(f"The {event.label} at {timeline.when(event)} carries no {name}.")
    return f"{value}: {event.label} at {timeline.when(event)}."


def _told_all(query: Query, timeline: Timeline, events: Sequence[Event]) -> list[_Sentence]:
    return [(f"{_told(query, timeline, event)}.", event) for event in events]


def _told(query: Query, timeline: Timeline, event: Event) -> str:
    """An event in a few words: class, time, who, and the score where scores are asked for."""
    known = dict(event.attributes)
    parts = [f"{event.label} at {timeline.when(event)}"]
    who = " ".join(known[name] for name in ("jersey", "player") if known.get(name))
    parts += [text for text in (who, known.get("team", "")) if text]
    if query.above or query.below:
        accepted = "" if event in timeline.accepted else " (below the threshold of its class)"
        parts.append(f"score {event.score:.2f}{accepted}")
    return ", ".join(parts)


def score_of(timeline: Timeline) -> str:
    """Return the score as a sentence; empty if it cannot be told."""
    vocabulary = vocabulary_of([timeline])
    try:
        return answer_query(Query(Kind.SCORE), [timeline], vocabulary).sentences[0]
    except RefusalError:
        return ""
