"""Many files in one run: what one of them or one format costs."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import brightness_model, write_levels

from touchline.pipeline.batch import detect_all
from touchline.pipeline.detect import DetectOptions
from touchline.pipeline.write import WRITERS


def test_a_format_that_refuses_the_footage_costs_itself_not_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)

    def refuse(sheet: object) -> str:
        raise ValueError("no timecode at 16 frames per second")

    monkeypatch.setitem(WRITERS, "edl", replace(WRITERS["edl"], text=refuse))
    formats = ["edl", "csv", "json"]
    (result,) = detect_all(
        [match],
        brightness_model(),
        tmp_path,
        DetectOptions(hop_s=0.25, device="cpu"),
        formats=formats,
        report=True,
    )
    assert "no timecode at 16" in str(result.error)
    assert {p.name for p in (tmp_path / "match").iterdir()} == {
        *("scores.npz", "events.csv", "events.json", "report.html")
    }
