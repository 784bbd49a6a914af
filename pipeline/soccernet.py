"""SoccerNet's results_spotting.json: a match in two halves, each with a clock of its own.

Reading is `read_labels`, which knows the file by its "predictions". A match may lie in one file
of footage or in one per half; `split_halves` and `join_halves` translate between the two clocks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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
    second = [on_half_clock(e, second_half_s) for e in events if e.peak_s >= second_half_s]
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


def on_half_clock(event: Event, kickoff_s: float) -> Event:
    """An event of a file on the clock of the half that kicks off at `kickoff_s` of that file.

    What lies before the kick-off is put at 0.
    """
    start_s, end_s, peak_s = (
        max(time_s - kickoff_s, 0.0) for time_s in (event.start_s, event.end_s, event.peak_s)
    )
    return replace(event, start_s=start_s, end_s=end_s, peak_s=peak_s)


def results_spotting(halves: Mapping[int, Sequence[Event]], *, match: str) -> str:
    """The text of results_spotting.json for one match: half (1, 2) -> its events.

    match: its folder in SoccerNet, such as "england_epl/2014-2015/2015-02-21 - 18-00 Chelsea 1 -
    1 Burnley". Positions are milliseconds from the start of the half; all values are strings, as
    in the challenge's own files.
    """
    rows = []
    for half, events in sorted(halves.items()):
        for event in sorted(events, key=lambda event: event.peak_s):
            milliseconds = math.floor(event.peak_s * 1000 + 0.5)
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
