"""Show how `touchline train` goes: before, during and after training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from touchline.tools import console
from touchline.tools.train.summary import show_summary

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.models.backbone import Backbone
    from touchline.models.weights.download import OnProgress
    from touchline.pipeline.labels.split import Split
    from touchline.pipeline.runs.options import TrainJob
    from touchline.pipeline.training.result import FineTuneResult, OnEpoch
    from touchline.pipeline.types import Float32

SHOWN = 10
"""How many warnings about labels are shown; the rest is only counted."""

SHOWN_HEADS = 3
"""How many of the heads that were compared are shown."""

_HEAD_FIGURES = ("log_loss", "balanced_accuracy")


@contextmanager
def downloading(*, quiet: bool) -> Iterator[OnProgress]:
    """Show a progress bar while weights are downloaded."""
    with console.progress_bar(quiet=quiet) as bar:
        task = bar.add_task("fetching weights", total=None, note="", visible=False)

        def on_download(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        yield on_download


@contextmanager
def tensorboard_log(out: Path, *, wanted: bool) -> Iterator[OnEpoch]:
    """Yield a function that logs each epoch's figures to TensorBoard; without `wanted`, to nowhere.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    if not wanted:
        yield lambda row, val_probs: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs TensorBoard. Run pip install 'touchline[tensorboard]'"
        ) from None
    with SummaryWriter(str(out / "tensorboard")) as writer:

        def on_epoch(row: dict[str, float], val_probs: Float32) -> None:
            for name, value in row.items():
                if name != "epoch":
                    writer.add_scalar(name, value, int(row["epoch"]))

        yield on_epoch


def warn_after(result: FineTuneResult) -> None:
    """Warn about skipped clips and steps, and about training that diverged."""
    from touchline.models.spelling import counted

    for problem in result.problems:
        console.warn(f"skipped {problem}")
    if result.skipped_steps:
        console.warn(
            f"skipped {counted(result.skipped_steps, 'step')} whose gradient was not finite"
        )
    if result.stopped == "diverged":
        console.warn(
            f"training diverged in epoch {len(result.history)}, so epoch {result.best_epoch} is "
            "kept. Lower --lr, or use --precision float32"
        )


def warn_before(
    split: Split, job: TrainJob, problems: Sequence[str], hopeful: Sequence[str]
) -> None:
    """Warn about the split and the labels before training.

    Args:
        split: The training and validation examples.
        job: The job of the run.
        problems: From `label_warnings`.
        hopeful: Validation groups that the weights were trained on, from `too_hopeful`.
    """
    from touchline.pipeline.labels.checks import names_a_side

    if not split.val:
        if job.head == "own":  # of other heads, cross-validation says how good they are
            console.warn(
                "there are no validation groups, so the last epoch is kept and nothing is measured"
            )
    elif split.not_validated:
        console.warn(f"validation has no example of {', '.join(split.not_validated)}")
    if hopeful:
        console.warn(
            f"the weights were trained on {', '.join(hopeful[:SHOWN])}, so validation on them is "
            "too optimistic. Choose other groups with --val-groups"
        )
    if not any(e.label == "background" for e in split.train):
        console.warn(
            "there are no background examples, so the model cannot say that nothing happens. Add "
            "event-free footage with --background FOOTAGE"
        )
    if sides := sorted({e.label for e in split.train if names_a_side(e.label)}):
        console.warn(f"clips are not mirrored, because {', '.join(sides)} name a side")
    for problem in problems[:SHOWN]:
        console.warn(problem)
    if len(problems) > SHOWN:
        command = f"touchline labels {job.labels} --look-alikes --all"
        console.warn(f"and {len(problems) - SHOWN} more. Run {command} to list them")


def introduce(backbone: Backbone, split: Split, weights: str | None) -> None:
    """Print the weights, the stages and the split before training.

    Args:
        backbone: The network.
        split: The training and validation examples.
        weights: Name of the pretrained weights; None for random ones.
    """
    from touchline.models.spelling import counted

    origin = weights or "random weights (nothing is pretrained)"
    console.out.print(f"starting from {console.escape(origin)}", highlight=False)
    console.out.print(console.stages(backbone, "stages"))
    for part in ("train", "val", "excluded"):
        examples = getattr(split, part)
        groups = sorted({e.group for e in examples})
        if examples:
            console.out.print(
                f"{part}: {counted(len(examples), 'clip')} of {counted(len(groups), 'group')} "
                f"({console.escape(', '.join(groups[:8]))}{', ...' if len(groups) > 8 else ''})",
                highlight=False,
            )


def conclude(metrics: dict[str, Any], out: Path) -> None:
    """Print which heads were compared, and what the run found.

    Args:
        metrics: The content of metrics.json.
        out: The run folder.
    """
    if metrics["heads"]:
        console.out.print(_heads_table(metrics["heads"]))
        for note in filter(None, (row["note"] for row in metrics["heads"])):
            console.out.print(note, highlight=False)
    if metrics["shared"] is not None:
        console.out.print(_agreement(metrics), highlight=False, soft_wrap=True)
    show_summary(metrics, out)


def _agreement(metrics: Mapping[str, Any]) -> str:
    """How a shared trunk compares with whole windows on the validation clips."""
    from touchline.models.json_values import from_json
    from touchline.models.training_record import SharedAgreement
    from touchline.pipeline.scoring.mode import agreement_text

    found = from_json(metrics["shared"], SharedAgreement)
    text = (
        f"trunk once over the footage against whole windows: {agreement_text(found)}, scores "
        f"differ by at most {found.largest_difference:.3f} ({found.events} events in "
        f"{found.footage_s:.0f} s of joined validation clips)"
    )
    before = metrics["shared_before_tuning"]
    if before is None:
        return text
    earlier = agreement_text(from_json(before, SharedAgreement))
    kept = "" if found.tuned else ". Tuning the head did not help, so it is as it was"
    return f"{text}; before the head was tuned: {earlier}{kept}"


def _heads_table(heads: Sequence[Mapping[str, Any]]) -> Table:
    """The heads that cross-validation compared; the first one is used."""
    from rich.table import Table

    title = "heads, by cross-validation over matches"
    if len(heads) > SHOWN_HEADS:
        title += f"; heads.csv lists all {len(heads)}"
    table = Table(box=None, title=title, title_justify="left")
    for name in ("head", "pooling", "normalisation", "trunk"):
        table.add_column(name)
    for name in ("C", "log loss", "balanced accuracy"):
        table.add_column(name, justify="right")
    for row in heads[:SHOWN_HEADS]:
        names = (row["kind"], row["pooling"], row["normalisation"], row["trunk"])
        figures = ("-" if row[k] is None else f"{row[k]:.3f}" for k in _HEAD_FIGURES)
        table.add_row(*names, f"{row['strength']:g}", *figures)
    return table
