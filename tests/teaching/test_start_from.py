"""A project that starts from labels or from detections."""

from pathlib import Path

import pytest

from touchline.models.errors import LabelsError, TouchlineError
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.teaching.project import Project
from touchline.pipeline.teaching.start_from import add_events, add_labels, class_id
from touchline.pipeline.types import Event


@pytest.fixture
def project(tmp_path, footage):
    opened = Project(tmp_path / "project", [footage])
    yield opened
    opened.close()


def write_labels(folder: Path, *rows: str, header: str = "video,label,start_s,end_s,note") -> Path:
    path = folder / "given.csv"
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return path


def marks(project: Project) -> list[tuple[str, float, float, str, str]]:
    names = {one.id: one.name for one in project.state.classes}
    return [
        (names[m.label], m.start_s, m.end_s, m.note, m.source) for m in project.state.marks.values()
    ]


def test_labels_become_marks_once(tmp_path, project):
    path = write_labels(
        tmp_path, "match.mkv,dunk,4.123456,5,good", "match.mkv,block,9,9,", "match.mkv,dunk,14,15,"
    )
    assert add_labels(project, path) == 3
    expected = [
        ("dunk", 4.123456, 5.0, "good", "labels"),
        ("block", 9.0, 9.0, "", "labels"),
        ("dunk", 14.0, 15.0, "", "labels"),
    ]
    assert sorted(marks(project)) == sorted(expected)
    revision = project.revision
    assert add_labels(project, path) == 0
    assert project.revision == revision


def test_its_own_labels_add_nothing(tmp_path, project):
    dunk = class_id(project, "dunk")
    for k in range(7):
        third = {"start": 1 + k / 3, "end": 2 + k / 2.9}
        project.do({"do": "mark", "match": "m1", "class": dunk, **third})
    assert add_labels(project, project.write_labels()) == 0
    assert len(project.state.marks) == 7


def test_class_names_are_cleaned_once(tmp_path, project):
    """Names that a project keeps in another form are the same class the second time."""
    path = write_labels(tmp_path, 'match.mkv,"long  pass",1,2,', 'match.mkv,"long pass",3,4,')
    added = add_labels(project, path)
    assert [one.name for one in project.state.classes] == ["long pass"]
    assert added == len(project.state.marks)
    assert add_labels(project, path) == 0
    assert class_id(project, " long\tpass ") == project.state.classes[0].id


def test_labels_of_other_footage_and_of_no_event_are_left_out(tmp_path, project):
    path = write_labels(
        tmp_path, "other.mkv,dunk,1,2,", "match.mkv,background,3,4,", "match.mkv,dunk,5,6,"
    )
    assert add_labels(project, path) == 1
    assert [m[:3] for m in marks(project)] == [("dunk", 5.0, 6.0)]


@pytest.mark.parametrize(
    "row", ["other.mkv,dunk,1,2,", "match.mkv,dunk,,,", "match.mkv,background,1,2,"]
)
def test_labels_that_add_nothing_at_all_are_reported(tmp_path, project, row):
    with pytest.raises(TouchlineError, match="no label with times for a match of this project"):
        add_labels(project, write_labels(tmp_path, row))
    assert project.state.marks == {}


def test_labels_that_cannot_be_read_are_reported(tmp_path, project):
    with pytest.raises(LabelsError):
        add_labels(project, write_labels(tmp_path, "match.mkv,dunk,x,2,"))
    assert project.state.marks == {}


def test_a_deleted_mark_that_labels_still_have_comes_back_only_with_them(tmp_path, project):
    path = write_labels(tmp_path, "match.mkv,dunk,5,6,")
    add_labels(project, path)
    project.do({"do": "remove_mark", "mark": next(iter(project.state.marks))})
    assert project.state.marks == {}
    assert add_labels(project, path) == 1


EVENTS = (
    Event("dunk", 4, 5, 4.5, 0.9), Event("block", 9, 10, 9.5, 0.6), Event("dunk", 12, 13, 12.4, 0.2)
)  # fmt: skip


def detected(folder: Path, footage: Path, events=EVENTS) -> Path:
    accepted = tuple(event for event in events if event.score >= 0.5)
    result = MatchResult(footage, candidates=tuple(events), accepted=accepted)
    write_result(result, folder / "match", formats=["json"])
    return folder


def test_events_of_a_detection_become_proposals(tmp_path, footage, project):
    assert add_events(project, detected(tmp_path / "out", footage)) == 2
    names = {one.id: one.name for one in project.state.classes}
    found = project.suggested("m1")
    assert [(names[p.event.label], p.event.peak_s, p.event.score) for p in found] == [
        ("dunk", 4.5, 0.9), ("block", 9.5, 0.6), ("dunk", 12.4, 0.2)
    ]  # fmt: skip
    assert [p.accepted for p in found] == [True, True, False]
    assert max(found, key=lambda p: p.teaches).event.score == 0.6
    assert project.state.marks == {}
    folder = project.folder
    project.close()
    again = Project(folder)
    assert again.suggested("m1") == found
    again.close()


def test_events_twice_are_events_once(tmp_path, footage, project):
    out = detected(tmp_path / "out", footage)
    add_events(project, out)
    add_events(project, out)
    assert len(project.suggested("m1")) == 3
    assert len(project.state.classes) == 2


def test_events_of_other_footage_are_reported(tmp_path, footage, project):
    other = footage.with_name("other.mkv")
    other.write_bytes(footage.read_bytes())
    with pytest.raises(TouchlineError, match="no result for a match of this project"):
        add_events(project, detected(tmp_path / "out", other))
