"""touchline train: labelled clips in, a model of one sport out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.training.options import TrainOptions
from touchline.tools.train.run import Places, train

NETWORK, CLIPS, BACKGROUND, LEARNING, RUNNING = (
    "Network",
    "Clips",
    "Background",
    "Learning",
    "Running",
)


def train_command(
    labels: Annotated[
        Path, typer.Argument(help="Label file of any format, or folder of one per class.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    backbone: Annotated[
        str,
        typer.Option(help="Which network (touchline models lists them).", rich_help_panel=NETWORK),
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="Pretrained weights: a file, a name, or none (random).", rich_help_panel=NETWORK
        ),
    ] = "none",
    freeze: Annotated[
        str | None,
        typer.Option(
            help="Stages to freeze: a number, a stage's name (up to it), or trunk "
            "(default: trunk with weights, else 0).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.freeze,
    unfreeze_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EPOCH:STAGE",
            help="After so many epochs train this stage and those behind it too; repeatable.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames per window.", rich_help_panel=NETWORK)
    ] = TrainJob.num_frames,
    rate: Annotated[
        float | None, typer.Option(help="Frames per second sampled.", rich_help_panel=NETWORK)
    ] = TrainJob.rate_hz,
    size: Annotated[
        int | None, typer.Option(help="Shorter side in pixels.", rich_help_panel=NETWORK)
    ] = TrainJob.size_px,
    fit: Annotated[
        str | None,
        typer.Option(
            help="crop: the middle square of the picture; squash: all of it, squeezed to a square.",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.fit,
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            help="Classes are independent: labels that overlap are true together.",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.multi_label,
    val_groups: Annotated[
        str | None,
        typer.Option(help="Groups to validate on, comma-separated.", rich_help_panel=CLIPS),
    ] = None,
    val_share: Annotated[
        float, typer.Option(help="Else about this share of the clips.", rich_help_panel=CLIPS)
    ] = TrainJob.val_share,
    exclude_groups: Annotated[
        str,
        typer.Option(help="Groups that must stay unseen, comma-separated.", rich_help_panel=CLIPS),
    ] = "",
    max_clip: Annotated[
        float | None,
        typer.Option(help="Use at most so many seconds of a clip.", rich_help_panel=CLIPS),
    ] = TrainOptions.max_clip_s,
    max_bad: Annotated[
        int, typer.Option(help="So many unreadable clips may be skipped.", rich_help_panel=CLIPS)
    ] = TrainOptions.max_bad,
    sampling: Annotated[
        str,
        typer.Option(
            help="dense: frames as detection sees them; uniform: spread over the whole clip.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.sampling,
    cached_views: Annotated[
        int,
        typer.Option(
            help="Random views of each clip carried through frozen stages once; 0: fresh ones.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.cached_views,
    augment: Annotated[
        bool,
        typer.Option(help="Vary clips by crops, flips and colours.", rich_help_panel=CLIPS),
    ] = True,
    min_area: Annotated[
        float,
        typer.Option(
            help="Random crops show at least this share of the square; near 1 where what counts "
            "fills the picture.",
            rich_help_panel=CLIPS,
        ),
    ] = Augmentation.min_area,
    val_views: Annotated[
        int, typer.Option(help="Windows per validation clip.", rich_help_panel=CLIPS)
    ] = TrainOptions.val_views,
    validate_every: Annotated[
        int,
        typer.Option(help="Epochs from one validation to the next.", rich_help_panel=CLIPS),
    ] = TrainOptions.validate_every,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Eventless footage, for negatives; repeatable.", rich_help_panel=BACKGROUND
        ),
    ] = None,
    background_label: Annotated[
        str | None,
        typer.Option(
            help="The class of the labels that means background.", rich_help_panel=BACKGROUND
        ),
    ] = TrainJob.background_label,
    background_ratio: Annotated[
        float,
        typer.Option(
            help="Where labels have times: negatives per event, from other time.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.background_ratio,
    background_margin: Annotated[
        float,
        typer.Option(
            help="Such negatives keep so many seconds from every label.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.background_margin_s,
    hard_negatives: Annotated[
        Path | None,
        typer.Option(
            help="Half of them are what this earlier model takes for events.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.hard_negatives,
    epochs: Annotated[
        int, typer.Option(help="At most so many passes over the clips.", rich_help_panel=LEARNING)
    ] = TrainOptions.epochs,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Wall-clock budget of all of it.", rich_help_panel=LEARNING),
    ] = TrainOptions.max_seconds,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many epochs without gain.", rich_help_panel=LEARNING),
    ] = TrainOptions.patience,
    batch_size: Annotated[
        int, typer.Option(help="Clips per batch and process.", rich_help_panel=LEARNING)
    ] = TrainOptions.batch_size,
    accumulate: Annotated[
        int, typer.Option(help="So many batches make one step.", rich_help_panel=LEARNING)
    ] = TrainOptions.accumulate,
    lr: Annotated[
        float, typer.Option(help="Peak learning rate of the head.", rich_help_panel=LEARNING)
    ] = TrainOptions.lr,
    trunk_lr_scale: Annotated[
        float | None,
        typer.Option(
            help="The last stage: this share of it (default: 0.1; 1 without weights).",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    stage_lr_decay: Annotated[
        float,
        typer.Option(help="Each stage before: this share of the next.", rich_help_panel=LEARNING),
    ] = TrainOptions.stage_lr_decay,
    weight_decay: Annotated[
        float, typer.Option(help="AdamW's, on weights.", rich_help_panel=LEARNING)
    ] = TrainOptions.weight_decay,
    warmup: Annotated[
        float, typer.Option(help="Share of training to warm up in.", rich_help_panel=LEARNING)
    ] = TrainOptions.warmup,
    smoothing: Annotated[
        float, typer.Option(help="Label smoothing.", rich_help_panel=LEARNING)
    ] = TrainOptions.label_smoothing,
    batchnorm: Annotated[
        str,
        typer.Option(
            help="Trained stages: train (follow the batches), or keep the statistics they have.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.batchnorm,
    balance: Annotated[
        str,
        typer.Option(help="Rare classes: weights, sampling, or none.", rich_help_panel=LEARNING),
    ] = TrainOptions.balance,
    focal: Annotated[
        float, typer.Option(help="Gamma of the focal loss; 0: off.", rich_help_panel=LEARNING)
    ] = TrainOptions.focal_gamma,
    mixup: Annotated[
        float, typer.Option(help="Alpha of mixup; 0: off.", rich_help_panel=LEARNING)
    ] = TrainOptions.mixup,
    ema: Annotated[
        float,
        typer.Option(help="Decay of averaged weights; 0: off.", rich_help_panel=LEARNING),
    ] = TrainOptions.ema,
    seed: Annotated[
        int,
        typer.Option(help="Same seed, same model (on one machine).", rich_help_panel=LEARNING),
    ] = TrainOptions.seed,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=RUNNING)
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(help="auto (bf16 where it pays), float32, bf16.", rich_help_panel=RUNNING),
    ] = TrainOptions.precision,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for decoded clips and frozen features that later runs reuse.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the unfinished run in OUT.", rich_help_panel=RUNNING
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the model in OUT.", rich_help_panel=RUNNING),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Log to OUT/tensorboard.", rich_help_panel=RUNNING),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Only warnings and errors.", rich_help_panel=RUNNING),
    ] = False,
) -> None:
    """Fine-tune a backbone on labelled clips; the best epoch goes to OUT/model.safetensors.

    Several GPUs: torchrun --nproc-per-node N -m touchline.tools.cli train ...
    """
    job = TrainJob(
        labels=labels,
        backbone=backbone,
        weights=None if weights == "none" else weights,
        freeze=freeze,
        unfreeze=tuple(_unfreezing(text) for text in unfreeze_at or ()),
        val_groups=None if val_groups is None else _names(val_groups),
        val_share=val_share,
        exclude_groups=_names(exclude_groups),
        background=tuple(background or ()),
        background_label=background_label,
        background_ratio=background_ratio,
        background_margin_s=background_margin,
        hard_negatives=hard_negatives,
        multi_label=multi_label,
        num_frames=num_frames,
        rate_hz=rate,
        size_px=size,
        fit=fit,
        options=TrainOptions(
            epochs=epochs,
            batch_size=batch_size,
            accumulate=accumulate,
            lr=lr,
            trunk_lr_scale=_trunk_lr_scale(trunk_lr_scale, weights),
            stage_lr_decay=stage_lr_decay,
            weight_decay=weight_decay,
            warmup=warmup,
            label_smoothing=smoothing,
            batchnorm=batchnorm,
            balance=balance,
            focal_gamma=focal,
            mixup=mixup,
            ema=ema,
            patience=patience,
            max_seconds=max_seconds,
            augmentation=Augmentation(min_area) if augment else None,
            sampling=sampling,
            cached_views=cached_views,
            val_views=val_views,
            validate_every=validate_every,
            max_clip_s=max_clip,
            max_bad=max_bad,
            precision=precision,
            seed=seed,
        ),
    )
    places = Places(out, device, cache, resume=resume, overwrite=overwrite, tensorboard=tensorboard)
    train(job, places, quiet=quiet)


def _unfreezing(text: str) -> tuple[int, str]:
    """ "12:block6" -> (12, "block6")."""
    epoch, colon, stage = text.partition(":")
    if not colon or not epoch.isdigit() or not stage:
        raise ValueError(f"--unfreeze-at is {text!r}; it must be EPOCH:STAGE, as in 12:block6")
    return int(epoch), stage


def _trunk_lr_scale(asked: float | None, weights: str) -> float:
    """Pretrained stages learn at a tenth of the head's rate; random ones have all to learn."""
    if asked is not None:
        return asked
    return 1.0 if weights == "none" else 0.1


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
