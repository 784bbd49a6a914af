"""Files for programs of match analysis: Sportscode, read by kloppy."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import av
import numpy as np
import pytest

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.options import WriteOptions, parse_rolls
from touchline.pipeline.outputs.writers import unwritable, write_beside_video, write_result
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth

EVENTS = (
    Event("goal", 2.5, 6.25, 4.0, 0.875, (("team", "home"), ("player", "Müller & Co <9>"))),
    Event("card", 3.0, 3.0, 3.0, 0.5),
    Event("goal", 58.0, 58.0, 58.0, 1.0),
)


def written(folder: Path, **options: object) -> Path:
    health = FootageHealth("mp4", "h264", 64, 48, "25/1", False, 60.0, 0.0)
    result = MatchResult(folder / "match.mp4", EVENTS, EVENTS, health, clock=MatchClock({1: 2.0}))
    chosen = WriteOptions(**options)  # type: ignore[arg-type]
    (path,) = write_result(result, folder, formats=["sportscode"], options=chosen)
    return path


def test_kloppy_reads_codes_times_and_labels(tmp_path: Path) -> None:
    sportscode = pytest.importorskip("kloppy.sportscode")
    with written(tmp_path).open("rb") as file:
        goal, card, last = sportscode.load(file).codes
    assert (goal.code, goal.start_timestamp.total_seconds()) == ("goal", 2.5)
    assert goal.end_timestamp.total_seconds() == 6.25
    assert goal.labels == {
        "peak": 4.0, "score": 0.875, "accepted": "yes", "clock": "1H 0:02", "team": "home",
        "player": "Müller and Co (9)",
    }  # fmt: skip
    # Five seconds on both sides, but not outside the footage.
    times = [
        (code.start_timestamp.total_seconds(), code.end_timestamp.total_seconds())
        for code in (card, last)
    ]
    assert times == [(0.0, 8.0), (53.0, 60.0)]


def test_each_class_has_a_row_with_a_colour_of_its_own(tmp_path: Path) -> None:
    rows = ElementTree.parse(written(tmp_path)).findall("ROWS/row")
    assert [row.findtext("code") for row in rows] == ["goal", "card"]
    colours = [tuple(int(row.findtext(c) or -1) for c in "RGB") for row in rows]
    assert len(set(colours)) == 2
    assert 255 < max(map(max, colours)) <= 65535


def test_rolls_are_for_all_classes_or_for_one(tmp_path: Path) -> None:
    options = parse_rolls(["1,2", "goal=4,0"], ascii_only=True)
    path = written(tmp_path, **vars(options))
    spans = [
        tuple(float(instance.findtext(name) or -1) for name in ("start", "end"))
        for instance in ElementTree.parse(path).iter("instance")
    ]
    assert spans == [(2.5, 6.25), (2.0, 5.0), (54.0, 58.0)]
    assert "M?ller and Co (9)" in path.read_text(encoding="ascii")


@pytest.mark.parametrize("text", ["5", "goal=5", "a,b", "-1,3", "0,0", "nan,1"])
def test_a_roll_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"the roll is|make no clip"):
        parse_rolls([text])


def test_what_was_rejected_in_sportscode_is_no_label(tmp_path: Path) -> None:
    path = written(tmp_path)
    first = path.read_text().replace(">yes<", ">no<", 1)
    path.write_text(first)
    (tmp_path / "final.mp4").touch()
    card, goal = read_labels(path, footage_folder=tmp_path / "final.mp4")
    assert (card.label, card.peak_s, card.score) == ("card", 3.0, 0.5)
    assert card.path == tmp_path / "final.mp4"
    assert (goal.peak_s, goal.score, goal.attributes) == (58.0, 1.0, ())


def test_sportscode_as_other_programs_write_it(tmp_path: Path) -> None:
    text = """<file><ALL_INSTANCES>
      <instance><ID>a</ID><start>-2,5</start><end>3,5</end><code>Shot</code>
        <label><group>Outcome</group><text>on target</text></label>
        <label><group>Outcome</group><text>saved</text></label>
        <label><group>TEAM</group><text>Ajax</text></label><label><text>left</text></label>
        <free_text>deflected</free_text></instance>
      <instance><ID>b</ID><start>0:45:00</start><end>45:02.5</end><code></code>
        <label><text>First half end</text></label></instance>
      <instance><ID>c</ID><start>9</start><end>9</end><code>Press</code><label>high</label>
      </instance></ALL_INSTANCES></file>"""
    path = tmp_path / "match.xml"
    path.write_text(text)
    (tmp_path / "match.MOV").touch()
    shot, half, press = read_labels(path)
    assert (half.label, half.start_s, half.end_s) == ("First half end", 2700.0, 2702.5)
    assert half.attributes == ()
    assert press.attributes == (("tag", "high"),)
    assert (shot.path.name, shot.label, shot.start_s, shot.end_s) == ("match.MOV", "Shot", 0.0, 3.5)
    assert dict(shot.attributes) == {
        "Outcome": "on target, saved", "team": "Ajax", "tag": "left", "note": "deflected",
    }  # fmt: skip
    (tmp_path / "match.mp4").touch()
    with pytest.raises(LabelsError, match=r"match\.MOV and match\.mp4 could both be its video"):
        read_labels(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<start>2.500000</start>", "", r"line \d+: <instance> has no <start>"),
        ("<start>2.500000</start>", "<start>soon</start>", r"line \d+: start is 'soon'"),
        ("<code>goal</code>", "<code/>", "the label is empty"),
        ("<text>0.875000</text>", "<text>9</text>", r"score is 9; it must be in \[0, 1\]"),
    ],
)
def test_a_damaged_instance_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LabelsError, match=message):
        read_labels(path)


def result(folder: Path, start: str | None = "10:00:00:00") -> MatchResult:
    health = FootageHealth("mp4", "h264", 64, 48, "25/1", False, 60.0, 0.0, start_timecode=start)
    return MatchResult(folder / "match.mp4", EVENTS, EVENTS, health)


def test_markers_for_resolve_by_hand(tmp_path: Path) -> None:
    (path,) = write_result(result(tmp_path), tmp_path, formats=["resolve-markers"])
    assert path.read_text().splitlines()[:7] == [
        "TITLE: match",
        "FCM: NON-DROP FRAME",
        "",
        # 2.5 s is frame 62.5, and 6.25 s is 156.25: the nearest are 63 and 156.
        "001  001      V     C        10:00:02:13 10:00:02:14 10:00:02:13 10:00:02:14",
        "home · Müller & Co <9> · 88% |C:ResolveColorBlue |M:goal |D:93",
        "",
        "002  001      V     C        10:00:03:00 10:00:03:01 10:00:03:00 10:00:03:01",
    ]
    # A note that begins with a digit would look like the next edit.
    assert "- 50% |C:ResolveColorRed |M:card |D:1" in path.read_text()


@pytest.mark.parametrize("start", [None, "10:00:00:00", "00:30:00:00"])
@pytest.mark.parametrize("name", ["resolve-markers", "premiere-markers"])
def test_our_own_readers_read_the_markers_back(
    tmp_path: Path, name: str, start: str | None
) -> None:
    (path,) = write_result(result(tmp_path, start), tmp_path, formats=[name])
    with av.open(str(tmp_path / "match.mov"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        if start is not None:
            stream.metadata["timecode"] = start
        grey = np.full((32, 32, 3), 99, dtype=np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())
    read = read_labels(path, footage_folder=tmp_path / "match.mov", rate_hz=25)
    assert [e.label for e in read] == ["goal", "card", "goal"]
    starts_s, ends_s = zip(*((e.start_s, e.end_s) for e in read), strict=True)
    # An instant is a marker of one frame; Resolve's reader takes that for an instant again.
    one = 0.04 if name == "premiere-markers" else 0.0
    assert starts_s == pytest.approx([2.52, 3.0, 58.0])
    assert ends_s == pytest.approx([6.24, 3.0 + one, 58.0 + one])


def test_losslesscut_finds_its_files_beside_the_video(tmp_path: Path) -> None:
    project = write_beside_video(result(tmp_path), "losslesscut")
    table = write_beside_video(result(tmp_path), "losslesscut-csv")
    assert (project.name, table.name) == ("match-proj.llc", "match-llc-edl.csv")
    assert json.loads(project.read_text())["mediaFileName"] == "match.mp4"
    assert table.read_text().splitlines()[1] == "0.000000,8.000000,card · 50%"
    with pytest.raises(ValueError, match=r"match-proj\.llc is there already"):
        write_beside_video(result(tmp_path), "losslesscut")
    with pytest.raises(ValueError, match="is for losslesscut and losslesscut-csv, not for vtt"):
        write_beside_video(result(tmp_path), "vtt")


def test_the_common_data_format_has_a_whistle_per_kick_off(tmp_path: Path) -> None:
    clock = MatchClock({1: 30.0, 2: 3720.5})
    options = WriteOptions(recorded="2026-05-10T21:45:00+02:00")
    (path,) = write_result(
        result(tmp_path), tmp_path, formats=["cdf"], clock=clock, options=options
    )
    document = json.loads(path.read_text())
    assert document["recording"]["fps"] == 25
    assert document["recording"]["resolution"] == "64x48"
    assert document["recording"]["start_time"] == "2026-05-10T19:45:00.000Z"
    assert document["whistles"] == [
        {"type": "first_half", "sub_type": "start", "time": "2026-05-10T19:45:30.000Z",
         "video_time": 30000},
        {"type": "second_half", "sub_type": "start", "time": "2026-05-10T20:47:00.500Z",
         "video_time": 3720500},
    ]  # fmt: skip


def test_the_common_data_format_says_what_it_lacks(tmp_path: Path) -> None:
    clock = MatchClock({1: 30.0})
    assert "Give --kickoff" in unwritable(result(tmp_path), ["cdf"])["cdf"]
    assert "Give --recorded" in unwritable(result(tmp_path), ["cdf"], clock=clock)["cdf"]
    for text in ("yesterday", "2026-05-10T19:45:00"):
        with pytest.raises(ValueError, match="it must be a date, a time and a time zone"):
            WriteOptions(recorded=text)
