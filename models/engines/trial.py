"""Which engine runs a trunk fastest on this machine: a timed trial, kept in the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock

from touchline.models.atomic_files import write_atomic
from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.engines.engine import PASS_FRAMES, Trunk, engine_folder, open_trunk
from touchline.models.engines.graph import is_installed
from touchline.models.engines.machine import processor
from touchline.models.engines.runtimes import installed_runtimes
from touchline.models.json_values import from_json, to_json

ROUNDS = 5

CLEARLY_FASTER = 0.9
"""Another engine is chosen if it takes at most this share of PyTorch's time."""

WORTH_PIXELS = 5000 * 224**2
"""A trial takes about ten seconds. On fewer pixels than these, the fastest engine saves less."""


@dataclass(frozen=True)
class Trial:
    """How fast the engines run a trunk on one machine.

    Attributes:
        machine: The processor, its threads, and the versions of the engines.
        ms: Milliseconds per frame of each engine that can run the trunk.
    """

    machine: str
    ms: dict[str, float]

    @property
    def fastest(self) -> str:
        """The engine to use: PyTorch, unless another one is clearly faster."""
        best = min(self.ms, key=self.ms.__getitem__)
        return best if self.ms[best] <= CLEARLY_FASTER * self.ms["torch"] else "torch"


def try_engines(backbone: Backbone, fast: Trunk, worth: Callable[[], bool]) -> Trial | None:
    """Return how fast the engines run a trunk here. The trial runs once per machine and trunk.

    Only trunks of single frames are tried. For trunks over space and time PyTorch with flattened
    convolutions is the fastest (docs/benchmarks.md), and writing their graph takes a minute.

    Args:
        backbone: The network.
        fast: Its trunk on PyTorch, as detection would run it.
        worth: Asked if there is no earlier trial: whether a new one pays; see `is_worth`.

    Returns:
        The trial; None if there is no choice, or no earlier trial and too little footage.
    """
    if not backbone.framewise or not installed_runtimes() or not is_installed():
        return None
    kept = engine_folder(backbone) / "trial.json"
    machine = _machine()
    trial = _read_trial(kept, machine)
    if trial is not None or not worth():
        return trial
    kept.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(kept.with_suffix(".lock")):
        # Another process may have tried while this one waited.
        trial = _read_trial(kept, machine)
        if trial is None:
            trial = Trial(machine, _time_engines(backbone, fast))
            write_atomic(kept, json.dumps(to_json(trial), indent=1))
    return trial


def is_worth(spec: ClipSpec, footage_s: float) -> bool:
    """Tell whether a trial pays for that much footage.

    Args:
        spec: How the footage is sampled.
        footage_s: Seconds of footage.
    """
    return footage_s * spec.rate_hz * spec.size_px**2 >= WORTH_PIXELS


def _time_engines(backbone: Backbone, fast: Trunk) -> dict[str, float]:
    """Milliseconds per frame of each engine that can run the trunk."""
    trunks: dict[str, Trunk] = {"torch": fast}
    for name in installed_runtimes():
        try:
            trunks[name] = open_trunk(name, backbone)
        except ValueError:
            continue
    T, S = 2 * PASS_FRAMES, backbone.spec.size_px
    clip = torch.randn((1, 3, T, S, S), generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {name: [] for name in trunks}
    for _ in range(ROUNDS + 1):
        for name, trunk in trunks.items():
            started = time.perf_counter()
            trunk(clip)
            seconds[name].append(time.perf_counter() - started)
    # The first round warms up. Other programs only make a round slower: the fastest one counts.
    return {name: round(1e3 * min(s[1:]) / T, 3) for name, s in seconds.items()}


def _read_trial(path: Path, machine: str) -> Trial | None:
    """The trial that was kept, if it was on a machine like this one."""
    try:
        trial = from_json(json.loads(path.read_text(encoding="utf-8")), Trial)
    except (OSError, ValueError):
        return None
    return trial if trial.machine == machine and "torch" in trial.ms else None


def _machine() -> str:
    versions = {"torch": torch.__version__, **installed_runtimes()}
    engines = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"{processor()}, {torch.get_num_threads()} threads, {engines}"
