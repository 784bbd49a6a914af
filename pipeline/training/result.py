"""What fine-tuning reports while it runs, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.types import Float32


@dataclass(frozen=True)
class Progress:
    """One line of news for whoever shows progress: `done` of `total` in `phase`."""

    phase: str
    done: float
    total: float
    note: str = ""


OnEpoch: TypeAlias = Callable[[dict[str, float], Float32], None]
"""Called with an epoch's row of the history and its validation scores (N, K), if it has any."""


@dataclass(frozen=True)
class FineTuneResult:
    """The best model, what happened epoch by epoch, and the validation scores of that model.

    val_probs: (N, K) of the validation clips in order; val_truth: (N,) column indices, for
    independent classes (N, K) of 0 and 1. best_epoch: the one kept, from 1. stopped: why training
    ended: epochs, budget, patience, or diverged. precision: what it was trained in.
    """

    model: TrainedModel
    history: list[dict[str, float]]
    val_probs: Float32
    val_truth: npt.NDArray[np.int64]
    problems: list[str]
    seconds: float
    best_epoch: int
    stopped: str
    skipped_steps: int
    precision: str
