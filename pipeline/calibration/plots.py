"""Draw a calibration as PNG: the reliability diagram, precision and recall."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from touchline.pipeline.calibration.calibrate import Calibration
from touchline.pipeline.calibration.temperature import NUM_BINS, Reliability
from touchline.pipeline.plots import MAX_CLASSES, new_canvas, save_canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_reliability(calibration: Calibration, path: Path) -> Path:
    """Draw the share of right top classes over their probability, before and after."""
    canvas, panels = new_canvas(2)
    pairs = (("before", calibration.before), ("after", calibration.after))
    for panel, (when, reliability) in zip(panels, pairs, strict=True):
        _draw_reliability(panel, reliability)
        panel.set(title=f"{when}: ECE {reliability.ece:.3f}")
    panels[1].set(
        title=f"after (T = {calibration.temperature:.2f}): ECE {calibration.after.ece:.3f}"
    )
    return save_canvas(canvas, path)


def _draw_reliability(panel: Axes, reliability: Reliability) -> None:
    full = reliability.count > 0
    middle = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    share = reliability.count / reliability.count.sum()
    panel.bar(middle, share, width=1 / NUM_BINS, color="C7", alpha=0.4, label="share of windows")
    panel.plot([0, 1], [0, 1], color="C7", linestyle=":")
    panel.plot(reliability.confidence[full], reliability.accuracy[full], marker="o", color="C0")
    panel.set(xlabel="probability of the top class", ylabel="share that is right")
    panel.set(xlim=(0, 1), ylim=(0, 1.02))
    panel.legend(fontsize="small", loc="upper left")


def write_thresholds(calibration: Calibration, path: Path) -> Path:
    """Draw precision over recall, and F1 over the threshold, of each class; mark its choice."""
    canvas, (left, right) = new_canvas(2)
    for k, (label, curve) in enumerate(list(calibration.curves.items())[:MAX_CLASSES]):
        choice = calibration.choices[label]
        color, line = f"C{k % 10}", "-:"[k // 10]
        name = f"{label} ({choice.threshold:.2f})"
        left.plot(curve.recall, curve.precision, color=color, linestyle=line, label=name)
        right.plot(curve.threshold, curve.f1, color=color, linestyle=line)
        right.axvline(choice.threshold, color=color, linestyle=line, alpha=0.5)
        if choice.recall is not None and choice.precision is not None:
            left.plot(choice.recall, choice.precision, marker="o", color=color)
    on = "windows of the clips"
    if calibration.unit == "events":
        on = (
            "events in verified footage" if calibration.verified else "events of the stitched clips"
        )
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02), title=on)
    if left.lines:
        left.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.02))
    right.set(xlabel="threshold", ylabel="F1", xlim=(0, 1), ylim=(0, 1.02))
    return save_canvas(canvas, path)
