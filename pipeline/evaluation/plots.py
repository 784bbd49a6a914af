"""Draw the curves of an evaluation as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from touchline.pipeline.evaluation.evaluate import METRICS, MetricFigures, middle_threshold
from touchline.pipeline.evaluation.ranking import Ranking
from touchline.pipeline.plots import MAX_CLASSES, new_canvas, save_canvas
from touchline.pipeline.types import Float64

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def precision_recall(ranking: Ranking) -> tuple[Float64, Float64]:
    """Compute recall and precision (n,) after each prediction, best first."""
    hits = np.cumsum(ranking.hit)
    order = np.arange(1, len(ranking.hit) + 1)
    return hits / max(float(ranking.num_truth.sum()), 1.0), hits / order


def write_metric_plot(figures: MetricFigures, path: Path) -> Path:
    """Draw precision over recall for every class, and mean AP over the thresholds."""
    canvas, (left, right) = new_canvas(2)
    threshold = middle_threshold(figures.metric)
    t = figures.metric.thresholds.index(threshold)
    unit = METRICS[figures.name].unit
    at = f"{threshold:g} s" if unit == "s" else f"tIoU {threshold:g}"
    for k, row in enumerate(figures.per_class[:MAX_CLASSES]):
        recall, precision = precision_recall(best_first(figures.metric.rankings[k][t]))
        ap = row.ap[t].value
        name = row.label if ap is None else f"{row.label} ({ap:.2f})"
        left.plot(recall, precision, color=f"C{k % 10}", linestyle="-:"[k // 10], label=name)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=f"at {at}")
    if left.lines:
        left.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.02))
    _draw_means(right, figures)
    right.set(
        xlabel="tolerance (s)" if unit == "s" else "temporal IoU",
        ylabel="mean AP",
        ylim=(0, 1.02),
        title=f"{figures.name}, bars: 95 %",
    )
    return save_canvas(canvas, path)


def best_first(ranking: Ranking) -> Ranking:
    """Sort a ranking by score; SoccerNet's rankings are in time order."""
    order = np.argsort(-ranking.score, kind="stable")
    return Ranking(ranking.score[order], ranking.hit[order], ranking.unit[order], ranking.num_truth)


def _draw_means(panel: Axes, figures: MetricFigures) -> None:
    """The mean AP at every threshold, with its interval as a bar."""
    points = [
        (threshold, f.value, f.low, f.high)
        for threshold, f in zip(figures.metric.thresholds, figures.per_threshold, strict=True)
        if f.value is not None
    ]
    for threshold, _, low, high in points:
        if low is not None and high is not None:
            panel.vlines(threshold, low, high, color="C0", alpha=0.4, linewidth=4)
    panel.plot([p[0] for p in points], [p[1] for p in points], marker="o", color="C0")


def write_metric_plots(metrics: Sequence[MetricFigures], folder: Path) -> list[Path]:
    """Draw one PNG per metric: FOLDER/<metric>.png."""
    return [write_metric_plot(one, folder / f"{one.name}.png") for one in metrics]
