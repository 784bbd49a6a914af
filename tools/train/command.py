"""The command `touchline train`: labelled clips in, a model of one sport out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.runs.options import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, TrainJob
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
        Path,
        typer.Argument(
            help="Label file in any supported format, a folder with one folder of clips per "
            "class, or a project of touchline studio."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Run folder: Touchline writes the model, its metrics and pictures there.",
        ),
    ],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Name of the network; `touchline models` lists all (default: "
            f"{DEFAULT_BACKBONE}).",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Pretrained weights to start from: a file, a name from `touchline models`, or "
            f"none (random weights). Default: {DEFAULT_WEIGHTS}, which is installed with "
            "Touchline; with --backbone, none.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            help="Stages that stay fixed: a number, the name of the last frozen stage, or "
            "trunk for all (default: trunk with weights, 0 without).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.freeze,
    head: Annotated[
        str | None,
        typer.Option(
            help="Head behind the trunk. own: the network's own, trained by gradient descent. "
            "linear: one linear layer over a window as long as your clips, to sort clips. "
            "frame: one linear layer over each frame, to find events in matches. temporal: "
            "small convolutions over time, for hundreds of clips whose order in time matters. "
            "auto: frame if there are background examples and the network works frame by frame, "
            "else linear; from 100 clips of each class, cross-validation compares temporal with "
            "it. Default: own with --backbone, auto without. All but own take seconds with "
            "--freeze trunk. With other stages trained, linear and auto then fine-tune them "
            "from the fitted head, and keep that only where cross-validation says it is better.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    dense: Annotated[
        bool,
        typer.Option(
            "--dense",
            help="For 3-D networks: at the end, tune the head so that it also scores features "
            "that are computed once over the video, as detect --mode shared does.",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.dense,
    unfreeze_at: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EPOCH:STAGE",
            help="After EPOCH epochs, train this stage and all later ones too. Repeat it to "
            "free stages one by one.",
            rich_help_panel=NETWORK,
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            help="Frames per window (default: as for the weights, or the backbone).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.num_frames,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Frames per second to sample (default: as for the weights, or the backbone).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.rate_hz,
    size: Annotated[
        int | None,
        typer.Option(
            help="Shorter side of the frames in pixels (default: as for the weights, or the "
            "backbone).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.size_px,
    fit: Annotated[
        str | None,
        typer.Option(
            help="How frames become square. crop: use the middle square. squash: squeeze the "
            "whole picture. pad: show the whole picture and fill the rest with black (default: "
            "as for the weights, or the backbone).",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.fit,
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            help="Treat classes as independent, so that overlapping labels are true together.",
            rich_help_panel=NETWORK,
        ),
    ] = TrainJob.multi_label,
    val_groups: Annotated[
        str | None,
        typer.Option(
            help="Groups (matches) to validate on, comma-separated. Without it, see --val-share.",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            help="Without --val-groups: the share of clips to hold out for validation, in "
            "whole groups (default: 0.2, but 0 for a frame head, which cross-validation judges "
            "and calibrates).",
            rich_help_panel=CLIPS,
        ),
    ] = TrainJob.val_share,
    exclude_groups: Annotated[
        str,
        typer.Option(
            help="Groups to leave out of training and validation, comma-separated, for example "
            "to test on them later.",
            rich_help_panel=CLIPS,
        ),
    ] = "",
    max_clip: Annotated[
        float | None,
        typer.Option(
            help="Use at most this many seconds of each clip, so that the model cannot tell "
            "classes by clip length.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.max_clip_s,
    max_bad: Annotated[
        int,
        typer.Option(
            help="How many unreadable clips may be skipped; more stop the training.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.max_bad,
    sampling: Annotated[
        str,
        typer.Option(
            help="Which frames of a clip a window takes. dense: consecutive frames, as in "
            "detection. uniform: frames spread over the whole clip.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.sampling,
    cached_views: Annotated[
        int,
        typer.Option(
            help="With frozen stages: how many random views of each clip to compute once and "
            "reuse. 0 computes new views in every epoch (slower).",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.cached_views,
    augment: Annotated[
        bool,
        typer.Option(
            help="Vary training clips at random by crops, flips and colours.", rich_help_panel=CLIPS
        ),
    ] = True,
    min_area: Annotated[
        float,
        typer.Option(
            help="The smallest random crop, as a fraction of the square. Choose a value near 1 "
            "if the action fills the picture.",
            rich_help_panel=CLIPS,
        ),
    ] = Augmentation.min_area,
    val_views: Annotated[
        int,
        typer.Option(
            help="Windows per validation clip; their probabilities are averaged.",
            rich_help_panel=CLIPS,
        ),
    ] = TrainOptions.val_views,
    validate_every: Annotated[
        int,
        typer.Option(
            help="Validate every this many epochs, and after the last one.", rich_help_panel=CLIPS
        ),
    ] = TrainOptions.validate_every,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Event-free footage from which background examples are taken: a file, or a folder "
            "of files. Repeat it for more.",
            rich_help_panel=BACKGROUND,
        ),
    ] = None,
    background_label: Annotated[
        str | None,
        typer.Option(
            help="The class in the labels that means background (nothing happens).",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.background_label,
    background_ratio: Annotated[
        float,
        typer.Option(
            help="If labels have times: how many background clips to sample per event from "
            "unlabelled parts of the video.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.background_ratio,
    background_margin: Annotated[
        float,
        typer.Option(
            help="Background clips from unlabelled parts of the video stay this many seconds "
            "away from every label.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.background_margin_s,
    hard_negatives: Annotated[
        Path | None,
        typer.Option(
            help="An earlier model. Half of the background clips from unlabelled parts of the "
            "video are taken from its false alarms.",
            rich_help_panel=BACKGROUND,
        ),
    ] = TrainJob.hard_negatives,
    epochs: Annotated[
        int,
        typer.Option(
            help="Train for at most this many passes over the clips.", rich_help_panel=LEARNING
        ),
    ] = TrainOptions.epochs,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help="Time limit in seconds, reading clips and computing features included: if these "
            "alone take longer, training stops early. The learning rate falls with the time.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.max_seconds,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Stop after this many epochs without a lower validation loss, taken as the mean "
            "of three validations (default: never).",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.patience,
    batch_size: Annotated[
        int,
        typer.Option(
            help="Clips per batch; with several processes, of each process.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.batch_size,
    accumulate: Annotated[
        int,
        typer.Option(
            help="How many batches make one optimizer step. Use it if a larger batch does not "
            "fit into memory.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.accumulate,
    lr: Annotated[
        float,
        typer.Option(help="Peak learning rate of the head (classifier).", rich_help_panel=LEARNING),
    ] = TrainOptions.lr,
    trunk_lr_scale: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of the last trunk stage as a fraction of --lr (default: 0.1; "
            "1.0 when training from random weights).",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    stage_lr_decay: Annotated[
        float,
        typer.Option(
            help="Learning rate of each trunk stage as a fraction of the next stage's.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.stage_lr_decay,
    weight_decay: Annotated[
        float, typer.Option(help="Weight decay of AdamW.", rich_help_panel=LEARNING)
    ] = TrainOptions.weight_decay,
    warmup: Annotated[
        float,
        typer.Option(
            help="Fraction of training in which the learning rate rises to its peak.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.warmup,
    smoothing: Annotated[
        float,
        typer.Option(
            help="Label smoothing: how much of each target is spread over all classes.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.label_smoothing,
    batchnorm: Annotated[
        str,
        typer.Option(
            help="What BatchNorm of trained stages uses. train: the statistics of each batch. "
            "keep: the statistics from before training.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.batchnorm,
    balance: Annotated[
        str,
        typer.Option(
            help="How to balance rare classes. weights: they count more in the loss. sampling: "
            "their clips are drawn more often. none: not at all.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.balance,
    focal: Annotated[
        float,
        typer.Option(
            help="Gamma of the focal loss, with which clips already classified well count "
            "less. 0 is off.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.focal_gamma,
    mixup: Annotated[
        float,
        typer.Option(
            help="Alpha of mixup, which blends pairs of clips. 0 is off.", rich_help_panel=LEARNING
        ),
    ] = TrainOptions.mixup,
    ema: Annotated[
        float,
        typer.Option(
            help="Decay of a moving average of the weights, which is validated and kept, for "
            "example 0.999. 0 is off.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.ema,
    seed: Annotated[
        int,
        typer.Option(
            help="Random seed. The same seed gives the same model on one machine.",
            rich_help_panel=LEARNING,
        ),
    ] = TrainOptions.seed,
    device: Annotated[
        str,
        typer.Option(
            help="Where to train: auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=RUNNING
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="Number format: float32, bf16, or auto (bf16 where it is faster).",
            rich_help_panel=RUNNING,
        ),
    ] = TrainOptions.precision,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder for decoded clips and features of frozen stages. Later runs reuse it. "
            "It may hold features of whole matches, from touchline studio or detect --features.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the unfinished run in the run folder.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the model in the run folder.", rich_help_panel=RUNNING
        ),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Also log the figures of each epoch to the folder tensorboard in the run folder.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print only warnings and errors.", rich_help_panel=RUNNING
        ),
    ] = False,
) -> None:
    """Fine-tune a network on labelled clips and write the best epoch to OUT/model.safetensors.

    On several GPUs: torchrun --nproc-per-node N -m touchline.tools.cli train ...
    """
    if backbone is None and weights is not None:
        raise ValueError("--weights needs --backbone: the network that the weights are made for")
    if weights is None:
        weights = DEFAULT_WEIGHTS if backbone is None else "none"
    job = TrainJob(
        labels=labels,
        backbone=backbone or DEFAULT_BACKBONE,
        weights=None if weights == "none" else weights,
        freeze=freeze,
        head=head or ("auto" if backbone is None else TrainJob.head),
        unfreeze=tuple(_unfreezing(text) for text in unfreeze_at or ()),
        val_groups=None if val_groups is None else _names(val_groups),
        val_share=val_share,
        exclude_groups=_names(exclude_groups),
        background=tuple(background or ()),
        background_label=background_label,
        background_ratio=background_ratio,
        background_margin_s=background_margin,
        hard_negatives=hard_negatives,
        dense=dense,
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
    """Parse "12:block6" into (12, "block6")."""
    epoch, colon, stage = text.partition(":")
    if not colon or not epoch.isdigit() or not stage:
        raise ValueError(f"--unfreeze-at is {text!r}; it must be EPOCH:STAGE, as in 12:block6")
    return int(epoch), stage


def _trunk_lr_scale(asked: float | None, weights: str) -> float:
    """Pretrained stages learn at a tenth of the head's rate, random ones at the whole rate."""
    if asked is not None:
        return asked
    return 1.0 if weights == "none" else TrainOptions.trunk_lr_scale


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
