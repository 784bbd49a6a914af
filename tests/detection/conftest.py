"""Footage for the tests of detection."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_levels


@pytest.fixture(scope="module")
def match(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 s at 16 Hz, a key frame every second: bright in seconds 3 to 5 and 8 to 9.5."""
    levels = [20] * 48 + [235] * 32 + [20] * 48 + [235] * 24 + [20] * 40
    return write_levels(tmp_path_factory.mktemp("detect") / "match.mp4", levels)
