"""`touchline bench detect`: the speed of detection, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.benchmarks.detect import DetectSpeed


def bench_detect_command(
    footage: Annotated[
        Path, typer.Argument(metavar="FOOTAGE", help="A footage file, ideally a minute or longer.")
    ],
    network: Annotated[
        str, typer.Option(help="The network, a name that touchline models lists.")
    ] = "i3d_r50",
    seconds: Annotated[float, typer.Option(help="Seconds of the footage to use.")] = 60.0,
    rounds: Annotated[int, typer.Option(help="How often each row is measured, in turns.")] = 5,
    device: Annotated[
        str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="Also measure the network through torch.compile."),
    ] = False,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures to this JSON file.")
    ] = None,
) -> None:
    """Time detection stage by stage, compared with a loop on PyTorchVideo. Prints Markdown."""
    import json

    from touchline.models.atomic_files import write_atomic
    from touchline.models.json_values import to_json
    from touchline.pipeline.benchmarks.detect import bench_detect

    speed = bench_detect(
        footage,
        network=network,
        footage_s=seconds,
        rounds=rounds,
        device=device,
        compiled=compiled,
    )
    for line in _detect_table(speed, footage.name):
        console.say(line)
    if json_ is not None:
        write_atomic(json_, json.dumps(to_json(speed), indent=1))


def _detect_table(speed: DetectSpeed, name: str) -> list[str]:
    """The bench as Markdown."""
    limits = speed.limits
    lines = [
        f"{speed.network}, random weights, {speed.dtype} (loop: float32) on {speed.device}: "
        f"{speed.num_windows} windows of {speed.window_s:g} s, one every {speed.window_s / 4:g} s, "
        f"over {speed.footage_s:.4g} s of {name}; medians of {speed.rounds} rounds.",
        f"Machine: {speed.machine}.",
        f"Limits: matrix product {limits.product_gflops:.0f} GFLOP/s, convolution "
        f"{limits.convolution_gflops:.0f} GFLOP/s, decoding {limits.decoding:.0f} times real time.",
        "",
        "| | seconds (range) | ratio | decoding | network | waiting | windows/s | x real time "
        "| share of limit | MB | score difference |",
        "|---|" + "---:|" * 10,
    ]
    for row in speed.rows:
        share = "" if row.share_of_limit is None else f"{row.share_of_limit:.0%}"
        memory = [row.host_mb, row.device_mb]
        cells = [
            row.name,
            f"{row.together_s:.2f} ({row.least_s:.2f} to {row.most_s:.2f})",
            f"{speed.rows[0].together_s / row.together_s:.1f}",
            f"{row.decoding_s:.2f}",
            f"{row.network_s:.2f}",
            f"{row.waiting_s:.2f}",
            f"{row.windows_per_s:.1f}",
            f"{row.times_real_time:.1f}",
            share,
            " + ".join(f"{mb:.0f}" for mb in memory if mb is not None),
            f"{row.score_difference:.1g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
