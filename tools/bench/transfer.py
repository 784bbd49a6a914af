"""`touchline bench transfer` and `bench cache`: what pretraining is worth, and how fast it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.training.options import TrainOptions
from touchline.tools import console

DEFAULTS = TrainOptions()

if TYPE_CHECKING:
    from touchline.pipeline.benchmarks.study import Cell
    from touchline.pipeline.benchmarks.study_figures import ArmFigures


def bench_transfer_command(
    study: Annotated[
        Path,
        typer.Argument(metavar="STUDY", help="A study file (.toml). docs/studies has examples."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results and plots.")],
    arm: Annotated[
        list[str] | None, typer.Option(help="Run only this arm. Repeat for more.")
    ] = None,
    fold: Annotated[
        list[int] | None, typer.Option(help="Run only this fold. Repeat for more.")
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Run only this seed. Repeat for more.")
    ] = None,
    report: Annotated[
        bool,
        typer.Option("--report", help="Train nothing. Show the results of the runs done so far."),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Number of CPU threads (default: all).")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
    clock: Annotated[
        str,
        typer.Option(
            help="Time axis of the plot: wall (clock seconds) or cpu (CPU seconds, which other "
            "programs disturb less)."
        ),
    ] = "wall",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Train every arm of a study on every fold and seed, and compare the results.

    Runs already in OUT are kept. You can stop at any time and continue with the same command.
    """
    import torch

    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.study import read_cells, read_study, run_cells, study_cells
    from touchline.pipeline.benchmarks.study_figures import CLOCKS, plot_study, write_study
    from touchline.pipeline.runs.plots import can_plot

    if threads is not None:
        torch.set_num_threads(threads)
    plan = read_study(study)
    if clock not in CLOCKS:
        raise ValueError(f"--clock is {clock!r}; it must be one of {', '.join(CLOCKS)}")
    _refuse_unknown("arm", arm or (), list(plan.arms))
    _refuse_unknown("fold", fold or (), list(range(len(plan.folds))))
    _refuse_unknown("seed", seed or (), list(plan.seeds))
    cells = list(study_cells(plan))
    wanted = [
        cell
        for cell in cells
        if (not arm or cell.arm in arm)
        and (not fold or cell.fold in fold)
        and (not seed or cell.seed in seed)
    ]
    if not report:
        with console.phase_bars(quiet=quiet) as on_progress:

            def on_cell(cell: Cell, done: int, total: int) -> None:
                if not quiet:
                    name = cell.file_name.removesuffix(".json")
                    console.out.print(f"{done + 1} of {total}: {name}", highlight=False)

            run_cells(plan, wanted, out, device=device, on_cell=on_cell, on_progress=on_progress)
    runs = read_cells(plan, out, cells)
    rows = write_study(plan, runs, out, machine=machine())
    if can_plot():
        plot_study(plan, runs, out, clock=clock)
    _show(rows, without=plan.without)
    console.out.print(
        f"{len(runs)} of {len(cells)} runs are done; results in {console.escape(str(out))}; "
        f"{machine()}",
        highlight=False,
    )


def _refuse_unknown(what: str, given: Sequence[object], known: Sequence[object]) -> None:
    for one in given:
        if one not in known:
            raise ValueError(
                f"the study has no {what} {one!r}; it has {', '.join(map(str, known))}"
            )


def _show(rows: Sequence[ArmFigures], *, without: Sequence[str]) -> None:
    from rich.table import Table

    # One space between columns, so that all of them fit into 80.
    table = Table(
        box=None, padding=(0, 1, 0, 0), title="after the last epoch: folds pooled, mean over seeds"
    )
    names = ["arm", "clips", "seeds", "accuracy", "range", "balanced", "best", "s", "CPU s"]
    if without:
        names.insert(6, f"without {', '.join(without)}")
    for name in names:
        table.add_column(name, justify="left" if name == "arm" else "right")
    for row in rows:
        cells = [
            row.arm,
            "all" if row.per_class is None else str(row.per_class),
            str(len(row.seeds)),
            f"{row.accuracy.mean:.3f}",
            f"{row.accuracy.low:.3f}-{row.accuracy.high:.3f}" if len(row.seeds) > 1 else "",
            f"{row.balanced_accuracy.mean:.3f}",
            f"{row.best_accuracy.mean:.3f}",
            f"{row.seconds:.0f}",
            f"{row.cpu_seconds:.0f}",
        ]
        if row.accuracy_without is not None:
            cells.insert(6, f"{row.accuracy_without.mean:.3f}")
        table.add_row(*cells)
    console.out.print(table)
    console.out.print("best: accuracy of the best epoch, too optimistic; s: seconds of one run")
    console.out.print("CPU s: CPU seconds of the training process, without decoding")


def bench_cache_command(
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Labels of clips.")],
    backbone: Annotated[
        str, typer.Option(help="The network; see `touchline models`.")
    ] = "cnn_lstm",
    weights: Annotated[
        str, typer.Option(help="Weights: a file, a name, or none for random weights.")
    ] = "none",
    views: Annotated[
        int, typer.Option(help="Augmented views of each clip whose features are kept.")
    ] = DEFAULTS.cached_views,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames per window (default: from the network).")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Frames sampled per second (default: from the network).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Shorter side of a frame in pixels (default: from the network)."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks run: auto, cpu, cuda, cuda:1, mps.")
    ] = "auto",
) -> None:
    """Time epochs with a frozen trunk: features computed once, or in every epoch."""
    from rich.table import Table

    from touchline.models.engines.machine import machine
    from touchline.pipeline.benchmarks.cache import bench_cache
    from touchline.pipeline.runs.options import TrainJob

    if views < 1:
        raise ValueError(f"--views is {views}; it must be at least 1")
    job = TrainJob(
        labels=labels,
        backbone=backbone,
        weights=None if weights == "none" else weights,
        num_frames=num_frames,
        rate_hz=rate,
        size_px=size,
        options=TrainOptions(cached_views=views),
    )
    speed = bench_cache(job, device=device)
    table = Table(box=None)
    for name in ("", "seconds an epoch", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("features computed in every epoch", f"{speed.fresh_epoch_s:.2f}", "1.0")
    name = f"features of {speed.num_views} views of each clip kept"
    table.add_row(name, f"{speed.banked_epoch_s:.2f}", f"{speed.ratio:.1f}")
    console.out.print(table)
    console.out.print(
        f"{speed.num_clips} clips, {backbone}; decoding them and computing the features took "
        f"{speed.once_s:.1f} s once; {machine()}",
        highlight=False,
    )
