"""Markers of editing programs, BORIS, VIA and lists of times, beyond the plain case."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from label_samples import (
    BORIS,
    BORIS_TABLE,
    PREMIERE_MARKERS,
    RESOLVE_EDIT_INDEX,
    RESOLVE_MARKERS,
    VIA,
    save,
)

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.types import Example

Span = tuple[str, float, float]


def spans(read: list[Example]) -> list[Span]:
    events = [example.event() for example in read]
    return [(e.label, round(e.start_s, 6), round(e.end_s, 6)) for e in events]


def test_notes_of_markers_are_attributes(tmp_path: Path) -> None:
    goal, card = read_labels(save(tmp_path, RESOLVE_MARKERS, "match.edl"), rate_hz=25)
    assert (goal.attributes, card.attributes) == ((("note", "left foot"),), ())
    goal, card = read_labels(save(tmp_path, PREMIERE_MARKERS, "match.csv"), rate_hz=25)
    assert (goal.attributes, card.label, card.attributes) == (
        (("note", "left foot"),), "card", (),
    )  # fmt: skip


def test_a_marker_of_the_edit_index_keeps_its_keywords(tmp_path: Path) -> None:
    text = RESOLVE_EDIT_INDEX.replace("01:00:10:10", "01:00:10:01")
    goal, card = read_labels(save(tmp_path, text, "match.csv"), rate_hz=25)
    assert (goal.attributes, card.attributes) == ((("keywords", "left foot"),), ())
    # Resolve gives a marker without length one frame.
    assert spans([goal, card]) == [("goal", 2.0, 6.0), ("card", 10.0, 10.0)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"2","","",""', '"2","A003","","V1"', "line 3: a clip on the track V1, not a marker"),
        ('"card"', '""', "line 3: the label is empty"),
        ('"01:00:10:10",""', '"",""', "line 3: '' is not a timecode. Write H:MM:SS:FF"),
        ('"01:00:10:10",""', '"01:00:09:00",""', "line 3: the end 9 s is before 10 s"),
        ('"01:00:10:10",""', '"01:00:10:25",""', "line 3: 01:00:10:25 counts more frames than the"),
        ('"Notes"', '"Note"', "no line with the columns V, Record In, Record Out, Notes"),
    ],
)
def test_a_wrong_row_of_the_edit_index_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in RESOLVE_EDIT_INDEX
    path = save(tmp_path, RESOLVE_EDIT_INDEX.replace(old, new), "match.csv")
    with pytest.raises(LabelsError, match=message):
        read_labels(path, rate_hz=25)


def test_premieres_list_in_utf16_with_quotes(tmp_path: Path) -> None:
    text = '"Marker Name","Description","In","Out","Duration","Marker Type"\r\n'
    text += '"goal, left","","00:00:01;00","00:00:01;00","00:00:00;00","Comment"\r\n'
    path = save(tmp_path, text.encode("utf-16"), "match.csv")
    assert spans(read_labels(path, rate_hz=29.97)) == [("goal, left", 1.001, 1.001)]
    with pytest.raises(LabelsError, match=r"In: 25 frames per second have no drop-frame timecode"):
        read_labels(path, rate_hz=25)


def film(path: Path, timecode: str | None) -> None:
    """Two seconds at 25 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 32
        if timecode is not None:
            stream.metadata["timecode"] = timecode
        for _ in range(50):
            grey = np.full((32, 32, 3), 99, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("start", "code", "seconds"),
    [
        # From the timecode of the footage, whatever the hour.
        ("10:00:00:00", "10:00:02:00", 2.0),
        # Without a timecode: from one hour, or from zero if a marker is before that.
        (None, "01:00:02:00", 2.0),
        (None, "00:00:02:00", 2.0),
    ],
)
def test_the_start_of_a_timeline(
    tmp_path: Path, start: str | None, code: str, seconds: float
) -> None:
    film(tmp_path / "match.mov", start)
    edit = f"001  001      V     C        {code} {code} {code} {code}"
    text = f"{edit}\n |C:ResolveColorRed |M:goal |D:1\n"
    read = read_labels(save(tmp_path, text, "match.edl"))
    assert spans(read) == [("goal", seconds, seconds)]


def test_a_marker_before_the_footage_is_refused(tmp_path: Path) -> None:
    film(tmp_path / "match.mov", "10:00:00:00")
    with pytest.raises(LabelsError, match="line 5: 01:00:02:00 is before the footage begins"):
        read_labels(save(tmp_path, RESOLVE_MARKERS, "match.edl"))


def test_markers_without_a_rate_say_how_to_give_one(tmp_path: Path) -> None:
    for text in (RESOLVE_MARKERS, PREMIERE_MARKERS):
        with pytest.raises(LabelsError, match=r"times are in frames, .*--rate-hz RATE"):
            read_labels(save(tmp_path, text, "match.txt"))


def test_an_edit_list_without_markers_is_no_label_file(tmp_path: Path) -> None:
    text = RESOLVE_MARKERS.replace("|M:", "M ")
    with pytest.raises(LabelsError, match=r"a CMX 3600 edit list \(EDL\), which Touchline cannot"):
        read_labels(save(tmp_path, text, "match.edl"), rate_hz=25)


def boris(**changes: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(BORIS)
    loaded["observations"]["final"] |= changes
    return loaded


def saved(folder: Path, content: dict[str, Any]) -> Path:
    return save(folder, json.dumps(content), "cup.boris")


def test_boris_keeps_subject_modifier_and_comment(tmp_path: Path) -> None:
    read = read_labels(
        saved(tmp_path, boris(events=[[1.5, "home", "shot", "left|high", "off", 37]]))
    )
    assert spans(read) == [("shot", 1.5, 1.5)]
    assert read[0].group == "final"
    assert dict(read[0].attributes) == {"subject": "home", "modifiers": "left|high", "note": "off"}


def test_states_of_two_subjects_overlap_in_boris(tmp_path: Path) -> None:
    rows = [[t, who, "goal", "", "", 0] for t, who in [(1, "a"), (2, "b"), (3, "a"), (5, "b")]]
    assert spans(read_labels(saved(tmp_path, boris(events=rows)))) == [
        ("goal", 1.0, 3.0), ("goal", 2.0, 5.0),
    ]  # fmt: skip
    with pytest.raises(LabelsError, match=r"events\[4\]: the state 'goal' does not end"):
        read_labels(saved(tmp_path, boris(events=[*rows, rows[0]])))


def test_the_second_file_of_an_observation_has_a_clock_of_its_own(tmp_path: Path) -> None:
    lengths = {"a.mp4": 100.0, "b.mp4": 100.0}
    rows = [[30.0, "", "shot", "", "", 0], [130.0, "", "shot", "", "", 0]]
    path = saved(
        tmp_path,
        boris(file={"1": list(lengths)}, events=rows, media_info={"length": lengths}),
    )
    assert [(e.path.name, e.start_s) for e in read_labels(path)] == [("a.mp4", 30), ("b.mp4", 30)]


TABULAR = """Observation id\tfinal
Media file(s)

Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus
2.000\tC:/games/match.mp4\t60.000\t25.00\thome\tgoal\t\tleft foot\tSTART
3.000\tC:/games/match.mp4\t60.000\t25.00\thome\tshot\tball\t\tPOINT
6.000\tC:/games/match.mp4\t60.000\t25.00\thome\tgoal\t\t\tSTOP
"""


def test_tabular_events_of_boris_join_start_and_stop(tmp_path: Path) -> None:
    read = read_labels(save(tmp_path, TABULAR, "events.tsv"))
    assert spans(read) == [("shot", 3.0, 3.0), ("goal", 2.0, 6.0)]
    assert dict(read[0].attributes) == {"subject": "home", "category": "ball"}
    with pytest.raises(LabelsError, match="line 5: the state 'goal' does not end"):
        read_labels(save(tmp_path, TABULAR.replace("STOP", "POINT"), "events.tsv"))
    with pytest.raises(LabelsError, match="line 7: 'goal' stops, but did not start"):
        read_labels(save(tmp_path, TABULAR.replace("START", "POINT"), "events.tsv"))


def test_points_of_aggregated_events_of_boris_have_no_length(tmp_path: Path) -> None:
    text = BORIS_TABLE.replace("10.400,0.400", "NA,NA")
    assert spans(read_labels(save(tmp_path, text)))[1] == ("card", 10.0, 10.0)


def test_via_names_options_and_keeps_other_attributes(tmp_path: Path) -> None:
    goal, card = read_labels(save(tmp_path, VIA, "via.json"))
    assert (goal.attributes, card.attributes) == ((("team", "home"),), ())
    with pytest.raises(LabelsError, match=r"metadata\.1_b\.av: the segment has no value"):
        read_labels(save(tmp_path, VIA.replace('"av": {"1": "c"}', '"av": {"1": ""}'), "via.json"))
    moment = VIA.replace("[10, 10.4]", "[10]")
    assert spans(read_labels(save(tmp_path, moment, "via.json")))[1] == ("card", 10.0, 10.0)


@pytest.mark.parametrize(
    ("line", "span"),
    [
        ("12:34 goal", ("goal", 754.0, 754.0)),
        ("1:02:03 - penalty saved", ("penalty saved", 3723.0, 3723.0)),
        ("[0:12.5] Tor: 1-0", ("Tor: 1-0", 12.5, 12.5)),
        ("3. 0:10–0:12: corner", ("corner", 10.0, 12.0)),
        ("• (0:10) to (0:12) corner", ("corner", 10.0, 12.0)),
        ("- 90:07 | last minute", ("last minute", 5407.0, 5407.0)),
        ("0:00:10:12 throw-in", ("throw-in", 10.48, 10.48)),
    ],
)
def test_lines_as_people_write_them(tmp_path: Path, line: str, span: Span) -> None:
    assert spans(read_labels(save(tmp_path, line + "\n", "match.txt"), rate_hz=25)) == [span]


def test_a_line_without_a_time_is_named(tmp_path: Path) -> None:
    text = "0:10 goal\nwhat a game\n0:20 card\n"
    with pytest.raises(LabelsError, match=r"line 2: no time at its start\. Write it as 12:34"):
        read_labels(save(tmp_path, text, "match.txt"))


def test_a_table_whose_first_cells_are_times_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="line 1: no column 'video'"):
        read_labels(save(tmp_path, "start,end,label\n0:10,0:12,goal\n0:20,0:22,card\n", "m.csv"))


def test_a_timecode_with_a_short_hour_in_a_spreadsheet(tmp_path: Path) -> None:
    text = "video;label;start_s;end_s;xG\nm.mp4;goal;1:00:02:05;1:00:03:00;0,4\n"
    (read,) = read_labels(save(tmp_path, text, "labels.csv"), rate_hz=25)
    assert (read.start_s, read.end_s) == (3602.2, 3603.0)
    assert read.attributes == (("xG", "0,4"),)


def test_a_marker_without_its_edit_is_named(tmp_path: Path) -> None:
    text = RESOLVE_MARKERS.replace("002  001      V     C", "002  001      A     C")
    with pytest.raises(LabelsError, match="line 8: not a marker after its edit"):
        read_labels(save(tmp_path, text, "match.edl"), rate_hz=25)


@pytest.mark.parametrize(
    "text", ["0:10 goal\n{}x\n", "001 |M: |C:ResolveColor\n{}|C:ResolveColorX"]
)
def test_long_runs_of_spaces_are_read_in_no_time(tmp_path: Path, text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(LabelsError):
        read_labels(save(tmp_path, text.format(" " * 200_000), "match.txt"), rate_hz=25)
    assert time.perf_counter() - start < 5
