"""Decide which parts of the footage a reel or a clip shows. Opens no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from touchline.pipeline.outputs.result_view import in_time_order
from touchline.pipeline.types import Event


@dataclass(frozen=True)
class Cut:
    """A part of the footage, and the events in it.

    Attributes:
        start_s: First second shown.
        end_s: End in seconds; the frame shown from there on is left out.
        events: The events it shows, in time order. An empty tuple gives a cut without titles.

    Example:
        >>> from touchline.pipeline import Cut
        >>> Cut(3.0, 5.5, ()).duration_s
        2.5
    """

    start_s: float
    end_s: float
    events: tuple[Event, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


def padded_cut(event: Event, *, before_s: float, after_s: float, duration_s: float) -> Cut:
    """One event with some time before and after it, limited to the footage.

    Args:
        event: The event to show.
        before_s: Seconds shown before the event.
        after_s: Seconds shown after the event.
        duration_s: Length of the footage in seconds.

    Raises:
        ValueError: The event lies outside the footage, or it has no length and no padding.
    """
    start_s = max(0.0, event.start_s - before_s)
    end_s = min(duration_s, event.end_s + after_s)
    if start_s == end_s < duration_s:
        raise ValueError(
            f"event {event.label!r} at {event.start_s:.3f} s has no length, so without padding "
            "there is nothing to show. Give --before or --after."
        )
    if end_s <= start_s:
        raise ValueError(
            f"event {event.label!r} at {event.start_s:.3f} s is outside the footage, which is "
            f"{duration_s:.3f} s long. Check that the events belong to this file."
        )
    return Cut(start_s, end_s, (event,))


def plan_reel(
    events: Iterable[Event],
    *,
    duration_s: float,
    before_s: float,
    after_s: float,
    max_s: float | None = None,
    weights: Mapping[str, float] | None = None,
) -> list[Cut]:
    """Choose the events of a reel, best first, and return its cuts in time order.

    An event that would make the reel longer than `max_s` is skipped, and the next best is tried.
    Cuts that touch or overlap become one.

    Args:
        events: The events to choose from.
        duration_s: Length of the footage in seconds.
        before_s: Seconds shown before an event.
        after_s: Seconds shown after an event.
        max_s: Longest reel in seconds; None shows all events.
        weights: Factor on the score for each class (default 1). 0 leaves the class out.

    Raises:
        ValueError: A weight is negative, or an event lies outside the footage.

    Example:
        >>> from touchline.pipeline import plan_reel, read_events_json
        >>> events = read_events_json("out/match/events.json").accepted
        >>> cuts = plan_reel(events, duration_s=12, before_s=1, after_s=1)
        >>> [f"{cut.start_s:.1f} to {cut.end_s:.1f} s" for cut in cuts]
        ['2.1 to 5.9 s', '7.1 to 10.4 s']
    """
    weights = weights or {}
    if bad := [label for label, weight in weights.items() if not 0 <= weight < math.inf]:
        raise ValueError(f"the weight of {bad[0]!r} is {weights[bad[0]]}; it must be 0 or more")
    worth = {e: e.score * weights.get(e.label, 1.0) for e in events}
    ranked = sorted(
        (e for e in worth if weights.get(e.label, 1.0) > 0), key=lambda e: (-worth[e], e.start_s)
    )
    chosen: list[Cut] = []
    for event in ranked:
        cut = padded_cut(event, before_s=before_s, after_s=after_s, duration_s=duration_s)
        merged = merge_cuts([*chosen, cut])
        if max_s is None or sum(c.duration_s for c in merged) <= max_s + 1e-9:
            chosen = merged
    return chosen


def merge_cuts(cuts: Sequence[Cut]) -> list[Cut]:
    """The cuts in time order; cuts that touch or overlap become one."""
    merged: list[Cut] = []
    for cut in sorted(cuts, key=lambda c: c.start_s):
        if merged and cut.start_s <= merged[-1].end_s:
            last = merged.pop()
            cut = Cut(
                last.start_s,
                max(last.end_s, cut.end_s),
                tuple(in_time_order((*last.events, *cut.events))),
            )
        merged.append(cut)
    return merged
