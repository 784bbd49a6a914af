"""What leaves a project: a model that scores as the studio does, and files of every format."""

import numpy as np
import pytest
from drawn_footage import write_footage
from studio_material import write_match

from touchline.models.checkpoint import load_checkpoint
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.outputs import writers as writers_module
from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.outputs.writers import WRITERS
from touchline.pipeline.scoring.feature_track import FeatureTrack
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.studio.engine import spans_of, usual_lengths
from touchline.pipeline.teaching.learning import averaged, learn, propose
from touchline.pipeline.teaching.output import (
    MODEL_FILE,
    export_events,
    learnt_model,
    open_trunk,
    save_model,
)
from touchline.pipeline.teaching.project import Project

pytestmark = pytest.mark.usefixtures("one_thread")

SPOTS = DetectOptions(hop_s=0.25, device="cpu", events=EventOptions(spots=True))
"""As `touchline detect --spots` looks."""

REDS, BLUES = [4 + 11 * k for k in range(8)], [9 + 22 * k for k in range(4)]


@pytest.fixture
def taught(tmp_path, options):
    """A project with three red cards and two blue ones marked, and what it has learnt."""
    events = [("red", t, t + 1.5) for t in REDS] + [("blue", t, t + 1.5) for t in BLUES]
    footage = write_match(tmp_path / "taught.mkv", events, seconds=90)
    project = Project(tmp_path / "project", [footage], options)
    for name, times in (("red card", REDS[:3]), ("blue card", BLUES[:2])):
        label = project.do({"do": "add_class", "name": name})[1]
        for t in times:
            project.do({"do": "mark", "match": "m1", "class": label, "start": t, "end": t + 1.5})
    trunk = open_trunk(options)
    track = FeatureTrack(tmp_path / "features", "key")
    track.compute(footage, Scorer(trunk, device="cpu", mode="shared"))
    learned = learn({"m1": track.rows()}, spans_of(project.state.marks.values()), [])
    yield project, trunk, learned
    project.close()


def test_the_saved_model_finds_what_the_studio_proposes(taught):
    project, trunk, learned = taught
    path = save_model(project, trunk, learned)
    model = load_checkpoint(path)
    assert model.labels == ("background", "red card", "blue card")
    footage = project.matches["m1"].path
    result = detect(footage, model, SPOTS)
    found, track = result.accepted, result.track
    names = {one.id: one.name for one in project.state.classes}
    proposed = propose(
        learned.tracks["m1"],
        lengths_s=usual_lengths(project.state),
        thresholds=learned.thresholds,
    )
    expected = [(names[p.event.label], p.event.peak_s) for p in proposed if p.accepted]
    assert [(e.label, round(e.peak_s, 1)) for e in found] == [
        (label, pytest.approx(peak_s, abs=0.3)) for label, peak_s in expected
    ]
    assert len(found) == len(REDS) + len(BLUES)
    # Its scores are those of the head on the features of the project.
    rows = FeatureTrack(project.folder.parent / "features", "key").rows()
    reach = learned.window_rows // 2
    logits = learned.head()(averaged(rows.features, np.arange(len(rows)), reach))
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = odds / odds.sum(axis=1, keepdims=True)
    centre_s = (rows.start_s + rows.end_s) / 2
    at = np.abs(centre_s[None] - track.centre_s[:, None]).argmin(axis=1)
    same = np.abs(centre_s[at] - track.centre_s) < 0.01
    assert same.mean() > 0.9
    np.testing.assert_allclose(track.probs[same], expected[at[same]], atol=0.01)


def test_the_saved_model_finds_the_events_of_another_match(taught, tmp_path):
    project, trunk, learned = taught
    model = load_checkpoint(save_model(project, trunk, learned))
    events = [("red", 3, 4.5), ("blue", 12, 13.5), ("red", 20, 21.5)]
    other = write_match(tmp_path / "other.mkv", events, seconds=30, seed=4)
    found = detect(other, model, SPOTS).accepted
    assert [(e.label.split()[0], e.peak_s) for e in found] == [
        (name, pytest.approx((start + end) / 2, abs=0.8)) for name, start, end in events
    ]


def test_the_model_says_where_it_comes_from(taught):
    project, trunk, learned = taught
    model = load_checkpoint(save_model(project, trunk, learned))
    assert model.architecture == "colours"
    assert model.record.groups.train == ("taught",)
    assert model.record.weights.sha256 == trunk.record.weights.sha256
    assert model.thresholds == {"red card": 0.4, "blue card": 0.4}
    assert not list(project.folder.glob("*.part*"))


def test_a_class_without_features_yet_is_saved_and_never_found(taught, tmp_path):
    project, trunk, _ = taught
    far = project.do({"do": "add_class", "name": "far"})[1]
    project.do({"do": "mark", "match": "m1", "class": far, "start": 500, "end": 501})
    track = FeatureTrack(tmp_path / "features", "key")
    learned = learn({"m1": track.rows()}, spans_of(project.state.marks.values()), [])
    model = load_checkpoint(save_model(project, trunk, learned))
    assert "far" in model.labels
    scored = detect(project.matches["m1"].path, model, SPOTS).track
    assert np.isfinite(scored.probs).all()
    assert (scored.probs[:, model.labels.index("far")] < 1e-6).all()


def test_names_of_now_are_saved(taught):
    project, trunk, learned = taught
    project.do({"do": "edit_class", "class": "a1", "name": "sent off"})
    assert save_model(project, trunk, learned).name == MODEL_FILE
    names = {one.id: one.name for one in project.state.classes}
    model = learnt_model(trunk, learned, names, learned.thresholds, groups=["taught"])
    assert "sent off" in model.labels


@pytest.fixture
def marked(tmp_path):
    """A project over footage with sound and 25 frames per second; three events."""
    footage = write_footage(tmp_path / "drawn.mp4", seconds=8)
    project = Project(tmp_path / "project", [footage])
    for name in ("dunk", "block"):
        project.do({"do": "add_class", "name": name})
    for label, start, end in (("a1", 4, 5), ("a2", 2, 2), ("a1", 1, 1.5)):
        project.do({"do": "mark", "match": "m1", "class": label, "start": start, "end": end})
    yield project
    project.close()


def test_the_events_are_written_in_every_format(marked):
    paths, problems = export_events(marked, list(WRITERS))
    # The Common Data Format needs kick-offs, and says so.
    (problem,) = problems
    assert problem.startswith("drawn.mp4, cdf: ")
    assert "kick-off" in problem
    expected = {writer.file_name for name, writer in WRITERS.items() if name != "cdf"}
    assert {path.name for path in paths} == expected
    assert all(path.stat().st_size > 0 for path in paths)
    assert {path.parent for path in paths} == {marked.folder / "exports" / "m1-drawn"}
    (result,) = read_results(marked.folder / "exports" / "m1-drawn" / "events.json")
    assert [(e.label, e.start_s, e.end_s) for e in result.accepted] == [
        ("dunk", 1.0, 1.5), ("block", 2.0, 2.0), ("dunk", 4.0, 5.0),
    ]  # fmt: skip


def test_one_format_that_fails_does_not_cost_the_others(marked, monkeypatch):

    def fail(*_: object) -> str:
        raise ValueError("this format cannot hold it")

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    for name, how in (("srt", fail), ("csv", full)):
        writer = writers_module.WRITERS[name]
        broken = writers_module.Writer(writer.file_name, how, writer.about)
        monkeypatch.setitem(writers_module.WRITERS, name, broken)
    paths, problems = export_events(marked, ["srt", "json", "csv", "vtt"])
    assert [path.name for path in paths] == ["events.json", "events.vtt"]
    assert len(problems) == 2
    assert "drawn.mp4, srt: this format cannot hold it" in problems[0]
    assert "csv" in problems[1]


def test_one_match_that_is_gone_does_not_cost_the_others(marked, footage):
    gone = marked.add_match(footage)
    marked.do({"do": "mark", "match": gone.id, "class": "a1", "start": 4, "end": 5})
    footage.unlink()
    paths, problems = export_events(marked, ["csv", "edl"])
    written = {(path.parent.name, path.name) for path in paths}
    assert {("m1-drawn", "events.csv"), ("m1-drawn", "events.edl")} <= written
    assert ("m2-match", "events.csv") in written
    assert len(problems) == (("m2-match", "events.edl") not in written)


def test_unknown_formats_are_refused_before_anything_is_written(marked):
    with pytest.raises(ValueError, match="'pdf' is not a format"):
        export_events(marked, ["csv", "pdf"])
    assert not (marked.folder / "exports").exists()


def test_without_marks_there_is_nothing_to_write(tmp_path, footage):
    project = Project(tmp_path / "empty", [footage])
    assert export_events(project, ["csv"]) == ([], [])
    project.close()
