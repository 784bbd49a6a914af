"""Plot a training run as PNG files: curves over the epochs, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from touchline.pipeline.plots import new_canvas, save_canvas

FIGURES = {
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced accuracy",
    "val_map": "mean average precision",
}

LOSSES = {"loss": "training", "val_loss": "validation", "val_loss_smoothed": "smoothed"}


def can_plot() -> bool:
    """Return whether matplotlib (extra `plot`) is installed."""
    return find_spec("matplotlib") is not None


def write_history(history: Sequence[Mapping[str, float]], best_epoch: int, path: Path) -> Path:
    """Plot losses and validation figures over the epochs, and mark the epoch that is kept.

    Args:
        history: One row of figures per epoch.
        best_epoch: The epoch that is kept, from 1.
        path: The PNG file.
    """
    canvas, (left, right) = new_canvas(2)
    for panel, named in (
        (left, LOSSES),
        (right, FIGURES),
    ):
        for key, name in named.items():
            rows = [row for row in history if key in row]
            if rows:
                panel.plot([r["epoch"] for r in rows], [r[key] for r in rows], label=name)
        panel.axvline(best_epoch, color="grey", linestyle=":", label="kept")
        panel.legend(fontsize="small")
        panel.set_xlabel("epoch")
    left.set_ylabel("loss")
    right.set(ylabel="validation", ylim=(0, 1.02))
    return save_canvas(canvas, path)


def write_confusion(matrix: Sequence[Sequence[int]], labels: Sequence[str], path: Path) -> Path:
    """Plot the confusion matrix: the darker a cell, the larger its share of the true class.

    Args:
        matrix: (K, K) counts, rows by true class and columns by predicted class.
        labels: The K classes.
        path: The PNG file.
    """
    counts: npt.NDArray[np.int64] = np.asarray(matrix, dtype=np.int64)
    present = [int(k) for k in np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))]
    counts, names = counts[np.ix_(present, present)], [labels[k] for k in present]
    canvas, (panel,) = new_canvas(1)
    panel.imshow(counts / counts.sum(axis=1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        dark = counts[row, column] > 0.6 * counts[row].sum()
        panel.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            color="white" if dark else "black",
        )
    ticks = np.arange(len(names))
    panel.set_xticks(ticks, names, rotation=45, ha="right")
    panel.set_yticks(ticks, names)
    panel.set(xlabel="predicted", ylabel="true")
    return save_canvas(canvas, path)
