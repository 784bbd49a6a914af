"""Files for loaders of others, checked by descriptions of formats that are not our own readers.

The schemas say what the authors of a format publish: OpenSportsLab its "OSL JSON Format" and its
loader, the challenge of player-centric spotting its submissions. The Common Data Format has a
validator of its authors.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cdf import VideoSchemaValidator
from jsonschema import Draft202012Validator, ValidationError

from touchline.pipeline.labels.read import label_texts
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.options import WriteOptions
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, Example, FootageHealth

COUNT = {"type": "integer", "minimum": 0}
SHARE = {"type": "number", "minimum": 0, "maximum": 1}
NAME = {"type": "string", "minLength": 1}
STATUS = {"enum": ["verified", "unlabeled", "excluded"]}

OSL_INTERVAL = {
    "type": "object",
    "required": ["start_time_ms", "end_time_ms"],
    "properties": {"start_time_ms": COUNT, "end_time_ms": COUNT, "period": NAME},
    "additionalProperties": False,
}
OSL_EVENT = {
    "type": "object",
    "required": ["head", "label", "position_ms"],
    "properties": {
        "head": NAME,
        "label": NAME,
        "position_ms": COUNT,
        "gameTime": {"type": "string", "pattern": r"^\d+ - \d\d+:\d\d$"},
        "confidence": SHARE,
        "confidence_score": SHARE,
    },
}
OSL_SAMPLE = {
    "type": "object",
    "required": ["id", "inputs"],
    "properties": {
        "id": NAME,
        "inputs": {
            "type": "array",
            # The loader of moments takes exactly one video.
            "minItems": 1,
            "maxItems": 1,
            "items": {
                "type": "object",
                "required": ["type", "path"],
                "properties": {
                    "type": {"enum": ["video", "frames_npy", "tracking_parquet"]},
                    # Relative, with slashes.
                    "path": {"type": "string", "pattern": r"^[^/\\][^\\]*$"},
                    "fps": {"type": "number", "exclusiveMinimum": 0},
                },
                "additionalProperties": False,
            },
        },
        "metadata": {
            "type": "object",
            "properties": {
                "annotation_status": STATUS,
                "intervals": {"type": "array", "minItems": 1, "items": OSL_INTERVAL},
            },
        },
        "labels": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "oneOf": [{"required": ["label"]}, {"required": ["labels"]}],
                "properties": {
                    "label": NAME,
                    "labels": {"type": "array", "items": NAME},
                    "confidence": SHARE,
                },
            },
        },
        "events": {"type": "array", "items": OSL_EVENT},
    },
    "additionalProperties": False,
}
OSL = {
    "type": "object",
    "required": ["version", "labels", "data"],
    "properties": {
        "version": {"const": "2.0"},
        "date": {"type": "string", "format": "date"},
        "task": {"enum": ["action_spotting", "action_classification"]},
        "dataset_name": {"type": "string"},
        "description": {"type": "string"},
        "modalities": {"type": "array", "items": NAME, "minItems": 1},
        "metadata": {"type": "object"},
        "labels": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {
                "type": "object",
                "required": ["type", "labels"],
                "properties": {
                    "type": {"enum": ["single_label", "multi_label"]},
                    "labels": {"type": "array", "items": NAME, "uniqueItems": True},
                },
                "additionalProperties": False,
            },
        },
        "data": {"type": "array", "items": OSL_SAMPLE},
    },
    "additionalProperties": False,
}

# [frame, team, jersey, class, confidence]; -1 says that a team or jersey is unknown.
PLAYER_ROW = {
    "type": "array",
    "prefixItems": [
        COUNT,
        {"enum": [0, 1, -1]},
        {"type": "integer", "minimum": -1, "maximum": 99},
        {"type": "integer", "minimum": 1, "maximum": 8},
        SHARE,
    ],
    "minItems": 5,
    "maxItems": 5,
}
PLAYER_SPOTTING = {
    "type": "object",
    "required": ["keys", "events"],
    "properties": {
        "keys": {"type": "array", "items": NAME, "uniqueItems": True},
        "events": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": PLAYER_ROW},
        },
    },
    "additionalProperties": False,
}


def check(document: Any, schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)


def check_osl(document: dict[str, Any]) -> None:
    """By the schema, and by what the loader demands beyond it."""
    check(document, OSL)
    ids = [sample["id"] for sample in document["data"]]
    assert len(set(ids)) == len(ids)
    for sample in document["data"]:
        for head, given in sample.get("labels", {}).items():
            names = given.get("labels", [given.get("label")])
            assert set(names) <= set(document["labels"][head]["labels"])
        spans = [
            (one["start_time_ms"], one["end_time_ms"])
            for one in sample.get("metadata", {}).get("intervals", [])
        ]
        edges = [ms for span in spans for ms in span]
        assert edges == sorted(set(edges))
        for event in sample.get("events", []):
            assert event["label"] in document["labels"][event["head"]]["labels"]
            if document["metadata"].get("type") == "predictions":
                assert "confidence" in event
            if spans:
                assert any(start <= event["position_ms"] < end for start, end in spans)


def result(tmp_path: Path) -> MatchResult:
    who = (("team", "left"), ("jersey", "7"))
    events = (
        Event("pass", 61.2345, 63.0, 62.0, 1.0, who),
        Event("shot", 3661.7, 3668.1, 3665.0004, 0.6),
        Event("pass", 4000.0, 4000.0, 4000.0, 0.05),
    )
    return MatchResult(
        path=tmp_path / "matches" / "final.mp4",
        candidates=events,
        accepted=events[:2],
        health=FootageHealth("mp4", "h264", 640, 360, "25/1", False, 4100.0, 0.0),
    )


CLOCK = MatchClock({1: 30.0, 2: 3720.5})


def test_predictions_as_osl_json(tmp_path: Path) -> None:
    (path,) = write_result(result(tmp_path), tmp_path / "out", formats=["osl"], clock=CLOCK)
    document = json.loads(path.read_text())
    check_osl(document)
    assert document["metadata"] == {"type": "predictions"}
    assert [row["position_ms"] for row in document["data"][0]["events"]] == [
        62000,
        3665000,
        4000000,
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_labels_as_osl_json(tmp_path: Path, whole: bool) -> None:
    a, b, c = (tmp_path / "clips" / name for name in ("a.mp4", "b.mp4", "c.mp4"))
    out = tmp_path / "labels.json"
    if whole:
        examples = [Example(a, "goal", "m"), Example(b, "goal", "m"), Example(b, "card", "m")]
    else:
        examples = [
            Example(a, "goal", "m", 2.0, 6.0, peak_s=5.0, attributes=(("team", "home"),)),
            Example(a, "verified", "m", 0.0, 8.0),
            Example(a, "verified", "m", 7.0, 9.0),
            Example(a, "verified", "m", 20.0, 30.0),
            Example(b, "card", "m", 1.0, 1.0, score=0.5),
            Example(b, "verified", "m", 5.0, 8.0),
            Example(c, "verified", "n"),
        ]
    document = json.loads(label_texts(examples, out, format_name="osl")[out])
    check_osl(document)
    assert len(document["data"]) == (2 if whole else 3)


def test_the_schema_of_osl_can_fail(tmp_path: Path) -> None:
    (path,) = write_result(result(tmp_path), tmp_path / "out", formats=["osl"])
    for old, new in (
        ('"2.0"', "2.0"),
        ('"single_label"', '"single"'),
        ('"position_ms": 62000', '"position_ms": 62000.5'),
        ('"position_ms"', '"position"'),
        ('"confidence": 0.6', '"confidence": 60'),
        ('"inputs"', '"input"'),
    ):
        assert old in path.read_text()
        with pytest.raises(ValidationError):
            check_osl(json.loads(path.read_text().replace(old, new)))
    for old, new in (('"confidence"', '"score"'), ('"label": "shot"', '"label": "goal"')):
        with pytest.raises(AssertionError):
            check_osl(json.loads(path.read_text().replace(old, new)))


def test_predictions_of_player_centric_spotting(tmp_path: Path) -> None:
    (path,) = write_result(result(tmp_path), tmp_path / "out", formats=["player-spotting"])
    document = json.loads(path.read_text())
    check(document, PLAYER_SPOTTING)
    assert document["keys"] == list(document["events"]) == ["final"]
    assert document["events"]["final"][0] == [1550, 0, 7, 2, 1.0]
    for wrong in ([1550.5, 0, 7, 2, 1.0], [1550, 2, 7, 2, 1.0], [1550, 0, 7, 2], [1, 0, 7, 9, 1.0]):
        document["events"]["final"][0] = wrong
        with pytest.raises(ValidationError):
            check(document, PLAYER_SPOTTING)


def test_video_json_passes_the_validator_of_the_common_data_format(tmp_path: Path) -> None:
    options = WriteOptions(recorded="2026-05-10T21:45:00+02:00")
    (path,) = write_result(
        result(tmp_path), tmp_path / "out", formats=["cdf"], clock=CLOCK, options=options
    )
    # "extreme" also refuses members that the format does not know.
    VideoSchemaValidator().validate_schema(str(path), mode="extreme")
    document = json.loads(path.read_text())
    document["whistles"][0]["video_time"] = "0:30"
    with pytest.raises(Exception, match="video_time"):
        VideoSchemaValidator().validate_schema(document, mode="extreme")
