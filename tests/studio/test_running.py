"""A studio from its start to its end: teaching, news, signals, kills and full disks."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from studio_material import mean_colours, write_match
from studio_process import RunningStudio, start_touchline, wait_for

from touchline.models import catalog
from touchline.models.checkpoint import load_checkpoint
from touchline.pipeline.labels.read import read_labels

pytest.importorskip("starlette", reason="no studio: pip install 'touchline[studio]'")
pytest.importorskip("uvicorn", reason="no studio: pip install 'touchline[studio]'")

REDS = [5 + 9 * k for k in range(6)]


@pytest.fixture
def fresh(matches, network, tmp_path):
    """A studio with a project of its own, over the first match."""
    running = RunningStudio(tmp_path / "project", matches[0], *network).start()
    yield running
    running.stop(signal.SIGKILL)


def mark(studio: RunningStudio, label: str, start: float, end: float, **more: object) -> str:
    return studio.do(do="mark", match="m1", start=start, end=end, **({"class": label} | more))


def proposals(studio: RunningStudio, match: str = "m1") -> list[dict]:
    return studio.ask(f"/api/matches/{match}/proposals").json["proposals"]


def test_from_two_marks_to_a_model_and_files(fresh, matches, tmp_path):
    """The whole way: mark, learn, answer, correct, undo, export, save, start again."""
    project = fresh.project()
    assert project["learning"]["waitsFor"] == "a class: name what you look for"
    assert fresh.post("/api/model", {}).status == 400
    assert fresh.post("/api/export", {"formats": ["csv"]}).status == 400
    red = fresh.do(do="add_class", name="red card")
    mark(fresh, red, 5, 6)
    fresh.wait(lambda p: p["learning"]["waitsFor"] == "two marks of one class")
    mark(fresh, red, 14, 15)
    fresh.wait(lambda p: {m["features"]["state"] for m in p["matches"]} == {"done"})
    # It has learnt while features came; the last time is on all of them.
    wait_for(
        lambda: [round(p["peak"] - 0.5) for p in proposals(fresh) if p["accepted"]] == REDS[2:]
    )
    found = proposals(fresh)
    assert {p["class"] for p in found} == {red}
    curves = fresh.ask("/api/matches/m1/curves").json
    assert list(curves["values"]) == [red]

    # Two are accepted, one of them shifted; one is rejected.
    first, second, third = [p for p in found if p["accepted"]][:3]
    answer = {"match": "m1", "class": red, "score": first["score"]}
    fresh.do(do="accept", start=first["start"], end=first["end"], **answer)
    shifted = fresh.do(do="accept", start=second["start"] - 0.25, end=second["end"], **answer)
    fresh.do(do="reject", start=third["start"], end=third["end"], **answer)
    left = [round(p["peak"] - 0.5) for p in proposals(fresh)]
    assert not {23, 32, 41} & set(left)
    counts = fresh.ask("/api/matches/m1/proposals").json["counts"]
    assert (counts["confirmed"], counts["rejected"]) == (4, 1)
    assert fresh.act(do="undo").status == 200
    assert fresh.act(do="undo").status == 200
    marks = {m["id"]: m for m in fresh.project()["matches"][0]["marks"]}
    assert len(marks) == 3
    assert shifted not in marks
    fresh.do(do="redo")

    made = fresh.post("/api/export", {"formats": ["csv", "srt", "json"]})
    assert made.status == 200
    assert made.json["problems"] == []
    assert [Path(path).name for path in made.json["files"]] == [
        "events.csv", "events.srt", "events.json", "labels.csv",
    ]  # fmt: skip
    assert all(Path(path).is_file() for path in made.json["files"])
    labels = read_labels(fresh.project_folder / "labels.csv")
    assert [(e.label, e.group, e.path.resolve()) for e in labels] == [
        ("red card", "grass", matches[0])
    ] * 4
    wait_for(lambda: fresh.project()["learning"]["state"] == "idle")
    saved = fresh.post("/api/model", {})
    assert saved.status == 200
    assert Path(saved.json["path"]) == fresh.project_folder / "model.safetensors"
    assert "touchline detect OTHER.mp4 --model" in saved.json["text"]

    before = fresh.project()
    assert fresh.stop() == 128 + signal.SIGTERM
    fresh.start()
    after = fresh.project()
    for key in ("revision", "classes", "canUndo", "canRedo"):
        assert after[key] == before[key]
    assert [m["marks"] for m in after["matches"]] == [m["marks"] for m in before["matches"]]
    fresh.wait(lambda p: p["learning"]["version"] > 0)


@pytest.mark.slow
def test_a_class_that_goes_while_it_is_learnt_costs_nothing(fresh, monkeypatch):
    """The newest head may know classes that were removed or renamed since."""
    monkeypatch.setitem(catalog.BACKBONES, "colours", mean_colours)
    red, blue = (fresh.do(do="add_class", name=name) for name in ("red", "blue"))
    for start in (5, 14):
        mark(fresh, red, start, start + 1)
    for start in (10, 28):
        mark(fresh, blue, start, start + 1)
    fresh.wait(lambda p: p["learning"]["version"] > 0 and p["learning"]["state"] == "idle")
    for action in (
        {"do": "edit_class", "class": red, "name": "dunk"},
        {"do": "merge_classes", "class": blue, "into": red},
        {"do": "undo"},
        {"do": "remove_class", "class": blue},
    ):
        fresh.do(**action)
        for path in ("proposals", "curves", "waveform"):
            assert fresh.ask(f"/api/matches/m1/{path}").status == 200
        answer = fresh.post("/api/model", {})
        assert answer.status == 200, answer
        saved = load_checkpoint(fresh.project_folder / "model.safetensors")
        assert set(saved.labels[1:]) == {c["name"] for c in fresh.project()["classes"]}
    assert {p["class"] for p in proposals(fresh)} <= {red}


def test_two_clients_are_in_step(studio):
    with studio.updates() as first, studio.updates() as second:
        news = [next(first), next(second)]
        assert news[0]["revision"] == news[1]["revision"]
        made = studio.do(do="add_class", name="in step")
        for stream in (first, second):
            while next(stream)["revision"] <= news[0]["revision"]:
                pass
        assert any(c["id"] == made for c in studio.project()["classes"])
        studio.do(do="undo")
        for stream in (first, second):
            while (got := next(stream))["revision"] <= news[0]["revision"] + 1:
                pass
            assert {"learning", "features", "proxy"} <= got.keys()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_signals_end_it_within_seconds_and_leave_nothing_half_written(fresh, number, code):
    red = fresh.do(do="add_class", name="red")
    for start in (5, 14):
        mark(fresh, red, start, start + 1)
    with fresh.updates() as stream:
        next(stream)
        began = time.monotonic()
        assert fresh.stop(number) == code
        assert time.monotonic() - began < 10
        assert list(stream) is not None  # it has ended
    assert len(read_labels(fresh.project_folder / "labels.csv")) == 2
    left = [p for p in fresh.project_folder.rglob("*") if ".part" in p.name]
    assert left == []
    assert not (fresh.project_folder / "address.txt").exists()
    assert "Traceback" not in fresh.printed
    if number == signal.SIGINT:
        assert "Go on with: touchline studio -o" in " ".join(fresh.printed.split())


@pytest.mark.slow
def test_what_was_acknowledged_outlives_a_kill_in_mid_action(fresh):
    red = fresh.do(do="add_class", name="red")
    for _ in range(2):
        acknowledged: list[str] = []
        stop = threading.Event()

        def hammer(acknowledged=acknowledged, stop=stop) -> None:
            try:
                while not stop.is_set():
                    acknowledged.append(mark(fresh, red, len(acknowledged) % 50, 55))
            except (OSError, ValueError, AssertionError):
                stop.set()

        clients = [threading.Thread(target=hammer) for _ in range(3)]
        for client in clients:
            client.start()
        wait_for(lambda acknowledged=acknowledged: len(acknowledged) > 20)
        fresh.stop(signal.SIGKILL)
        stop.set()
        for client in clients:
            client.join()
        fresh.start()
        there = {m["id"] for m in fresh.project()["matches"][0]["marks"]}
        assert set(acknowledged) <= there


def limit_file_size(studio: RunningStudio, size: int | None) -> None:
    hard = resource.prlimit(studio.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(
        studio.process.pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard)
    )


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits other processes")
def test_a_disk_that_fills_up_is_reported_and_loses_nothing(fresh):
    red = fresh.do(do="add_class", name="red")
    for start in (5, 14):
        mark(fresh, red, start, start + 1)
    fresh.wait(lambda p: p["learning"]["version"] > 0 and p["learning"]["state"] == "idle")
    fresh.wait(lambda p: {m["features"]["state"] for m in p["matches"]} == {"done"})
    before = fresh.project()
    journal = fresh.project_folder / "journal.jsonl"
    limit_file_size(fresh, journal.stat().st_size + 7)
    for _ in range(2):
        answer = fresh.act(do="mark", match="m1", start=1, end=2, **{"class": red})
        assert answer.status == 507
        assert "Nothing was changed" in answer.json["error"]
    answer = fresh.post("/api/model", {})
    assert answer.status in (422, 500)
    assert answer.json["error"]
    assert not (fresh.project_folder / "model.safetensors").exists()
    assert fresh.project()["revision"] == before["revision"]
    limit_file_size(fresh, None)
    mark(fresh, red, 23, 24)
    assert fresh.post("/api/model", {}).status == 200
    assert fresh.stop() == 143
    fresh.start()
    assert len(fresh.project()["matches"][0]["marks"]) == 3


def test_labels_that_cannot_be_written_are_reported(fresh):
    red = fresh.do(do="add_class", name="red")
    labels = fresh.project_folder / "labels.csv"
    wait_for(labels.exists)
    fresh.wait(lambda p: p["learning"]["state"] == "idle")
    labels.unlink()
    labels.mkdir()
    mark(fresh, red, 23, 24)
    fresh.wait(lambda p: "labels.csv cannot be written" in (p["learning"]["problem"] or ""))
    labels.rmdir()
    mark(fresh, red, 32, 33)
    fresh.wait(lambda p: p["learning"]["problem"] is None)
    wait_for(lambda: labels.exists() and len(read_labels(labels)) == 2)


def test_a_second_studio_is_refused_and_told_where_the_first_is(studio, tmp_path):
    second = start_touchline(
        ["studio", "-o", str(studio.project_folder), "--no-open"], tmp_path / "second.txt"
    )
    second.join(timeout=60)
    said = " ".join((tmp_path / "second.txt").read_text().split())
    assert second.exitcode == 1
    assert f"has this project open, at http://127.0.0.1:{studio.port}/" in said
    assert studio.token not in said
    assert studio.project()["revision"] >= 0


def test_a_port_that_is_taken_is_reported(studio, matches, network, tmp_path):
    arguments = ["studio", str(matches[0]), "-o", str(tmp_path / "p"), "--no-open", *network]
    other = start_touchline([*arguments, "--port", str(studio.port)], tmp_path / "said.txt")
    other.join(timeout=60)
    assert other.exitcode == 1
    assert "choose another --port" in (tmp_path / "said.txt").read_text()
    assert not (tmp_path / "p" / "address.txt").exists()


def test_strange_names_are_harmless_on_the_terminal_and_in_the_page(network, tmp_path):
    evil = "x\x1b]0;owned\x07<script>alert(1)&\x85.mkv"
    footage = write_match(tmp_path / evil, [], seconds=2)
    latin = write_match(tmp_path / os.fsdecode(b"caf\xe9.mkv"), [], seconds=2)
    folder = tmp_path / "p\x1b[2J<b>[red]"
    running = RunningStudio(folder, footage, latin, *network).start()
    project = running.project()
    assert [m["name"] for m in project["matches"]] == [evil, latin.name]
    page = running.ask("/")
    assert b"&lt;b&gt;" in page.body
    assert b"<b>[red]" not in page.body
    red = running.do(do="add_class", name="\x1b[31mred\x07")
    running.do(do="mark", match="m2", start=1, end=1, **{"class": red})
    running.wait(lambda p: {m["features"]["state"] for m in p["matches"]} <= {"done", "failed"})
    assert running.stop(signal.SIGINT) == 0
    printed = running.output.read_bytes()
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2\x85", printed)
    assert b"p\xef\xbf\xbd[2J<b>[red]" in printed.replace(b"\n", b"")


@pytest.mark.slow
def test_footage_that_disappears_and_comes_back(network, tmp_path):
    footage = write_match(tmp_path / "grass.mkv", [("red", 1, 2)], seconds=6)
    running = RunningStudio(tmp_path / "project", footage, *network).start()
    running.wait(lambda p: p["matches"][0]["features"]["state"] == "done")
    red = running.do(do="add_class", name="red")
    mark(running, red, 1, 2)
    hidden = footage.rename(tmp_path / "hidden")
    assert "no such file" in running.project()["matches"][0]["problem"]
    for path in ("/media/m1", "/api/matches/m1/picture?t=1.25"):
        answer = running.ask(path)
        assert 400 <= answer.status < 500
        assert "grass.mkv" in answer.json["error"]
    mark(running, red, 3, 4)
    assert running.post("/api/export", {"formats": ["csv"]}).status == 200
    # A restart without the footage keeps everything, and says what is missing.
    assert running.stop() == 143
    running.start()
    running.wait(lambda p: p["matches"][0]["features"]["state"] == "failed")
    row = running.project()["matches"][0]
    assert "grass.mkv" in row["problem"]
    assert len(row["marks"]) == 2
    assert running.post("/api/export", {"formats": ["csv"]}).status == 200
    running.stop()
    hidden.rename(footage)
    running.start()
    row = running.wait(lambda p: p["matches"][0]["features"]["state"] == "done" and p)["matches"][0]
    assert row["problem"] is None
    running.stop()
    # Another file under the same name is not taken for it, now or later.
    running.start()
    running.wait(lambda p: p["matches"][0]["features"]["state"] == "done")
    write_match(footage, [("blue", 3, 4)], seconds=6)
    assert "was written to" in running.project()["matches"][0]["problem"]
    running.stop()
    running.start()
    running.wait(lambda p: "has changed" in (p["matches"][0]["problem"] or ""))
    assert len(running.project()["matches"][0]["marks"]) == 2
    running.stop()


@pytest.mark.slow
def test_features_go_on_after_a_kill(network, tmp_path):
    footage = write_match(tmp_path / "long.mkv", [("red", 1, 2)], seconds=600)
    running = RunningStudio(tmp_path / "project", footage, *network).start()
    running.wait(lambda p: p["matches"][0]["features"]["doneS"] > 30)
    running.stop(signal.SIGKILL)
    track = next((tmp_path / "project" / "features").iterdir())
    rows = (track / "damaged.u8").stat().st_size
    assert rows >= 100
    running.start()
    running.wait(lambda p: p["matches"][0]["features"]["state"] == "done")
    assert (track / "damaged.u8").stat().st_size == 2400
    running.stop()


@pytest.mark.slow
def test_a_copy_that_is_being_made_does_not_hold_the_end_up(network, tmp_path):
    footage = write_match(tmp_path / "long.mkv", [], seconds=600)
    running = RunningStudio(tmp_path / "project", footage, *network).start()
    assert running.post("/api/matches/m1/proxy", {}).status == 200
    time.sleep(0.5)
    began = time.monotonic()
    assert running.stop() == 143
    assert time.monotonic() - began < 10
    assert "Traceback" not in running.printed
    running.start()
    assert running.project()["matches"][0]["proxy"]["state"] in ("none", "done")
    running.stop()


@pytest.mark.slow
def test_the_command_itself(matches, network, tmp_path):
    """As people start it: a process of its own, its address on standard error."""
    command = [sys.executable, "-m", "touchline.tools.cli", "studio", str(matches[1])]
    command += ["--no-open", "--size", "32"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    line = process.stderr.readline()
    assert re.search(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", line)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert (tmp_path / "drawn.studio" / "journal.jsonl").is_file()


def test_a_journal_of_another_version_is_reported(matches, network, tmp_path):
    (tmp_path / "project").mkdir()
    journal = tmp_path / "project" / "journal.jsonl"
    journal.write_text(json.dumps({"format": "touchline-studio-9"}) + "\n")
    process = start_touchline(
        ["studio", str(matches[0]), "-o", str(tmp_path / "project")], tmp_path / "said.txt"
    )
    process.join(timeout=60)
    assert process.exitcode == 1
    said = " ".join((tmp_path / "said.txt").read_text().split())
    assert "is of another version ('touchline-studio-9'" in said
    assert journal.read_text() == '{"format": "touchline-studio-9"}\n'
