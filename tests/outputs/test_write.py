"""events.csv, events.json and scores.npz: what is written is read back, whole or not at all."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from touchline.models.atomic_files import remove_leftovers, write_atomic
from touchline.models.backbone import ClipSpec
from touchline.models.errors import LabelsError, TouchlineError
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.outputs.score_track import load_track, save_track
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth, ScoreTrack

GOAL = Event("goal", 10.0, 14.5, 12.25, 0.9)
CARD = Event("yellow card", 3.0, 5.0, 4.0, 0.75)
MAYBE = Event("goal", 20.0, 21.0, 20.5, 0.2)


def result(tmp_path: Path, **changes: object) -> MatchResult:
    fields: dict[str, object] = {
        "path": tmp_path / "matches" / "final.mp4",
        "candidates": (GOAL, CARD, MAYBE),
        "accepted": (GOAL, CARD),
        "health": FootageHealth(
            "mp4", "h264", 640, 360, "25/1", False, 60.0, 0.0, damaged_s=((1.0, 2.0),)
        ),
        "options": AppliedOptions(
            hop_s=0.5,
            threshold=0.5,
            point=OperatingPoint(0.5, join_s=2.0),
            events=EventOptions(spots=True),
            thresholds={"goal": 0.5, "yellow card": 0.5},
        ),
        "model": ModelSummary("cnn_lstm", ("background", "goal"), ClipSpec(16, 8.0, 64)),
    }
    return MatchResult(**(fields | changes))  # type: ignore[arg-type]


def test_csv_holds_accepted_events_in_time_order(tmp_path: Path) -> None:
    (path,) = write_result(result(tmp_path), tmp_path / "out" / "final", formats=["csv"])
    assert path.read_text() == (
        "video,label,start_s,end_s,peak_s,score,start,end,peak\n"
        "../../matches/final.mp4,yellow card,3.000,5.000,4.000,0.7500,"
        "0:00:03.000,0:00:05.000,0:00:04.000\n"
        "../../matches/final.mp4,goal,10.000,14.500,12.250,0.9000,"
        "0:00:10.000,0:00:14.500,0:00:12.250\n"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_cells_that_a_spreadsheet_would_run_are_text(tmp_path: Path, start: str) -> None:
    evil = Event(start + "HYPERLINK()", 0.0, 1.0, 0.5)
    (path,) = write_result(result(tmp_path, accepted=(evil,)), tmp_path, formats=["csv"])
    row = next(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert row["label"] == f"'{start}HYPERLINK()"


def test_json_is_read_back_as_the_result_it_was_written_from(tmp_path: Path) -> None:
    written = result(tmp_path, clock=MatchClock({1: -5.0, 2: 3900.5}, period_min=20.0))
    (path,) = write_result(written, tmp_path / "out", formats=["json"])
    document = json.loads(path.read_text())
    assert document["version"] == 1
    assert document["model"]["architecture"] == "cnn_lstm"
    assert document["options"]["match_clock"]["kickoff_s"] == {"1": -5.0, "2": 3900.5}
    assert [row["accepted"] for row in document["events"]] == [True, True, False]
    read = read_events_json(path)
    assert read.path == written.path
    assert read.candidates == (CARD, GOAL, MAYBE)
    assert read.accepted == (CARD, GOAL)
    assert (read.health, read.options) == (written.health, written.options)
    assert (read.model, read.clock) == (written.model, written.clock)


def ours(member: str) -> str:
    """An events.json with one member of another value."""
    members = {"version": "1", "video": '"a.mp4"', "events": "[]"}
    members.pop(member.split('"')[1], None)
    return "{" + ", ".join([f'"{k}": {v}' for k, v in members.items()] + [member]) + "}"


def row(member: str) -> str:
    """An events.json with one event, which has one member of another value."""
    members = {"label": '"goal"', "start_s": "1", "end_s": "2", "peak_s": "1.5", "score": "1"}
    members |= {"accepted": "true"}
    members.pop(member.split('"')[1], None)
    return ours(
        '"events": [{' + ", ".join([f'"{k}": {v}' for k, v in members.items()] + [member]) + "}]"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: the JSON ends too early. The file may be cut short."),
        ("", "line 1: the JSON ends too early. The file may be cut short."),
        ('{"version": x}', r"line 1: not JSON \(Expecting value, column 13\)"),
        ("[" * 100_000, "not JSON that can be used"),
        ('{"version": true, "events": []}', "is version True"),
        ('{"version": 1, "events": []}', r"\$: no 'video' here"),
        (ours('"video": 3'), r"\$\.video: a whole number instead of a text"),
        (ours('"events": [3]'), r"\$\.events\[0\]: a whole number instead of an object"),
        (ours('"options": [1]'), r"\$\.options: a list instead of "),
        (ours('"options": 3'), r"\$\.options: a whole number instead of "),
        (ours('"options": 0'), r"\$\.options: a whole number instead of "),
        (ours('"model": []'), r"\$\.model: a list instead of "),
        (row('"accepted": "false"'), r"\$\.events\[0\]\.accepted: a text instead of true or false"),
        (row('"accepted": 1'), r"\$\.events\[0\]\.accepted: a whole number instead of true or fal"),
        (row('"label": null'), r"\$\.events\[0\]\.label: null instead of a text"),
        (row('"label": 7'), r"\$\.events\[0\]\.label: a whole number instead of a text"),
        (row('"start_s": "1"'), r"\$\.events\[0\]\.start_s: a text instead of a number"),
        (row('"start_s": -1'), r"\$\.events\[0\]: start_s is -1; it must be 0 or more"),
        (row('"start_s": NaN'), r"\$\.events\[0\]: event 'goal' has times nan"),
        (row('"peak_s": 9'), r"\$\.events\[0\]: event 'goal' has peak_s 9.0 outside"),
        (row('"score": 2'), r"\$\.events\[0\]: event 'goal' has score 2.0; it must be in"),
        (row('"score": true'), r"\$\.events\[0\]\.score: true or false instead of a number"),
        (row('"lable": "x"'), r"unknown field `\$\.events\[0\]\.lable`"),
        (row('"label": "x", "label": "y"'), r"\$\.events\[0\]: the key 'label' is there twice"),
        (row('"attributes": {"team": 1}'), r"attributes.*: a whole number instead of a text"),
        (row('"attributes": ["home"]'), r"attributes: a list instead of an object"),
        ("[]", 'has no list "events"'),
        ('{"version": 9, "events": []}', "is version 9"),
        (ours('"events": [{"label": "goal"}]'), r"\$\.events\[0\]: no 'start_s' here"),
        (ours('"footage": {"a": 1}'), r"\$\.footage: no 'container' here"),
        (ours('"options": {"hop_s": "x"}'), r"\$\.options\.hop_s: a text instead of a number"),
        (ours('"options": {"new": 1}'), r"unknown field `\$\.options\.new`.*newer"),
        (ours('"made_by": "x"'), r"unknown field `\$\.made_by`.*newer"),
        (ours('"model": {"spec": {"fit": 1}}'), r"\$\.model\.spec\.fit: a whole number instead"),
        (
            ours('"options": {"match_clock": {"kickoff_s": {}}}'),
            r"\$\.options\.match_clock: there is no kick-off",
        ),
    ],
)
def test_a_json_that_is_not_ours_is_refused_by_name(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "events.json"
    path.write_text(content)
    with pytest.raises(LabelsError, match=message) as caught:
        read_events_json(path)
    assert caught.value.path == str(path)


def test_a_file_that_says_nothing_of_model_and_options_is_read(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    for empty in ("", ', "footage": null, "model": {}, "options": {}'):
        path.write_text(f'{{"version": 1, "video": "a.mp4", "events": []{empty}}}')
        assert read_events_json(path) == MatchResult(tmp_path / "a.mp4")


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no output format 'xls'"):
        write_result(result(tmp_path), tmp_path / "out", formats=["csv", "xls"])
    assert not (tmp_path / "out").exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomic(tmp_path / "events.csv", "old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("touchline.pipeline.outputs.writers.os.fsync", no_space)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomic(path, "new")
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["events.csv"]


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    assert write_atomic(tmp_path / ("x" * 251 + ".csv"), "a").read_text() == "a"


def test_a_score_track_is_read_back_exactly(tmp_path: Path) -> None:
    track = ScoreTrack(
        labels=("background", "Ecke – corner"),
        start_s=np.array([0.0, 0.64]),
        end_s=np.array([2.56, 3.2]),
        probs=np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32),
        damaged=np.array([False, True]),
    )
    read = load_track(save_track(tmp_path / "scores.npz", track))
    assert read.labels == track.labels
    for name in ("start_s", "end_s", "probs", "damaged"):
        assert np.array_equal(getattr(read, name), getattr(track, name))
        assert getattr(read, name).dtype == getattr(track, name).dtype


def test_a_score_track_with_pickled_objects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    np.savez(path, labels=np.array(["background", {}], dtype=object))
    with pytest.raises(TouchlineError, match="not a score track of Touchline"):
        load_track(path)


@pytest.mark.parametrize("damage", ["empty", "cut", "changed"])
def test_a_damaged_score_track_is_one_error_that_names_it(tmp_path: Path, damage: str) -> None:
    path = save_track(
        tmp_path / "scores.npz",
        ScoreTrack(
            labels=("background", "goal"),
            start_s=np.arange(20.0),
            end_s=np.arange(20.0) + 1,
            probs=np.full((20, 2), 0.5, np.float32),
            damaged=np.zeros(20, np.bool_),
        ),
    )
    whole = path.read_bytes()
    if damage == "changed":
        # In the middle of the labels: what is unpacked there has another checksum, or none.
        damaged = [whole[:k] + bytes([whole[k] ^ 255]) + whole[k + 1 :] for k in range(60, 90)]
    else:
        damaged = [whole[:k] for k in ([0] if damage == "empty" else range(1, len(whole), 7))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(TouchlineError, match=r"scores\.npz: not a score track .*\(.+\)"):
            load_track(path)


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    old, fresh = (tmp_path / f".{digit * 12}.part.mp4" for digit in "0a")
    others = [tmp_path / name for name in (".part", "x.part.mp4", ".0123.part", "events.json")]
    for path in (old, fresh, *others):
        path.touch()
    folder = tmp_path / f".{'b' * 12}.part"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    for path in (old, folder, *others):
        os.utime(path, (1e9, 1e9))
    remove_leftovers(tmp_path)
    assert set(tmp_path.iterdir()) == {fresh, *others}
    remove_leftovers(tmp_path / "gone")


WRITES_FOR_LONG = """
import time
from pathlib import Path
from touchline.models.atomic_files import atomic_path
from touchline.tools import cli

def app(_):
    with atomic_path("reel.mp4") as part:
        part.write_text("half")
        print("writing", flush=True)
        time.sleep(60)

cli.app = app
cli.main()
"""


def test_a_run_that_is_told_to_end_leaves_no_temporary_file(tmp_path: Path) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", WRITES_FOR_LONG], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == "writing\n"
        assert len(list(tmp_path.iterdir())) == 1
        run.terminate()
        assert run.wait(timeout=30) == 143
    assert list(tmp_path.iterdir()) == []
