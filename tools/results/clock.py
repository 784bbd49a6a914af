"""The options --kickoff and --period-min, and the match clock that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.timecode import MatchClock

Kickoff = Annotated[
    list[str] | None,
    typer.Option(
        help="When a period kicks off, as a time in the file: PERIOD=H:MM:SS, or "
        "PERIOD=FILE@H:MM:SS with several files. Repeat the option for each period."
    ),
]

PeriodMin = Annotated[
    float | None,
    typer.Option(help="Length of a period in minutes (default: football, 45 and extra time 15)."),
]


def clocks_of(
    results: Sequence[MatchResult], kickoffs: Sequence[str], *, period_min: float | None
) -> list[MatchClock | None]:
    """The match clock of each result: from --kickoff, otherwise from the result itself.

    Args:
        results: One result per footage file.
        kickoffs: The texts given to --kickoff. With several results each must name its file.
        period_min: Minutes of a period; None for football.

    Raises:
        ValueError: A kick-off names no file or an unknown one, or is after the end of its file, or
            --period-min comes without --kickoff.
    """
    from touchline.pipeline.timecode import parse_kickoffs

    if not kickoffs:
        if period_min is not None:
            raise ValueError("--period-min needs --kickoff, such as --kickoff 1=0:02:10")
        return [result.clock for result in results]
    names = [result.path.name for result in results]
    for text in kickoffs:
        file, at, _ = text.partition("=")[2].rpartition("@")
        if at and file not in names:
            raise ValueError(f"kick-off {text!r} names {file}; the footage is {', '.join(names)}")
        if not at and len(results) > 1:
            raise ValueError(
                "with several files each kick-off must name its file: "
                "--kickoff 1=first.mp4@0:02:10 --kickoff 2=second.mp4@0:00:05"
            )
    clocks = [
        parse_kickoffs(list(kickoffs), file_name=name, period_min=period_min) for name in names
    ]
    for result, clock in zip(results, clocks, strict=True):
        if clock is not None and result.health is not None and result.health.duration_s > 0:
            _refuse_after(clock, result.health.duration_s, result.path.name)
    return clocks


def _refuse_after(clock: MatchClock, duration_s: float, name: str) -> None:
    """Raise ValueError if a period kicks off after the end of the file."""
    from touchline.pipeline.timecode import timecode

    for period, kickoff_s in clock.kickoff_s.items():
        if kickoff_s >= duration_s:
            raise ValueError(
                f"period {period} kicks off at {timecode(kickoff_s)}, but {name} ends at "
                f"{timecode(duration_s)}. Give the time in the file, not on the match clock."
            )
