"""The events of a match as questions see them: accepted or not, with their place on the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.pipeline.timecode import MatchClock, timecode
from touchline.pipeline.types import Event

if TYPE_CHECKING:
    from touchline.pipeline.outputs.match_result import MatchResult

# Past the end of a period by more than this, the next kick-off is probably just not known.
MAX_ADDED_S = 15 * 60


@dataclass(frozen=True)
class Timeline:
    """The events of one match, in time order.

    Attributes:
        name: The name of the footage without its suffix.
        accepted: The events that reach the threshold of their class.
        candidates: Every event that the result holds.
        clock: The match clock. None if no kick-off is known.
        classes: The classes that the model finds; without a model, those of the events.
        finder: How a sentence begins that lists these classes.
        clock_hint: What to do if the match clock is asked for and not known.
        end_s: Where the footage ends; None if that is not known.
    """

    name: str
    accepted: tuple[Event, ...]
    candidates: tuple[Event, ...]
    clock: MatchClock | None = None
    classes: tuple[str, ...] = field(default=())
    finder: str = "This model finds"
    clock_hint: str = "Give its kick-offs with --kickoff."
    end_s: float | None = None

    def when(self, event: Event) -> str:
        """Return the time of an event: on the match clock, and in the file."""
        clock = self.clock.text(event.peak_s) if self.clock else ""
        in_file = file_time(event.peak_s)
        return f"{clock} ({in_file})" if clock else in_file

    def place(self, time_s: float) -> tuple[float, float] | None:
        """Return seconds on the match clock, and seconds of added time; None before kick-off."""
        period = None if self.clock is None else self.clock.period(time_s)
        if self.clock is None or period is None:
            return None
        start_s, end_s = (60 * minutes for minutes in self.clock.span_min(period))
        played_s = round(time_s - self.clock.kickoff_s[period], 3)
        if start_s < end_s <= start_s + played_s:
            return end_s, start_s + played_s - end_s
        return start_s + played_s, 0.0

    def values(self, attribute: str) -> list[str]:
        """Return the values of an attribute that some event carries, sorted."""
        found = {dict(event.attributes).get(attribute, "") for event in self.candidates}
        return sorted(found - {""})


def file_time(time_s: float) -> str:
    """Return a time in the file in whole seconds, rounded down as a clock does."""
    return timecode(math.floor(time_s)).removesuffix(".000")


def timeline_of(result: MatchResult, extra_classes: Sequence[str] = ()) -> Timeline:
    """Return the timeline of a result.

    Args:
        result: The result.
        extra_classes: Classes that were looked for although no event may have them.
    """
    health = result.health
    candidates = tuple(sorted({*result.candidates, *result.accepted}, key=_by_time))
    known = result.model.labels if result.model and result.model.labels else ()
    classes = {*known, *extra_classes, *(event.label for event in candidates)}
    return Timeline(
        result.path.stem,
        tuple(sorted(result.accepted, key=_by_time)),
        candidates,
        result.clock,
        tuple(sorted(classes - {BACKGROUND, VERIFIED})),
        end_s=None if health is None else health.actual_duration_s or health.duration_s or None,
    )


def _by_time(event: Event) -> tuple[float, str]:
    return event.peak_s, event.label
