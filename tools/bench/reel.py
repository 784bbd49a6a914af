"""`touchline bench reel`: time a copied reel, compared with the same reel encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.tools import console


def bench_reel_command(
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep the match and the reels in this folder (default: delete them)."),
    ] = None,
    height: Annotated[int, typer.Option(help="Height of the made-up match in pixels.")] = 1080,
) -> None:
    """Time a reel of 20 events from a made-up 10-minute match: --encode, exact and --copy."""
    import tempfile

    from rich.table import Table

    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.reel import bench_reel

    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(bench_reel(folder, height_px=height))
        match_bytes = (folder / "match.mp4").stat().st_size
    whole = rows[0]
    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    heads = ("", "s", "ratio", "CPU s", "ratio", "encoded", "length s", "ends by s", "apart ms")
    for name in heads:
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        long_s = row.reel.duration_s
        table.add_row(
            row.mode,
            f"{row.seconds:.2f}",
            f"{whole.seconds / row.seconds:.1f}",
            f"{row.cpu_s:.2f}",
            f"{whole.cpu_s / row.cpu_s:.1f}",
            f"{row.reel.num_encoded / row.reel.num_frames:.0%}",
            f"{long_s:.2f}",
            f"{row.video_end_s - long_s:+.3f} {row.audio_end_s - long_s:+.3f}",
            f"{row.apart_s * 1000:.1f}",
        )
    console.out.print(
        f"{len(rows[0].reel.cuts)} cuts; the match is {height} px high and has "
        f"{match_bytes / 1e6:.0f} MB",
        highlight=False,
    )
    console.out.print(table)
    marks = ", ".join(str(row.num_marks) for row in rows)
    for line in (
        "ends by s: how many seconds video and audio end after the reel's length",
        f"apart ms: largest time between picture and sound at {marks} marks",
        machine(),
    ):
        console.out.print(line, highlight=False)
