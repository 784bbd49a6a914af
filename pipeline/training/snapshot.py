"""Save a training run on disk and restore it, so that it continues as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from touchline.models.atomic_files import atomic_path
from touchline.models.backbone import Backbone
from touchline.models.checkpoint import TrainedModel, write_tensors
from touchline.models.errors import CheckpointError
from touchline.models.json_values import from_json
from touchline.pipeline.distributed import current_world
from touchline.pipeline.training.optimize import Average, Best, Guard
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

FORMAT = "touchline-snapshot-4"


@dataclass(frozen=True)
class KeepState:
    """Where and how often a run saves its state, so that it can continue after a kill.

    Attributes:
        path: The snapshot file.
        every_s: Seconds between two snapshots.
        resume: Whether to continue from the snapshot if there is one.
    """

    path: Path
    every_s: float = 60.0
    resume: bool = False


@dataclass
class TrainingState:
    """Everything that changes while a network is trained.

    Attributes:
        backbone: The network, with its current weights.
        optimizer: Over the parameters that are trained now.
        average: The moving average of the weights.
        best: The best epoch so far.
        guard: Counts the steps that were skipped.
        epoch: The epoch of the next step, from 0.
        step: The next step within that epoch, from 0.
        losses: The loss of each step of this epoch so far.
        history: One row of figures per finished epoch.
    """

    backbone: Backbone
    optimizer: torch.optim.Optimizer
    average: Average
    best: Best
    guard: Guard
    epoch: int = 0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class SavedNumbers:
    """The part of a snapshot that is not tensors; stored as JSON.

    Attributes:
        epoch: As in `TrainingState`.
        step: As in `TrainingState`.
        losses: As in `TrainingState`.
        history: As in `TrainingState`.
        precision: The precision that `auto` stood for when the run started.
        elapsed_s: Seconds that the run has taken.
        average_steps: How many steps the moving average holds.
        best_loss: The smoothed validation loss of the best epoch; None before the first validation.
        best_epoch: The number of the best epoch, from 1; 0 before the first validation.
        skipped: How many steps were skipped.
        skipped_in_a_row: How many of the last steps were skipped.
        freed: When each trained parameter began to learn, by name, as a fraction of training.
    """

    epoch: int
    step: int
    losses: list[float]
    history: list[dict[str, float]]
    precision: str
    elapsed_s: float
    average_steps: int
    best_loss: float | None
    best_epoch: int
    skipped: int
    skipped_in_a_row: int
    freed: dict[str, float]


@dataclass(frozen=True)
class Snapshot:
    """The content of a snapshot file: tensors by `network.`, `average.`, `best.`, `optimizer.`"""

    tensors: Mapping[str, Tensor]
    numbers: SavedNumbers

    def part(self, name: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `name.`, without that prefix."""
        start = name + "."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def restore(self, state: TrainingState) -> None:
        """Set `state` to what was saved.

        Its network must hold `part("network")` already, and its optimizer must be over the
        parameters that were trained when the snapshot was saved.
        """
        numbers = self.numbers
        state.epoch, state.step = numbers.epoch, numbers.step
        state.losses, state.history = list(numbers.losses), list(numbers.history)
        state.average.restore(self.part("average"), steps=numbers.average_steps)
        if numbers.best_loss is not None:
            state.best.loss, state.best.epoch = numbers.best_loss, numbers.best_epoch
        state.best.state = self.part("best")
        state.guard.skipped, state.guard.in_a_row = numbers.skipped, numbers.skipped_in_a_row
        names = {p: name for name, p in state.backbone.named_parameters()}
        for group in state.optimizer.param_groups:
            group["freed"] = numbers.freed[names[group["params"][0]]]
            for p in group["params"]:
                if saved := self.part(f"optimizer.{names[p]}"):
                    # AdamW keeps the count of steps on the CPU, and every other tensor in the
                    # memory layout of its parameter.
                    state.optimizer.state[p] = {
                        k: v if k == "step" else torch.empty_like(p).copy_(v)
                        for k, v in saved.items()
                    }


def save_snapshot(
    path: Path,
    state: TrainingState,
    *,
    precision: str,
    elapsed_s: float,
    run: Mapping[str, Any],
) -> None:
    """Write the state of a run; the file appears whole or not at all.

    Args:
        path: The snapshot file; an earlier one is replaced.
        state: What to save.
        precision: bf16 or float32.
        elapsed_s: Seconds that the run has taken.
        run: The run's identity, from `describe_run`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    names: dict[Tensor, str] = {p: name for name, p in state.backbone.named_parameters()}
    groups = state.optimizer.param_groups
    numbers = SavedNumbers(
        epoch=state.epoch,
        step=state.step,
        losses=state.losses,
        history=state.history,
        precision=precision,
        elapsed_s=elapsed_s,
        average_steps=state.average.steps,
        best_loss=state.best.loss if state.best.epoch else None,
        best_epoch=state.best.epoch,
        skipped=state.guard.skipped,
        skipped_in_a_row=state.guard.in_a_row,
        freed={names[p]: group["freed"] for group in groups for p in group["params"]},
    )
    tensors = {f"network.{k}": v for k, v in state.backbone.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.state.items()}
    tensors |= {f"best.{k}": v for k, v in state.best.state.items()}
    for p, of_parameter in state.optimizer.state.items():
        tensors |= {f"optimizer.{names[p]}.{k}": v for k, v in of_parameter.items()}
    # Clones, because the file format refuses tensors that share memory.
    apart = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
    }
    metadata = {
        "format": FORMAT,
        "numbers": json.dumps(asdict(numbers)),
        "run": json.dumps(dict(run)),
    }
    try:
        with atomic_path(path) as part:
            write_tensors(part, apart, metadata)
    except SafetensorError as error:
        raise CheckpointError(path, f"cannot be written ({error})") from None


def read_snapshot(path: Path, *, run: Mapping[str, Any]) -> Snapshot:
    """Read the snapshot of a run.

    Args:
        path: The snapshot file.
        run: The identity, from `describe_run`, of the run that wants to continue.

    Raises:
        CheckpointError: The file is damaged, or another run wrote it.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"a damaged snapshot ({error}). Delete it") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(path, "not a snapshot of this version of Touchline. Delete it")
    theirs, ours = json.loads(metadata["run"]), json.loads(json.dumps(dict(run)))
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if changed:
        key = changed[0]
        raise CheckpointError(
            path,
            f"this run was started with {key} = {theirs.get(key)!r}, now it is {ours.get(key)!r}. "
            "Use the old value to resume, or choose another output folder",
        )
    try:
        numbers = from_json(json.loads(metadata["numbers"]), SavedNumbers)
    except ValueError as error:
        raise CheckpointError(path, f"a damaged snapshot ({error}). Delete it") from None
    return Snapshot(tensors, numbers)


def describe_run(
    model: TrainedModel, examples: Sequence[Example], options: TrainOptions
) -> dict[str, Any]:
    """Return the identity of a run as JSON values: a snapshot is for runs with the same one.

    The identity names every option by its name, then the classes, clips, weights and processes.

    Args:
        model: The network before training.
        examples: The training examples, then the validation examples.
        options: As given by the user; `auto` stays `auto`.
    """
    weights = hashlib.sha256()
    # The head is left out: it begins with random numbers of the seed, which is an option.
    for value in model.backbone.stages.state_dict().values():
        weights.update(value.detach().cpu().contiguous().numpy().tobytes())
    clips = [(str(e.path), e.label, e.start_s, e.end_s) for e in examples]
    return asdict(options) | {
        "architecture": model.architecture,
        "clip": asdict(model.spec),
        "classes": model.labels,
        "set of clips": hashlib.sha256(repr(clips).encode()).hexdigest()[:16],
        "set of weights": weights.hexdigest()[:16],
        "number of processes": current_world().size,
    }
