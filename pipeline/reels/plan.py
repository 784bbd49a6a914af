"""Which stretches of footage a reel or a clip shows: pure arithmetic, no file is opened."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from touchline.pipeline.outputs.result_view import in_time_order
from touchline.pipeline.types import Event


@dataclass(frozen=True)
class Cut:
    """A stretch of footage [start_s, end_s) and the events it shows, in time order."""

    start_s: float
    end_s: float
    events: tuple[Event, ...]

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


def padded_cut(event: Event, *, before_s: float, after_s: float, duration_s: float) -> Cut:
    """The event with time around it, inside the footage; ValueError where it lies outside."""
    start_s = max(0.0, event.start_s - before_s)
    end_s = min(duration_s, event.end_s + after_s)
    if start_s == end_s < duration_s:
        raise ValueError(
            f"event {event.label!r} at {event.start_s:.3f} s is an instant, and without time "
            "around it nothing is left to show: give --before or --after"
        )
    if end_s <= start_s:
        raise ValueError(
            f"event {event.label!r} at {event.start_s:.3f} s lies outside the footage, "
            f"which is {duration_s:.3f} s long: are the events of another file?"
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
    """The cuts of a reel, in time order, where they touch made one.

    Events are taken by score times the weight of their class (1 where none is given, 0 leaves the
    class out), the best first, as long as the reel stays within `max_s`; one that does not fit is
    passed over for the next.
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
    """The cuts in time order, those that touch or overlap made one."""
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
