"""`touchline commentate`: a line for each event, and a report of the match."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.pipeline.questions.options import DEFAULT_STYLE
from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin
from touchline.tools.results.wording import Wording, reword


def commentate_command(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            help="An events.json, events in another format, or a folder of results.",
            show_default=False,
        ),
    ],
    style: Annotated[
        str, typer.Option(help="How the lines are worded: plain, lively or radio.")
    ] = DEFAULT_STYLE,
    wording: Wording = None,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    json_: Annotated[bool, typer.Option("--json", help="Print lines and report as JSON.")] = False,
) -> None:
    """Tell a match: one line for each event, then a report.

    Nothing is added to the events.
    """
    from touchline.pipeline.questions.answer import score_of
    from touchline.pipeline.questions.narrate import event_lines, match_report
    from touchline.pipeline.questions.read import read_matches, timelines_of
    from touchline.tools.results.clock import clocks_of

    matches = read_matches(results)
    timelines = timelines_of(matches, clocks_of(matches, kickoff or [], period_min=period_min))
    reports = [
        {
            "match": timeline.name,
            "lines": event_lines(timeline, style),
            "report": match_report(timeline, style, score_of(timeline)),
        }
        for timeline in timelines
    ]
    if wording is not None:
        reports = [
            match | {part: reword(match[part], wording) for part in ("lines", "report")}
            for match in reports
        ]
    if json_:
        console.print_json(reports)
        return
    for match in reports:
        for line in [*match["lines"], "", *match["report"], ""]:
            console.say(line)
