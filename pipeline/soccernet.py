"""SoccerNet's results_spotting.json: a match in two halves, each with a clock of its own.

Reading is `read_labels`, which knows the file by its "predictions". A match may lie in one file
of footage or in one per half; `split_halves` and `join_halves` translate between the two clocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

from touchline.pipeline.types import Event

Halves = tuple[Sequence[Event], Sequence[Event]]


def split_halves(events: Sequence[Event], *, second_half_s: float) -> Halves:
    """Events of one file as two halves, the second one's times from its own kick-off.

    An event belongs to the half its peak lies in; one that begins before the kick-off begins with
    it.
    """
    _check_kick_off(second_half_s)
    first = [event for event in events if event.peak_s < second_half_s]
    second = [
        replace(
            event,
            start_s=max(event.start_s - second_half_s, 0.0),
            end_s=event.end_s - second_half_s,
            peak_s=event.peak_s - second_half_s,
        )
        for event in events
        if event.peak_s >= second_half_s
    ]
    return first, second


def join_halves(halves: Halves, *, second_half_s: float) -> list[Event]:
    """The events of two halves on the clock of one file, in time order."""
    _check_kick_off(second_half_s)
    later = [
        replace(
            event,
            start_s=event.start_s + second_half_s,
            end_s=event.end_s + second_half_s,
            peak_s=event.peak_s + second_half_s,
        )
        for event in halves[1]
    ]
    return sorted([*halves[0], *later], key=lambda event: (event.start_s, event.peak_s))


def _check_kick_off(second_half_s: float) -> None:
    if not 0 < second_half_s < math.inf:
        raise ValueError(
            f"second_half_s is {second_half_s}; it must be the second in the footage at which "
            "the second half kicks off"
        )


def results_spotting(halves: Halves, *, match: str) -> str:
    """The text of results_spotting.json for one match.

    match: its folder in SoccerNet, such as "england_epl/2014-2015/2015-02-21 - 18-00 Chelsea 1 -
    1 Burnley". Positions are milliseconds from the start of the half; all values are strings, as
    in the challenge's own files.
    """
    rows = []
    for half, events in enumerate(halves, start=1):
        for event in sorted(events, key=lambda event: event.peak_s):
            milliseconds = round(event.peak_s * 1000)
            minutes, seconds = divmod(milliseconds // 1000, 60)
            rows.append(
                {
                    "gameTime": f"{half} - {minutes:02d}:{seconds:02d}",
                    "label": event.label,
                    "position": str(milliseconds),
                    "half": str(half),
                    "confidence": repr(float(event.score)),
                }
            )
    return json.dumps({"UrlLocal": match, "predictions": rows}, indent=1) + "\n"
