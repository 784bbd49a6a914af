"""Prepare a training run: labels, split, network, background examples, warnings."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, load_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.models.errors import FootageError
from touchline.models.spelling import did_you_mean
from touchline.models.training_record import TrainedGroups, TrainingRecord, WeightsOrigin
from touchline.models.weights.download import OnProgress
from touchline.models.weights.open import open_weights
from touchline.pipeline.clips.leakage import find_leaks
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage.inputs import footage_files
from touchline.pipeline.heads.temporal import MIN_CLIPS_PER_CLASS
from touchline.pipeline.labels.checks import find_problems, names_a_side, no_groups
from touchline.pipeline.labels.read import class_names, read_labels, split_verified
from touchline.pipeline.labels.split import Split, split_by_group, visible_examples
from touchline.pipeline.runs.agreement import can_share
from touchline.pipeline.runs.background import BackgroundPlan, with_background
from touchline.pipeline.runs.options import VAL_SHARE, TrainJob
from touchline.pipeline.scoring.seen_groups import trained_groups
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.types import Example

HEADS = ("own", "linear", "frame", "temporal", "auto")

MIN_WINDOW_RATE_HZ = 2.0
"""Windows that are as long as labelled clips have at least this many frames per second."""


def prepare(
    job: TrainJob, *, device: str = "auto", on_download: OnProgress | None = None
) -> tuple[TrainedModel, Split, TrainJob]:
    """Read the labels of a job, split them, build the network and choose background examples.

    Events that the picture does not show are neither trained on nor taken as background.

    Args:
        job: Which network to train on which labels.
        device: Where an earlier model looks for hard negatives: auto, cpu, cuda, cuda:1 or mps.
        on_download: Called while weights are downloaded.

    Returns:
        The untrained model, the split, and the job with its stages as numbers.

    Raises:
        LabelsError: The labels cannot be read.
        WeightsError: The weights cannot be used.
        ValueError: An option does not fit the labels or the network.
    """
    examples, verified = split_verified(read_labels(job.labels, verified=True))
    if job.background_label is not None:
        examples = name_background(examples, job.background_label)
    split = split_by_group(
        examples,
        val_groups=job.val_groups,
        val_share=VAL_SHARE if job.val_share is None else job.val_share,
        exclude_groups=job.exclude_groups,
        seed=job.options.seed,
    )
    classes = class_names(visible_examples(split.train + split.val))
    model = untrained(job, classes, on_download)
    plan = BackgroundPlan(
        footage=tuple(footage_files(job.background)),
        ratio=job.background_ratio,
        margin_s=job.background_margin_s,
        verified=tuple(verified),
        earlier=None if job.hard_negatives is None else load_checkpoint(job.hard_negatives),
        seed=job.options.seed,
    )
    names = model.backbone.stage_names
    options = replace(
        job.options,
        freeze=resolve_freeze(job.freeze, names, pretrained=job.weights is not None),
        unfreeze=tuple((epoch, first_trained(stage, names)) for epoch, stage in job.unfreeze),
    )
    check_head(job.head, options, num_stages=len(names), pretrained=job.weights is not None)
    if job.dense:
        check_dense(model, split, options)
    if job.head != "own" and model.backbone.framewise:
        model.backbone.spec = _window(job, model.spec, split.train)
    split = with_background(split, plan, window_s=model.spec.duration_s, device=device)
    split = replace(
        split,
        train=visible_examples(split.train),
        val=visible_examples(split.val),
    )
    if needs_no_validation(job, split, model, options):
        split = replace(split, train=(*split.train, *split.val), val=())
    if len({example.label for example in split.train}) == 1:
        raise ValueError(
            f"every training example is {split.train[0].label!r}, but training needs two classes. "
            "Add event-free footage (--background), or other classes"
        )
    if options.augmentation and any(names_a_side(label) for label in model.labels):
        options = replace(options, augmentation=replace(options.augmentation, flip=False))
    model.backbone.freeze(options.freeze)
    return model, split, replace(job, options=options)


def untrained(
    job: TrainJob, labels: tuple[str, ...], on_download: OnProgress | None
) -> TrainedModel:
    """Build the network with its pretrained trunk and a random classifier.

    Its record holds the SHA-256 of the weights, and the groups that they were trained on.

    Args:
        job: Which network and weights, and how pictures are sampled.
        labels: The K classes; the first is background.
        on_download: Called during a download.

    Raises:
        WeightsError: The weights cannot be had, or do not fit the backbone.
        ValueError: A name is unknown.
    """
    torch.manual_seed(job.options.seed)

    def sampled(spec: ClipSpec) -> ClipSpec:
        return spec.with_sampling(
            num_frames=job.num_frames, rate_hz=job.rate_hz, size_px=job.size_px, fit=job.fit
        )

    if job.weights is None:
        spec = sampled(build_backbone(job.backbone, len(labels)).spec)
        backbone = build_backbone(job.backbone, len(labels), spec)
        record = TrainingRecord()
    else:
        weights = open_weights(job.weights, job.backbone, on_progress=on_download)
        spec = sampled(weights.spec)
        backbone = build_backbone(job.backbone, len(labels), spec)
        weights.load_into(backbone)
        record = TrainingRecord(
            groups=TrainedGroups(earlier=tuple(sorted(weights.record.groups.seen))),
            weights=WeightsOrigin(job.weights, weights.sha256),
        )
    return TrainedModel(backbone, job.backbone, labels, multi_label=job.multi_label, record=record)


def too_hopeful(model: TrainedModel, split: Split) -> list[str]:
    """Return the validation groups that the weights have been trained on."""
    return trained_groups(model, {example.group for example in split.val})


def resolve_freeze(freeze: str | None, names: Sequence[str], *, pretrained: bool) -> int:
    """Return how many stages to freeze.

    Args:
        freeze: A number, the name of the last frozen stage, or `trunk` for all; None is `trunk` for
            a pretrained network and 0 for a random one.
        names: The names of the stages.
        pretrained: Whether the network has pretrained weights.

    Raises:
        ValueError: There is no such stage.
    """
    if freeze is None:
        return len(names) if pretrained else 0
    if freeze == "trunk":
        return len(names)
    if freeze in names:
        return names.index(freeze) + 1
    if freeze.isdigit() and int(freeze) <= len(names):
        return int(freeze)
    raise ValueError(
        f"--freeze is {freeze!r}; it must be 0 to {len(names)}, trunk, or a stage: "
        + _stages(freeze, names)
    )


def check_head(head: str, options: TrainOptions, *, num_stages: int, pretrained: bool) -> None:
    """Check that a head fits the other options.

    Args:
        head: own, linear, frame, temporal or auto.
        options: How to train; says which stages stay frozen.
        num_stages: How many stages the network has.
        pretrained: Whether the network has pretrained weights.

    Raises:
        ValueError: There is no such head, or stages are to be trained and the head does not allow
            it.
    """
    if head not in HEADS:
        raise ValueError(f"head is {head!r}. Use one of {', '.join(HEADS)}")
    if head == "own" or (options.freeze == num_stages and not options.unfreeze):
        return
    if head in ("frame", "temporal"):
        raise ValueError(
            f"--head {head} is fitted to a trunk that stays frozen, but here stages are trained. "
            "Use --freeze trunk, or --head linear"
        )
    if options.freeze == 0 and not pretrained:
        raise ValueError(
            f"--head {head} starts from features of frozen stages, but here no stage is frozen and "
            "the weights are random. Use --weights NAME, or --head own"
        )


def needs_no_validation(
    job: TrainJob, split: Split, model: TrainedModel, options: TrainOptions
) -> bool:
    """Return whether a head is fitted that cross-validation judges and calibrates.

    That is a frame head, unless the job asks for validation. So it can learn from all matches.

    Args:
        job: The job.
        split: The examples, with background.
        model: The untrained model.
        options: How to train.
    """
    asked = job.val_groups is not None or job.val_share is not None
    frozen = options.freeze == len(model.backbone.stage_names) and not options.unfreeze
    if asked or not frozen or not model.backbone.framewise or job.multi_label:
        return False
    counts = Counter(example.label for example in split.train)
    if BACKGROUND not in counts:
        return False
    # With more clips a temporal head may be chosen, which cross-validation does not calibrate.
    few = min(counts.values()) < MIN_CLIPS_PER_CLASS
    return job.head == "frame" or (job.head == "auto" and few)


def check_dense(model: TrainedModel, split: Split, options: TrainOptions) -> None:
    """Check that a head can be tuned on shared features.

    Args:
        model: The untrained model.
        split: The examples.
        options: How to train.

    Raises:
        ValueError: The backbone, the labels or an option does not allow it.
    """
    if model.backbone.framewise:
        raise ValueError(
            f"--dense is not for {model.architecture}: it sees single frames, so windows share its "
            "features exactly. Leave it out"
        )
    if not can_share(model):
        raise ValueError(
            f"--dense needs a backbone that slides in time, and {model.architecture} with "
            f"{model.spec} does not. Use another backbone, such as i3d, or leave it out"
        )
    if not split.val:
        raise ValueError("--dense needs validation clips to compare on. Use --val-groups")
    if options.sampling != "dense":
        raise ValueError("--dense needs windows of consecutive frames: --sampling dense")


# Options of the training loop, which a head over a frozen trunk is fitted without.
LOOP_OPTIONS = {
    "epochs": "--epochs",
    "accumulate": "--accumulate",
    "lr": "--lr",
    "stage_lr_decay": "--stage-lr-decay",
    "weight_decay": "--weight-decay",
    "warmup": "--warmup",
    "label_smoothing": "--smoothing",
    "focal_gamma": "--focal",
    "mixup": "--mixup",
    "ema": "--ema",
    "patience": "--patience",
    "validate_every": "--validate-every",
}


def unused_options(job: TrainJob, *, num_stages: int) -> list[str]:
    """Return the options of the training loop that were given although the loop does not run.

    Args:
        job: The job, with its options as `prepare` returns them.
        num_stages: How many stages the network has.
    """
    options = job.options
    if job.head == "own" or options.freeze < num_stages or options.unfreeze:
        return []
    default = TrainOptions()
    return [
        option
        for name, option in LOOP_OPTIONS.items()
        if getattr(options, name) != getattr(default, name)
    ]


def _window(job: TrainJob, spec: ClipSpec, examples: Sequence[Example]) -> ClipSpec:
    """Return the window of a fitted head; what the job leaves open suits features and labels.

    It is as long as the median labelled clip. Where features have a rate, the number of frames
    makes it so, else the rate does.
    """
    if job.size_px is None:
        spec = spec.with_sampling(size_px=job.features.size_px)
    num_frames, rate_hz = job.num_frames, job.rate_hz
    if num_frames is rate_hz is None:
        rate_hz = window_rate_hz(examples, spec, max_clip_s=job.options.max_clip_s)
        if job.features.rate_hz is not None:
            num_frames = max(1, round(spec.num_frames / rate_hz * job.features.rate_hz))
    if job.rate_hz is None and job.features.rate_hz is not None:
        rate_hz = job.features.rate_hz
    return spec.with_sampling(num_frames=num_frames, rate_hz=rate_hz)


def window_rate_hz(
    examples: Sequence[Example], spec: ClipSpec, *, max_clip_s: float | None
) -> float:
    """Return the frames per second at which a window is as long as the median labelled clip.

    It is at least MIN_WINDOW_RATE_HZ and at most that of `spec`, which instants keep.

    Args:
        examples: The training examples.
        spec: The window; its number of frames stays.
        max_clip_s: How much of a clip is used, in seconds; None for all of it.
    """
    lengths = []
    for example in examples:
        if example.start_s is None or example.end_s is None:
            with contextlib.suppress(FootageError):
                lengths.append(probe_footage(example.path).duration_s)
        elif example.end_s > example.start_s:
            lengths.append(example.end_s - example.start_s)
    if not lengths:
        return spec.rate_hz
    clip_s = min(statistics.median(lengths), max_clip_s or math.inf)
    return min(max(spec.num_frames / clip_s, MIN_WINDOW_RATE_HZ), spec.rate_hz)


def first_trained(stage: str, names: Sequence[str]) -> int:
    """Return how many stages stay frozen if `stage` and all later ones train.

    Raises:
        ValueError: There is no such stage.
    """
    if stage not in names:
        raise ValueError(
            f"--unfreeze-at names {stage!r}; it must name a stage: " + _stages(stage, names)
        )
    return names.index(stage)


def _stages(name: str, names: Sequence[str]) -> str:
    return f"{', '.join(names)}. {did_you_mean(name, names)}".rstrip()


def name_background(examples: Sequence[Example], label: str) -> list[Example]:
    """Return the examples with the class `label` renamed to `background`.

    Raises:
        ValueError: There is no such class.
    """
    labels = sorted({e.label for e in examples})
    if label not in labels:
        hint = did_you_mean(label, labels) or f"The classes are {', '.join(labels)}."
        raise ValueError(f"--background-label {label!r} is no class. {hint}")
    return [replace(e, label=BACKGROUND) if e.label == label else e for e in examples]


def label_warnings(
    split: Split,
    *,
    max_clip_s: float | None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> list[str]:
    """Return warnings: near-identical clips on both sides of the split, and suspicious labels.

    Processes that torchrun started share the work, so each must call this.

    Args:
        split: The training and validation examples.
        max_clip_s: How much of each clip is used at most; None for all.
        on_progress: Called as clips are compared.
    """
    examples = [*split.train, *split.val]
    durations: dict[Path, float] = {}
    for example in examples:
        if example.path not in durations:
            with contextlib.suppress(FootageError):
                durations[example.path] = probe_footage(example.path).duration_s
    if max_clip_s is not None:
        # The network sees at most this much of a clip, so it cannot learn a longer length.
        whole = {example.path for example in examples if example.start_s is None}
        durations |= {p: min(s, max_clip_s) for p, s in durations.items() if p in whole}

    def on_clip(done: int) -> None:
        on_progress(Progress("comparing clips", done, len(examples)))

    unnamed = no_groups(examples)
    leaks = find_leaks(split, on_clip=on_clip)
    return [*([unnamed] if unnamed else []), *leaks, *find_problems(examples, durations)]
