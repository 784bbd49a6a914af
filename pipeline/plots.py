"""Make the canvas that every plot is drawn on, and save it as PNG (matplotlib)."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from touchline.models.atomic_files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


WIDTH_IN, HEIGHT_IN, DPI = 11.0, 4.6, 120
MAX_CLASSES = 20
"""Plots show at most this many classes, because more lines cannot be told apart."""


def new_canvas(panels: int) -> tuple[Canvas, list[Axes]]:
    """A figure with this many panels side by side.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise ValueError(
            "plots need matplotlib. Install it with pip install 'touchline[plot]', or leave out "
            "the option that asks for plots."
        ) from None
    canvas = Canvas(figsize=(WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
    return canvas, list(canvas.subplots(1, panels, squeeze=False)[0])


def save_canvas(canvas: Canvas, path: Path) -> Path:
    """Write a figure as PNG. The file is complete or not there at all.

    If the font lacks characters, one UserWarning says so; they are drawn as boxes.
    """
    content = io.BytesIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph .* missing")
        canvas.savefig(content, format="png")
    if caught:
        warnings.warn(
            f"{path}: the font of the plot lacks {len(caught)} characters of the class names. "
            "They are drawn as boxes.",
            stacklevel=2,
        )
    return write_atomic(path, content.getvalue())
