"""What annotation tools export besides the plain case: subdivided tiers, tags, seconds, choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from label_samples import ELAN, save

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.read import read_labels

Span = tuple[str, float | None, float | None]


def spans(path: Path, rate_hz: float | None = None) -> list[Span]:
    read = read_labels(path, rate_hz=rate_hz)
    return [
        (e.label, e.start_s and round(e.start_s, 6), e.end_s and round(e.end_s, 6)) for e in read
    ]


def elan_tier(slots: list[int | None], annotations: list[tuple[int, int]]) -> str:
    """An .eaf of one tier, whose k-th annotation lasts from one slot to another."""
    times = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{k}"' + ("/>" if ms is None else f' TIME_VALUE="{ms}"/>')
        for k, ms in enumerate(slots)
    )
    rows = "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{k}" TIME_SLOT_REF1="ts{first}" '
        f'TIME_SLOT_REF2="ts{last}"><ANNOTATION_VALUE>part{k}</ANNOTATION_VALUE>'
        "</ALIGNABLE_ANNOTATION></ANNOTATION>"
        for k, (first, last) in enumerate(annotations)
    )
    header = ELAN[ELAN.index("<HEADER") : ELAN.index("<TIME_ORDER>")]
    return (
        f"<ANNOTATION_DOCUMENT>{header}<TIME_ORDER>{times}</TIME_ORDER>"
        f'<TIER TIER_ID="t">{rows}</TIER></ANNOTATION_DOCUMENT>'
    )


def test_slots_without_a_time_are_spread_evenly_as_elan_shows_them(tmp_path: Path) -> None:
    text = elan_tier([500, None, None, 2000, None, 4000], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])
    assert spans(save(tmp_path, text)) == [
        ("part0", 0.5, 1.0),
        ("part1", 1.0, 1.5),
        ("part2", 1.5, 2.0),
        ("part3", 2.0, 3.0),
        ("part4", 3.0, 4.0),
    ]


def test_a_slot_at_the_end_of_a_tier_needs_a_time(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="the time slot 'ts2' has no time"):
        read_labels(save(tmp_path, elan_tier([500, 900, None], [(0, 1), (1, 2)])))


def cvat_images(frames: list[tuple[int, str]], task: str = "") -> str:
    images = "".join(
        f'<image id="{n}" name="frame_{n:06d}"><tag label="{label}"/></image>'
        for n, label in frames
    )
    meta = f"<meta><task>{task}<source>match.mp4</source></task></meta>"
    return f"<annotations>{meta}{images}</annotations>"


def test_tags_on_consecutive_frames_are_one_interval(tmp_path: Path) -> None:
    text = cvat_images([(10, "goal"), (12, "goal"), (11, "goal"), (11, "card"), (20, "goal")])
    assert sorted(spans(save(tmp_path, text), rate_hz=10)) == [
        ("card", 1.1, 1.2),
        ("goal", 1.0, 1.3),
        ("goal", 2.0, 2.1),
    ]


def test_tags_of_every_third_frame_are_consecutive(tmp_path: Path) -> None:
    step = "<frame_filter>step=3</frame_filter>"
    text = cvat_images([(0, "goal"), (3, "goal"), (9, "goal")], step)
    assert spans(save(tmp_path, text), rate_hz=10) == [("goal", 0.0, 0.6), ("goal", 0.9, 1.2)]


def test_tags_of_photos_are_refused(tmp_path: Path) -> None:
    text = cvat_images([(0, "goal")]).replace("frame_000000", "DSC_1.jpg")
    with pytest.raises(LabelsError, match=r"'DSC_1\.jpg' is no frame of a video"):
        read_labels(save(tmp_path, text), rate_hz=10)


def test_a_cvat_file_without_labels_says_which_export_has_tags(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"no labels in it\. If you labelled with tags, export"):
        read_labels(save(tmp_path, cvat_images([])))


def task(*results: dict[str, Any], **of_data: Any) -> str:
    data = {"video": "match.mp4", "fps": 25} | of_data
    return json.dumps([{"data": data, "annotations": [{"result": list(results)}]}])


def test_labels_of_audio_are_in_seconds(tmp_path: Path) -> None:
    value = {"start": 1.5, "end": 2.25, "channel": 0, "labels": ["whistle"]}
    text = task({"type": "labels", "original_length": 60.0, "value": value}, audio="match.wav")
    assert spans(save(tmp_path, text)) == [("whistle", 1.5, 2.25)]
    named = text.replace('"video": "match.mp4", ', '"title": "Final", ')
    assert read_labels(save(tmp_path, named))[0].path.name == "match.wav"


def test_entities_in_a_text_are_no_labels_of_footage(tmp_path: Path) -> None:
    value = {"start": 3, "end": 9, "text": "a goal", "labels": ["what"]}
    with pytest.raises(LabelsError, match="no labels"):
        read_labels(save(tmp_path, task({"type": "labels", "value": value})))


CHOICE = {"type": "choices", "value": {"choices": ["goal", "replay"]}}


def test_choices_are_labels_of_whole_clips_if_nothing_has_times(tmp_path: Path) -> None:
    assert spans(save(tmp_path, task(CHOICE))) == [("goal", None, None), ("replay", None, None)]
    timed = {"value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["card"]}}
    assert spans(save(tmp_path, task(CHOICE, timed))) == [("card", 0.0, 1.0)]


def test_entries_that_hold_no_ranges_are_skipped(tmp_path: Path) -> None:
    timed = {"value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["card"]}}
    others = [
        {"type": "timelinelabels", "value": {"timelinelabels": ["goal"]}},
        {"type": "timelinelabels", "value": {"ranges": [], "timelinelabels": ["goal"]}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"type": "textarea", "value": {"text": ["nice"]}},
    ]
    assert spans(save(tmp_path, task(*others, timed))) == [("card", 0.0, 1.0)]
