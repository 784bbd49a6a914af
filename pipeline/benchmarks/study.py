"""A study of transfer: several ways of training on the same folds, seeds and numbers of clips.

A study is a TOML file; docs/studies has them. Every training run is a cell with a file of its own,
so that a study can be run in pieces and gone on with. Nothing is cached between runs: what a run
took is what it would take alone. Figures are of the last epoch, never of the best one.
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
from touchline.pipeline.clips.options import Augmentation
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
    """What is compared.

    arms: the ways of training, by name. folds: the validation groups of each. seeds: every arm is
    trained on every fold under each. clips_per_class: besides all clips, so few of every class,
    with the arms in `curve_arms` and the first seed, and with as many steps. without: classes that
    further figures leave out.
    """

    name: str
    arms: Mapping[str, TrainJob]
    folds: tuple[tuple[str, ...], ...]
    seeds: tuple[int, ...]
    clips_per_class: tuple[int, ...] = ()
    curve_arms: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One training run; per_class None trains on all clips."""

    arm: str
    fold: int
    seed: int
    per_class: int | None = None

    @property
    def file_name(self) -> str:
        few = "" if self.per_class is None else f"-{self.per_class}-per-class"
        return f"{self.arm}-fold{self.fold}-seed{self.seed}{few}.json"


def read_study(path: Path) -> Study:
    """The study of a TOML file; its paths are relative to it. LabelsError says what is wrong."""
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
            without=_list(table, "without", str, default=[]),
        )
        for name in ("arms", "folds", "seeds"):
            if not getattr(study, name):
                raise ValueError(f"{name} is empty; it must have one at least")
    except FileNotFoundError:
        raise LabelsError(path, "no such study") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise LabelsError(path, f"not a study: {error}") from None
    except KeyError as error:
        raise LabelsError(path, f"not a study: it has no {error}") from None
    if unknown := sorted(set(study.curve_arms) - set(study.arms)):
        raise LabelsError(path, f"curve_arms names {unknown[0]!r}, which is no arm")
    return study


def _value(table: Mapping[str, Any], key: str, kind: type, *, default: Any = None) -> Any:
    """A value of the file, or the default; TypeError naming the key where it is no `kind`."""
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
    """A table of the file as a job; ValueError for an unknown name."""
    values = dict(values)
    labels = values.pop("labels")
    if values.get("multi_label"):
        raise ValueError("it compares accuracies, and with multi_label there is none")
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
    """Every run, so ordered that what is done at any time is spread evenly over the arms."""
    for seed in study.seeds:
        for fold in range(len(study.folds)):
            for arm in study.arms:
                yield Cell(arm, fold, seed)
    for per_class in study.clips_per_class:
        for fold in range(len(study.folds)):
            for arm in study.curve_arms:
                yield Cell(arm, fold, study.seeds[0], per_class)


def run_cells(
    study: Study,
    cells: Sequence[Cell],
    out: Path,
    *,
    device: str = "auto",
    on_cell: Callable[[Cell, int, int], None] = lambda cell, done, total: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Train the cells that have no file yet in OUT/cells."""
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
    """Train once; what was answered after every epoch, and when. JSON values only.

    `cpu_seconds` are this process's alone: decoding is done by others and not in them.
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

    result = fine_tune(
        model,
        train,
        split.val,
        job.options,
        device=device,
        on_progress=on_progress,
        on_epoch=on_epoch,
    )
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
    """`count` examples of every class, or all there are, taken from as many groups as possible."""
    rng = np.random.default_rng(seed)
    shuffled = [examples[i] for i in rng.permutation(len(examples))]
    kept: list[Example] = []
    for label in sorted({e.label for e in examples}):
        mine = [e for e in shuffled if e.label == label]
        seen: dict[str, int] = {}
        turns = []
        for example in mine:
            # The first of every group, then the second of every group, and so on.
            turns.append(seen.setdefault(example.group, 0))
            seen[example.group] += 1
        order = np.argsort(turns, kind="stable")[:count]
        kept += [mine[i] for i in order]
    return kept


def longer(options: TrainOptions, times: float) -> TrainOptions:
    """The same training over `times` as many epochs: few clips get as many steps as all of them.

    It is validated no more often than before.
    """
    unfreeze = tuple((round(epoch * times), stages) for epoch, stages in options.unfreeze)
    epochs, every = round(options.epochs * times), round(options.validate_every * times)
    return replace(options, epochs=epochs, unfreeze=unfreeze, validate_every=max(1, every))


def how_trained(study: Study, cell: Cell) -> dict[str, Any]:
    """What a cell's result depends on, as the study says it; of paths the names. JSON values."""
    job = asdict(study.arms[cell.arm])
    options = job.pop("options")
    if job["weights"] is not None:
        job["weights"] = Path(job["weights"]).name
    record = {"study": study.name} | options | job | {"val_groups": study.folds[cell.fold]}
    plain: dict[str, Any] = json.loads(json.dumps(record, default=lambda path: path.name))
    return plain


def read_cells(study: Study, out: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What the cells that are done have left, in order; see `_read_cell`."""
    paths = [(out / CELLS_FOLDER / cell.file_name, cell) for cell in cells]
    return [_read_cell(path, study, cell) for path, cell in paths if path.exists()]


def _read_cell(path: Path, study: Study, cell: Cell) -> dict[str, Any]:
    """What a cell has left; ValueError where it was trained otherwise than the study says now."""
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        theirs = result["trained"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a run of a study ({error}): delete it") from None
    ours = how_trained(study, cell)
    for key in {**theirs, **ours}:
        if theirs.get(key) != ours.get(key):
            raise ValueError(
                f"{path} was trained with another {key} ({theirs.get(key)!r}, now "
                f"{ours.get(key)!r}): delete it, or give another folder with --out"
            )
    return result
