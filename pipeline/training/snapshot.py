"""A training run on disk: all that is needed to go on as if it had never stopped."""

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

from touchline.models.backbone import Backbone
from touchline.models.checkpoint import TrainedModel, write_tensors
from touchline.models.errors import CheckpointError
from touchline.pipeline.distributed import current_world
from touchline.pipeline.files import beside
from touchline.pipeline.training.optimize import Average, Best, Guard
from touchline.pipeline.types import Example

FORMAT = "touchline-snapshot-2"


@dataclass(frozen=True)
class KeepState:
    """Where and how often the state of the run is written, so that it can go on after a kill."""

    path: Path
    every_s: float = 60.0
    resume: bool = False


@dataclass
class Training:
    """What changes while a network is trained.

    epoch, step: the next step to take. losses: of this epoch's steps so far.
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
class Snapshot:
    """What a file holds of a run. tensors: `network.`, `average.`, `best.`, `optimizer.`"""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    @property
    def epoch(self) -> int:
        return int(self.facts["epoch"])

    @property
    def precision(self) -> str:
        """What `auto` came to where the run began."""
        return str(self.facts["precision"])

    @property
    def elapsed_s(self) -> float:
        return float(self.facts["elapsed_s"])

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name.`, without that."""
        start = name + "."
        return {k.removeprefix(start): v for k, v in self.tensors.items() if k.startswith(start)}

    def restore(self, training: Training) -> None:
        """Make `training`, whose network already holds `part("network")`, what it was.

        Its optimizer must be over the parameters that were trained then.
        """
        facts = self.facts
        training.epoch, training.step = facts["epoch"], facts["step"]
        training.losses, training.history = list(facts["losses"]), list(facts["history"])
        training.average.restore(self.part("average"), steps=facts["average_steps"])
        training.best.rank, training.best.epoch = tuple(facts["best_rank"]), facts["best_epoch"]
        training.best.state = self.part("best")
        training.guard.skipped, training.guard.in_a_row = facts["skipped"]
        names = {p: name for name, p in training.backbone.named_parameters()}
        for group in training.optimizer.param_groups:
            group["freed"] = facts["freed"][names[group["params"][0]]]
            for p in group["params"]:
                if state := self.part(f"optimizer.{names[p]}"):
                    # The count of steps stays where AdamW keeps it, on the CPU.
                    training.optimizer.state[p] = {
                        # Elsewhere in the layout of its parameter, as AdamW made it.
                        k: v if k == "step" else torch.empty_like(p).copy_(v)
                        for k, v in state.items()
                    }


def save_snapshot(
    path: Path,
    training: Training,
    *,
    precision: str,
    elapsed_s: float,
    run: Mapping[str, Any],
) -> None:
    """Write the state of a run, whole or not at all; `run` says which run it is."""
    names: dict[Tensor, str] = {p: name for name, p in training.backbone.named_parameters()}
    groups = training.optimizer.param_groups
    facts = {
        "epoch": training.epoch,
        "step": training.step,
        "losses": training.losses,
        "history": training.history,
        "precision": precision,
        "elapsed_s": elapsed_s,
        "average_steps": training.average.steps,
        "best_rank": training.best.rank,
        "best_epoch": training.best.epoch,
        "skipped": [training.guard.skipped, training.guard.in_a_row],
        "freed": {names[p]: group["freed"] for group in groups for p in group["params"]},
    }
    tensors = {f"network.{k}": v for k, v in training.backbone.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in training.average.state.items()}
    tensors |= {f"best.{k}": v for k, v in training.best.state.items()}
    for p, state in training.optimizer.state.items():
        tensors |= {f"optimizer.{names[p]}.{k}": v for k, v in state.items()}
    # Clones, for the file format refuses tensors that share memory.
    apart = {
        k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()
    }
    metadata = {"format": FORMAT, "facts": json.dumps(facts), "run": json.dumps(dict(run))}
    try:
        with beside(path) as part:
            write_tensors(part, apart, metadata)
    except SafetensorError as error:
        raise CheckpointError(path, f"cannot be written ({error})") from None


def read_snapshot(path: Path, *, run: Mapping[str, Any]) -> Snapshot:
    """What a run left; CheckpointError where it is damaged or of another run than `run`."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in list(file.keys())}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"a damaged snapshot: delete it ({error})") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(path, "not a snapshot of this version of Touchline: delete it")
    theirs, ours = json.loads(metadata["run"]), json.loads(json.dumps(dict(run)))
    changed = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if changed:
        key = changed[0]
        raise CheckpointError(
            path,
            f"of a run with another {key} ({theirs.get(key)!r}, now {ours.get(key)!r}): "
            "go on with what it began with, or begin anew in another folder",
        )
    return Snapshot(tensors, json.loads(metadata["facts"]))


def describe_run(
    model: TrainedModel, examples: Sequence[Example], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a run the same run: its options, classes, clips, weights and processes."""
    weights = hashlib.sha256()
    # The head begins at random numbers of the seed, which is among the options.
    for value in model.backbone.stages.state_dict().values():
        weights.update(value.detach().cpu().contiguous().numpy().tobytes())
    clips = [(str(e.path), e.label, e.start_s, e.end_s) for e in examples]
    return dict(options) | {
        "architecture": model.architecture,
        "clip": asdict(model.spec),
        "classes": model.labels,
        "set of clips": hashlib.sha256(repr(clips).encode()).hexdigest()[:16],
        "set of weights": weights.hexdigest()[:16],
        "number of processes": current_world().size,
    }
