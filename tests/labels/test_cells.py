"""What text may hold in CSV cells and XML: no formula runs, nothing breaks, all is read back."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_samples import save

from touchline.pipeline.labels.csv_files import csv_lines
from touchline.pipeline.labels.read import label_texts, read_labels
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import is_installed, write_result
from touchline.pipeline.timecode import parse_rate
from touchline.pipeline.types import Event, Example, FootageHealth

HOSTILE = ["=1+1", "+x", "-3", "@sum", "'=x", "''-y", "a\rb", "a\nb", 'q"u;o,t', "'plain"]


@pytest.mark.parametrize("text", HOSTILE)
def test_cells_that_spreadsheets_would_run_are_read_back_as_they_were(
    tmp_path: Path, text: str
) -> None:
    video = tmp_path / (text.replace("\r", "").replace("\n", "") + ".mp4")
    examples = [Example(video, text, text, 1.0, 2.0)]
    written = label_texts(examples, tmp_path / "out.csv", format_name="csv")[tmp_path / "out.csv"]
    for row in csv.reader(written.splitlines(keepends=True)):
        assert not [cell for cell in row if cell[:1] in tuple("=+-@\t\r\n")]
    (read,) = read_labels(save(tmp_path, written, "out.csv"))
    assert (read.path, read.label, read.group) == (video, text, text)


@given(st.lists(st.text(st.characters(exclude_categories=["Cc", "Cs"])), min_size=1))
def test_any_text_is_one_cell_and_reads_back(cells: list[str]) -> None:
    (row,) = csv.reader([csv_lines([cells])], strict=True)
    assert [c[1:] if c != cell else c for c, cell in zip(row, cells, strict=True)] == cells


CONTROL = "pen\x1b[31malty\x00\x08\ufffe"


@pytest.mark.parametrize("name", ["csv", "cvat", "premiere", "fcpxml", "xspf"])
def test_no_control_character_breaks_what_is_exported(tmp_path: Path, name: str) -> None:
    if not is_installed(name):
        pytest.skip("a library is missing")
    health = FootageHealth(
        container="mp4", codec="h264", stream_index=0, width=64, height=64, pixel_format="yuv420p",
        frame_rate="25/1", variable_rate=False, duration_s=60.0, num_frames=1500, start_s=0.0,
    )  # fmt: skip
    event = Event(CONTROL, 1.0, 2.0, 1.5)
    result = MatchResult(tmp_path / "m\x1b[31m.mp4", (event,), (event,), health)
    (path,) = write_result(result, tmp_path / "out", formats=[name], rate=parse_rate("25"))
    text = path.read_text()
    assert not set("\x1b\x00\x08") & set(text)
    if path.suffix != ".csv":
        ET.fromstring(text)


@pytest.mark.parametrize("name", ["csv", "cvat", "elan"])
def test_no_control_character_breaks_written_labels(tmp_path: Path, name: str) -> None:
    examples = [Example(tmp_path / "m.mp4", CONTROL, "g", 1.0, 2.0)]
    out = tmp_path / "out.txt"
    text = label_texts(examples, out, format_name=name, rate_hz=25)[out]
    assert not set("\x1b\x00\x08") & set(text)
    (read,) = read_labels(save(tmp_path, text, "out.txt"), rate_hz=25)
    assert read.label.startswith("pen\ufffd[31malty")
