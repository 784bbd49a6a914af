"""From a label file to a run folder: the split, the model, the training, and what it left."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from touchline.models.atomic_files import write_atomic
from touchline.models.backbone import stage_table
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.pipeline.distributed import current_world
from touchline.pipeline.labels.split import Split
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.plots import can_plot, write_confusion, write_history
from touchline.pipeline.scoring.clip_figures import average_precision, mean_average_precision
from touchline.pipeline.scoring.seen_groups import recorded_groups
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.result import FineTuneResult, OnEpoch, Progress
from touchline.pipeline.training.snapshot import KeepState
from touchline.pipeline.types import Bool, Float32

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"
SNAPSHOT_FILE = "snapshot.safetensors"


def run_training(
    model: TrainedModel,
    split: Split,
    job: TrainJob,
    out: Path,
    *,
    device: str = "auto",
    cache: Path | None = None,
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_epoch: OnEpoch = lambda row, val_probs: None,
    already_s: float = 0.0,
) -> tuple[FineTuneResult, dict[str, Any]]:
    """Train, then write the model, its metrics and pictures into OUT; the result and the metrics.

    While it trains OUT holds a snapshot, from which `resume` goes on; ValueError where there is one
    and `resume` is not asked for. cache, already_s: see `fine_tune`. Pictures need matplotlib.
    """
    keep = KeepState(out / SNAPSHOT_FILE, resume=resume)
    if keep.path.exists() and not resume:
        raise ValueError(
            f"{out} holds an unfinished run: go on with --resume, or delete {SNAPSHOT_FILE} there"
        )
    result = fine_tune(
        model,
        split.train,
        split.val,
        job.options,
        device=device,
        cache=cache,
        keep=keep,
        on_progress=on_progress,
        on_epoch=on_epoch,
        already_s=already_s,
    )
    metrics = metrics_record(result, split, job)
    if current_world().is_first:
        _write_run(result, metrics, out)
        keep.path.unlink(missing_ok=True)
    return result, metrics


def _write_run(result: FineTuneResult, metrics: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = {k: metrics[k] for k in ("job", "groups", "figures", "seconds")}
    save_checkpoint(out / MODEL_FILE, replace(result.model, record=record))
    write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    if can_plot():
        write_history(result.history, result.best_epoch, out / "curves.png")
        if metrics["figures"] and "confusion_matrix" in metrics["figures"]:
            matrix = metrics["figures"]["confusion_matrix"]
            write_confusion(matrix, result.model.labels, out / "confusion.png")


def metrics_record(result: FineTuneResult, split: Split, job: TrainJob) -> dict[str, Any]:
    """All that a run is to be remembered by; JSON values only."""
    job_record = asdict(job) | {
        "labels": str(job.labels),
        "background": [str(p) for p in job.background],
        "hard_negatives": None if job.hard_negatives is None else str(job.hard_negatives),
        "weights_sha256": result.model.record.get("weights_sha256"),
    }
    parts = ("train", "val", "excluded")
    groups = {part: sorted({e.group for e in getattr(split, part)}) for part in parts}
    groups["earlier"] = list(recorded_groups(result.model.record).get("earlier", ()))
    return {
        "job": job_record,
        "groups": groups,
        "examples": {part: len(getattr(split, part)) for part in parts},
        "classes": list(result.model.labels),
        "figures": clip_figures(result),
        "history": result.history,
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "skipped_steps": result.skipped_steps,
        "precision": result.precision,
        "stages": [dict(row) for row in stage_table(result.model.backbone)],
        "problems": result.problems,
        "seconds": result.seconds,
    }


def clip_figures(result: FineTuneResult) -> dict[str, Any] | None:
    """Figures on validation clips, in all and per class; the confusion matrix has rows of truth.

    For independent classes average precision, and recall and precision at probability 0.5.
    """
    if not len(result.val_truth):
        return None
    labels = result.model.labels
    if result.model.multi_label:
        return _independent_figures(result.val_probs, result.val_truth > 0, labels)
    guess = result.val_probs.argmax(axis=1)
    matrix = np.zeros((len(labels), len(labels)), dtype=int)
    np.add.at(matrix, (result.val_truth, guess), 1)
    right, actual, given = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    per_class = _per_class(labels, right, actual, given)
    recalls = [c["recall"] for c in per_class.values() if c["recall"] is not None]
    return {
        "accuracy": float(right.sum() / len(guess)),
        "balanced_accuracy": float(np.mean(recalls)),
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
    }


def _independent_figures(probs: Float32, truth: Bool, labels: Sequence[str]) -> dict[str, Any]:
    given = probs >= 0.5
    per_class = _per_class(labels, (truth & given).sum(0), truth.sum(0), given.sum(0))
    for k, label in enumerate(labels):
        known = truth[:, k].any()
        per_class[label]["ap"] = average_precision(probs[:, k], truth[:, k]) if known else None
    targets = truth.astype(np.float32)
    return {"map": mean_average_precision(probs, targets), "per_class": per_class}


def _per_class(
    labels: Sequence[str],
    right: npt.NDArray[np.int64],
    actual: npt.NDArray[np.int64],
    given: npt.NDArray[np.int64],
) -> dict[str, dict[str, Any]]:
    return {
        label: {
            "clips": int(actual[k]),
            "recall": _ratio(right[k], actual[k]),
            "precision": _ratio(right[k], given[k]),
        }
        for k, label in enumerate(labels)
    }


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
