"""Read the matches that a question is about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.pipeline.outputs.events_json import EVENTS_FILE
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.questions.timeline import Timeline, timeline_of
from touchline.pipeline.timecode import MatchClock


def read_matches(path: str | os.PathLike[str]) -> list[MatchResult]:
    """Read every result below a folder, or those of one file of events.

    Raises:
        LabelsError: There is none, or one cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        return read_results(path)
    found = sorted(path.rglob(EVENTS_FILE))
    if not found:
        raise LabelsError(path, f"holds no {EVENTS_FILE}. Run `touchline detect` first.")
    return [result for events in found for result in read_results(events)]


def timelines_of(
    results: Sequence[MatchResult],
    clocks: Sequence[MatchClock | None],
    classes: Sequence[str] = (),
) -> list[Timeline]:
    """Return the timelines of matches, with a name of its own for each.

    Args:
        results: The matches.
        clocks: The match clock of each.
        classes: Classes that were looked for although no event may have them.

    Raises:
        LabelsError: A match could not be analysed, so its events are not known.
    """
    names: dict[str, int] = {}
    timelines = []
    for result, clock in zip(results, clocks, strict=True):
        if result.error is not None:
            raise LabelsError(result.path, f"has no result: {result.error}")
        timeline = timeline_of(replace(result, clock=clock), classes)
        names[timeline.name] = number = names.get(timeline.name, 0) + 1
        name = timeline.name if number == 1 else f"{timeline.name} {number}"
        timelines.append(replace(timeline, name=name))
    return timelines
