"""A project on disk: its lock, its footage that moves, goes or changes, and its labels."""

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from studio_material import hold_open, write_match

from touchline.models.checkpoint import file_digest
from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline import line_file
from touchline.pipeline.footage.address import footage_path
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.teaching import project as project_module
from touchline.pipeline.teaching.actions import ActionError
from touchline.pipeline.teaching.journal import JournalError
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.teaching.project import Project


def teach(project: Project, *, match: str = "m1") -> None:
    """Two classes; a long dunk with a note, and a block as a spot, marked in wrong order."""
    dunk = project.do({"do": "add_class", "name": 'dunk, "big"'})[1]
    block = project.do({"do": "add_class", "name": "block"})[1]
    project.do({"do": "mark", "match": match, "class": block, "start": 9.04, "end": 9.04})
    project.do(
        {
            "do": "mark", "match": match, "class": dunk, "start": 1.2345, "end": 2.5,
            "note": 'said "yes", then\nleft; ünïcode',
        }
    )  # fmt: skip


def test_a_second_project_is_refused_and_told_the_address(tmp_path, footage):
    folder = tmp_path / "project"
    project = Project(folder, [footage])
    with pytest.raises(TouchlineError, match="has this project open"):
        Project(folder)
    project.announce("http://127.0.0.1:8123/")
    with pytest.raises(TouchlineError, match=r"at http://127\.0\.0\.1:8123/\. Use that one"):
        Project(folder)
    project.close()
    Project(folder).close()


def test_the_lock_of_a_killed_studio_is_taken_over(tmp_path, footage):
    folder, ready = tmp_path / "project", tmp_path / "ready"
    child = multiprocessing.get_context("forkserver").Process(
        target=hold_open, args=(folder, footage, ready), daemon=True
    )
    child.start()
    until = time.monotonic() + 60
    while not ready.exists() and time.monotonic() < until:
        time.sleep(0.01)
    with pytest.raises(TouchlineError, match=r"at http://127\.0\.0\.1:1234/"):
        Project(folder)
    child.kill()
    child.join()
    Project(folder).close()


def test_an_error_while_opening_gives_the_lock_back(tmp_path, footage):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "journal.jsonl").write_text("other\n")
    with pytest.raises(JournalError):
        Project(folder, [footage])
    (folder / "journal.jsonl").unlink()
    Project(folder, [footage]).close()


def test_a_slip_in_a_name_leaves_no_folder_behind(tmp_path, footage):
    folder = tmp_path / "project"
    with pytest.raises(TouchlineError, match="is no project"):
        Project(folder)
    with pytest.raises(FootageError, match="no such file"):
        Project(folder, [footage, tmp_path / "none.mp4"])
    assert not folder.exists()


def test_everything_is_there_after_a_restart(tmp_path, footage):
    folder = tmp_path / "project"
    project = Project(folder, [footage])
    teach(project)
    project.do({"do": "undo"})
    before = (project.state, project.revision, project.can_redo, dict(project.matches))
    project.close()
    again = Project(folder)
    assert (again.state, again.revision, again.can_redo, dict(again.matches)) == before
    again.do({"do": "redo"})
    assert len(again.state.marks) == 2
    again.close()


def test_footage_is_added_once_and_more_can_come(tmp_path, footage, monkeypatch):
    other = write_match(tmp_path / "other.mkv", [], seconds=2)
    Project(tmp_path / "project", [footage, footage]).close()
    monkeypatch.chdir(tmp_path)
    project = Project(Path("project"), [Path("match.mkv"), Path("./other.mkv")])
    assert {m.id: m.path for m in project.matches.values()} == {"m1": footage, "m2": other}
    project.close()


def test_footage_elsewhere_is_refused(tmp_path, footage):
    for folder in (tmp_path / "new", tmp_path / "old"):
        with pytest.raises(FootageError, match=r"https://example\.org/x\.mp4: is an address"):
            Project(folder, [footage_path("https://example.org/x.mp4")])
        assert not (tmp_path / "new").exists()
        Project(tmp_path / "old", [footage]).close()


def test_labels_follow_the_marks_and_read_back(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    path = project.write_labels()
    assert path == tmp_path / "project" / "labels.csv"
    found = read_labels(path)
    assert [(e.label, e.group, e.start_s, e.end_s) for e in found] == [
        ('dunk, "big"', "match", 1.2345, 2.5),
        ("block", "match", 9.04, 9.04),
    ]
    assert [e.path.resolve() for e in found] == [footage, footage]
    assert dict(found[0].attributes)["note"] == 'said "yes", then\nleft; ünïcode'
    assert not dict(found[1].attributes).get("note")
    project.do({"do": "remove_class", "class": "a1"})
    project.write_labels()
    assert [e.label for e in read_labels(path)] == ["block"]
    project.close()


def test_labels_are_written_when_the_project_opens(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    project.close()
    (tmp_path / "project" / "labels.csv").unlink(missing_ok=True)
    Project(tmp_path / "project").close()
    assert len(read_labels(tmp_path / "project" / "labels.csv")) == 2


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "=1+1", "a,b;c", '"', "ü" * 200])
def test_any_class_name_reads_back_from_the_labels(tmp_path, footage, name):
    project = Project(tmp_path / "project", [footage])
    project.do({"do": "add_class", "name": name})
    project.do({"do": "mark", "match": "m1", "class": "a1", "start": 1, "end": 2})
    assert [e.label for e in read_labels(project.write_labels())] == [name]
    project.close()


def test_footage_may_move_with_the_project(tmp_path, footage):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    moved = Path(shutil.move(footage, old / "match.mkv"))
    project = Project(old / "project", [moved])
    teach(project)
    project.remember_content("m1", file_digest(moved))
    project.close()
    old.rename(new)
    project = Project(new / "project")
    assert project.matches["m1"].path == new / "match.mkv"
    assert project.is_unchanged("m1")
    assert [e.path.resolve() for e in read_labels(new / "project" / "labels.csv")] == [
        new / "match.mkv"
    ] * 2
    project.close()


def test_footage_that_is_gone_is_reported_and_marks_stay(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    project.close()
    hidden = footage.rename(tmp_path / "hidden.mkv")
    project = Project(tmp_path / "project", [footage])
    with pytest.raises(FootageError, match=r"match\.mkv"):
        project.health_of("m1")
    with pytest.raises(FootageError, match="No such file"):
        project.is_unchanged("m1") or project.remember_content("m1", "0" * 64)
    project.do({"do": "mark", "match": "m1", "class": "a1", "start": 3, "end": 4})
    assert len(read_labels(project.write_labels())) == 3
    hidden.rename(footage)
    assert project.health_of("m1").duration_s == pytest.approx(24, abs=0.3)
    project.close()


@pytest.mark.parametrize("same_size", [True, False])
def test_footage_that_changed_is_reported(tmp_path, footage, same_size):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    project.remember_content("m1", file_digest(footage))
    project.close()
    content = footage.read_bytes()
    footage.write_bytes(content[:-9] + bytes(9 if same_size else 10))
    project = Project(tmp_path / "project")
    assert not project.is_unchanged("m1")
    with pytest.raises(FootageError, match="has changed since its marks were made"):
        project.remember_content("m1", file_digest(footage))
    assert len(project.state.marks) == 2
    project.close()


def test_footage_that_changed_before_its_digest_was_known_is_reported(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    project.close()  # before anybody computed a digest
    write_match(footage, [("red", 1, 2)], seconds=9)
    project = Project(tmp_path / "project")
    with pytest.raises(FootageError, match="has changed since its marks were made"):
        project.remember_content("m1", file_digest(footage))
    project.close()


def test_a_new_time_of_change_alone_is_no_change(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    project.remember_content("m1", file_digest(footage))
    os.utime(footage, (1, 1))
    assert not project.is_unchanged("m1")
    project.remember_content("m1", file_digest(footage))
    assert project.is_unchanged("m1")
    project.close()
    project = Project(tmp_path / "project")
    assert project.is_unchanged("m1")
    project.close()


def test_options_stay_as_they_were_chosen(tmp_path, footage, options):
    folder = tmp_path / "project"
    Project(folder, [footage], options).close()
    for asked in (None, options, StudioOptions(), dataclasses.replace(options, device="auto")):
        project = Project(folder, (), asked)
        assert dataclasses.replace(project.options, device="cpu") == options
        project.close()
    for other in ({"rate_hz": 2.0}, {"size_px": 64}, {"backbone": "cnn_lstm"}):
        with pytest.raises(TouchlineError, match=r"was made with colours.*-o"):
            Project(folder, (), dataclasses.replace(options, **other))
    elsewhere = dataclasses.replace(options, device="cuda:1", precision="bf16")
    project = Project(folder, (), elsewhere)
    assert project.options == elsewhere
    project.close()


def test_other_weights_are_reported(tmp_path, footage, options):
    Project(tmp_path / "project", [footage], options).close()
    other = dataclasses.replace(options, weights="elsewhere.safetensors")
    with pytest.raises(TouchlineError, match=r"with colours, .*colours\.safetensors"):
        Project(tmp_path / "project", (), other)


EVENT = {"class": "a1", "start": 1, "end": 2, "peak": 1.5, "score": 0.5, "accepted": True}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"action": {"do": "undo"}}, r"does not fit those before it \(there is nothing to undo"),
        (
            {"action": {"do": "mark", "match": "m1", "class": "a1", "start": 1, "end": 2}},
            r"does not fit those before it \(this class does not exist",
        ),
        ({"action": 7}, r"is damaged \(\$\.action: a whole number instead of an object"),
        (
            {"action": {"do": "mark", "start": "1"}},
            r"\(\$\.action\.start: a text instead of a number",
        ),
        ({"action": {"do": "undo", "why": "x"}}, r"\(unknown field `\$\.action\.why`"),
        ({"match": "m2"}, r"is damaged \(\$: no 'path' here"),
        (
            {"match": "m2", "path": 7, "stamp": [1, 2]},
            r"\(\$\.path: a whole number instead of a text",
        ),
        (
            {"match": "m2", "path": "a", "stamp": [1, 2.5]},
            r"\(\$\.stamp\[1\]: a number instead of a wh",
        ),
        ({"suggested": "m1", "events": [{"class": "a1"}]}, r"\(\$\.events\[0\]: no '\w+' here"),
        ({"suggested": "m1", "events": 3}, r"\(\$\.events: a whole number instead of a list"),
        (
            {"suggested": "m1", "events": [EVENT | {"accepted": "false"}]},
            r"\(\$\.events\[0\]\.accepted: a text instead of true or false",
        ),
        ({"settings": {"speed": 9}}, r"\(unknown field `\$\.settings\.speed`\. A newer Touchline"),
        ({"settings": {"rate_hz": -1}}, r"\(\$\.settings: rate_hz is -1"),
        ({"later": "what a newer Touchline wrote"}, r"is damaged \(\$: it holds later"),
    ],
)
def test_a_line_that_does_not_fit_is_named(tmp_path, footage, line, says):
    Project(tmp_path / "project", [footage]).close()
    path = tmp_path / "project" / "journal.jsonl"
    number = len(path.read_text().splitlines()) + 1
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    before = path.read_bytes()
    with pytest.raises(JournalError, match=rf"line {number} .*{says}"):
        Project(tmp_path / "project")
    assert path.read_bytes() == before


def test_a_mark_needs_a_match_of_the_project(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    with pytest.raises(ActionError, match="no match 'm9'"):
        teach(project, match="m9")
    assert len(project.state.marks) == 0
    project.close()


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing(tmp_path, footage, monkeypatch):
    project = Project(tmp_path / "project", [footage])
    teach(project)
    before = (project.state, project.revision)
    with monkeypatch.context() as patch:
        patch.setattr(line_file.os, "fsync", full)
        for action in ({"do": "undo"}, {"do": "add_class", "name": "pass"}):
            with pytest.raises(
                JournalError, match=r"No space left on device\. Nothing was changed"
            ):
                project.do(action)
            assert (project.state, project.revision) == before
    assert project.do({"do": "undo"})[0] == 5
    project.close()


def test_a_project_opens_on_a_full_disk(tmp_path, footage, monkeypatch):
    """labels.csv follows from the journal, so that it cannot be written costs nothing."""
    project = Project(tmp_path / "project", [footage])
    teach(project)
    project.close()
    monkeypatch.setattr(project_module, "write_atomic", full)
    project = Project(tmp_path / "project")
    assert len(project.state.marks) == 2
    project.close()


def test_threads_that_act_at_once_get_different_ids(tmp_path, footage):
    project = Project(tmp_path / "project", [footage])
    project.do({"do": "add_class", "name": "dunk"})
    made: list[tuple[int, str]] = []

    def act() -> None:
        for k in range(20):
            made.append(
                project.do({"do": "mark", "match": "m1", "class": "a1", "start": k, "end": k})
            )

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(revision for revision, _ in made) == list(range(2, 82))
    assert len({one for _, one in made}) == len(project.state.marks) == 80
    project.close()
