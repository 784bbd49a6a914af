"""Read and write labels as ActivityNet JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.labels.parsed import JsonValue, read_attributes, read_score
from touchline.pipeline.labels.source import (
    LabelledVideo,
    LabelSource,
    footage_called,
    labelled_video,
    make_example,
)
from touchline.pipeline.labels.target import LabelTarget, by_footage, dump_json
from touchline.pipeline.types import Event, Example


def is_activitynet(source: LabelSource) -> bool:
    """Recognise ActivityNet by its "database", and its detections by their "results"."""
    return source.kind == "json" and (source.json.has("database") or source.json.has("results"))


def read_activitynet(source: LabelSource) -> list[Example]:
    """Read segments [start, end] in seconds, per video.

    The footage is the file with the video's name and any ending in the footage folder. If an entry
    has `file` or `group`, these are used. Detections ("results") keep their score.
    """
    ground_truth = source.json.has("database")
    examples = []
    listed: dict[Path, dict[str, list[str]]] = {}
    for name, entry in source.json["database" if ground_truth else "results"].members():
        rows = entry["annotations"] if ground_truth else entry
        video = _video(source, name, entry, listed)
        group = entry["group"].text() if entry.has("group") else name
        for row in rows.elements():
            start_s, end_s = _segment(row["segment"])
            examples.append(
                make_example(
                    source,
                    row.where,
                    video=video,
                    label=row["label"].text(),
                    group=group,
                    start_s=start_s,
                    end_s=end_s,
                    score=read_score(row, "score"),
                    attributes=read_attributes(row["attributes"]) if row.has("attributes") else (),
                )
            )
    return examples


def activitynet_videos(source: LabelSource) -> list[LabelledVideo]:
    """List every video of the file, also without events."""
    ground_truth = source.json.has("database")
    listed: dict[Path, dict[str, list[str]]] = {}
    videos = []
    for name, entry in source.json["database" if ground_truth else "results"].members():
        video = _video(source, name, entry, listed)
        group = entry["group"].text() if entry.has("group") else name
        subset = entry["subset"].text() if entry.has("subset") else ""
        videos.append(labelled_video(source, video, group=group, subset=subset))
    return videos


def _segment(segment: JsonValue) -> tuple[float, float]:
    times = [value.number() for value in segment.elements()]
    if len(times) != 2:
        raise segment.error(f"{len(times)} numbers; it must be [start, end] in seconds")
    return times[0], times[1]


def _video(
    source: LabelSource, name: str, entry: JsonValue, listed: dict[Path, dict[str, list[str]]]
) -> str:
    if entry.has("file"):
        return entry["file"].text()
    return footage_called(source, name, entry, listed)


def write_activitynet(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write each video under its name without ending; `file` holds the full name.

    Raises:
        ValueError: Two videos differ only in their ending, or a video has several groups.
    """
    database: dict[str, dict[str, object]] = {}
    for path, mine in by_footage(examples):
        name = footage_reference(path, target.folder)
        groups = sorted({example.group for example in mine})
        key = Path(name).with_suffix("").as_posix()
        if key in database:
            raise ValueError(f"two files are called {key} apart from their ending. Rename one.")
        database[key] = {
            "file": name,
            "group": groups[0],
            "annotations": [_annotation(example.event()) for example in mine],
        }
    return dump_json({"version": "1.3", "database": database})


def _annotation(event: Event) -> dict[str, object]:
    row: dict[str, object] = {"segment": [event.start_s, event.end_s], "label": event.label}
    return row | ({"attributes": dict(event.attributes)} if event.attributes else {})
