"""Draw PNG curves with matplotlib on one kind of canvas."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from touchline.pipeline.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


WIDTH_IN, HEIGHT_IN, DPI = 11.0, 4.6, 120
MAX_CLASSES = 20
"""The first so many classes are drawn: nobody tells more lines apart."""


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
