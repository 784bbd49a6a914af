"""The parts of an optimizer step: learning rates, weight averaging, the best epoch, bad steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from touchline.models.backbone import Backbone
from touchline.pipeline.distributed import current_world
from touchline.pipeline.types import Float64

SMOOTHED = 3
"""An epoch is judged by the mean loss of this many validations, up to its own: one is luck."""


def trained_parameters(backbone: Backbone) -> list[nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [p for p in backbone.parameters() if p.requires_grad]


def make_optimizer(
    backbone: Backbone,
    *,
    lr: float,
    trunk_lr_scale: float = 0.1,
    stage_lr_decay: float = 1.0,
    weight_decay: float = 0.0,
) -> torch.optim.AdamW:
    """Make AdamW over the parameters that are not frozen; biases and norms do not decay.

    Args:
        backbone: The network.
        lr: Peak learning rate of the head.
        trunk_lr_scale: Learning rate of the last stage as a fraction of `lr`.
        stage_lr_decay: Learning rate of each stage as a fraction of the next stage's.
        weight_decay: Of weights with more than one dimension.
    """
    modules = [
        (stage, lr * trunk_lr_scale * stage_lr_decay**distance)
        for distance, stage in enumerate(reversed(list(backbone.stages.values())))
    ]
    groups = []
    for module, peak in [(backbone.head, lr), *modules]:
        trained = [p for p in module.parameters() if p.requires_grad]
        for decays in (True, False):
            params = [p for p in trained if (p.ndim > 1) == decays]
            if params:
                decay = weight_decay if decays else 0.0
                # `freed`: the fraction of training that was over when these began to learn.
                group = {"params": params, "lr": peak, "peak_lr": peak, "freed": 0.0}
                groups.append(group | {"weight_decay": decay})
    return torch.optim.AdamW(groups)


def carry_over(old: torch.optim.Optimizer, new: torch.optim.Optimizer, *, done: float) -> None:
    """Copy the state of the parameters that both optimizers share from `old` to `new`.

    Args:
        old: The optimizer so far.
        new: The optimizer that continues, over more parameters.
        done: The fraction of training that is over, when the other parameters begin to learn.
    """
    freed = {p: group["freed"] for group in old.param_groups for p in group["params"]}
    for group in new.param_groups:
        group["freed"] = min(freed.get(p, done) for p in group["params"])
        for p in group["params"]:
            if p in old.state:
                new.state[p] = old.state[p]


def schedule(done: float, warmup: float, freed: float = 0.0) -> float:
    """Return the learning rate as a fraction of its peak: linear warm-up, then half a cosine.

    Args:
        done: The fraction of training that is over, in [0, 1].
        warmup: The fraction of training in which the rate rises.
        freed: When these parameters began to learn; they warm up from there, and fall with the
            others.
    """
    fall = max(0.0, done - warmup) / (1 - warmup) if warmup < 1 else 0.0
    rise = (done - freed) / warmup if warmup > 0 else 1.0
    return max(0.01, min(1.0, rise)) * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))


def set_learning_rates(optimizer: torch.optim.Optimizer, *, done: float, warmup: float) -> None:
    """Set the current learning rate of every parameter group.

    Args:
        optimizer: From `make_optimizer`.
        done: The fraction of training that is over, in [0, 1].
        warmup: The fraction of training in which rates rise.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * schedule(done, warmup, group["freed"])


class Anchor:
    """Pulls weights towards where they started: the penalty strength / 2 * |w - start|^2.

    This is L2-SP (Li, Grandvalet & Davoine 2018).
    """

    def __init__(self, backbone: Backbone, strength: float) -> None:
        self._strength = strength
        self._start = {p: p.detach().clone() for p in backbone.parameters()} if strength else {}

    @torch.no_grad()
    def add_gradient(self) -> None:
        """Add the gradient of the penalty to the gradients that are there."""
        for p, start in self._start.items():
            if p.grad is not None:
                p.grad.add_(p - start, alpha=self._strength)


LEAST_DONE, LEAST_SPENT, SLACK = 3, 0.05, 1.25
"""Work before training is stopped early if, after LEAST_DONE pieces and LEAST_SPENT of the budget,
the rest would take more than SLACK times the time left."""

Watch: TypeAlias = Callable[[int, int], None]
"""Takes how many pieces are done, and how many must be computed in all."""

READING, FROZEN = "reading the clips", "computing frozen features"
"""The work before training, as messages name it."""


class OutOfTimeError(ValueError):
    """The time budget ends before training can begin."""


class BudgetClock:
    """Measures the time since training began against its budget, and when to save the state."""

    def __init__(self, budget_s: float | None, *, elapsed_s: float = 0.0) -> None:
        self._started = time.monotonic() - elapsed_s
        self._kept = time.monotonic()
        self._budget_s = budget_s
        self._world = current_world()

    def elapsed_s(self) -> float:
        """Return the seconds since training began, earlier parts of the run included."""
        return time.monotonic() - self._started

    def spent(self) -> float:
        """Return the fraction of the budget spent, the same in all processes; 0 without one."""
        if self._budget_s is None:
            return 0.0
        return self._world.largest(min(1.0, self.elapsed_s() / self._budget_s))

    def watch(self, work: str, *, cache: Path | None = None) -> Watch:
        """Return a function to call with the progress of work that comes before training.

        It raises `OutOfTimeError` once the budget is spent, or as soon as the part that is done
        shows that the rest would take longer than what is left.

        Args:
            work: What is done, as in "reading the clips".
            cache: The folder that keeps what is done; None: nothing is kept.
        """
        began = time.monotonic()
        kept = "--cache FOLDER keeps what is done for the next run"
        if cache is not None:
            kept = f"What is done is kept in {cache}: the next run goes on from there"

        def check(done: int, total: int) -> None:
            if self._budget_s is None or done >= total:
                return
            spent_s, left_s = time.monotonic() - began, self._budget_s - self.elapsed_s()
            more_s = spent_s / max(done, 1) * (total - done)
            is_known = done >= LEAST_DONE and spent_s >= LEAST_SPENT * self._budget_s
            if left_s > 0 and not (is_known and more_s > SLACK * left_s):
                return
            enough_s = math.ceil(self.elapsed_s() + SLACK * more_s)
            rest, most = "has not begun", ""
            if done:
                rest = f"would take about {more_s:.0f} s more ({done} of {total} are done)"
                most = f" to more than {enough_s}"
            raise OutOfTimeError(
                f"nothing was trained. The time limit is {self._budget_s:g} s, and {work} {rest}. "
                f"Raise --max-seconds{most}, or use fewer clips. {kept}"
            )

        return check

    def due(self, every_s: float) -> bool:
        """Return whether `every_s` seconds have passed since this last returned True."""
        if time.monotonic() - self._kept < every_s:
            return False
        self._kept = time.monotonic()
        return True


class Average:
    """An exponential moving average of a network's weights; with decay 0 there is none.

    After n steps the decay is at most (1 + n) / (10 + n), so that the first weights are soon
    forgotten.
    """

    def __init__(self, backbone: Backbone, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema is {decay}; it must be in [0, 1)")
        self.decay = decay
        self.steps = 0
        self.state = clone_state(backbone) if decay else {}

    @torch.no_grad()
    def update(self, backbone: Backbone) -> None:
        """Add the current weights to the average."""
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in backbone.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)

    @torch.no_grad()
    def adopt(self, backbone: Backbone, layers: Sequence[str]) -> None:
        """Replace the average of these layers by what they hold now, without blending."""
        now = backbone.state_dict()
        for key, value in self.state.items():
            if key.rpartition(".")[0] in layers:
                value.copy_(now[key])

    def restore(self, state: dict[str, Tensor], *, steps: int) -> None:
        """Continue from a saved average over `steps` steps."""
        self.steps = steps
        for key, value in state.items():
            self.state[key].copy_(value)

    @contextmanager
    def applied(self, backbone: Backbone) -> Iterator[None]:
        """Put the average into the network while the context lasts."""
        if not self.decay:
            yield
            return
        own = clone_state(backbone)
        backbone.load_state_dict(self.state)
        try:
            yield
        finally:
            backbone.load_state_dict(own)


@torch.no_grad()
def share_statistics(backbone: Backbone, average: Average) -> None:
    """Copy the first process's BatchNorm statistics to all, in the network and in its average.

    Parameters are equal anyway, because gradients are averaged. BatchNorm statistics are not: they
    come from each process's own batches.
    """
    world = current_world()
    if world.size == 1:
        return
    own = dict(backbone.named_buffers())
    for buffers in (own, {k: v for k, v in average.state.items() if k in own}):
        shared = world.agreed({k: v.cpu() for k, v in buffers.items()})
        for key, value in buffers.items():
            value.copy_(shared[key])


def smooth(losses: Float64) -> Float64:
    """Return the mean over SMOOTHED validations, each row itself the last; fewer at the start."""
    ends = range(1, len(losses) + 1)
    return np.array([losses[max(0, end - SMOOTHED) : end].mean(axis=0) for end in ends])


class Best:
    """The weights of the best epoch so far."""

    def __init__(self) -> None:
        self.loss = math.inf
        self.epoch = 0
        self.state: dict[str, Tensor] = {}

    def offer(self, backbone: Backbone, loss: float, epoch: int) -> bool:
        """Keep the weights if their loss is below all earlier ones; return whether they were kept.

        Args:
            backbone: The network as of this epoch.
            loss: Its smoothed validation loss.
            epoch: The number of the epoch, from 1.
        """
        if self.state and loss >= self.loss:
            return False
        self.loss, self.epoch, self.state = loss, epoch, clone_state(backbone)
        return True


class Guard:
    """Skips steps whose gradient is not finite; too many of them in a row end training."""

    def __init__(self, backbone: Backbone, max_skipped: int) -> None:
        self._buffers = list(backbone.buffers())
        self._good = [b.clone() for b in self._buffers]
        self._max_skipped = max_skipped
        self.in_a_row = 0
        self.skipped = 0

    @property
    def diverged(self) -> bool:
        """Whether more steps in a row were skipped than allowed."""
        return self.in_a_row > self._max_skipped

    def keep(self) -> None:
        """Remember the current BatchNorm statistics as good."""
        for good, buffer in zip(self._good, self._buffers, strict=True):
            good.copy_(buffer)

    def allows(self, gradient_norm: Tensor) -> bool:
        """Return whether to take the step; if not, undo what its forward pass did to statistics."""
        if bool(torch.isfinite(gradient_norm)):
            self.keep()
            self.in_a_row = 0
            return True
        with torch.no_grad():
            for good, buffer in zip(self._good, self._buffers, strict=True):
                buffer.copy_(good)
        self.in_a_row += 1
        self.skipped += 1
        return False


def clone_state(backbone: Backbone) -> dict[str, Tensor]:
    """Return a copy of the network's weights and statistics."""
    return {key: value.detach().clone() for key, value in backbone.state_dict().items()}
