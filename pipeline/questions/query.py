"""What a question asks, as the grammar has read it, and the same as a question again."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from touchline.models.spelling import ordinal
from touchline.pipeline.timecode import timecode


class Kind(Enum):
    """What is wanted of the events that fit."""

    COUNT = "how many"
    LIST = "list"
    EXISTS = "were there"
    PLAYER = "who made"
    TEAM = "which team made"
    SCORE = "what was the score"


class RefusalError(Exception):
    """The question has no answer here. The message says why.

    Attributes:
        words: The words that are not known.
        nearest: A question that can be answered; empty for none.
    """

    def __init__(self, why: str, words: tuple[str, ...] = (), nearest: str = "") -> None:
        super().__init__(why)
        self.words = words
        self.nearest = nearest


@dataclass(frozen=True)
class Bound:
    """A limit in time: a time, or an event.

    Attributes:
        time_s: Seconds; None if an event is meant.
        in_file: The time is one in the file even where a match clock is known.
        kickoff: The period whose kick-off is meant.
        classes: The classes of the event; none for any class.
        ordinal: Which of these events: 1 is the first, -1 the last. None: the only one.
    """

    time_s: float | None = None
    in_file: bool = False
    kickoff: int | None = None
    classes: tuple[str, ...] = ()
    ordinal: int | None = None

    @property
    def is_event(self) -> bool:
        """Whether an event is meant."""
        return self.time_s is None and self.kickoff is None

    def text(self) -> str:
        """Return the limit in words that the grammar reads."""
        if self.time_s is not None:
            return _time(self.time_s) + (" in the file" if self.in_file else "")
        if self.kickoff is not None:
            return "the break"
        return f"the {_ordinal(self.ordinal)}{_classes(self.classes, 'event')}"


@dataclass(frozen=True)
class Query:
    """Which events a question is about, and what it wants of them.

    Attributes:
        kind: What is wanted.
        classes: Classes of the events; none for every class.
        ordinal: Which of them: 1 is the first, -1 the last.
        limit: How many of the first ones; negative: of the last ones.
        team: The team that the events name.
        player: The player that the events name.
        jersey: The number on the shirt that the events name.
        periods: Periods of the match.
        period_word: What the question calls a period: "half", "quarter" or "period".
        added: Only added time.
        after: Only later events.
        before: Only earlier events.
        inclusive: Events exactly at the limits fit, too.
        above: The least score, and whether it must be exceeded.
        below: The greatest score, and whether the score must be less.
        match: The name of the match.
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    ordinal: int | None = None
    limit: int | None = None
    team: str | None = None
    player: str | None = None
    jersey: str | None = None
    periods: tuple[int, ...] = ()
    period_word: str = "period"
    added: bool = False
    after: Bound | None = None
    before: Bound | None = None
    inclusive: bool = False
    above: tuple[float, bool] | None = None
    below: tuple[float, bool] | None = None
    match: str | None = None

    def text(self) -> str:
        """Return the query as a question that the grammar reads as this query."""
        if self.kind is Kind.SCORE:
            what = self.kind.value
        else:
            which = _ordinal(self.ordinal)
            if self.limit is not None:
                which = f"{'last' if self.limit < 0 else 'first'} {abs(self.limit)} "
            # "How many the first goal" is no English.
            article = "the " if which else ""
            noun = "events" if self.ordinal is None else "event"
            what = f"{self.kind.value} {article}{which}{_classes(self.classes, noun)}"
        words = [what[0].upper() + what[1:], *self._conditions()]
        return " ".join(words) + ("." if self.kind is Kind.LIST else "?")

    def _conditions(self) -> list[str]:
        found = []
        for before, value in (("by", self.team), ("by", self.player)):
            if value is not None:
                found.append(f'{before} "{value}"')
        if self.jersey is not None:
            found.append(f"by number {self.jersey}")
        if self.periods:
            found.append(f"in {self.period_word} " + " or ".join(map(str, self.periods)))
        if self.added:
            found.append("in added time")
        if self.above:
            found.append(f"with score {'above' if self.above[1] else 'at least'} {self.above[0]:g}")
        if self.below:
            found.append(f"with score {'below' if self.below[1] else 'at most'} {self.below[0]:g}")
        if self.after and self.before and self.inclusive:
            found.append(f"between {self.after.text()} and {self.before.text()}")
        else:
            limits = [("after", self.after), ("before", self.before)]
            # What follows an event would belong to it.
            for word, bound in sorted(
                limits, key=lambda limit: bool(limit[1] and limit[1].is_event)
            ):
                found += [f"{word} {bound.text()}"] if bound else []
        return found + ([f'in "{self.match}"'] if self.match is not None else [])


def _ordinal(number: int | None) -> str:
    if number is None:
        return ""
    return {1: "first ", 2: "second ", 3: "third ", -1: "last "}.get(number, f"{ordinal(number)} ")


def _classes(classes: tuple[str, ...], noun: str) -> str:
    return " or ".join(f'"{name}"' for name in classes) + f" {noun}" if classes else noun


def _time(time_s: float) -> str:
    hours, rest = divmod(time_s, 3600)
    minutes, seconds = divmod(rest, 60)
    if seconds != int(seconds):
        return timecode(time_s)
    return f"{hours * 60 + minutes:.0f}:{seconds:02.0f}"
