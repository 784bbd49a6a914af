"""Plots say once that the font lacks characters."""

from pathlib import Path

import pytest

from touchline.pipeline.plots import new_canvas, save_canvas


def test_characters_that_the_font_lacks_are_reported_once(tmp_path: Path) -> None:
    canvas, (axes,) = new_canvas(1)
    axes.plot([0, 1], label="進球 得分")
    axes.set_title("角球")
    axes.legend()
    with pytest.warns(UserWarning, match="the font of the plot lacks") as told:
        save_canvas(canvas, tmp_path / "curves.png")
    assert len(told) == 1
    assert (tmp_path / "curves.png").stat().st_size > 0
