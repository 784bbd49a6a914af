"""`touchline bench decode`: time every decoder, compared with plain decoding."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.pipeline.benchmarks.decode import DecodeSpeed

SHARED_FOOTAGE = Path("../shared/footage/tennis_1080p.mp4")


def bench_decode_command(
    footage: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOOTAGE",
            help=f"Footage to decode (default: {SHARED_FOOTAGE} if it exists, otherwise made-up "
            "footage).",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often to measure. The fastest round counts.")
    ] = 3,
    decoder: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this decoder. Repeat the option for more (default: all)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time each decoder at 25, 8 and 3 Hz and 256 px, and measure its peak memory."""
    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.decode import SIZE_PX, bench_decode, make_footage

    with tempfile.TemporaryDirectory() as folder:
        path = footage or SHARED_FOOTAGE
        if footage is None and not path.exists():
            with console.out.status("making footage"):
                path = make_footage(Path(folder) / "made_1080p.mp4")
        with console.out.status(f"decoding {console.escape(path.name)}"):
            speeds = bench_decode(path, rounds=rounds, decoders=tuple(decoder or ()))
    if as_json:
        rows = [asdict(speed) for speed in speeds]
        typer.echo(json.dumps({"footage": path.name, "machine": machine(), "rows": rows}, indent=2))
        return
    console.out.print(_table(speeds))
    for speed in speeds:
        if speed.error:
            console.warn(f"{speed.name}, {speed.rate_hz:g} Hz: {speed.error}")
    console.out.print(
        f"{console.escape(path.name)}, fastest of {rounds} rounds, scaled to {SIZE_PX} px. "
        f"Times are relative to plain decoding. {machine()}",
        highlight=False,
    )


def _table(speeds: list[DecodeSpeed]) -> Table:
    from rich.table import Table

    table = Table(box=None)
    for name in ("", "sampled", "frames/s", "time", "CPU time", "memory"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for speed in speeds:
        rate = "all" if speed.rate_hz is None else f"{speed.rate_hz:g} Hz"
        figures = (
            f"{speed.frames_per_s:.0f}",
            f"{speed.ratio:.2f}",
            f"{speed.cpu_ratio:.2f}",
            f"{speed.peak_bytes / 1e6:.0f} MB",
        )
        table.add_row(speed.name, rate, *(() if speed.error else figures))
    return table
