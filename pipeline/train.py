"""From a label file to a run folder: the split, the model, the training, and what it left."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from touchline.models.backbone import Backbone, stage_table
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, file_digest, save_checkpoint
from touchline.models.errors import FootageError
from touchline.models.weights import open_weights
from touchline.pipeline.decode import probe_footage
from touchline.pipeline.finetune import FineTuneResult, Progress, TrainOptions, fine_tune
from touchline.pipeline.label_checks import find_problems, names_a_side
from touchline.pipeline.label_source import nearest
from touchline.pipeline.labels import Split, class_names, read_labels, split_by_group
from touchline.pipeline.leakage import find_leaks
from touchline.pipeline.negatives import background_examples, eventless_examples
from touchline.pipeline.types import BACKGROUND, Example
from touchline.pipeline.write import write_atomic

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class TrainJob:
    """What to train on what; None takes the default of the weights, or of the backbone.

    weights: a file or a name; None starts from random weights.
    freeze: a number of stages, the name of the last frozen stage, or `trunk` for all; None is
    `trunk` with weights and 0 without.
    val_groups: None chooses whole groups that hold about `val_share` of each class.
    background: eventless footage; all of it is for training.
    background_ratio: where labels have times, so many stretches of unlabelled time per event
    become background examples, background_margin_s away from every label.
    """

    labels: Path
    backbone: str
    weights: str | None = None
    freeze: str | None = None
    val_groups: tuple[str, ...] | None = None
    val_share: float = 0.2
    exclude_groups: tuple[str, ...] = ()
    background: tuple[Path, ...] = ()
    background_label: str | None = None
    background_ratio: float = 1.0
    background_margin_s: float = 2.0
    num_frames: int | None = None
    rate_hz: float | None = None
    size_px: int | None = None
    options: TrainOptions = field(default_factory=TrainOptions)


def prepare(job: TrainJob) -> tuple[TrainedModel, Split, TrainJob]:
    """The untrained model, the split, and the job with `freeze` resolved to a number of stages."""
    examples = read_labels(job.labels)
    if job.background_label is not None:
        examples = name_background(examples, job.background_label)
    split = split_by_group(
        examples,
        val_groups=job.val_groups,
        val_share=job.val_share,
        exclude_groups=job.exclude_groups,
        seed=job.options.seed,
    )
    labels = class_names(split.train + split.val)
    torch.manual_seed(job.options.seed)
    backbone = _backbone(job, len(labels))
    stages = resolve_freeze(job.freeze, backbone, pretrained=job.weights is not None)
    backbone.freeze(stages)
    model = TrainedModel(backbone, job.backbone, labels)
    split = with_negatives(split, job, model.spec.duration_s)
    options = replace(job.options, freeze=stages)
    if options.augmentation and any(names_a_side(label) for label in labels):
        options = replace(options, augmentation=replace(options.augmentation, flip=False))
    return model, split, replace(job, options=options)


def _backbone(job: TrainJob, num_classes: int) -> Backbone:
    sampling = {"num_frames": job.num_frames, "rate_hz": job.rate_hz, "size_px": job.size_px}
    if job.weights is None:
        plain = build_backbone(job.backbone, num_classes)
        spec = plain.spec.with_sampling(**sampling)  # type: ignore[arg-type]
        return build_backbone(job.backbone, num_classes, spec)
    weights = open_weights(job.weights, job.backbone)
    spec = weights.spec.with_sampling(**sampling)  # type: ignore[arg-type]
    backbone = build_backbone(job.backbone, num_classes, spec)
    weights.load_into(backbone)
    return backbone


def resolve_freeze(freeze: str | None, backbone: Backbone, *, pretrained: bool) -> int:
    """How many stages `freeze` means: a number, `trunk`, or the name of the last frozen stage."""
    names = backbone.stage_names
    if freeze is None:
        return len(names) if pretrained else 0
    if freeze == "trunk":
        return len(names)
    if freeze in names:
        return names.index(freeze) + 1
    if freeze.isdigit() and int(freeze) <= len(names):
        return int(freeze)
    near = nearest(freeze, names)
    raise ValueError(
        f"freeze is {freeze!r}; it must be 0 to {len(names)}, trunk, or a stage: "
        + ", ".join(names)
        + (f"; is {near!r} meant?" if near else "")
    )


def name_background(examples: Sequence[Example], label: str) -> list[Example]:
    """The examples with the class `label` called `background`, which is what it is."""
    labels = sorted({e.label for e in examples})
    if label not in labels:
        near = nearest(label, labels)
        raise ValueError(
            f"background label {label!r} is no class; "
            + (f"is {near!r} meant?" if near else f"the classes are {', '.join(labels)}")
        )
    return [replace(e, label=BACKGROUND) if e.label == label else e for e in examples]


def with_negatives(split: Split, job: TrainJob, window_s: float) -> Split:
    """The split with background from the unlabelled time of its footage and from `background`.

    Footage that cannot be read is passed over here: reading its labels' clips reports it.
    """
    eventless = [
        example
        for path in job.background
        for example in eventless_examples(path, probe_footage(path).duration_s, window_s=window_s)
    ]
    train = (*split.train, *_unlabelled(split.train, job, window_s), *eventless)
    # Validation can measure background only where training teaches it.
    taught = any(example.label == BACKGROUND for example in train)
    val = _unlabelled(split.val, job, window_s) if taught else []
    return replace(split, train=train, val=(*split.val, *val))


def _unlabelled(examples: Sequence[Example], job: TrainJob, window_s: float) -> list[Example]:
    by_path: dict[Path, list[Example]] = defaultdict(list)
    for example in examples:
        by_path[example.path].append(example)
    negatives = []
    for path, mine in by_path.items():
        if any(example.start_s is None for example in mine):
            continue
        with contextlib.suppress(FootageError):
            negatives += background_examples(
                mine,
                probe_footage(path).duration_s,
                window_s=window_s,
                margin_s=job.background_margin_s,
                ratio=job.background_ratio,
                seed=job.options.seed,
            )
    return negatives


def label_warnings(split: Split, *, max_clip_s: float | None) -> list[str]:
    """What looks wrong with the labels, and clips that show the same on both sides of the split."""
    examples = [*split.train, *split.val]
    durations: dict[Path, float] = {}
    for example in examples:
        if example.path not in durations:
            with contextlib.suppress(FootageError):
                durations[example.path] = probe_footage(example.path).duration_s
    if max_clip_s is not None:
        # No more than this is used of a clip, so no more of its length can be learnt.
        whole = {example.path for example in examples if example.start_s is None}
        durations |= {p: min(s, max_clip_s) for p, s in durations.items() if p in whole}
    return find_problems(examples, durations) + find_leaks(split)


def run_training(
    model: TrainedModel,
    split: Split,
    job: TrainJob,
    out: Path,
    *,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[FineTuneResult, dict[str, Any]]:
    """Train, then write OUT/model.safetensors and OUT/metrics.json; the result and the metrics."""
    result = fine_tune(
        model, split.train, split.val, job.options, device=device, on_progress=on_progress
    )
    metrics = metrics_record(result, split, job)
    out.mkdir(parents=True, exist_ok=True)
    record = {k: metrics[k] for k in ("job", "groups", "figures", "seconds")}
    save_checkpoint(out / MODEL_FILE, replace(result.model, record=record))
    write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    return result, metrics


def metrics_record(result: FineTuneResult, split: Split, job: TrainJob) -> dict[str, Any]:
    """All that a run is to be remembered by; JSON values only."""
    job_record = asdict(job) | {
        "labels": str(job.labels),
        "background": [str(p) for p in job.background],
        "weights_sha256": _digest(job.weights),
    }
    groups = {
        part: sorted({e.group for e in getattr(split, part)})
        for part in ("train", "val", "excluded")
    }
    return {
        "job": job_record,
        "groups": groups,
        "examples": {part: len(getattr(split, part)) for part in groups},
        "classes": list(result.model.labels),
        "figures": clip_figures(result),
        "history": result.history,
        "stages": [dict(row) for row in stage_table(result.model.backbone)],
        "problems": result.problems,
        "seconds": result.seconds,
    }


def _digest(weights: str | None) -> str | None:
    return file_digest(Path(weights)) if weights and Path(weights).is_file() else None


def clip_figures(result: FineTuneResult) -> dict[str, Any] | None:
    """Accuracy, per-class figures and the confusion matrix (rows: truth) on validation clips."""
    truth, labels = result.val_truth, result.model.labels
    if not len(truth):
        return None
    guess = result.val_probs.argmax(axis=1)
    matrix = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(matrix, (truth, guess), 1)
    right = np.diag(matrix)
    per_class = {
        label: {
            "clips": int(matrix[k].sum()),
            "recall": _ratio(right[k], matrix[k].sum()),
            "precision": _ratio(right[k], matrix[:, k].sum()),
        }
        for k, label in enumerate(labels)
    }
    recalls = [c["recall"] for c in per_class.values() if c["recall"] is not None]
    return {
        "accuracy": float(right.sum() / len(truth)),
        "balanced_accuracy": float(np.mean(recalls)),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
