"""Read and write labels as Label Studio JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.labels.parsed import JsonValue
from touchline.pipeline.labels.source import (
    HOW_TO_GIVE_A_RATE,
    LabelSource,
    footage_in,
    make_example,
)
from touchline.pipeline.labels.target import LabelTarget, by_footage, dump_json
from touchline.pipeline.types import Event, Example

NAMED_NOTE = re.compile(r"([^:\n]+): (.*)", re.DOTALL)


def is_label_studio(source: LabelSource) -> bool:
    """Recognise Label Studio by its list of tasks."""
    if source.kind != "json" or not isinstance(source.json.value, list):
        return False
    marks = {"annotations", "predictions", "annotator"}
    return all(isinstance(task, dict) and marks & task.keys() for task in source.json.value)


def read_label_studio(source: LabelSource) -> list[Example]:
    """Read `timelinelabels`: ranges in frames, counted from 1, both ends included.

    The frame rate is the one of the labelling setup: `rate_hz`, or else the task's `data.fps`. A
    task's `data.group` is its group. Labels of audio are read too; they are in seconds. If no task
    has labels with times, choices are read, each as the label of its whole file.
    """
    tasks = source.json.elements()
    timed = [example for task in tasks for example in _task(source, task)]
    return timed or [example for task in tasks for example in _choices(source, task)]


def _task(source: LabelSource, task: JsonValue) -> Iterator[Example]:
    """The labels of a task that have times."""
    video, group = _footage_and_group(source, task)
    for region in _accepted_regions(task):
        if not region.has("value"):
            continue  # a relation links two regions; it has no time
        value = region["value"]
        if value.has("ranges") and not value.has("timelinelabels"):
            raise value.error("a range without a label. Give it one, or delete it.")
        spans: list[tuple[JsonValue, float, float]] = []
        if value.has("timelinelabels") and value.has("ranges"):
            labels = value["timelinelabels"].elements()
            rate_hz = _declared_rate(source, task["data"])
            spans = [(span, *_range_s(span, rate_hz)) for span in value["ranges"].elements()]
        elif value.has("labels") and value.has("start") and not value.has("text"):
            labels = value["labels"].elements()
            spans = [(value, value["start"].number(), value["end"].number())]
        if spans and not labels:
            raise value.error("a range without a label. Give it one, or delete it.")
        for span, start_s, end_s in spans:
            for label in labels:
                yield make_example(
                    source,
                    span.where,
                    video=video,
                    label=label.text(),
                    group=group,
                    start_s=start_s,
                    end_s=end_s,
                    attributes=_notes(region),
                )


def _notes(region: JsonValue) -> list[tuple[str, str]]:
    """The notes of a region: "team: home" is the attribute team, any other text is a note."""
    if not (region.has("meta") and region["meta"].has("text")):
        return []
    given = region["meta"]["text"]
    texts = [given.text()] if isinstance(given.value, str) else [t.text() for t in given.elements()]
    found: dict[str, str] = {}
    for text in texts:
        named = NAMED_NOTE.fullmatch(text)
        name, value = named.groups() if named else ("note", text)
        found[name] = f"{found[name]} {value}" if name in found else value
    return list(found.items())


def note_texts(event: Event) -> list[str]:
    """Return the attributes of an event as Label Studio's notes of a region."""
    return [f"{name}: {value}" for name, value in event.attributes]


def _range_s(span: JsonValue, rate_hz: float) -> tuple[float, float]:
    first = span["start"].number()
    if first < 1:
        raise span["start"].error(f"{first:g}; Label Studio counts frames from 1")
    return (first - 1) / rate_hz, span["end"].number() / rate_hz


def _choices(source: LabelSource, task: JsonValue) -> Iterator[Example]:
    """The choices of a task, each as the label of the whole file."""
    video, group = _footage_and_group(source, task)
    for region in _accepted_regions(task):
        if region.has("value") and region["value"].has("choices"):
            for choice in region["value"]["choices"].elements():
                yield make_example(
                    source, choice.where, video=video, label=choice.text(), group=group
                )


def _footage_and_group(source: LabelSource, task: JsonValue) -> tuple[str, str]:
    if not task.has("data"):
        raise task.error("no 'data' here. Export the project as JSON, not as JSON-MIN or CSV.")
    group = task["data"]["group"].text() if task["data"].has("group") else ""
    return _task_footage(source, task["data"]), group


def _accepted_regions(task: JsonValue) -> list[JsonValue]:
    """The regions of the annotation to use; the work of two annotators must not count twice."""
    if not task.has("annotations"):
        raise task.error("only predictions here. Accept or correct them in Label Studio first.")
    kept = [a for a in task["annotations"].elements() if not _flag(a, "was_cancelled")]
    if len(kept) > 1:
        kept = [a for a in kept if _flag(a, "ground_truth")] or kept
    if len(kept) > 1:
        raise task["annotations"].error(
            f"{len(kept)} annotations of one task. Mark one of them as ground truth."
        )
    return kept[0]["result"].elements() if kept else []


def _flag(annotation: JsonValue, key: str) -> bool:
    return annotation.has(key) and annotation[key].value is not None and annotation[key].flag()


def _declared_rate(source: LabelSource, task: JsonValue) -> float:
    if source.rate_hz is not None:
        return source.rate_hz
    if not task.has("fps"):
        raise task.error(
            "ranges are in frames, but the export has no frame rate. It is the frameRate of the "
            f"<Video> tag in the project's labelling setup (24 if not set). {HOW_TO_GIVE_A_RATE}"
        )
    rate_hz = task["fps"].number()
    if rate_hz <= 0:
        raise task["fps"].error(f"{rate_hz:g} frames per second; it must be more than 0")
    return rate_hz


UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")


def _task_footage(source: LabelSource, task: JsonValue) -> str:
    texts = {k: v for k, v in task.members() if isinstance(v.value, str) and k != "group"}
    named = [texts[key] for key in ("video", "audio") if key in texts] or list(texts.values())
    if not {"video", "audio"} & texts.keys() and len(texts) != 1:
        raise task.error("no 'video' here that names the footage")
    url = named[0]
    parts = urlsplit(url.text())
    local = parts.path.rstrip("/").endswith("/data/local-files")
    if local and "d" in (query := parse_qs(parts.query)):  # /data/local-files/?d=folder/match.mp4
        return footage_in(source, query["d"][0])
    if parts.path.startswith("/data/upload/"):
        name = unquote(Path(parts.path).name)
        there = (source.footage_folder / name).exists()
        return name if there else UPLOAD_PREFIX.sub("", name)
    # Text without "://" is a file name, even if it contains a colon.
    stored = "://" in url.text() and parts.scheme
    return footage_in(source, unquote(parts.path).lstrip("/") if stored else url.text())


def write_label_studio(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write tasks with one annotation each, ready to import. Times are whole frames."""
    tasks: list[dict[str, object]] = []
    for path, mine in by_footage(examples):
        # Label Studio counts frames at the rate of the project's setup, not of the footage.
        rate_hz = target.rate_of(path, own_first=False)
        data = {
            "video": footage_reference(path, target.folder),
            "fps": rate_hz,
            "group": mine[0].group,
        }
        regions = [_region(example, rate_hz) for example in mine]
        tasks.append({"id": len(tasks) + 1, "data": data, "annotations": [{"result": regions}]})
    return dump_json(tasks)


def _region(example: Example, rate_hz: float) -> dict[str, object]:
    event = example.event()
    first = round(event.start_s * rate_hz) + 1
    last = max(first, round(event.end_s * rate_hz))
    region: dict[str, object] = {
        "type": "timelinelabels",
        "from_name": "timeline",
        "to_name": "video",
        "value": {"ranges": [{"start": first, "end": last}], "timelinelabels": [event.label]},
    }
    return region | ({"meta": {"text": note_texts(event)}} if event.attributes else {})
