"""Team, player, jersey, note and free columns survive every format that can hold them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from label_samples import CVAT, ELAN, SAMPLES, save

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.formats import BY_NAME, WRITABLE
from touchline.pipeline.labels.read import label_texts, read_labels
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.outputs.writers import is_installed, write_result
from touchline.pipeline.timecode import MatchClock, parse_rate
from touchline.pipeline.types import Event, Example, FootageHealth

KANE = (
    ("team", "home"), ("player", "Kane & Søn"), ("jersey", "09"), ("note", "left foot: far post"),
    ("pitch x", "=88,5"),
)  # fmt: skip
AWAY = (("team", "away"),)
HEALTH = FootageHealth("mp4", "h264", 64, 48, "25/1", False, 120.0, 0.0)


def events() -> tuple[Event, ...]:
    return (
        Event("goal", 2.0, 6.0, 4.0, 0.5, KANE),
        Event("goal", 10.0, 12.0, 11.0, 0.75, AWAY),
        Event("card", 20.0, 24.0, 22.0, 1.0),
    )


@pytest.mark.parametrize("name", [n for n in WRITABLE if "attributes" not in BY_NAME[n].loses])
def test_attributes_are_read_back_from_every_label_format(tmp_path: Path, name: str) -> None:
    video = tmp_path / ("1_224p.mkv" if name == "soccernet" else "match.mp4")
    known = dict(KANE)
    if "the characters & < >" in BY_NAME[name].loses:
        known["player"] = "Kane and Søn"
    examples = [
        Example(video, e.label, "match", e.start_s, e.end_s, attributes=e.attributes)
        for e in events()
    ]
    out = tmp_path / f"out{BY_NAME[name].suffix}"
    text = label_texts(examples, out, format_name=name, rate_hz=25)[out]
    read = sorted(read_labels(save(tmp_path, text, out.name), rate_hz=25), key=by_time)
    assert [dict(e.attributes) for e in read] == [known, dict(AWAY), {}]
    assert [dict(e.event().attributes) for e in read] == [known, dict(AWAY), {}]


def by_time(example: Example) -> float:
    return example.event().peak_s


@pytest.mark.parametrize(
    "name", ["csv", "json", "soccernet", "osl", "activitynet", "labelstudio", "cvat"]
)
def test_attributes_of_results_are_read_back(tmp_path: Path, name: str) -> None:
    result = MatchResult(
        tmp_path / "match.mp4", events(), events(), HEALTH, clock=MatchClock({1: 0.0})
    )
    (path,) = write_result(result, tmp_path, formats=[name])
    if name == "labelstudio":
        # Predictions become labels when somebody accepts them in Label Studio.
        path.write_text(path.read_text().replace('"predictions"', '"annotations"'))
    (read,) = read_results(path, rate_hz=25)
    assert [dict(e.attributes) for e in read.accepted] == [dict(KANE), dict(AWAY), {}]


def test_attributes_are_in_jsonl_otio_and_losslesscut(tmp_path: Path) -> None:
    result = MatchResult(tmp_path / "match.mp4", events(), events(), HEALTH)
    lines, project = write_result(result, tmp_path, formats=["jsonl", "losslesscut"])
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row.get("attributes", {}) for row in rows] == [dict(KANE), dict(AWAY), {}]
    segments = json.loads(project.read_text())["cutSegments"]
    assert [s.get("tags", {}) for s in segments] == [dict(KANE), dict(AWAY), {}]
    if is_installed("otio"):
        import opentimelineio

        (path,) = write_result(result, tmp_path, formats=["otio"])
        clips = opentimelineio.adapters.read_from_file(str(path)).find_clips()
        kept = [dict(clip.metadata["touchline"]["attributes"]) for clip in clips]
        assert kept == [dict(KANE), dict(AWAY), {}]


def test_captions_name_team_and_player(tmp_path: Path) -> None:
    result = MatchResult(tmp_path / "match.mp4", events(), events(), HEALTH)
    (path,) = write_result(result, tmp_path, formats=["srt"], rate=parse_rate("25"))
    captions = [line for line in path.read_text().splitlines() if "%" in line]
    assert captions == ["goal · home · 09 Kane & Søn · 50%", "goal · away · 75%", "card · 100%"]


def test_the_times_that_events_csv_repeats_are_no_attributes(tmp_path: Path) -> None:
    result = MatchResult(
        tmp_path / "match.mp4", events()[2:], events()[2:], HEALTH, clock=MatchClock({1: 0.0})
    )
    (path,) = write_result(result, tmp_path, formats=["csv"])
    with path.open(newline="") as file:
        assert {"start", "end", "peak", "clock"} <= set(next(csv.DictReader(file)))
    assert read_labels(path)[0].attributes == ()


def test_a_column_of_another_table_is_kept(tmp_path: Path) -> None:
    path = save(tmp_path, "video;label;start_s;end_s;score;start;xG\na.mp4;goal;1,5;2;2-1;k;0,31\n")
    (read,) = read_labels(path)
    assert read.attributes == (("score", "2-1"), ("start", "k"), ("xG", "0,31"))
    out = tmp_path / "out.csv"
    again = label_texts([read], out, format_name="csv")[out]
    assert read_labels(save(tmp_path, again, "out.csv"))[0].attributes == read.attributes


def test_an_attribute_with_the_name_of_a_column_is_refused(tmp_path: Path) -> None:
    taken = Example(tmp_path / "1_224p.mkv", "goal", "a", 1.0, 2.0, attributes=(("label", "x"),))
    for name in ("csv", "soccernet"):
        with pytest.raises(ValueError, match=r"an attribute is called 'label'.*Rename it"):
            label_texts([taken], tmp_path / "out", format_name=name)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, "video,label,start_s,end_s,note,note,,\na.mp4,goal,1,2,x,y,,\n")
    with pytest.raises(LabelsError, match=r"line 1: 2 columns 'note'\. Keep one"):
        read_labels(path)


def test_soccernets_team_is_an_attribute_unless_it_applies_to_none(tmp_path: Path) -> None:
    goal, foul = read_labels(save(tmp_path, SAMPLES["soccernet"], "Labels-v2.json"))
    assert (goal.attributes, foul.attributes) == ((("team", "home"),), ())
    none = SAMPLES["soccernet"].replace('"home"', '"not applicable"')
    assert read_labels(save(tmp_path, none, "Labels-v2.json"))[0].attributes == ()


def test_attributes_of_cvat_are_those_that_somebody_has_set(tmp_path: Path) -> None:
    set_one = '<attribute name="team">home</attribute><attribute name="x">__undefined__</attribute>'
    text = CVAT.replace('ybr="9"/>', f'ybr="9">{set_one}</box>')
    assert read_labels(save(tmp_path, text), rate_hz=25)[0].attributes == (("team", "home"),)


def test_annotations_of_elan_that_refer_to_others_are_their_attributes(tmp_path: Path) -> None:
    goal, card = read_labels(save(tmp_path, ELAN))
    assert (goal.attributes, card.attributes) == ((("notes", "header"),), ())


def test_damaged_attributes_of_events_json_are_named_by_their_path(tmp_path: Path) -> None:
    result = MatchResult(tmp_path / "match.mp4", events(), events(), HEALTH)
    (path,) = write_result(result, tmp_path, formats=["json"])
    document = json.loads(path.read_text())
    document["events"][1]["attributes"]["team"] = None
    path.write_text(json.dumps(document))
    with pytest.raises(LabelsError, match=r"\$\.events\[1\]\.attributes.*null instead of a text"):
        read_events_json(path)
