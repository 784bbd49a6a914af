"""The options of the match clock, alike in every command that has one."""

from __future__ import annotations

from typing import Annotated

import typer

Kickoff = Annotated[
    list[str] | None,
    typer.Option(help="PERIOD=H:MM:SS of the file, or PERIOD=FILE@H:MM:SS; once per period."),
]

PeriodMin = Annotated[
    float | None, typer.Option(help="Minutes of a period, for other sports than football.")
]
