"""touchline bench: speed as ratios in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.tools import console

bench_app = typer.Typer(help="Measure speed, as ratios in one run.", no_args_is_help=True)


@bench_app.command("detect")
def bench_detect_command(
    footage: Annotated[Path, typer.Argument(help="At least a minute of footage.")],
    seconds: Annotated[float, typer.Option(help="Use so much of it.")] = 60.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """I3D-R50 over footage: touchline against a loop on pytorchvideo."""
    from rich.table import Table

    from touchline.pipeline.bench import HOP_S, WINDOW_S, bench_detect, machine

    speed = bench_detect(footage, footage_s=seconds, device=device)
    table = Table(box=None)
    for name in ("", "seconds", "ratio"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("loop on EncodedVideo.get_clip, float32", f"{speed.loop_s:.1f}", "1.0")
    table.add_row("  of it decoding", f"{speed.loop_decode_s:.1f}", "")
    ours = f"touchline, {speed.dtype} on {speed.device}"
    table.add_row(ours, f"{speed.ours_s:.1f}", f"{speed.ratio:.1f}")
    console.out.print(
        f"I3D-R50, random weights: {speed.num_windows} windows of {WINDOW_S} s every {HOP_S} s "
        f"over the first {speed.footage_s:g} s of {console.escape(footage.name)}",
        highlight=False,
    )
    console.out.print(table)
    console.out.print(
        f"largest difference of a probability: {speed.score_difference:.2g}\n{machine()}",
        highlight=False,
    )
