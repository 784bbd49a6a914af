"""OSL JSON: heads, what is labelled, clips, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from footage_made import write_video
from label_samples import CSV, OSL, save

from touchline.models.errors import LabelsError
from touchline.pipeline.evaluation.evaluate import evaluate_events
from touchline.pipeline.evaluation.event_sets import EventSet, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.labels.read import label_texts, labelled_videos, read_labels
from touchline.pipeline.runs.background import verified_background
from touchline.pipeline.types import Event, Example


def document(**changes: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(OSL)
    loaded["data"][0] |= changes
    return loaded


def saved(folder: Path, content: dict[str, Any]) -> Path:
    return save(folder, json.dumps(content), "labels.json")


def interval(start_ms: int, end_ms: int) -> dict[str, Any]:
    return {"start_time_ms": start_ms, "end_time_ms": end_ms}


def verified_spans(path: Path) -> list[tuple[float | None, float | None]]:
    read = read_labels(path, verified=True)
    return [(e.start_s, e.end_s) for e in read if e.label == "verified"]


def test_moments_groups_and_scores_are_read(tmp_path: Path) -> None:
    goal, card = read_labels(saved(tmp_path, document()))
    assert (goal.label, goal.start_s, goal.end_s, goal.score) == ("goal", 2.0, 2.0, 1.0)
    assert (card.label, card.start_s, card.score, card.group) == ("card", 10.4, 0.5, "m")
    assert goal.path == tmp_path / "match.mp4"


def test_one_head_of_several_is_asked_for(tmp_path: Path) -> None:
    content = document()
    content["labels"]["camera"] = {"type": "single_label", "labels": ["main"]}
    camera = {"head": "camera", "label": "main", "position_ms": 100}
    content["data"][0]["events"].append(camera)
    path = saved(tmp_path, content)
    with pytest.raises(LabelsError, match=r"2 heads are labelled: action, camera\. Convert"):
        read_labels(path)
    assert [e.label for e in read_labels(path, head="camera")] == ["main"]
    assert [e.label for e in read_labels(path, head="action")] == ["goal", "card"]
    with pytest.raises(LabelsError, match=r"no head 'cameras' is labelled\. Did you mean 'camera'"):
        read_labels(path, head="cameras")
    with pytest.raises(LabelsError, match="csv has no heads"):
        read_labels(save(tmp_path, CSV), head="action")


def test_only_verified_intervals_hold_background(tmp_path: Path) -> None:
    write_video(tmp_path / "match.mp4", indices=range(25 * 14), stamps=None)
    spans = [interval(1000, 4000), interval(6000, 10401)]
    path = saved(tmp_path, document(metadata={"intervals": spans}))
    assert verified_spans(path) == [(1.0, 4.0), (6.0, 10.401)]
    every = read_labels(path, verified=True)
    labels = [e for e in every if e.label != "verified"]
    verified = [e for e in every if e.label == "verified"]
    found = verified_background(labels, verified, margin_s=0.5, least_s=0.1)
    # The goal at 2 s and the card at 10.4 s keep half a second on each side.
    assert [(e.start_s, e.end_s) for e in found] == [(1.0, 1.5), (2.5, 4.0), (6.0, 9.9)]


@pytest.mark.parametrize(
    ("metadata", "spans", "found"),
    [
        # Nothing is said of the file: no label `verified`.
        ({}, [], 2),
        ({"annotation_status": "verified"}, [(None, None)], 2),
        ({"annotation_status": "unlabeled"}, [(0.0, 0.0)], 2),
        ({"annotation_status": "excluded"}, [(0.0, 0.0)], 0),
        ({"annotation_status": "excluded", "intervals": []}, [(0.0, 0.0)], 0),
        ({"intervals": [interval(0, 60000)]}, [(0, 60)], 2),
        ({"annotation_status": "unlabeled", "intervals": [interval(0, 60000)]}, [(0.0, 0.0)], 2),
    ],
)
def test_a_status_is_that_of_the_sample(
    tmp_path: Path,
    metadata: dict[str, Any],
    spans: list[tuple[float | None, float | None]],
    found: int,
) -> None:
    path = saved(tmp_path, document(metadata=metadata))
    assert verified_spans(path) == spans
    assert len(read_labels(path, allow_empty=True)) == found


def test_a_sample_that_says_nothing_is_verified_where_another_says_something(
    tmp_path: Path,
) -> None:
    content = document()
    other = {"id": "b", "inputs": [{"type": "video", "path": "b.mp4"}], "events": []}
    content["data"].append(other | {"metadata": {"annotation_status": "unlabeled"}})
    read = read_labels(saved(tmp_path, content), verified=True)
    verified = [(e.path.name, e.start_s, e.end_s) for e in read if e.label == "verified"]
    assert verified == [("match.mp4", None, None), ("b.mp4", 0.0, 0.0)]


@pytest.mark.parametrize(
    ("intervals", "message"),
    [
        # Half-open: an event at the end is outside.
        ([interval(0, 10400)], r"events\[1\]\.position_ms: 10\.4 s is outside of the sample"),
        ([interval(0, 5000), interval(4000, 20000)], r"intervals\[1\]: begins before the one"),
        ([interval(5000, 5000)], r"intervals\[0\]: the interval \[5 s, 5 s\) is empty"),
        ([], r"metadata\.intervals: the list is empty"),
        ([{"start_ms": 0, "end_ms": 5}], r"intervals\[0\]: no 'start_time_ms' here"),
        ([interval(0, 20000) | {"annotation_status": "excluded"}], r"\[0\]: the status is that of"),
    ],
)  # fmt: skip
def test_intervals_that_cannot_be_meant_are_refused(
    tmp_path: Path, intervals: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        read_labels(saved(tmp_path, document(metadata={"intervals": intervals})))


def test_samples_without_events_are_labelled_videos_unless_unlabelled(tmp_path: Path) -> None:
    content = document(events=[])
    path = saved(tmp_path, content)
    assert [video.path.name for video in labelled_videos(path)] == ["match.mp4"]
    content["data"][0]["metadata"] = {"annotation_status": "unlabeled"}
    assert labelled_videos(saved(tmp_path, content)) == []


def test_events_outside_of_intervals_are_not_judged(tmp_path: Path) -> None:
    content = document(metadata={"intervals": [interval(0, 4000), interval(6000, 20000)]})
    other = {"id": "b", "inputs": [{"type": "video", "path": "b.mp4"}]}
    content["data"].append(other | {"metadata": {"annotation_status": "unlabeled"}})
    truth = read_event_set(saved(tmp_path, content))
    video, unlabelled = truth.events
    goal, card = Event("goal", 2.0, 2.0, 2.0, 0.9), Event("card", 10.4, 10.4, 10.4, 0.9)
    # Outside of the game, and in a video that nobody labelled: nobody can say what is right.
    others = [Event("goal", t, t, t, 0.95) for t in (4.001, 5.999, 20.001)]
    found = {video: [goal, card, *others], unlabelled: others}
    flags = {name: [True] * len(events) for name, events in found.items()}
    options = EvaluateOptions(metrics=("spotting",), resamples=0)
    evaluation = evaluate_events(truth, EventSet(found, flags, flags), options)
    assert [row.label for row in evaluation.metrics[0].per_class] == ["card", "goal"]
    assert evaluation.metrics[0].headline.value == 1.0
    assert evaluation.accepted[0]["precision"].value == 1.0
    wrong = Event("goal", 6.0, 6.0, 6.0, 0.99)
    found, flags = {video: [goal, wrong], unlabelled: []}, {video: [True] * 2, unlabelled: []}
    evaluation = evaluate_events(truth, EventSet(found, flags, flags), options)
    assert evaluation.accepted[0]["precision"].value == 0.5


def test_clips_have_classes_and_every_view_gets_them(tmp_path: Path) -> None:
    views = [{"type": "video", "path": f"{name}/a.mp4"} for name in ("wide", "close")]
    views.append({"type": "tracking_parquet", "path": "a.parquet"})
    content = document(inputs=views, labels={"action": {"label": "card", "confidence": 0.25}})
    del content["data"][0]["events"]
    read = read_labels(saved(tmp_path, content))
    assert [(e.path.parent.name, e.label, e.start_s, e.score, e.group) for e in read] == [
        ("wide", "card", None, 0.25, "m"),
        ("close", "card", None, 0.25, "m"),
    ]


def test_several_classes_of_a_clip_are_several_labels(tmp_path: Path) -> None:
    content = document(labels={"action": {"labels": ["card", "goal"]}})
    del content["data"][0]["events"]
    assert [e.label for e in read_labels(saved(tmp_path, content))] == ["card", "goal"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"label": "goal"', '"label": "gaol"', r"events\[0\]\.label: 'gaol' is no class.*'goal'"),
        ('"label": "goal"', '"label": null', r"events\[0\]\.label: null instead of a text"),
        ('"position_ms": 2000', '"position_ms": -1', r"events\[0\]\.position_ms is -1"),
        ('"position_ms": 2000', '"position": 1', r"no 'position_ms' here\. Did you mean 'posit"),
        ('"type": "video"', '"type": "frames_npy"', r"inputs: no input is a video"),
        ('"version": "2.0"', '"version": "1.0"', r"\$\.version: '1.0'; Touchline reads version 2"),
        ('"match_id": "m"', '"annotation_status": "done"', r"'done'; it must be verified, unlab"),
        ('"confidence_score": 0.5', '"confidence": 3', r"confidence is 3; it must be in \[0, 1\]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_path(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in OSL
    with pytest.raises(LabelsError, match=message):
        read_labels(save(tmp_path, OSL.replace(old, new), "labels.json"))


def test_an_interval_is_written_as_its_peak_with_what_is_verified(tmp_path: Path) -> None:
    video = tmp_path / "clips/a.mp4"
    examples = [
        Example(video, "goal", "m", 2.0, 6.0, peak_s=5.0, score=0.5),
        Example(video, "verified", "m", 4.0, 8.0),
        Example(video, "verified", "m", 0.0, 4.5),
        Example(video, "verified", "m", 9.0, 9.5),
        Example(tmp_path / "c.mp4", "verified", "n"),
        # An event outside of what is verified: OSL cannot say both.
        Example(tmp_path / "d.mp4", "verified", "n", 0.0, 4.0),
        Example(tmp_path / "d.mp4", "goal", "n", 4.0, 4.0),
    ]
    out = tmp_path / "out.json"
    save(tmp_path, label_texts(examples, out, format_name="osl")[out], "out.json")
    samples = {s["id"]: s for s in json.loads(out.read_text())["data"]}
    (event,) = samples["clips/a"]["events"]
    assert event == {"head": "action", "label": "goal", "position_ms": 5000, "confidence": 0.5}
    assert samples["clips/a"]["metadata"]["annotation_status"] == "verified"
    assert samples["clips/a"]["metadata"]["intervals"] == [
        interval(0, 8000), interval(9000, 9500),
    ]  # fmt: skip
    read = read_labels(out, verified=True)
    assert {(e.path.name, e.label, e.start_s, e.end_s, e.group) for e in read} == {
        ("a.mp4", "goal", 5.0, 5.0, "m"), ("a.mp4", "verified", 0.0, 8.0, "m"),
        ("a.mp4", "verified", 9.0, 9.5, "m"), ("c.mp4", "verified", None, None, "n"),
        ("d.mp4", "verified", 0.0, 0.0, "n"), ("d.mp4", "goal", 4.0, 4.0, "n"),
    }  # fmt: skip


def test_classes_of_clips_are_written_and_read_back(tmp_path: Path) -> None:
    clips = [
        Example(tmp_path / "a.mp4", "goal", "m"),
        Example(tmp_path / "a.mp4", "card", "m"),
        Example(tmp_path / "b.mp4", "card", "n"),
    ]
    out = tmp_path / "out.json"
    save(tmp_path, label_texts(clips, out, format_name="osl")[out], "out.json")
    read = read_labels(out)
    assert [(e.path, e.label, e.group) for e in read] == [(e.path, e.label, e.group) for e in clips]
    timed = Example(tmp_path / "a.mp4", "goal", "m", 1.0, 1.0)
    with pytest.raises(ValueError, match="the label has no times, but others have"):
        label_texts([*clips, timed], out, format_name="osl")
