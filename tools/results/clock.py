"""The match clock from the command line's --kickoff, for every command that shows times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from touchline.pipeline.outputs.timecode import MatchClock
    from touchline.pipeline.types import MatchResult


def clocks_of(
    results: Sequence[MatchResult], kickoffs: Sequence[str], *, period_min: float | None
) -> list[MatchClock | None]:
    """The clock of each file: from the kick-offs given, else from what its result holds.

    Among several files every kick-off has to name its file; ValueError for a file not among them.
    """
    from touchline.pipeline.outputs.timecode import MatchClock, parse_kickoffs

    if not kickoffs:
        if period_min is not None:
            raise ValueError("--period-min goes with --kickoff, such as --kickoff 1=0:02:10")
        return [MatchClock.from_options(result.options) for result in results]
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
    return [parse_kickoffs(list(kickoffs), file_name=name, period_min=period_min) for name in names]


Kickoff = Annotated[
    list[str] | None,
    typer.Option(help="PERIOD=H:MM:SS of the file, or PERIOD=FILE@H:MM:SS; once per period."),
]

PeriodMin = Annotated[
    float | None, typer.Option(help="Minutes of a period, for other sports than football.")
]
