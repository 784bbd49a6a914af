"""Every label format, by one contract: recognised by content, read, written and read back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from footage_made import write_video
from label_samples import ACTIVITYNET, CVAT, ELAN, LABEL_STUDIO, SAMPLES, SOCCERNET, save, touch

from touchline.models.errors import LabelsError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.labels.formats import BY_NAME, FORMATS, WRITABLE, recognise
from touchline.pipeline.labels.read import label_texts, read_labels, with_times
from touchline.pipeline.labels.source import LabelSource
from touchline.pipeline.types import Example

# A file names no video: its own name does.
NAME_NO_VIDEO = {form.name for form in FORMATS if "name of the video" in form.loses}
# An event is a moment.
MOMENTS = {"soccernet": 784.08, "osl": 754.2, "player-spotting": 754.2}
FOLDER_FORMATS = {"folders", "soccernet-folder"}


def make_footage(path: Path, *, rate_hz: int, num_frames: int = 10) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate_hz)
        stream.width = stream.height = 32
        for k in range(num_frames):
            grey = np.full((32, 32, 3), 20 * k, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
        container.mux(stream.encode())


def what_and_when(example: Example) -> tuple[str, str, float, float]:
    assert example.start_s is not None
    assert example.end_s is not None
    return (
        example.path.name,
        example.label,
        round(example.start_s, 6),
        round(example.end_s, 6),
    )


def test_the_samples_here_cover_the_table() -> None:
    assert set(SAMPLES) | FOLDER_FORMATS == set(BY_NAME)
    assert set(WRITABLE) <= set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_recognised_by_content_whatever_the_ending(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, "\ufeff" + SAMPLES[name])
    assert recognise(LabelSource(path, tmp_path)).name == name


@pytest.mark.parametrize("name", SAMPLES)
def test_the_example_in_the_documentation_is_read(tmp_path: Path, name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text()
    section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
    path = save(tmp_path, section.split("```")[1].split("\n", 1)[1])
    assert recognise(LabelSource(path, tmp_path)).name == name
    goal = read_labels(path, rate_hz=25)[0]
    assert goal.label.lower() == "goal"
    assert goal.start_s == MOMENTS.get(name, 754.2)
    assert goal.end_s == MOMENTS.get(name, 760.0)


@pytest.mark.parametrize("name", set(SAMPLES) - set(MOMENTS))
def test_the_same_two_events_are_read_from_every_format(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "match.mp4")
    read = read_labels(save(tmp_path, SAMPLES[name], "match.txt"), rate_hz=25)
    assert [what_and_when(e) for e in read] == [
        ("match.mp4", "goal", 2.0, 6.0),
        ("match.mp4", "card", 10.0, 10.4),
    ]
    assert {e.path for e in read} == {tmp_path / "match.mp4"}
    assert len({e.group for e in read}) == 1


@pytest.mark.parametrize("name", WRITABLE)
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    halves = name == "soccernet"
    video = tmp_path / ("1_224p.mkv" if halves else "clips/match.mp4")
    if name in NAME_NO_VIDEO:
        video = tmp_path / "out.mp4"
    touch(tmp_path, video.relative_to(tmp_path).as_posix())
    times = (
        [(7.0, 7.0), (60.12, 60.12)] if name in MOMENTS else [(0.0, 4.0), (2.0, 6.4), (10.0, 10.4)]
    )
    goal = "goal" if "the characters & < >" in BY_NAME[name].loses else "goal & <more>"
    examples = [
        Example(video, label, "match_A", start, end, f"line {i}")
        for i, (label, (start, end)) in enumerate(
            zip([goal, goal, "Gewinn – größer"], times, strict=False)
        )
    ]
    form = BY_NAME[name]
    texts = label_texts(examples, tmp_path / f"out{form.suffix}", format_name=name, rate_hz=25)
    for path, text in texts.items():
        save(tmp_path, text, path.relative_to(tmp_path).as_posix())
    (path,) = texts
    read = read_labels(path) if name != "cvat" else read_labels(path, rate_hz=25)
    assert recognise(LabelSource(path, tmp_path)).name == name
    key: Callable[[Example], Any] = what_and_when
    assert sorted(map(key, read)) == sorted(map(key, examples))
    if "groups" not in form.loses:
        assert {e.group for e in read} == {"match_A"}


def test_detections_and_hidden_events_survive_our_csv(tmp_path: Path) -> None:
    examples = [
        Example(tmp_path / "a.mp4", "goal", "a", 1.0, 3.0, visible=False),
        Example(tmp_path / "a.mp4", "goal", "a", 5.0, 9.0, peak_s=6.5, score=0.25),
        Example(tmp_path / "b.mp4", "goal", "b"),
    ]
    path = tmp_path / "out.csv"
    save(tmp_path, label_texts(examples, path, format_name="csv")[path], "out.csv")
    assert [replace(e, source="") for e in read_labels(path)] == examples
    assert read_labels(path)[1].event().peak_s == 6.5
    assert read_labels(path)[1].event().score == 0.25


def test_a_score_column_alone_is_the_match_score_and_not_ours(tmp_path: Path) -> None:
    path = save(tmp_path, "video,label,start_s,end_s,score\na.mp4,goal,1,2,2-1\n")
    assert read_labels(path)[0].score == 1.0


def test_cells_guarded_against_spreadsheets_are_read_as_they_were(tmp_path: Path) -> None:
    path = save(tmp_path, "video,label,start_s,end_s\n'-a.mp4,'+1,1,2\n")
    (read,) = read_labels(path)
    assert (read.path.name, read.label) == ("-a.mp4", "+1")


def test_soccernet_positions_are_milliseconds_in_the_file_of_their_half(tmp_path: Path) -> None:
    touch(tmp_path, "1_720p.mkv", "2_720p.mkv", "2_224p.mkv")
    goal, foul = read_labels(save(tmp_path, SOCCERNET, "Labels-v2.json"))
    assert what_and_when(goal) == ("1_720p.mkv", "Goal", 2.5, 2.5)
    assert what_and_when(foul) == ("2_224p.mkv", "Foul", 90.01, 90.01)
    assert (goal.visible, foul.visible) == (True, False)
    assert goal.group == foul.group == "league/2015/A 1 - 0 B"


def test_soccernet_without_footage_names_the_file_it_would_be(tmp_path: Path) -> None:
    match = SOCCERNET.replace('"UrlLocal": "league/2015/A 1 - 0 B/", ', "")
    goal, _ = read_labels(save(tmp_path, match, "A vs B/Labels-v2.json"))
    assert goal.path == tmp_path / "A vs B" / "1_224p.mkv"
    assert goal.group == "A vs B"


def test_soccernet_predictions_keep_their_confidence(tmp_path: Path) -> None:
    row = {"gameTime": "1 - 0:31", "label": "Goal", "position": "31500", "confidence": "0.25"}
    path = save(tmp_path, json.dumps({"UrlLocal": "a/b", "predictions": [row]}))
    (read,) = read_labels(path)
    assert (read.start_s, read.score) == (31.5, 0.25)


def test_soccernet_is_not_written_for_two_files_of_one_half(tmp_path: Path) -> None:
    def goals(*names: str) -> list[Example]:
        return [Example(tmp_path / name, "goal", "match", 1.0, 1.0) for name in names]

    for names in (("1_224p.mkv", "1_HQ.mkv"), ("a/1_HQ.mkv", "b/2_HQ.mkv")):
        with pytest.raises(ValueError, match="one file per half, all in one folder"):
            label_texts(goals(*names), tmp_path / "out.json", format_name="soccernet")
    touch(tmp_path, "1_HQ.mp4", "2_HQ.mp4")
    out = tmp_path / "Labels-v2.json"
    texts = label_texts(goals("1_HQ.mp4", "2_HQ.mp4"), out, format_name="soccernet")
    read = read_labels(save(tmp_path, texts[out], out.name))
    assert [e.path.name for e in read] == ["1_HQ.mp4", "2_HQ.mp4"]


def test_a_relation_of_label_studio_is_no_stretch_of_time(tmp_path: Path) -> None:
    relation = '{"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},'
    text = LABEL_STUDIO.replace('"result": [', '"result": [' + relation)
    assert len(read_labels(save(tmp_path, text))) == 2


def test_footage_whose_own_name_looks_like_an_upload_keeps_it(tmp_path: Path) -> None:
    path = save(tmp_path, LABEL_STUDIO)
    assert read_labels(path)[0].path.name == "match.mp4"
    touch(tmp_path, "0a1b2c3d-match.mp4")
    assert read_labels(path)[0].path.name == "0a1b2c3d-match.mp4"


def test_linked_folders_are_read_and_hidden_ones_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/m1/a.mp4", "clips/goal/b.vob", "clips/goal/.trash/c.mp4")
    (tmp_path / "clips/goal/match_B").symlink_to(tmp_path / "elsewhere/m1")
    (tmp_path / "clips/goal/match_B/loop").symlink_to(tmp_path / "clips/goal")
    read = read_labels(tmp_path / "clips")
    assert [(e.path.name, e.label) for e in read] == [("b.vob", "goal"), ("a.mp4", "goal")]
    assert "match_B" in {e.group for e in read}

    for folder in ("soccer/A", "soccer/.trash/A", "elsewhere/B"):
        save(tmp_path, SOCCERNET, f"{folder}/Labels-v2.json")
    (tmp_path / "soccer/B").symlink_to(tmp_path / "elsewhere/B")
    one = read_labels(tmp_path / "soccer/A/Labels-v2.json")
    assert len(read_labels(tmp_path / "soccer")) == 2 * len(one)


def test_a_folder_of_soccernet_matches_is_read_as_one(tmp_path: Path) -> None:
    for match in ("A", "B"):
        save(tmp_path, SOCCERNET.replace("A 1 - 0 B", match), f"league/{match}/Labels-v2.json")
    read = read_labels(tmp_path)
    assert [e.group for e in read] == ["league/2015/A"] * 2 + ["league/2015/B"] * 2
    assert read[2].path == tmp_path / "league/B/1_224p.mkv"


def test_activitynet_footage_is_found_whatever_its_ending(tmp_path: Path) -> None:
    path = save(tmp_path, ACTIVITYNET)
    assert read_labels(path)[0].path == tmp_path / "match"
    touch(tmp_path, "v_match.mkv", "match.txt")
    assert read_labels(path)[0].path == tmp_path / "v_match.mkv"
    touch(tmp_path, "match.webm")
    with pytest.raises(LabelsError, match=r"\$.database.match: match.webm and v_match.mkv"):
        read_labels(path)


def test_activitynet_detections_keep_their_score(tmp_path: Path) -> None:
    row = {"segment": [1, 2], "label": "goal", "score": 0.5}
    (read,) = read_labels(save(tmp_path, json.dumps({"results": {"match": [row]}})))
    assert (read.start_s, read.end_s, read.score, read.group) == (1.0, 2.0, 0.5, "match")


def test_label_studio_counts_at_the_rate_given_before_the_declared_one(tmp_path: Path) -> None:
    path = save(tmp_path, LABEL_STUDIO)
    assert read_labels(path)[0].start_s == 2.0
    assert read_labels(path, rate_hz=50)[0].start_s == 1.0
    silent = save(tmp_path, LABEL_STUDIO.replace(', "fps": 25', ""))
    with pytest.raises(LabelsError, match=r"\$\[0\]\.data: ranges are in frames.*rate_hz"):
        read_labels(silent)


def test_label_studio_takes_the_annotation_marked_as_ground_truth(tmp_path: Path) -> None:
    (task,) = json.loads(LABEL_STUDIO)
    other = {"result": [], "ground_truth": False}
    task["annotations"] += [other, {"result": [], "was_cancelled": True}]
    with pytest.raises(LabelsError, match=r"\$\[0\]\.annotations: 2 annotations of one task"):
        read_labels(save(tmp_path, json.dumps([task])))
    task["annotations"][0]["ground_truth"] = True
    assert len(read_labels(save(tmp_path, json.dumps([task])))) == 2


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/data/local-files/?d=games/match%201.mp4", "games/match 1.mp4"),
        ("s3://bucket/games/match.mp4", "games/match.mp4"),
        ("http://host/data/local-files/?d=games/match.mp4", "games/match.mp4"),
        ("https://host/games/match%201.mp4?d=2024", "games/match 1.mp4"),
        ("UCL:final.mp4", "UCL:final.mp4"),
        ("what?d=x.mp4", "what?d=x.mp4"),
        ("München #1.mp4", "München #1.mp4"),
        ("https://host/match%201.mp4?token=1", "match 1.mp4"),
        ("match.mp4", "match.mp4"),
    ],
)
def test_label_studio_footage_is_found_by_its_address(tmp_path: Path, url: str, name: str) -> None:
    (task,) = json.loads(LABEL_STUDIO)
    task["data"]["video"] = url
    read = read_labels(save(tmp_path, json.dumps([task])))
    assert read[0].path == tmp_path / name
    touch(tmp_path, Path(name).name)
    assert read_labels(tmp_path / "labels.txt")[0].path == tmp_path / Path(name).name


def test_a_cvat_track_that_comes_back_is_two_intervals(tmp_path: Path) -> None:
    boxes = [(0, 0), (10, 1), (20, 0), (30, 1)]
    shapes = "".join(f'<box frame="{f}" outside="{o}"/>' for f, o in boxes)
    text = (
        "<annotations><meta><source>a.mp4</source></meta>"
        f'<track id="0" label="goal">{shapes}</track></annotations>'
    )
    read = read_labels(save(tmp_path, text), rate_hz=10)
    assert [(e.start_s, e.end_s) for e in read] == [(0.0, 1.0), (2.0, 3.0)]


def test_a_cvat_task_of_every_fifth_frame_ends_five_frames_later(tmp_path: Path) -> None:
    text = CVAT.replace("<size>", "<frame_filter>step=5</frame_filter><size>")
    _, card = read_labels(save(tmp_path, text), rate_hz=25)
    assert card.end_s == pytest.approx((259 + 5) / 25)


def test_cvat_takes_the_rate_from_the_footage(tmp_path: Path) -> None:
    make_footage(tmp_path / "match.mp4", rate_hz=50)
    goal, _ = read_labels(save(tmp_path, CVAT))
    assert (goal.start_s, goal.end_s) == (1.0, 3.0)


@pytest.mark.parametrize("rate_hz", [None, 25.0])
def test_cvat_counts_from_the_first_picture_though_sound_begins_before(
    tmp_path: Path, rate_hz: float | None
) -> None:
    half = Fraction(1, 2)
    stamps = [half + Fraction(k, 25) for k in range(80)]
    write_video(
        tmp_path / "match.mp4", indices=range(80), stamps=stamps, time_base=Fraction(1, 1000),
        audio_from=Fraction(0),
    )  # fmt: skip
    goal, _ = read_labels(save(tmp_path, CVAT), rate_hz=rate_hz)
    assert goal.start_s == pytest.approx(0.5 + 50 / 25, abs=1e-3)
    to_the_end = replace(goal, label="rest", end_s=3.7)
    healths = {goal.path: probe_footage(goal.path)}
    texts = label_texts(
        [goal, to_the_end], tmp_path / "out.xml", format_name="cvat", rate_hz=25, healths=healths
    )
    text = texts[tmp_path / "out.xml"]
    # Of the 80 frames the last is number 79, and CVAT refuses shapes behind it.
    assert re.findall(r'frame="(\d+)" outside="(\d)"', text) == [
        ("50", "0"), ("79", "0"), ("50", "0"), ("79", "0")
    ]  # fmt: skip
    again = read_labels(save(tmp_path, text), rate_hz=rate_hz)
    assert [e.end_s for e in again] == pytest.approx([3.7, 3.7], abs=1e-3)


def test_cvat_without_rate_and_footage_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"no such file.*give rate_hz to read_labels"):
        read_labels(save(tmp_path, CVAT))


def test_elan_media_may_start_later_than_its_time(tmp_path: Path) -> None:
    text = ELAN.replace('MIME_TYPE="video/mp4"', 'MIME_TYPE="video/mp4" TIME_ORIGIN="1500"')
    assert read_labels(save(tmp_path, text))[0].start_s == 3.5


def test_elan_tiers_are_written_without_overlaps(tmp_path: Path) -> None:
    times = [(0.0, 5.0), (1.0, 2.0), (1.5, 9.0), (5.0, 6.0)]
    examples = [Example(tmp_path / "a.mp4", "goal", "a", *span) for span in times]
    path = tmp_path / "a.eaf"
    save(tmp_path, label_texts(examples, path, format_name="elan")[path], "a.eaf")
    tiers = LabelSource(path, tmp_path).xml.all("TIER")
    assert [(tier["TIER_ID"], len(tier.all("ANNOTATION"))) for tier in tiers] == [
        ("goal", 2),
        ("goal 2", 1),
        ("goal 3", 1),
    ]
    assert sorted((e.start_s, e.end_s) for e in read_labels(path)) == times


def test_class_folders_are_classes_and_folders_in_them_groups(tmp_path: Path) -> None:
    touch(tmp_path, "goal/b.MP4", "goal/a.gif", "goal/notes.txt", "card/match_A/1.mkv")
    touch(tmp_path, ".cache/x.mp4", "goal/.hidden.mp4", "readme.txt")
    assert [
        (e.path.relative_to(tmp_path).as_posix(), e.label, e.group) for e in read_labels(tmp_path)
    ] == [
        ("card/match_A/1.mkv", "card", "match_A"),
        ("goal/a.gif", "goal", "goal/a.gif"),
        ("goal/b.MP4", "goal", "goal/b.MP4"),
    ]
    assert {e.start_s for e in read_labels(tmp_path)} == {None}


def test_folders_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/goal/a.mp4", "val/goal/b.mp4")
    with pytest.raises(LabelsError, match="parts of a split, not classes"):
        read_labels(tmp_path)
    touch(tmp_path, "goal/readme.txt")
    with pytest.raises(LabelsError, match="goal: no footage in this class"):
        read_labels(tmp_path)
    touch(tmp_path, "labels.csv")
    with pytest.raises(LabelsError, match=r"there is a labels\.csv"):
        read_labels(tmp_path)


def test_one_video_per_file_formats_write_a_file_for_each(tmp_path: Path) -> None:
    examples = [
        Example(tmp_path / f"{video}.mp4", "goal", video, 1.0, 2.0) for video in ("a", "b", "a")
    ]
    for name in (form.name for form in FORMATS if form.one_video):
        out = tmp_path / name
        texts = label_texts(examples, out, format_name=name, rate_hz=25)
        suffix = BY_NAME[name].suffix
        assert set(texts) == {out / f"a{suffix}", out / f"b{suffix}"}
        touch(tmp_path, "a.mp4", "b.mp4")
        for path, text in texts.items():
            video = tmp_path / f"{path.stem}.mp4"
            given = video if name in NAME_NO_VIDEO else None
            saved = save(tmp_path, text, f"{name}/{path.name}")
            read = read_labels(saved, rate_hz=25, footage_folder=given)
            assert {e.path for e in read} == {video}


def test_a_folder_that_is_there_takes_the_file_of_one_video_too(tmp_path: Path) -> None:
    goal = Example(tmp_path / "a.mp4", "goal", "a", 1.0, 2.0)
    assert set(label_texts([goal], tmp_path, format_name="elan")) == {tmp_path / "a.eaf"}
    with pytest.raises(ValueError, match=r"is a folder\. Name the file"):
        label_texts([goal], tmp_path, format_name="csv")


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    whole = Example(tmp_path / "a.mp4", "goal", "a", source="labels.csv line 2")
    timed = with_times([whole], {tmp_path / "a.mp4": 4.0})
    assert [(e.start_s, e.end_s) for e in timed] == [(0.0, 4.0)]
    for examples, name, message in [
        ([whole], "elan", r"labels\.csv line 2: no times"),
        (timed, "cvat", "rate_hz"),
        (timed, "soccernet", r"1_224p\.mkv.*a\.mp4 is not named like this"),
        (timed, "folders", "cannot be written. Choose one of csv"),
        (timed, "srt", "cannot be written"),
        ([*timed, replace(timed[0], group="b")], "activitynet", "several groups"),
    ]:
        with pytest.raises(ValueError, match=message):
            label_texts(examples, tmp_path / "out", format_name=name)


def test_a_project_of_the_studio_is_read_by_its_labels(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").touch()
    (tmp_path / "labels.csv").write_text("video,label,start_s,end_s\nmatch.mp4,dunk,1,2\n")
    (example,) = read_labels(tmp_path)
    assert (example.path, example.label) == (tmp_path / "match.mp4", "dunk")
