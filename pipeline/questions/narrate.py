"""A line for each event and a report of the match, from templates that add no facts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from touchline.models.spelling import counted, ordinal
from touchline.pipeline.questions.timeline import Timeline
from touchline.pipeline.types import Event

_NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")


@dataclass(frozen=True)
class Style:
    """How lines are worded. Fields: {when}, {what} ("second goal") and {who} (", Keita, United").

    Attributes:
        lines: Templates, which take turns.
        opening: How the report begins; {name} and {number}.
        none: What is said of a match without events; {name}.
    """

    lines: tuple[str, ...]
    opening: str
    none: str


STYLES = {
    "plain": Style(
        ("{when}: {what}{who}.", "{when}: the {what}{who}.", "{when}: {what} found{who}."),
        "{name}: {number}.",
        "{name}: no events were found.",
    ),
    "lively": Style(
        (
            "{when} – and there it is, the {what}{who}!",
            "What a moment at {when}: the {what}{who}!",
            "{when} – {what}{who}!",
            "Look at this! The {what}{who}, at {when}!",
        ),
        "What a day for {name}: {number}!",
        "A quiet day for {name}: no events were found.",
    ),
    "radio": Style(
        (
            "For those just tuning in: at {when} we had the {what}{who}.",
            "At {when}, the {what}{who}.",
            "The clock says {when}: {what}{who}.",
        ),
        "This was {name}, with {number}.",
        "This was {name}, without an event found.",
    ),
}


def event_lines(timeline: Timeline, style: str) -> list[str]:
    """Return a line for each accepted event.

    Args:
        timeline: The match.
        style: A name of STYLES.

    Raises:
        ValueError: There is no such style.
    """
    templates = _style(style).lines
    seen: Counter[str] = Counter()
    lines: list[str] = []
    for event in timeline.accepted:
        seen[event.label] += 1
        # Another template each time a class comes again, and for classes that follow each other.
        template = templates[(len(lines) + seen[event.label]) % len(templates)]
        lines.append(
            template.format(
                when=timeline.when(event),
                what=f"{_nth(seen[event.label])} {event.label}",
                who=_who(event),
            )
        )
    return lines


def match_report(timeline: Timeline, style: str, score: str = "") -> list[str]:
    """Return the report of a match, one sentence each.

    Args:
        timeline: The match.
        style: A name of STYLES.
        score: The score, if it can be told.

    Raises:
        ValueError: There is no such style.
    """
    wording = _style(style)
    events = timeline.accepted
    if not events:
        classes = ", ".join(timeline.classes)
        return [wording.none.format(name=timeline.name), f"This model finds {classes}."]
    number = counted(len(events), "event")
    sentences = [wording.opening.format(name=timeline.name, number=number)]
    if score:
        sentences.append(f"Score: {score}")
    labels = Counter(event.label for event in events)
    sentences.append(", ".join(counted(n, name) for name, n in labels.most_common()) + ".")
    if none := [name for name in timeline.classes if name not in labels]:
        sentences.append(f"None found: {', '.join(none)}.")
    sentences += _by_period(timeline)
    for team, n in Counter(v for e in events if (v := dict(e.attributes).get("team"))).items():
        sentences.append(f"{team}: {counted(n, 'event')}.")
    for name, event in (("First", events[0]), ("Last", events[-1])):
        sentences.append(f"{name}: {event.label} at {timeline.when(event)}{_who(event)}.")
    return sentences


def _by_period(timeline: Timeline) -> list[str]:
    """How many events each period has; nothing without a match clock."""
    clock = timeline.clock
    if clock is None:
        return []
    periods = Counter(clock.period(event.peak_s) for event in timeline.accepted)
    return [
        f"{clock.period_name(period)}: {counted(periods[period], 'event')}."
        for period in sorted(clock.kickoff_s)
    ]


def _style(name: str) -> Style:
    if name not in STYLES:
        raise ValueError(f"style is {name!r}; it must be one of {', '.join(STYLES)}")
    return STYLES[name]


def _nth(number: int) -> str:
    return _NTH[number - 1] if number <= len(_NTH) else ordinal(number)


def _who(event: Event) -> str:
    known = dict(event.attributes)
    who = " ".join(known[name] for name in ("jersey", "player") if known.get(name))
    return "".join(f", {text}" for text in (who, known.get("team", "")) if text)
