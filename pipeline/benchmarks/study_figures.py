"""Compute the metrics of a study: folds pooled, range over seeds, accuracy over time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.pipeline.benchmarks.study import Study
from touchline.pipeline.plots import new_canvas, save_canvas

Run = Mapping[str, Any]

CLOCKS = {"wall": "seconds", "cpu": "cpu_seconds"}
"""The entry of an epoch that says when it ended, by the name of the clock."""


@dataclass(frozen=True)
class Spread:
    """A metric over several seeds.

    Attributes:
        mean: The mean.
        low: The smallest value.
        high: The largest value.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmFigures:
    """The metrics of one way of training. Predictions of all folds are pooled.

    Attributes:
        arm: Name of the way of training.
        per_class: Training clips of each class; None for all clips.
        seeds: Seeds with which all folds are done.
        clips: Validation clips of all folds together.
        accuracy: Accuracy after the last epoch.
        balanced_accuracy: Mean recall of the classes after the last epoch.
        accuracy_without: Accuracy without the classes that the study leaves out, if any.
        best_accuracy: Accuracy of the best epoch. It is too optimistic, because the validation
            clips choose the epoch.
        seconds: Mean wall-clock seconds of one run, decoding included.
        cpu_seconds: Mean CPU seconds of one run, without decoding.
        epochs: Mean number of epochs of one run.
    """

    arm: str
    per_class: int | None
    seeds: tuple[int, ...]
    clips: int
    accuracy: Spread
    balanced_accuracy: Spread
    accuracy_without: Spread | None
    best_accuracy: Spread
    seconds: float
    cpu_seconds: float
    epochs: float


def arm_figures(study: Study, runs: Sequence[Run]) -> list[ArmFigures]:
    """The metrics of each arm, for the seeds with which all folds are done."""
    rows = []
    for per_class in (None, *study.clips_per_class):
        for arm in study.arms:
            mine = [r for r in runs if r["arm"] == arm and r["per_class"] == per_class]
            seeds = study.seeds if per_class is None else range(study.draws)
            num_folds = len(study.folds if per_class is None else study.curve_folds)
            by_seed = {
                seed: [r for r in mine if r["seed"] == seed]
                for seed in seeds
                if sum(r["seed"] == seed for r in mine) == num_folds
            }
            if by_seed:
                rows.append(_arm(study, arm, per_class, by_seed))
    return rows


def _arm(
    study: Study, arm: str, per_class: int | None, by_seed: Mapping[int, Sequence[Run]]
) -> ArmFigures:
    every = [run for runs in by_seed.values() for run in runs]
    pooled = [pooled_answers(runs) for runs in by_seed.values()]
    last = [(truth, answers[-1]) for truth, answers in pooled]
    without = None
    if study.without:
        without = _spread(accuracy(t, a, without=study.without) for t, a in last)
    return ArmFigures(
        arm=arm,
        per_class=per_class,
        seeds=tuple(by_seed),
        clips=len(last[0][0]),
        accuracy=_spread(accuracy(t, a) for t, a in last),
        balanced_accuracy=_spread(balanced_accuracy(t, a) for t, a in last),
        accuracy_without=without,
        best_accuracy=_spread(max(accuracy(t, a) for a in answers) for t, answers in pooled),
        seconds=float(np.mean([run["seconds"] for run in every])),
        cpu_seconds=float(np.mean([run["epochs"][-1]["cpu_seconds"] for run in every])),
        epochs=float(np.mean([run["epochs"][-1]["epoch"] for run in every])),
    )


def pooled_answers(runs: Sequence[Run]) -> tuple[list[str], list[list[str]]]:
    """The labels of all folds, and the predictions at each validation that all folds have."""
    truth = [label for run in runs for label in run["truth"]]
    length = min(len(run["epochs"]) for run in runs)
    # Count from the end, so that the last epochs of all folds are together.
    answers = [
        [label for run in runs for label in run["epochs"][k - length]["answers"]]
        for k in range(length)
    ]
    return truth, answers


def accuracy(truth: Sequence[str], answers: Sequence[str], *, without: Sequence[str] = ()) -> float:
    """Share of right predictions among the clips whose class is not left out.

    Args:
        truth: Label of each clip.
        answers: Prediction for each clip.
        without: Classes to leave out.
    """
    return float(np.mean([t == a for t, a in zip(truth, answers, strict=True) if t not in without]))


def balanced_accuracy(truth: Sequence[str], answers: Sequence[str]) -> float:
    """Mean recall of the classes."""
    pairs = list(zip(truth, answers, strict=True))
    recalls = [
        float(np.mean([t == a for t, a in pairs if t == label])) for label in sorted(set(truth))
    ]
    return float(np.mean(recalls))


def _spread(values: Any) -> Spread:
    found = list(values)
    return Spread(float(np.mean(found)), min(found), max(found))


def accuracy_over_time(runs: Sequence[Run], clock: str) -> tuple[list[float], list[float]]:
    """When the pooled accuracy changed, and its new value: seconds of `clock`, and shares.

    At each time, the last finished epoch of each fold counts. The curve begins when every fold has
    finished one.
    """
    first = max(run["epochs"][0][clock] for run in runs)
    times = sorted({row[clock] for run in runs for row in run["epochs"] if row[clock] >= first})
    shares = []
    for time_s in times:
        right = total = 0
        for run in runs:
            row = [row for row in run["epochs"] if row[clock] <= time_s][-1]
            right += sum(t == a for t, a in zip(run["truth"], row["answers"], strict=True))
            total += len(run["truth"])
        shares.append(right / total)
    return times, shares


def write_study(study: Study, runs: Sequence[Run], out: Path, *, machine: str) -> list[ArmFigures]:
    """Write OUT/<study>.json from the runs done so far, and return the rows of its table.

    Args:
        study: The study.
        runs: The results of its runs.
        out: The folder to write to.
        machine: Describes the machine, for the record.
    """
    rows = arm_figures(study, runs)
    record = {
        "study": study.name,
        "machine": machine,
        "folds": [list(fold) for fold in study.folds],
        "arms": [asdict(row) for row in rows],
    }
    write_atomic(out / f"{study.name}.json", json.dumps(record, indent=1) + "\n")
    return rows


def plot_study(study: Study, runs: Sequence[Run], out: Path, *, clock: str = "wall") -> Path:
    """Write OUT/<study>.png: accuracy over the seconds of a run, and over clips per class.

    Args:
        study: The study.
        runs: The results of its runs.
        out: The folder to write to.
        clock: "wall" for wall-clock seconds, "cpu" for CPU seconds.
    """
    rows = arm_figures(study, runs)
    few = any(row.per_class is not None for row in rows)
    full = [run for run in runs if run["per_class"] is None]
    # A study of few clips alone has no run with all of them.
    canvas, panels = new_canvas(2 if few and full else 1)
    colours = {arm: f"C{k}" for k, arm in enumerate(study.arms)}
    if full or not few:
        _plot_over_time(study, full, panels[0], colours, clock)
    if few:
        _plot_few(study, rows, panels[-1], colours)
    return save_canvas(canvas, out / f"{study.name}.png")


def _plot_over_time(
    study: Study, full: Sequence[Run], panel: Any, colours: Mapping[str, str], clock: str
) -> None:
    """Accuracy over the seconds of the runs with all clips, one line per seed."""
    for arm, colour in colours.items():
        label: str | None = arm
        for seed in study.seeds:
            mine = [r for r in full if r["arm"] == arm and r["seed"] == seed]
            if len(mine) == len(study.folds):
                times = accuracy_over_time(mine, CLOCKS[clock])
                panel.plot(*times, color=colour, alpha=0.7, label=label)
                label = None
    seconds = "seconds" if clock == "wall" else "CPU seconds"
    panel.set(xlabel=f"{seconds} of one run", ylabel="accuracy on held-out groups")
    panel.set(title="all folds pooled, one line per seed", xscale="log", ylim=(0, 1))
    if panel.lines:
        panel.legend(fontsize="small")


def _plot_few(
    study: Study, rows: Sequence[ArmFigures], panel: Any, colours: Mapping[str, str]
) -> None:
    """Accuracy over the number of clips per class: the mean of the draws, and their range."""
    for arm in study.curve_arms:
        own = [row for row in rows if row.arm == arm]
        points = [row for row in own if row.per_class is not None]
        points += [row for row in own if row.per_class is None]
        names = ["all" if row.per_class is None else str(row.per_class) for row in points]
        means = np.array([row.accuracy.mean for row in points])
        ends = np.array([[row.accuracy.low, row.accuracy.high] for row in points])
        away = np.abs(ends.reshape(-1, 2) - means[:, None]).T
        panel.errorbar(
            names, means, yerr=away, marker="o", capsize=3, color=colours[arm], label=arm
        )
    panel.set(xlabel="clips per class at most")
    panel.set(ylabel="accuracy on held-out groups")
    panel.set(title=f"few clips: mean and range of {study.draws} draws", ylim=(0, 1))
    panel.legend(fontsize="small")
