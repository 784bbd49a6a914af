"""`touchline clock`: read the match clock from the scoreboard in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.scoreboard.options import ClockOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.scoreboard.read_clock import Read, ScoreboardClock
    from touchline.pipeline.timecode import MatchClock

DEFAULTS = ClockOptions()
NO_CLOCK = 3


def clock_command(
    footage: Annotated[
        Path, typer.Argument(metavar="MATCH", help="The footage.", show_default=False)
    ],
    bursts: Annotated[
        int,
        typer.Option(
            help="Stretches of 8 s that are searched for a place that changes once a second."
        ),
    ] = DEFAULTS.bursts,
    rate: Annotated[
        float, typer.Option(help="Readings of the clock per second of footage.")
    ] = DEFAULTS.rate_hz,
    period_min: Annotated[
        float | None,
        typer.Option(help="Length of a period in minutes (default: football, 45)."),
    ] = DEFAULTS.period_min,
    json_: Annotated[bool, typer.Option("--json", help="Print the clock as JSON.")] = False,
) -> None:
    """Read the match clock from the scoreboard, and print kick-offs.

    Exits with 0 if there is a clock, and with 3 if none was read.
    """
    from touchline.pipeline.scoreboard.read_clock import match_clock, piece_rows, read_clock

    options = ClockOptions(bursts=bursts, rate_hz=rate, period_min=period_min)
    found = read_clock(footage, _reader(), options)
    clock = match_clock(found, period_min)
    if json_:
        kickoffs = {} if clock is None else {str(p): s for p, s in clock.kickoff_s.items()}
        document = {"pieces": piece_rows(found), "kickoff_s": kickoffs, "why_none": found.why}
        console.print_json(document)
    else:
        _show(found, clock)
    if not found.pieces:
        raise typer.Exit(NO_CLOCK)


def scoreboard_clocks(files: Sequence[Path], period_min: float | None) -> dict[Path, MatchClock]:
    """Return the match clock of each file whose scoreboard tells one.

    Args:
        files: The footage.
        period_min: Minutes of a period. None: football.
    """
    from touchline.models.errors import FootageError
    from touchline.pipeline.scoreboard.read_clock import match_clock, read_clock

    read = _reader()
    clocks = {}
    for path in files:
        try:
            found = read_clock(path, read, ClockOptions(period_min=period_min))
        except FootageError:
            # Detection reports footage that cannot be read.
            continue
        clock = match_clock(found, period_min)
        if clock is None:
            why = found.why or "Kick-offs cannot say what it shows."
            console.warn(f"{path.name}: no match clock from the scoreboard. {why}")
        else:
            clocks[path] = clock
    return clocks


def _reader() -> Read:
    from touchline.models.weights.installed import DIGIT_RECOGNISER, verified_file
    from touchline.pipeline.scoreboard.recognise import Recogniser

    return Recogniser(verified_file(DIGIT_RECOGNISER)[0]).read


def _show(found: ScoreboardClock, clock: MatchClock | None) -> None:
    from rich.table import Table

    from touchline.pipeline.scoreboard.read_clock import minutes_seconds
    from touchline.pipeline.timecode import timecode

    if not found.pieces:
        console.out.print(console.escape(f"No clock. {found.why}"), highlight=False)
        return
    table = Table(box=None)
    for name in ("from", "to", "clock", "", "readings"):
        table.add_column(name, justify="right")
    for piece in found.pieces:
        table.add_row(
            timecode(piece.start_s),
            timecode(piece.end_s),
            f"{minutes_seconds(piece.clock_s)} - {minutes_seconds(piece.at(piece.end_s))}",
            {1: "runs", 0: "stands", -1: "counts down"}[piece.slope],
            f"{piece.reads} ({piece.share:.0%})",
        )
    console.out.print(table)
    if clock is None:
        text = "Kick-offs cannot say what it shows: it counts down, or a period has two clocks."
    else:
        text = " ".join(f"--kickoff {p}={timecode(s)}" for p, s in sorted(clock.kickoff_s.items()))
    console.say(text)
