"""Sets of events from files, and videos paired under different roofs."""

import json
import math
from pathlib import Path

import pytest

from touchline.models.errors import LabelsError
from touchline.pipeline.evaluation.event_sets import (
    EventSet,
    as_truth,
    only_judged,
    pair_videos,
    read_event_set,
)
from touchline.pipeline.labels.datasets.soccernet import results_spotting
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.types import Event

SURE, UNSURE = Event("goal", 10.0, 14.0, 11.0, 0.9), Event("goal", 50.0, 54.0, 53.0, 0.2)


def detected(folder, name, *, root):
    """What `detect` leaves: OUT/<stem>/events.json and events.csv."""
    result = MatchResult(path=root / name, candidates=(SURE, UNSURE), accepted=(SURE,))
    write_result(result, folder / Path(name).stem)
    return folder


def labels(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("video,label,start_s,end_s,group\n" + "".join(row + "\n" for row in rows))
    return path


def set_of(*videos):
    return EventSet(
        events={video: [SURE] for video in videos},
        accepted={video: [True] for video in videos},
        visible={video: [True] for video in videos},
    )


def test_an_output_folder_is_read_with_candidates_and_what_was_accepted(tmp_path):
    out = tmp_path / "out"
    for name in ("one.mp4", "two.mp4"):
        detected(out, name, root=tmp_path)
    found = read_event_set(out)
    assert sorted(found.events) == [str(tmp_path / "one.mp4"), str(tmp_path / "two.mp4")]
    assert found.events[str(tmp_path / "one.mp4")] == [SURE, UNSURE]
    assert found.only_accepted()[str(tmp_path / "one.mp4")] == [SURE]


def test_one_events_json_or_events_csv_will_do(tmp_path):
    detected(tmp_path / "out", "one.mp4", root=tmp_path)
    for name in ("events.json", "events.csv"):
        found = read_event_set(tmp_path / "out" / "one" / name)
        assert found.only_accepted() == {str(tmp_path / "one.mp4"): [SURE]}
    renamed = (tmp_path / "out" / "one" / "events.json").rename(tmp_path / "out" / "one" / "x.json")
    assert read_event_set(renamed).events == {str(tmp_path / "one.mp4"): [SURE, UNSURE]}


def test_label_rows_become_events_with_their_middle_as_the_moment(tmp_path):
    file = labels(tmp_path / "labels.csv", "a.mp4,goal,10,14,final", "b.mp4,background,0,90,cup")
    found = read_event_set(file)
    assert found.events == {
        str(tmp_path / "a.mp4"): [Event("goal", 10, 14, 12)],
        str(tmp_path / "b.mp4"): [],
    }
    assert found.groups == {str(tmp_path / "a.mp4"): "final", str(tmp_path / "b.mp4"): "cup"}


def test_a_verified_stretch_adds_its_video_and_no_event(tmp_path):
    file = labels(tmp_path / "labels.csv", "a.mp4,goal,10,14,m", "b.mp4,verified,,,n")
    found = read_event_set(file)
    a, b = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    assert found.events == {a: [Event("goal", 10, 14, 12)], b: []}
    assert found.judged == {a: (), b: ((0.0, math.inf),)}


def test_only_verified_stretches_are_judged(tmp_path):
    rows = ("a.mp4,verified,8,20,m", "a.mp4,goal,10,14,m", "a.mp4,goal,30,34,m", "b.mp4,card,1,2,n")
    truth = as_truth(read_event_set(labels(tmp_path / "labels.csv", *rows)))
    a, b = str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")
    assert only_judged(truth, truth).events == {a: [Event("goal", 10, 14, 12)], b: []}
    # By the moment: the first ends, and the last begins, outside of [8 s, 20 s].
    inside = [Event("goal", 1, 10, 8), Event("goal", 12, 12, 12), Event("goal", 19, 30, 20)]
    outside = [Event("goal", 7, 9, 7.99), Event("goal", 31, 33, 32), Event("goal", 20, 22, 20.01)]
    mixed = [inside[0], outside[0], inside[1], outside[1], inside[2], outside[2]]
    predictions = EventSet(
        {a: mixed, b: outside},
        {a: [True, False] * 3, b: [True] * 3},
        {a: [True] * 6, b: [True] * 3},
    )
    judged = only_judged(pair_videos(truth, predictions).predictions, truth)
    assert (judged.events, judged.accepted) == ({a: inside, b: []}, {a: [True] * 3, b: []})
    # Without a verified row, everything is judged.
    truth = read_event_set(labels(tmp_path / "labels.csv", *rows[1:]))
    assert only_judged(predictions, truth).events == predictions.events


def test_a_label_without_times_is_refused_with_its_line(tmp_path):
    file = labels(tmp_path / "labels.csv", "a.mp4,goal,,,")
    with pytest.raises(LabelsError, match=r"line 2.*--model"):
        read_event_set(file)


def test_soccernet_results_pair_with_soccernet_labels(tmp_path):
    match = "league/2015/A 1 - 0 B"
    results, truth = tmp_path / "results" / match, tmp_path / "labels" / match
    results.mkdir(parents=True)
    truth.mkdir(parents=True)
    halves = {1: [Event("Goal", 60, 60, 60, 0.75)], 2: [Event("Goal", 90, 90, 90, 0.5)]}
    (results / "results_spotting.json").write_text(results_spotting(halves, match=match))
    rows = [
        {"gameTime": "1 - 01:00", "label": "Goal", "position": "60000", "visibility": "visible"},
        {"gameTime": "2 - 01:30", "label": "Goal", "position": "90500", "visibility": "not shown"},
    ]
    (truth / "Labels-v2.json").write_text(json.dumps({"UrlLocal": match, "annotations": rows}))
    # The footage is next to the labels, in another size than the results assume.
    for half in (1, 2):
        (truth / f"{half}_720p.mkv").touch()
    actual = read_event_set(tmp_path / "labels")
    paired = pair_videos(actual, read_event_set(tmp_path / "results"))
    assert paired.unlabelled == paired.unpredicted == ()
    second = str(truth / "2_720p.mkv")
    assert paired.predictions.events[second] == [Event("Goal", 90, 90, 90, 0.5)]
    assert actual.visible[second] == [False]


def test_videos_pair_by_path_before_name():
    truth = set_of("/a/1/match.mp4", "/a/2/match.mp4")
    paired = pair_videos(truth, set_of("/b/2/match.mp4", "/a/1/match.mp4"))
    assert sorted(paired.predictions.events) == ["/a/1/match.mp4", "/a/2/match.mp4"]


def test_a_name_without_its_ending_pairs():
    paired = pair_videos(set_of("/labels/final 12.30.mp4"), set_of("elsewhere/final 12.30"))
    assert list(paired.predictions.events) == ["/labels/final 12.30.mp4"]


def test_what_is_on_one_side_only_is_reported():
    paired = pair_videos(set_of("/a/x.mp4", "/a/y.mp4"), set_of("/b/y.mp4", "/b/z.mp4"))
    assert paired.unlabelled == ("/b/z.mp4",)
    assert paired.unpredicted == ("/a/x.mp4",)
    assert list(paired.predictions.events) == ["/a/y.mp4", "/b/z.mp4"]
    assert list(paired.labelled_only().predictions.events) == ["/a/y.mp4"]


def test_names_that_fit_two_videos_are_refused():
    with pytest.raises(ValueError, match="may be"):
        pair_videos(set_of("/a/1/match.mp4", "/a/2/match.mp4"), set_of("/b/match.mp4"))
    with pytest.raises(ValueError, match="both fit"):
        pair_videos(set_of("/a/match.mp4"), set_of("/b/match.mp4", "/c/match.mp4"))


def test_sets_without_a_common_video_are_refused():
    with pytest.raises(ValueError, match="no video is in both"):
        pair_videos(set_of("/a/x.mp4"), set_of("/a/y.mp4"))


def test_two_files_about_one_video_are_refused(tmp_path):
    detected(tmp_path / "out" / "first", "one.mp4", root=tmp_path)
    detected(tmp_path / "out" / "second", "one.mp4", root=tmp_path)
    with pytest.raises(LabelsError, match="another file"):
        read_event_set(tmp_path / "out")
