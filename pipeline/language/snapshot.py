"""The state of a training run on disk, so that it goes on after a kill as if it had not stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from touchline.models.atomic_files import atomic_path
from touchline.models.checkpoint import write_tensors
from touchline.models.errors import CheckpointError
from touchline.models.json_values import from_json
from touchline.pipeline.language.measure import TextFigures

SNAPSHOT_FILE = "snapshot.safetensors"
FORMAT = "touchline-language-snapshot-1"


@dataclass(frozen=True)
class EpochRow:
    """Figures at the end of a pass over the text.

    Attributes:
        epoch: From 1.
        loss: Mean loss of its steps, in nats per token.
        held_out: On the held-out text.
    """

    epoch: int
    loss: float
    held_out: TextFigures


@dataclass
class RunState:
    """What changes while a language model is trained, apart from its weights.

    Attributes:
        before: The figures before training.
        step: The next step, from 0.
        elapsed_s: Seconds of training.
        losses: The losses of this epoch.
        history: A row for each finished epoch.
    """

    before: TextFigures
    step: int = 0
    elapsed_s: float = 0.0
    losses: list[float] = field(default_factory=list)
    history: list[EpochRow] = field(default_factory=list)


def save_snapshot(
    path: Path,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: RunState,
    *,
    run: Mapping[str, Any],
) -> None:
    """Write the trained parameters and the state; the file appears whole or not at all.

    Args:
        path: The snapshot file.
        network: Its frozen parameters are not written.
        optimizer: Over the trained parameters.
        state: The rest of what changes.
        run: What must be the same when the run goes on.

    Raises:
        CheckpointError: The file cannot be written.
    """
    tensors = {}
    for name, parameter in _trained(network).items():
        tensors[f"network.{name}"] = parameter
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{name}.{key}"] = value
    apart = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "state": json.dumps(asdict(state)), "run": json.dumps(run)}
    try:
        with atomic_path(path) as part:
            write_tensors(part, apart, metadata)
    except SafetensorError as error:
        raise CheckpointError(path, f"cannot be written ({error})") from None


def restore_snapshot(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, *, run: Mapping[str, Any]
) -> RunState:
    """Set a network and its optimizer to what a snapshot holds, and return the rest of it.

    Raises:
        CheckpointError: The file is damaged, or of another run.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(path, "not a snapshot of this version. Delete it")
            theirs, ours = json.loads(metadata["run"]), json.loads(json.dumps(dict(run)))
            for key in {**ours, **theirs}:
                if ours.get(key) != theirs.get(key):
                    raise CheckpointError(
                        path,
                        f"this run was started with {key} = {theirs.get(key)!r}, now it is "
                        f"{ours.get(key)!r}. Use the old value to resume, or choose another folder",
                    )
            kept = set(file.keys())
            with torch.no_grad():
                for name, parameter in _trained(network).items():
                    parameter.copy_(file.get_tensor(f"network.{name}"))
                    start = f"optimizer.{name}."
                    optimizer.state[parameter] = {
                        key.removeprefix(start): _like(file.get_tensor(key), key, parameter)
                        for key in kept
                        if key.startswith(start)
                    }
            return from_json(json.loads(metadata["state"]), RunState)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(path, f"a damaged snapshot ({error}). Delete it") from None


def _like(value: Tensor, key: str, parameter: Tensor) -> Tensor:
    """AdamW keeps the count of steps on the CPU, and all else where the parameter is."""
    return value if key.endswith(".step") else value.to(parameter.device)


def _trained(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in network.named_parameters() if p.requires_grad}
