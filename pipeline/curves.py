"""Curves as PNG files, drawn by matplotlib (extra `plot`) without a window or global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from touchline.pipeline.evaluate import METRICS, MetricFigures, middle_threshold
from touchline.pipeline.ranking import Ranking
from touchline.pipeline.types import Float64
from touchline.pipeline.write import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH_IN, HEIGHT_IN, DPI = 11.0, 4.6, 120
MAX_CLASSES = 20
"""More classes than this are not drawn one by one: nobody tells more colours apart."""


def new_canvas(panels: int) -> tuple[Canvas, list[Axes]]:
    """A figure with so many panels side by side; ValueError where matplotlib is absent."""
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise ValueError(
            "curves need matplotlib: pip install 'touchline[plot]', or leave the PNG out"
        ) from None
    canvas = Canvas(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    return canvas, list(canvas.subplots(1, panels, squeeze=False)[0])


def save_canvas(canvas: Canvas, path: Path) -> Path:
    """The figure as a PNG, whole or not at all."""
    content = io.BytesIO()
    canvas.savefig(content, format="png")
    return write_atomic(path, content.getvalue())


def precision_recall(ranking: Ranking) -> tuple[Float64, Float64]:
    """(n,) recall and precision after each prediction, best first."""
    hits = np.cumsum(ranking.hit)
    order = np.arange(1, len(ranking.hit) + 1)
    return hits / max(float(ranking.num_truth.sum()), 1.0), hits / order


def write_metric_curves(figures: MetricFigures, path: Path) -> Path:
    """Precision over recall of every class, and the mean AP over the thresholds."""
    canvas, (left, right) = new_canvas(2)
    threshold = middle_threshold(figures.metric)
    t = figures.metric.thresholds.index(threshold)
    unit = METRICS[figures.name].unit
    at = f"{threshold:g} s" if unit == "s" else f"tIoU {threshold:g}"
    for row, rankings in zip(figures.per_class, figures.metric.rankings, strict=True):
        if row.num_truth and len(figures.per_class) <= MAX_CLASSES:
            recall, precision = precision_recall(best_first(rankings[t]))
            left.plot(recall, precision, label=f"{row.label} ({row.ap[t].value:.2f})")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"at {at}")
    if left.lines:
        left.legend(fontsize="small")
    _draw_means(right, figures)
    right.set(
        xlabel="tolerance (s)" if unit == "s" else "temporal IoU",
        ylabel="mean AP",
        ylim=(0, 1.02),
        title=figures.name,
    )
    return save_canvas(canvas, path)


def best_first(ranking: Ranking) -> Ranking:
    """The ranking by score: SoccerNet's rankings stand in time order."""
    order = np.argsort(-ranking.score, kind="stable")
    return Ranking(ranking.score[order], ranking.hit[order], ranking.unit[order], ranking.num_truth)


def _draw_means(panel: Axes, figures: MetricFigures) -> None:
    thresholds = np.array(figures.metric.thresholds)
    means = np.array([np.nan if f.value is None else f.value for f in figures.per_threshold])
    panel.plot(thresholds, means, marker="o")
    if all(f.low is not None and f.high is not None for f in figures.per_threshold):
        low = np.array([f.low for f in figures.per_threshold], dtype=np.float64)
        high = np.array([f.high for f in figures.per_threshold], dtype=np.float64)
        panel.fill_between(thresholds, low, high, alpha=0.2, label="95 %")
        panel.legend(fontsize="small")


def write_curves(metrics: Sequence[MetricFigures], folder: Path) -> list[Path]:
    """One PNG per metric, FOLDER/<metric>.png."""
    return [write_metric_curves(one, folder / f"{one.name}.png") for one in metrics]
