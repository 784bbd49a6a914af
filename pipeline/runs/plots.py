"""How training went, as PNG files: the curves of every epoch, and the confusion of classes."""

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


def can_plot() -> bool:
    """Whether matplotlib (extra `plot`) is there."""
    return find_spec("matplotlib") is not None


def write_history(history: Sequence[Mapping[str, float]], best_epoch: int, path: Path) -> Path:
    """Losses and validation figures over the epochs, the one that was kept marked."""
    canvas, (left, right) = new_canvas(2)
    for panel, named in (
        (left, {"loss": "training", "val_loss": "validation"}),
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
    """Counts of true (rows) and given (columns) classes; shades are shares of the row."""
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
    panel.set(xlabel="given", ylabel="true")
    return save_canvas(canvas, path)
