"""The progress and the result of fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.types import Example, Float32


@dataclass(frozen=True)
class Progress:
    """One step of progress, for a progress bar.

    Attributes:
        phase: What is being done, for instance "reading clips".
        done: How much of it is done.
        total: How much there is to do.
        note: Figures to show next to the bar.
    """

    phase: str
    done: float
    total: float
    note: str = ""


OnEpoch: TypeAlias = Callable[[dict[str, float], Float32], None]
"""Takes an epoch's row of the history, and its validation scores (N, K); N is 0 without any."""


@dataclass(frozen=True)
class FineTuneResult:
    """The model of the best epoch, its validation scores, and the history of training.

    Attributes:
        model: The model of the best epoch, on the CPU.
        history: One row of figures per epoch: epoch, seconds, loss, val_loss, val_loss_smoothed
            (the lowest one is kept), val_accuracy and so on.
        val_examples: The N validation examples that could be read; for independent classes the
            first of those that share their times.
        val_probs: (N, K) their probabilities.
        val_truth: (N,) columns of the true classes; for independent classes (N, K) of 0 and 1.
        problems: One message per example that could not be read.
        seconds: How long it took.
        best_epoch: The epoch that is kept, from 1.
        stopped: Why training ended: epochs, budget, patience or diverged.
        skipped_steps: How many steps had a gradient that was not finite.
        precision: bf16 or float32.

    Example:
        >>> from touchline.pipeline import TrainOptions, fine_tune, load_model, read_labels
        >>> model, examples = load_model("model.safetensors"), read_labels("labels.csv")
        >>> result = fine_tune(model, examples, [], TrainOptions(epochs=2))
        >>> result.stopped, result.best_epoch, [sorted(row) for row in result.history]
        ('epochs', 2, [['epoch', 'loss', 'seconds'], ['epoch', 'loss', 'seconds']])
    """

    model: TrainedModel
    history: list[dict[str, float]]
    val_examples: tuple[Example, ...]
    val_probs: Float32
    val_truth: npt.NDArray[np.int64]
    problems: list[str]
    seconds: float
    best_epoch: int
    stopped: str
    skipped_steps: int
    precision: str
