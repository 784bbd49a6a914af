"""What `touchline train` shows: before, while and after it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.backbone import Backbone
    from touchline.models.weights.download import OnProgress
    from touchline.pipeline.labels.split import Split
    from touchline.pipeline.runs.options import TrainJob
    from touchline.pipeline.training.result import FineTuneResult, OnEpoch
    from touchline.pipeline.types import Float32

SHOWN = 10
"""Warnings about labels before the rest is only counted."""


@contextmanager
def downloading(*, quiet: bool) -> Iterator[OnProgress]:
    with console.progress_bar(quiet=quiet) as bar:
        task = bar.add_task("fetching weights", total=None, note="", visible=False)

        def on_download(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield on_download


@contextmanager
def tensorboard_log(out: Path, *, wanted: bool) -> Iterator[OnEpoch]:
    """What writes each epoch's figures to TensorBoard, or nothing where it is not wanted."""
    if not wanted:
        yield lambda row, val_probs: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs an extra: pip install 'touchline[tensorboard]'"
        ) from None
    with SummaryWriter(str(out / "tensorboard")) as writer:

        def on_epoch(row: dict[str, float], val_probs: Float32) -> None:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))

        yield on_epoch


def warn_after(result: FineTuneResult) -> None:
    for problem in result.problems:
        console.warn(f"skipped {problem}")
    if result.skipped_steps:
        console.warn(f"{result.skipped_steps} steps were skipped: their gradient was not finite")
    if result.stopped == "diverged":
        console.warn(
            f"training diverged in epoch {len(result.history)}, so epoch {result.best_epoch} is "
            "kept: lower --lr, or --precision float32"
        )


def warn_before(
    split: Split, job: TrainJob, problems: Sequence[str], hopeful: Sequence[str]
) -> None:
    """What the user should know before the training.

    problems: those of `label_warnings`. hopeful: the groups of `too_hopeful`.
    """
    from touchline.pipeline.labels.checks import names_a_side

    if not split.val:
        console.warn("no validation groups: the last epoch is kept and nothing is measured")
    elif split.not_validated:
        console.warn(f"validation has no example of {', '.join(split.not_validated)}")
    if hopeful:
        console.warn(
            f"the weights were trained on {', '.join(hopeful[:SHOWN])}: validation on that is too "
            "hopeful (--val-groups chooses others)"
        )
    if not any(e.label == "background" for e in split.train):
        console.warn(
            "no negatives: the model will not know what eventless footage looks like, so its "
            "background has probability 0 (--background FOOTAGE adds negatives)"
        )
    if sides := sorted({e.label for e in split.train if names_a_side(e.label)}):
        console.warn(f"clips are not mirrored: {', '.join(sides)} name a side")
    for problem in problems[:SHOWN]:
        console.warn(problem)
    if len(problems) > SHOWN:
        command = f"touchline labels {job.labels} --look-alikes --all"
        console.warn(f"and {len(problems) - SHOWN} more: {command} lists them")


def introduce(backbone: Backbone, split: Split, weights: str | None) -> None:
    from rich.table import Table

    from touchline.models.backbone import stage_table

    origin = weights or "random weights: nothing was pretrained"
    console.out.print(f"starting from {console.escape(origin)}", highlight=False)
    table = Table(box=None, title="stages", title_justify="left")
    table.add_column("stage")
    table.add_column("")
    table.add_column("parameters", justify="right")
    for row in stage_table(backbone):
        state = "frozen" if row["frozen"] else "trained"
        table.add_row(str(row["stage"]), state, f"{row['parameters']:,}")
    console.out.print(table)
    for part in ("train", "val", "excluded"):
        examples = getattr(split, part)
        groups = sorted({e.group for e in examples})
        if examples:
            console.out.print(
                f"{part}: {len(examples)} clips of {len(groups)} groups "
                f"({console.escape(', '.join(groups[:8]))}{', ...' if len(groups) > 8 else ''})",
                highlight=False,
            )


def conclude(result: FineTuneResult, metrics: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    figures = metrics["figures"]
    if figures is not None:
        columns = [name for name in ("recall", "precision", "ap") if name in _any_class(figures)]
        table = Table(box=None, title="validation", title_justify="left")
        table.add_column("class")
        for name in ("clips", *columns):
            table.add_column(name, justify="right")
        for label, row in figures["per_class"].items():
            if row["clips"] or row["precision"] is not None:
                cells = ["-" if row[k] is None else f"{row[k]:.2f}" for k in columns]
                table.add_row(console.escape(label), str(row["clips"]), *cells)
        console.out.print(table)
        names = {"accuracy": "accuracy", "balanced_accuracy": "balanced", "map": "mean AP"}
        shown = ", ".join(f"{n} {figures[k]:.3f}" for k, n in names.items() if k in figures)
        console.out.print(
            f"{shown} (epoch {result.best_epoch}, the best on these clips)", highlight=False
        )
    console.out.print(
        f"{result.seconds:.0f} s; model, metrics and curves in {console.escape(str(out))}",
        highlight=False,
    )


def _any_class(figures: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = next(iter(figures["per_class"].values()))
    return row
