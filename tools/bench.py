"""touchline bench: speed as ratios in one run."""

from __future__ import annotations

import typer

bench_app = typer.Typer(help="Measure speed, as ratios in one run.", no_args_is_help=True)


@bench_app.command("detect")
def bench_detect_command() -> None:
    """x"""
