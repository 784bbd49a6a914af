"""touchline train: labelled clips in, a model of one sport out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.backbone import Backbone
    from touchline.pipeline.finetune import FineTuneResult, Progress
    from touchline.pipeline.labels import Split
    from touchline.pipeline.train import TrainJob

SHOWN = 10
"""Warnings about labels before the rest is only counted."""


def train_command(
    labels: Annotated[Path, typer.Argument(help="Label file: video,label,start_s,end_s,group.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    backbone: Annotated[str, typer.Option(help="Which network (touchline models lists them).")],
    weights: Annotated[
        str, typer.Option(help="Pretrained weights: a file, a name, or none (random).")
    ] = "none",
    freeze: Annotated[
        str | None,
        typer.Option(help="Stages to freeze: a number, a stage's name (up to it), or trunk."),
    ] = None,
    val_groups: Annotated[
        str | None, typer.Option(help="Groups to validate on, comma-separated.")
    ] = None,
    val_share: Annotated[float, typer.Option(help="Else about this share of the clips.")] = 0.2,
    exclude_groups: Annotated[
        str, typer.Option(help="Groups that must stay unseen, comma-separated.")
    ] = "",
    background: Annotated[
        list[Path] | None, typer.Option(help="Eventless footage, for negatives; repeatable.")
    ] = None,
    background_label: Annotated[
        str | None, typer.Option(help="The class of the labels that means background.")
    ] = None,
    background_ratio: Annotated[
        float, typer.Option(help="Where labels have times: negatives per event, from other time.")
    ] = 1.0,
    background_margin: Annotated[
        float, typer.Option(help="Such negatives keep so many seconds from every label.")
    ] = 2.0,
    epochs: Annotated[int, typer.Option(help="At most so many passes over the clips.")] = 40,
    batch_size: Annotated[int, typer.Option(help="Clips per step.")] = 8,
    lr: Annotated[float, typer.Option(help="Peak learning rate of the head.")] = 1e-3,
    trunk_lr_scale: Annotated[float, typer.Option(help="Trained stages: this share of it.")] = 0.1,
    num_frames: Annotated[int | None, typer.Option(help="Frames per window.")] = None,
    rate: Annotated[float | None, typer.Option(help="Frames per second sampled.")] = None,
    size: Annotated[int | None, typer.Option(help="Shorter side in pixels.")] = None,
    max_clip: Annotated[
        float | None, typer.Option(help="Use at most so many seconds of a clip.")
    ] = None,
    max_bad: Annotated[int, typer.Option(help="So many unreadable clips may be skipped.")] = 0,
    max_seconds: Annotated[float | None, typer.Option(help="Wall-clock budget.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same model (on one machine).")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Fine-tune a backbone on labelled clips; the best epoch goes to OUT/model.safetensors."""
    from touchline.pipeline.finetune import TrainOptions
    from touchline.pipeline.train import TrainJob, prepare, run_training

    job = TrainJob(
        labels=labels,
        backbone=backbone,
        weights=None if weights == "none" else weights,
        freeze=freeze,
        val_groups=None if val_groups is None else _names(val_groups),
        val_share=val_share,
        exclude_groups=_names(exclude_groups),
        background=tuple(background or ()),
        background_label=background_label,
        background_ratio=background_ratio,
        background_margin_s=background_margin,
        num_frames=num_frames,
        rate_hz=rate,
        size_px=size,
        options=TrainOptions(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            trunk_lr_scale=trunk_lr_scale,
            max_clip_s=max_clip,
            max_bad=max_bad,
            max_seconds=max_seconds,
            seed=seed,
        ),
    )
    model, split, job = prepare(job)
    if not quiet:
        _introduce(model.backbone, split, job.weights)
    _warn(split, job)
    with console.progress_bar(quiet=quiet) as bar:
        tasks: dict[str, Any] = {}

        def on_progress(news: Progress) -> None:
            if news.phase not in tasks:
                tasks[news.phase] = bar.add_task(news.phase, total=news.total, note="")
            bar.update(tasks[news.phase], completed=news.done, note=news.note)

        result, metrics = run_training(
            model, split, job, out, device=device, on_progress=on_progress
        )
    for problem in result.problems:
        console.warn(f"skipped {problem}")
    if not quiet:
        _conclude(result, metrics, out)


def _warn(split: Split, job: TrainJob) -> None:
    """What the user should know before the training."""
    from touchline.pipeline.label_checks import names_a_side
    from touchline.pipeline.train import label_warnings

    if not split.val:
        console.warn("no validation groups: the last epoch is kept and nothing is measured")
    elif split.not_validated:
        console.warn(f"validation has no example of {', '.join(split.not_validated)}")
    if not any(e.label == "background" for e in split.train):
        console.warn(
            "no negatives: the model will not know what eventless footage looks like, so its "
            "background has probability 0 (--background FOOTAGE adds negatives)"
        )
    if sides := sorted({e.label for e in split.train if names_a_side(e.label)}):
        console.warn(f"clips are not mirrored: {', '.join(sides)} name a side")
    problems = label_warnings(split, max_clip_s=job.options.max_clip_s)
    for problem in problems[:SHOWN]:
        console.warn(problem)
    if len(problems) > SHOWN:
        console.warn(f"and {len(problems) - SHOWN} more: touchline labels {job.labels} lists them")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _introduce(backbone: Backbone, split: Split, weights: str | None) -> None:
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


def _conclude(result: FineTuneResult, metrics: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    figures = metrics["figures"]
    if figures is not None:
        table = Table(box=None, title="validation", title_justify="left")
        for name in ("class", "clips", "recall", "precision"):
            table.add_column(name, justify="left" if name == "class" else "right")
        for label, row in figures["per_class"].items():
            if row["clips"] or row["precision"] is not None:
                cells = [
                    "-" if row[k] is None else f"{row[k]:.2f}" for k in ("recall", "precision")
                ]
                table.add_row(console.escape(label), str(row["clips"]), *cells)
        console.out.print(table)
        console.out.print(
            f"accuracy {figures['accuracy']:.3f}, balanced {figures['balanced_accuracy']:.3f} "
            "(of the best epoch, chosen on these clips)",
            highlight=False,
        )
    console.out.print(
        f"{result.seconds:.0f} s; model and metrics in {console.escape(str(out))}", highlight=False
    )
