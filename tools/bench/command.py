"""`touchline bench`: measure speed as ratios within one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.tools import console
from touchline.tools.bench.decode import bench_decode_command
from touchline.tools.bench.reel import bench_reel_command
from touchline.tools.bench.teach import bench_teach_command
from touchline.tools.bench.transfer import bench_cache_command, bench_transfer_command

bench_app = typer.Typer(help="Measure speed, and what pretraining is worth.", no_args_is_help=True)
bench_app.command("cache")(bench_cache_command)
bench_app.command("decode")(bench_decode_command)
bench_app.command("transfer")(bench_transfer_command)
bench_app.command("reel")(bench_reel_command)
bench_app.command("teach")(bench_teach_command)


@bench_app.command("detect")
def bench_detect_command(
    footage: Annotated[
        Path, typer.Argument(metavar="FOOTAGE", help="A footage file, ideally a minute or longer.")
    ],
    seconds: Annotated[float, typer.Option(help="Seconds of the footage to use.")] = 60.0,
    device: Annotated[
        str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
) -> None:
    """Time detection with I3D-R50, compared with a plain loop that uses PyTorchVideo."""
    from rich.table import Table

    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.detect import HOP_S, WINDOW_S, bench_detect

    speed = bench_detect(footage, footage_s=seconds, device=device)
    table = Table(box=None)
    for name in ("", "seconds", "ratio", "largest score difference"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("EncodedVideo.get_clip in a loop, float32", f"{speed.loop_s:.1f}", "1.0", "")
    table.add_row("  spent in get_clip", f"{speed.loop_decode_s:.1f}", "", "")
    for way in speed.ways:
        ratio = f"{speed.loop_s / way.seconds:.1f}"
        name = f"touchline, {speed.dtype}, {way.name}"
        table.add_row(name, f"{way.seconds:.1f}", ratio, f"{way.score_difference:.2g}")
    console.out.print(
        f"I3D-R50, random weights: {speed.num_windows} windows of {WINDOW_S} s every {HOP_S} s "
        f"over the first {speed.footage_s:.4g} s of {console.escape(footage.name)}",
        highlight=False,
    )
    console.out.print(table)
    console.out.print(f"on {speed.device}: {machine()}", highlight=False)


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
