"""`touchline bench`: measure speed as ratios within one run."""

from __future__ import annotations

from typing import Annotated

import typer

from touchline.tools import console
from touchline.tools.bench.decode import bench_decode_command
from touchline.tools.bench.detect import bench_detect_command
from touchline.tools.bench.reel import bench_reel_command
from touchline.tools.bench.teach import bench_teach_command
from touchline.tools.bench.transfer import bench_cache_command, bench_transfer_command

bench_app = typer.Typer(help="Measure speed, and what pretraining is worth.", no_args_is_help=True)
bench_app.command("cache")(bench_cache_command)
bench_app.command("decode")(bench_decode_command)
bench_app.command("detect")(bench_detect_command)
bench_app.command("transfer")(bench_transfer_command)
bench_app.command("reel")(bench_reel_command)
bench_app.command("teach")(bench_teach_command)


@bench_app.command("evaluate")
def bench_evaluate_command(
    matches: Annotated[int, typer.Option(help="Number of made-up matches of 90 minutes.")] = 500,
    resamples: Annotated[
        int,
        typer.Option(
            help="Bootstrap resamples for the confidence intervals; 0 skips the intervals."
        ),
    ] = 0,
) -> None:
    """Time every metric on a made-up season: 17 classes, 1,000 predictions per match."""
    from rich.table import Table

    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.evaluate import PREDICTIONS, TRUTHS, bench_evaluate

    steps = bench_evaluate(matches, resamples=resamples)
    console.out.print(
        f"{matches} matches, each with {TRUTHS} true events and {PREDICTIONS} predictions; "
        f"{resamples} bootstrap resamples; with error analysis",
        highlight=False,
    )
    table = Table(box=None)
    for name in ("metric", "value", "seconds", "CPU seconds"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for took in steps:
        value = "" if took.value is None else f"{took.value:.3f}"
        table.add_row(took.name, value, f"{took.wall_s:.1f}", f"{took.processor_s:.1f}")
    console.out.print(table)
    console.out.print(machine(), highlight=False)
