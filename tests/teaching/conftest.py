"""A drawn match, and the trunk whose features are mean colours."""

from pathlib import Path

import pytest
from studio_material import mean_colours, write_colours_weights, write_match

from touchline.models import catalog
from touchline.pipeline.teaching.options import StudioOptions


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """24 s of grass, red at 4-5 s and 14-15 s, blue at 9-10 s and 19-20 s."""
    events = [("red", 4, 5), ("blue", 9, 10), ("red", 14, 15), ("blue", 19, 20)]
    return write_match(tmp_path / "match.mkv", events, seconds=24)


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudioOptions:
    monkeypatch.setitem(catalog.BACKBONES, "colours", mean_colours)
    return write_colours_weights(tmp_path)
