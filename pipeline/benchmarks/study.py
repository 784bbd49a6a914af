"""Run a study of transfer: several ways of training (arms) on the same folds and seeds.

A study is a TOML file; see docs/studies. Every training run is a cell with its own result file, so
a study can be stopped and continued. Runs share no cache, so each takes as long as it would alone.
Metrics are from the last epoch, never from the best one.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import LabelsError
from touchline.models.json_values import from_json
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import prepare
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.types import Example, Float32

CELLS_FOLDER = "cells"

JOB_NAMES = {f.name for f in fields(TrainJob)} - {"options", "labels", "val_groups"}
OPTION_NAMES = {f.name for f in fields(TrainOptions)} - {"seed", "freeze", "unfreeze"}

KINDS = {str: "a text", int: "a whole number", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class Study:
    """What a study compares.

    Attributes:
        name: Name of the study, from its file.
        arms: The ways of training by name.
        folds: The validation groups of each fold.
        seeds: Every arm is trained on every fold with each of these seeds. None: only on few clips.
        clips_per_class: Also train on at most this many clips of each class, for `curve_arms`, with
            as many steps as with all clips.
        curve_arms: The arms that are also trained on few clips.
        curve_folds: The folds, by index, on which they are.
        draws: How many times the few clips are drawn. The seeds are 0, 1, 2 and so on.
        without: Classes that one more accuracy leaves out.
    """

    name: str
    arms: Mapping[str, TrainJob]
    folds: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    clips_per_class: tuple[int, ...] = ()
    curve_arms: tuple[str, ...] = ()
    curve_folds: tuple[int, ...] = ()
    draws: int = 1
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        arm: Name of the way of training.
        fold: Index of the fold.
        seed: Seed of the training.
        per_class: Clips of each class; None trains on all clips.
    """

    arm: str
    fold: int
    seed: int
    per_class: int | None = None

    @property
    def file_name(self) -> str:
        """Name of the result file."""
        few = "" if self.per_class is None else f"-{self.per_class}-per-class"
        return f"{self.arm}-fold{self.fold}-seed{self.seed}{few}.json"


def read_study(path: Path) -> Study:
    """Read a study from a TOML file. Paths in it are relative to the file.

    Raises:
        LabelsError: The file is not a study; the message says why.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        labels = path.parent / _value(table, "labels", str)
        base = {"labels": labels, **_value(table, "train", dict, default={})}
        tables = _value(table, "arms", dict)
        arms = {name: _job(base | _value(tables, name, dict), path.parent) for name in tables}
        study = Study(
            name=path.stem,
            arms=arms,
            folds=tuple(_list({"a fold": fold}, "a fold", str) for fold in _list(table, "folds")),
            seeds=_list(table, "seeds", int, default=[0]),
            clips_per_class=_list(table, "clips_per_class", int, default=[]),
            curve_arms=_list(table, "curve_arms", str, default=[]),
            curve_folds=_list(table, "curve_folds", int, default=list(range(len(table["folds"])))),
            draws=_value(table, "draws", int, default=1),
            without=_list(table, "without", str, default=[]),
        )
        for name in ("arms", "folds"):
            if not getattr(study, name):
                raise ValueError(f"{name} is empty; it must have at least one entry")
        if not (study.seeds or study.clips_per_class):
            raise ValueError("seeds is empty; it must have an entry, or clips_per_class must")
    except FileNotFoundError:
        raise LabelsError(path, "no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise LabelsError(path, f"not a study: {error}") from None
    except KeyError as error:
        raise LabelsError(path, f"not a study: {error} is missing") from None
    if wrong := [k for k in study.curve_folds if not 0 <= k < len(study.folds)]:
        raise LabelsError(path, f"curve_folds names fold {wrong[0]}, which does not exist")
    if unknown := sorted(set(study.curve_arms) - set(study.arms)):
        raise LabelsError(path, f"curve_arms names {unknown[0]!r}, which is not one of the arms")
    return study


def _value(table: Mapping[str, Any], key: str, kind: type, *, default: Any = None) -> Any:
    """A value of the file, or the default. TypeError if it is not of this kind."""
    value = table[key] if default is None else table.get(key, default)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is {value!r}; it must be {KINDS[kind]}")
    return value


def _list(
    table: Mapping[str, Any], key: str, kind: type | None = None, *, default: Any = None
) -> tuple[Any, ...]:
    values = _value(table, key, list, default=default)
    if kind is not None:
        for value in values:
            _value({f"one of {key}": value}, f"one of {key}", kind)
    return tuple(values)


def _job(values: Mapping[str, Any], folder: Path) -> TrainJob:
    """A table of the file as a training job. ValueError for an unknown option."""
    values = dict(values)
    labels = values.pop("labels")
    if values.get("multi_label"):
        raise ValueError("a study compares accuracies, which do not exist with multi_label")
    unknown = sorted(set(values) - JOB_NAMES - OPTION_NAMES)
    if unknown:
        raise ValueError(f"there is no option {unknown[0]!r}")
    if values.get("weights") == "none":
        values["weights"] = None
    elif "weights" in values and (folder / values["weights"]).is_file():
        values["weights"] = str(folder / values["weights"])
    if "background" in values:
        values["background"] = tuple(folder / path for path in values["background"])
    if "hard_negatives" in values:
        values["hard_negatives"] = folder / values["hard_negatives"]
    if "unfreeze" in values:
        values["unfreeze"] = tuple((int(epoch), stage) for epoch, stage in values["unfreeze"])
    if "augmentation" in values:
        values["augmentation"] = Augmentation(**values["augmentation"])
    if "freeze" in values:
        values["freeze"] = str(values["freeze"])
    options = TrainOptions(**{k: v for k, v in values.items() if k in OPTION_NAMES})
    chosen = {k: v for k, v in values.items() if k in JOB_NAMES}
    return TrainJob(labels=labels, options=options, **chosen)


def study_cells(study: Study) -> Iterator[Cell]:
    """Every run, in an order that finishes all arms at about the same rate."""
    for seed in study.seeds:
        for fold in range(len(study.folds)):
            for arm in study.arms:
                yield Cell(arm, fold, seed)
    for draw in range(study.draws):
        for per_class in study.clips_per_class:
            for fold in study.curve_folds:
                for arm in study.curve_arms:
                    yield Cell(arm, fold, draw, per_class)


def run_cells(
    study: Study,
    cells: Sequence[Cell],
    out: Path,
    *,
    device: str = "auto",
    on_cell: Callable[[Cell, int, int], None] = lambda cell, done, total: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train the cells that have no result file yet in OUT/cells.

    Args:
        study: The study.
        cells: The runs to train.
        out: The folder of the study's results.
        device: Where to train: auto, cpu, cuda, cuda:1 or mps.
        on_cell: Called before each run with the cell, its index and the number of cells.
        on_progress: Called with the progress of the training.

    Raises:
        ValueError: A result file was made with other options than the study has now.
    """
    for number, cell in enumerate(cells):
        path = out / CELLS_FOLDER / cell.file_name
        on_cell(cell, number, len(cells))
        if path.exists():
            _read_cell(path, study, cell)
        else:
            result = run_cell(study, cell, device=device, on_progress=on_progress)
            result["trained"] = how_trained(study, cell)
            write_atomic(path, json.dumps(result, indent=1) + "\n")


def run_cell(
    study: Study,
    cell: Cell,
    *,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Train once. Returns the predictions after every epoch and their times, as JSON values.

    `cpu_seconds` are the CPU seconds of this process. Decoding runs in other processes and does not
    count.

    Args:
        study: The study.
        cell: The run to train.
        device: Where to train: auto, cpu, cuda, cuda:1 or mps.
        on_progress: Called with the progress of the training.
    """
    job = study.arms[cell.arm]
    job = replace(
        job, val_groups=study.folds[cell.fold], options=replace(job.options, seed=cell.seed)
    )
    model, split, job = prepare(job, device=device)
    train: Sequence[Example] = split.train
    if cell.per_class is not None:
        train = few_of_each(train, cell.per_class, seed=cell.seed)
        job = replace(job, options=longer(job.options, len(split.train) / len(train)))
    epochs: list[dict[str, Any]] = []
    cpu_began_s = time.process_time()

    def on_epoch(row: dict[str, float], val_probs: Float32) -> None:
        if len(val_probs):
            epochs.append(
                row
                | {
                    "cpu_seconds": time.process_time() - cpu_began_s,
                    "answers": [model.labels[k] for k in val_probs.argmax(axis=1)],
                }
            )

    if job.head == "own":
        result = fine_tune(
            model,
            train,
            split.val,
            job.options,
            device=device,
            on_progress=on_progress,
            on_epoch=on_epoch,
        )
    else:
        result = fit_head(
            model,
            train,
            split.val,
            job.options,
            head=job.head,
            device=device,
            on_progress=on_progress,
        ).result
        # A fitted head has no epochs: it is done in one.
        on_epoch({"epoch": 1, "seconds": result.seconds}, result.val_probs)
    return {
        "arm": cell.arm,
        "fold": cell.fold,
        "seed": cell.seed,
        "per_class": cell.per_class,
        "train_clips": len(train),
        "truth": [model.labels[k] for k in result.val_truth],
        "seconds": result.seconds,
        "stopped": result.stopped,
        "problems": result.problems,
        "epochs": epochs,
    }


def few_of_each(examples: Sequence[Example], count: int, *, seed: int) -> list[Example]:
    """At most `count` examples of every class, from as many groups as possible.

    Args:
        examples: All examples.
        count: Examples of each class.
        seed: Seed of the random choice.
    """
    rng = np.random.default_rng(seed)
    shuffled = [examples[i] for i in rng.permutation(len(examples))]
    kept: list[Example] = []
    for label in sorted({e.label for e in examples}):
        mine = [e for e in shuffled if e.label == label]
        seen: dict[str, int] = {}
        turns = []
        for example in mine:
            # Take the first example of every group, then the second of every group, and so on.
            turns.append(seen.setdefault(example.group, 0))
            seen[example.group] += 1
        order = np.argsort(turns, kind="stable")[:count]
        kept += [mine[i] for i in order]
    return kept


def longer(options: TrainOptions, times: float) -> TrainOptions:
    """The options for `times` as many epochs, so that few clips get as many steps as all clips.

    The number of validations stays the same.
    """
    unfreeze = tuple((round(epoch * times), stages) for epoch, stages in options.unfreeze)
    epochs, every = round(options.epochs * times), round(options.validate_every * times)
    return replace(options, epochs=epochs, unfreeze=unfreeze, validate_every=max(1, every))


def how_trained(study: Study, cell: Cell) -> dict[str, Any]:
    """Everything that a cell's result depends on, as JSON values. Of paths only the names."""
    job = asdict(study.arms[cell.arm])
    options = job.pop("options")
    if job["weights"] is not None:
        job["weights"] = Path(job["weights"]).name
    record = {"study": study.name} | options | job | {"val_groups": study.folds[cell.fold]}
    plain: dict[str, Any] = json.loads(json.dumps(record, default=lambda path: path.name))
    return plain


def read_cells(study: Study, out: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The results of the cells that are done, in order.

    Args:
        study: The study.
        out: The folder of the study's results.
        cells: The runs to read.

    Raises:
        ValueError: A result file is damaged, or was made with other options.
    """
    paths = [(out / CELLS_FOLDER / cell.file_name, cell) for cell in cells]
    return [_read_cell(path, study, cell) for path, cell in paths if path.exists()]


def _read_cell(path: Path, study: Study, cell: Cell) -> dict[str, Any]:
    """The result of a cell. ValueError if it was trained with other options than now."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        theirs = from_json(result["trained"], dict[str, Any], place="$.trained")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a result of a study ({error}). Delete it.") from None
    ours = how_trained(study, cell)
    for key in {**theirs, **ours}:
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{path} was trained with {key} = {theirs.get(key)!r}, now it is "
                f"{ours.get(key)!r}. Delete the file, or give another folder with --out."
            )
    return result
