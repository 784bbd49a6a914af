"""Event data of providers as labels, read by kloppy from the files that its package ships."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.datasets.event_data import read_event_data
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.timecode import MatchClock
from touchline.tools import cli

kloppy = pytest.importorskip("kloppy")
FILES = Path(kloppy.__file__).parent / "tests/files"
VIDEO = Path("match.mp4")

DATA = {
    "statsbomb": ["statsbomb_event.json", "statsbomb_lineup.json"],
    "opta": ["opta_f24.xml", "opta_f7.xml"],
    "wyscout": ["wyscout_events_v3.json"],
}


def files(provider: str) -> list[Path]:
    found = [FILES / name for name in DATA[provider]]
    if not all(file.exists() for file in found):
        pytest.skip("this kloppy ships no sample files")
    return found


@pytest.mark.parametrize("provider", DATA)
def test_both_halves_are_on_the_clock_of_the_file(provider: str) -> None:
    clock = MatchClock({1: 100.0, 2: 4000.0})
    read = read_event_data(provider, files(provider), clocks={VIDEO: clock})
    assert {example.path for example in read} == {VIDEO}
    assert len({example.group for example in read}) == 1
    assert " - " in read[0].group
    first = [e for e in read if e.event().peak_s < 4000]
    second = [e for e in read if e.event().peak_s >= 4000]
    assert first
    assert second
    assert [e.start_s for e in read] == sorted(e.event().start_s for e in read)
    assert Counter(e.label for e in read)["pass"] > 5
    passes = [dict(e.attributes) for e in read if e.label == "pass"]
    assert all("team" in one for one in passes)
    # Some passes have no result, and some of Opta's no player.
    for name in ("player", "result"):
        assert sum(name in one for one in passes) > 0.8 * len(passes)
    # The same events, half an hour later, when the kick-offs are.
    later = MatchClock({1: 1900.0, 2: 5800.0})
    again = read_event_data(provider, files(provider), clocks={VIDEO: later})
    assert [e.event().peak_s for e in again] == pytest.approx(
        [e.event().peak_s + 1800 for e in read]
    )


def test_the_first_shot_of_statsbombs_match_by_hand() -> None:
    clocks = {VIDEO: MatchClock({1: 100.0})}
    read = read_event_data("statsbomb", files("statsbomb"), clocks=clocks)
    shot = next(e for e in read if e.label == "shot")
    # Its time in the file is 00:02:29.094 of the first half.
    assert shot.start_s == pytest.approx(100 + 2 * 60 + 29.094)
    assert dict(shot.attributes)["team"] == "Barcelona"


def test_halves_in_two_files_and_times_before_the_footage() -> None:
    clocks = {Path("1.mp4"): MatchClock({1: -60.0}), Path("2.mp4"): MatchClock({2: 5.0})}
    read = read_event_data("wyscout", files("wyscout"), clocks=clocks)
    assert [e.path.name for e in read] == sorted(e.path.name for e in read)
    of_first = [e.event().peak_s for e in read if e.path.name == "1.mp4"]
    of_second = [e.event().peak_s for e in read if e.path.name == "2.mp4"]
    # What happened in the first minute is not in the file.
    assert 0 <= min(of_first) < 10
    assert 5 <= min(of_second) < 15


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    clocks = {VIDEO: MatchClock({1: 0.0})}
    with pytest.raises(ValueError, match=r"statsbomb has 2 files \(event_data, lineup_data\)"):
        read_event_data("statsbomb", files("statsbomb")[:1], clocks=clocks)
    with pytest.raises(ValueError, match=r"no provider 'instat'"):
        read_event_data("instat", [], clocks=clocks)
    with pytest.raises(LabelsError, match="no such file"):
        read_event_data("wyscout", [tmp_path / "none.json"], clocks=clocks)
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(LabelsError, match="kloppy cannot read it as event data of wyscout"):
        read_event_data("wyscout", [path], clocks=clocks)


def test_touchline_labels_converts_event_data(tmp_path: Path) -> None:
    (events,) = files("wyscout")
    out = tmp_path / "labels.csv"
    command = ["labels", str(events), "--provider", "wyscout", "--convert", "csv", "-o", str(out)]
    with pytest.raises(ValueError, match="--provider needs --footage"):
        cli.app(command, standalone_mode=False)
    kickoffs = ["--kickoff", "1=0:01:00", "--kickoff", "2=1:03:00"]
    footage = ["--footage", str(tmp_path / "match.mp4")]
    cli.app([*command, *footage, *kickoffs], standalone_mode=False)
    read = read_labels(out)
    assert {e.path for e in read} == {tmp_path / "match.mp4"}
    assert len(read) > 1000
    assert dict(read[0].attributes)["team"]


def test_the_sportscode_file_that_kloppy_ships_is_read() -> None:
    path = FILES / "code_xml.xml"
    if not path.exists():
        pytest.skip("this kloppy ships no sample files")
    read = read_labels(path)
    assert (read[0].label, read[0].start_s, read[0].end_s) == ("PASS", 3.6, 9.7)
    assert dict(read[0].attributes) == {
        "team": "Henkie", "Packing.Value": "1", "Receiver": "Klaas Nøme",
        "Qualifiers": "Long ball, Completed",
    }  # fmt: skip
