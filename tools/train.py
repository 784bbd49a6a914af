"""touchline train: labelled clips in, a model of one sport out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.backbone import Backbone
    from touchline.pipeline.finetune import FineTuneResult, Progress
    from touchline.pipeline.labels import Split


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
