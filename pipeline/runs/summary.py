"""Say in words what a training run found: how good, what is confused, what to label next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.json_values import to_json
from touchline.pipeline.evaluation.significance import (
    ENOUGH_UNITS,
    Figure,
    figure,
    resampled_counts,
)
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.heads.learning_curve import CurvePoint
from touchline.pipeline.heads.suspects import find_suspects
from touchline.pipeline.labels.split import Split
from touchline.pipeline.runs.options import TrainJob

RESAMPLES = 1000

MOST_CONFUSIONS = 3

FEW_MATCHES = 6
"""A class with fewer matches than this needs clips of other matches."""


def summarise(
    answers: Mapping[str, HeldOut], curve: Sequence[CurvePoint], next_command: str
) -> dict[str, Any]:
    """Return what `touchline train` prints at its end, as JSON values.

    Figures per class are of the first of the answers.

    Args:
        answers: Clips of matches that the answering model did not see, by how they were chosen.
        curve: How the recall grew with the number of clips; may be empty.
        next_command: What to run next.
    """
    judged = {name: held.only_judged() for name, held in answers.items()}
    detailed = next(iter(judged.values()), None)
    per_class = {} if detailed is None else class_figures(detailed)
    return {
        "accuracy": {name: accuracy(held) for name, held in judged.items()},
        "per_class": per_class,
        "confusions": [] if detailed is None else confusions(detailed),
        "suspects": len(find_suspects(*answers.values())),
        "learning_curve": to_json(tuple(curve)),
        "label_next": label_next(per_class, curve),
        "next_command": next_command,
    }


def accuracy(held: HeldOut) -> dict[str, Any]:
    """Return the share of clips answered right, with a 95 % interval by bootstrap over matches.

    With independent classes, a clip is right if all its classes are.
    """
    right = (held.true == held.given).all(axis=1)
    names, of_clip = np.unique(held.groups, return_inverse=True)
    clips, right_clips = np.bincount(of_clip), np.bincount(of_clip, weights=right)
    draws = resampled_counts(len(names), resamples=RESAMPLES)
    drawn = None if draws is None else (draws @ right_clips) / (draws @ clips)
    value: Figure = figure(float(right.mean()), drawn)
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "clips": len(right),
        "matches": len(names),
        "too_narrow": drawn is not None and len(names) < ENOUGH_UNITS,
    }


def class_figures(held: HeldOut) -> dict[str, dict[str, Any]]:
    """Return clips, matches, recall and precision of each class that has clips."""
    groups = np.array(held.groups)
    recalls = held.recalls()
    right, given = (held.true & held.given).sum(axis=0), held.given.sum(axis=0)
    rows = {}
    for k, label in enumerate(held.labels):
        of_class = held.true[:, k]
        if of_class.any():
            rows[label] = {
                "clips": int(of_class.sum()),
                "matches": len(set(groups[of_class])),
                "recall": recalls[label],
                "precision": float(right[k] / given[k]) if given[k] else None,
            }
    return rows


def confusions(held: HeldOut) -> list[dict[str, Any]]:
    """Return the largest wrong cells of the confusion matrix; none for independent classes."""
    if held.multi_label:
        return []
    matrix = held.true.T.astype(int) @ held.given.astype(int)
    cells: list[dict[str, Any]] = [
        {"true": a, "predicted": b, "clips": int(matrix[i, j]), "of": int(matrix[i].sum())}
        for i, a in enumerate(held.labels)
        for j, b in enumerate(held.labels)
        if i != j and matrix[i, j]
    ]
    return sorted(cells, key=lambda c: (-c["clips"], c["of"]))[:MOST_CONFUSIONS]


def label_next(
    per_class: Mapping[str, Mapping[str, Any]], curve: Sequence[CurvePoint]
) -> dict[str, Any] | None:
    """Return the class for which more labels would help most, and a sentence with the evidence.

    That is the class with the largest sum of what it misses (1 - recall) and what the next labels
    may bring: as much as its recall rose from half of the clips to all of them, and not more than
    it misses. Of equal classes, it is that with the fewest clips.

    Args:
        per_class: From `class_figures`.
        curve: From `learning_curve`; may be empty.

    Returns:
        The class and the sentence; None if nothing was measured.
    """
    if not per_class:
        return None
    half = next((point.recalls for point in curve if point.share == 0.5), {})

    def need(label: str) -> tuple[float, int]:
        row = per_class[label]
        missed = 1 - row["recall"]
        rise = max(0.0, row["recall"] - half.get(label, row["recall"]))
        return -round(missed + min(rise, missed), 6), row["clips"]

    label = min(per_class, key=need)
    row = per_class[label]
    before = half.get(label)
    return {
        "label": label,
        "clips": row["clips"],
        "matches": row["matches"],
        "recall": row["recall"],
        "recall_with_half": before,
        "sentence": _advice(label, row, before),
    }


def _advice(label: str, row: Mapping[str, Any], before: float | None) -> str:
    if row["recall"] == 1:
        return "Every clip was recognised. Label clips of other matches, to test the model harder."
    what = "Add footage without events" if label == BACKGROUND else f"Label more {label} clips"
    parts = [f"{what} first: {row['clips']} clips, recall {row['recall']:.2f}"]
    if before is not None:
        rose = round(row["recall"], 2) > round(before, 2)
        verb = "rose" if rose else "did not rise"
        parts[0] += f", and it {verb} from {before:.2f} with half of them"
        if not rose:
            parts.append("Check these clips in suspects.csv before you label more")
    if row["matches"] < FEW_MATCHES:
        few = "one match" if row["matches"] == 1 else f"{row['matches']} matches"
        parts.append(f"They are of {few}, so take clips of other matches")
    return ". ".join(parts) + "."


def next_command(job: TrainJob, split: Split, model: TrainedModel, path: Path) -> str:
    """Return the command to run after training.

    That is calibration on the validation matches, or detection if there are none or the model is
    calibrated already.

    Args:
        job: The job of the run.
        split: The examples of the run.
        model: The trained model.
        path: Its file.
    """
    name = shlex.quote(str(path))
    # In the labels, a class that means background has a name that the model does not know.
    if model.thresholds is None and split.val and job.background_label is None:
        return f"touchline calibrate {name} {shlex.quote(str(job.labels))} --groups val"
    spots = "" if model.widths is None else "--spots "
    return f"touchline detect MATCH.mp4 --model {name} {spots}-o out/"
