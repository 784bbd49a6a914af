"""Train a prepared model and write the run folder: model, metrics and pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from touchline.models.atomic_files import remove_leftovers, write_atomic
from touchline.models.backbone import stage_table
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.json_values import to_json
from touchline.models.training_record import SharedAgreement, TrainedGroups
from touchline.pipeline.calibration.stitched_clips import mixed_order
from touchline.pipeline.clips.load import LabelledClip, LoadedClips, load_clips
from touchline.pipeline.distributed import current_world
from touchline.pipeline.heads.choose import Trial
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.heads.held_out import HeldOut, validated
from touchline.pipeline.heads.learning_curve import CurvePoint
from touchline.pipeline.heads.suspects import find_suspects, suspects_text
from touchline.pipeline.heads.tune import Tuning
from touchline.pipeline.labels.split import Split
from touchline.pipeline.report.suspects_page import write_suspects_page
from touchline.pipeline.runs.agreement import can_share, join_clips, measure_agreement
from touchline.pipeline.runs.dense import tune_on_shared
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.plots import can_plot, write_confusion, write_history
from touchline.pipeline.runs.summary import next_command, summarise
from touchline.pipeline.scoring.clip_figures import average_precision, mean_average_precision
from touchline.pipeline.scoring.feature_track import tracks_in
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score_clips import clip_probs, score_loaded
from touchline.pipeline.training.cache import ClipStore
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.result import FineTuneResult, OnEpoch, Progress
from touchline.pipeline.training.snapshot import KeepState
from touchline.pipeline.types import Bool, Example, Float32

MODEL_FILE = "model.safetensors"
METRICS_FILE = "metrics.json"
HEADS_FILE = "heads.csv"
SUSPECTS_FILE = "suspects.csv"
SUSPECTS_PAGE = "suspects.html"
SNAPSHOT_FILE = "snapshot.safetensors"

MOST_CLIPS = 256
"""With --dense, the head is tuned on at most this many training clips."""


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
    on_note: Callable[[str], None] = lambda _: None,
    already_s: float = 0.0,
) -> tuple[FineTuneResult, dict[str, Any]]:
    """Train a model and write it, its metrics and pictures into a run folder.

    During training the folder holds a snapshot, from which `resume` continues. Pictures need
    matplotlib.

    Args:
        model: The untrained model, from `prepare`.
        split: The examples, from `prepare`.
        job: The job, from `prepare`.
        out: The run folder.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and frozen features that later runs reuse.
        resume: Whether to continue the unfinished run in `out`.
        on_progress: Called with news of each phase.
        on_epoch: Called after each epoch.
        on_note: Called with one line that says for how many clips features of whole matches are
            taken; see `fit_head`.
        already_s: Seconds of the time limit spent before this call.

    Returns:
        The result, and the metrics as written.

    Raises:
        ValueError: `out` holds an unfinished run and `resume` is False; or see `fine_tune`.
    """
    remove_leftovers(out)
    keep = KeepState(out / SNAPSHOT_FILE, resume=resume)
    if keep.path.exists() and not resume:
        raise ValueError(
            f"{out} holds an unfinished run. Continue it with --resume, or delete {SNAPSHOT_FILE} "
            "there"
        )
    heads: list[dict[str, Any]] = []
    answers: dict[str, HeldOut] = {}
    curve: tuple[CurvePoint, ...] = ()
    if job.head == "own":
        for folder in job.features.folders:
            if tracks_in(folder):
                on_note(
                    f"no features are taken from {folder}: --head own trains on varied pictures. "
                    "--head auto takes them"
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
    else:
        fitted = fit_head(
            model,
            split.train,
            split.val,
            job.options,
            head=job.head,
            device=device,
            cache=cache,
            tracks=job.features.folders,
            on_progress=on_progress,
            on_note=on_note,
            already_s=already_s,
        )
        result, heads = fitted.result, head_rows(fitted.trials, fitted.tuning)
        answers["cross-validation"], curve = fitted.held_out, fitted.curve
    result, before = _compared(
        result, split, job, device=device, cache=cache, on_progress=on_progress
    )
    metrics = metrics_record(result, split, job, heads)
    metrics["shared_before_tuning"] = to_json(before)
    if len(result.val_truth):
        answers["validation"] = validated(result)
    command = next_command(job, split, result.model, out / MODEL_FILE)
    metrics["summary"] = summarise(answers, curve, command)
    if current_world().is_first:
        _write_run(result, split, job, metrics, out)
        _write_suspects(list(answers.values()), out)
        keep.path.unlink(missing_ok=True)
    return result, metrics


def _compared(
    result: FineTuneResult,
    split: Split,
    job: TrainJob,
    *,
    device: str,
    cache: Path | None,
    on_progress: Callable[[Progress], None],
) -> tuple[FineTuneResult, SharedAgreement | None]:
    """Measure how a shared trunk agrees with whole windows; tune the head on it if asked for.

    Returns:
        The result, its model with the agreement in its record, and with --dense the agreement
        before the head was tuned.
    """
    if not result.val_examples or not can_share(result.model):
        return result, None
    options = job.options

    def loaded(examples: Sequence[Example]) -> list[LabelledClip]:
        return load_clips(
            examples,
            result.model.spec,
            max_clip_s=options.max_clip_s,
            max_bad=options.max_bad,
            load=None if cache is None else ClipStore(cache).load,
        ).clips

    clips = loaded(result.val_examples)
    frames = join_clips(result.model, clips, seed=options.seed)

    def measured(model: TrainedModel, *, tuned: bool = False) -> SharedAgreement:
        return measure_agreement(
            model,
            frames,
            device=device,
            precision=options.precision,
            tuned=tuned,
            on_way=lambda done: on_progress(Progress("comparing shared features", done, 2)),
        )

    model, agreement, before = result.model, measured(result.model), None
    if job.dense:
        tuned = tune_on_shared(
            model,
            loaded(_some(split.train, options.seed)),
            device=device,
            precision=options.precision,
            seed=options.seed,
            on_step=lambda done, total: on_progress(Progress("tuning the head", done, total)),
        )
        before, after = agreement, measured(tuned, tuned=True)
        if _rank(after) > _rank(before):
            model, agreement = tuned, after
            views = ClipOptions(views=options.val_views, device=device, precision=options.precision)
            probs = clip_probs(model, score_loaded(model, LoadedClips(clips, []), views))
            result = replace(result, val_probs=probs)
    record = replace(model.record, shared=agreement)
    return replace(result, model=replace(model, record=record)), before


def _rank(agreement: SharedAgreement) -> tuple[float, float]:
    return agreement.mean_ap or 0.0, -agreement.largest_difference


def _some(examples: Sequence[Example], seed: int) -> list[Example]:
    """At most MOST_CLIPS examples, of all classes as far as possible."""
    order = mixed_order([example.label for example in examples], np.random.default_rng(seed))
    return [examples[k] for k in order[:MOST_CLIPS]]


def _write_run(
    result: FineTuneResult, split: Split, job: TrainJob, metrics: dict[str, Any], out: Path
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    record = replace(
        result.model.record,
        groups=_groups(result, split),
        max_clip_s=job.options.max_clip_s,
        seconds=result.seconds,
        job=metrics["job"],
        figures=metrics["figures"],
    )
    save_checkpoint(out / MODEL_FILE, replace(result.model, record=record))
    write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    if metrics["heads"]:
        write_atomic(out / HEADS_FILE, _heads_text(metrics["heads"]))
    if can_plot():
        if result.history:
            write_history(result.history, result.best_epoch, out / "curves.png")
        if metrics["figures"] and "confusion_matrix" in metrics["figures"]:
            matrix = metrics["figures"]["confusion_matrix"]
            write_confusion(matrix, result.model.labels, out / "confusion.png")


def _write_suspects(answers: Sequence[HeldOut], out: Path) -> None:
    """List the labels that these answers disagree with; without answers there are no files."""
    if not answers:
        for name in (SUSPECTS_FILE, SUSPECTS_PAGE):
            (out / name).unlink(missing_ok=True)
        return
    suspects = find_suspects(*answers)
    write_atomic(out / SUSPECTS_FILE, suspects_text(suspects, out))
    write_suspects_page(suspects, out / SUSPECTS_PAGE)


def _heads_text(heads: Sequence[Mapping[str, Any]]) -> str:
    """The heads that were compared as CSV, in their order."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(heads[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(heads)
    return text.getvalue()


def head_rows(trials: Sequence[Trial], tuning: Tuning | None) -> list[dict[str, Any]]:
    """Return the heads that were compared as JSON values; the first row is the one that is used.

    Args:
        trials: The fitted heads, best first.
        tuning: How fine-tuning from one of them compared; None without.
    """

    def row(trial: Trial) -> dict[str, Any]:
        figures = {k: v for k, v in asdict(trial).items() if k != "spec"}
        return asdict(trial.spec) | figures | {"trunk": "frozen", "note": ""}

    rows = [row(trial) for trial in trials]
    if tuning is not None:
        tuned = row(tuning.trial) | {
            "log_loss": tuning.log_loss,
            "balanced_accuracy": tuning.balanced_accuracy,
            "trunk": "fine-tuned",
            "note": tuning.why,
        }
        rows.insert(0 if tuning.epochs else 1, tuned)
    return rows


def _groups(result: FineTuneResult, split: Split) -> TrainedGroups:
    """The groups of each part of the split, and those that the initial weights have seen."""
    train, val, excluded = (
        tuple(sorted({example.group for example in part}))
        for part in (split.train, split.val, split.excluded)
    )
    return TrainedGroups(train, val, excluded, result.model.record.groups.earlier)


def metrics_record(
    result: FineTuneResult,
    split: Split,
    job: TrainJob,
    heads: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the content of metrics.json: job, groups, figures, history and so on, as JSON values.

    Args:
        result: What `fine_tune` returned.
        split: The examples of the run.
        job: The job of the run, with its stages as numbers.
        heads: The heads that were compared, from `head_rows`.
    """
    weights = result.model.record.weights
    job_record = asdict(job) | {
        "labels": str(job.labels),
        "background": [str(p) for p in job.background],
        "features": asdict(job.features) | {"folders": [str(p) for p in job.features.folders]},
        "hard_negatives": None if job.hard_negatives is None else str(job.hard_negatives),
        "weights_sha256": None if weights is None else weights.sha256,
    }
    parts = ("train", "val", "excluded")
    return {
        "job": job_record,
        "groups": to_json(_groups(result, split)),
        "examples": {part: len(getattr(split, part)) for part in parts},
        "classes": list(result.model.labels),
        "figures": validation_figures(result),
        "heads": list(heads),
        "shared": to_json(result.model.record.shared),
        "history": result.history,
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "skipped_steps": result.skipped_steps,
        "precision": result.precision,
        "stages": [dict(row) for row in stage_table(result.model.backbone)],
        "problems": result.problems,
        "seconds": result.seconds,
    }


def validation_figures(result: FineTuneResult) -> dict[str, Any] | None:
    """Return figures on the validation clips, overall and per class; None without such clips.

    The confusion matrix has one row per true class. Independent classes have average precision, and
    recall and precision at probability 0.5.
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
