"""Read and write OSL JSON, version 2, the format of OpenSportsLab and of SoccerNet's newer tasks.

A file has samples. A sample has inputs (its footage), and for each head either moments (`events`)
or a class of the whole clip (`labels`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from touchline.models.classes import VERIFIED
from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES, footage_reference
from touchline.pipeline.labels.parsed import JsonValue, read_attributes, read_score
from touchline.pipeline.labels.source import (
    LabelledVideo,
    LabelSource,
    footage_in,
    labelled_video,
    make_example,
)
from touchline.pipeline.labels.target import LabelTarget, by_footage, dump_json, free_members
from touchline.pipeline.types import Event, Example, FootageHealth

OSL_VERSION = "2.0"
OWN_HEAD = "action"
"""The head that Touchline writes, and that OpenSportsLab trains by default."""

EVENT_MEMBERS = (
    "head", "label", "position_ms", "gameTime", "confidence", "confidence_score", "frame",
)  # fmt: skip
CONFIDENCES = ("confidence", "confidence_score")
GROUPS = ("match_id", "game_id", "group")
STATUSES = ("verified", "unlabeled", "excluded")

_Span = tuple[float, float]


def is_osl(source: LabelSource) -> bool:
    """Recognise OSL by its list of samples with inputs."""
    if source.kind != "json" or not source.json.has("data"):
        return False
    rows = source.json["data"].value
    if not isinstance(rows, list):
        return False
    return source.json.has("labels") or any(isinstance(r, dict) and "inputs" in r for r in rows)


def read_osl(source: LabelSource) -> list[Example]:
    """Read the moments of one head, or else the classes of whole clips.

    If the file says anywhere what is labelled, the intervals of a sample that is "verified" become
    labels `verified`. A sample that is not gets a `verified` stretch without length: so no time of
    it counts as background. Moments of an "excluded" sample are left out.

    Raises:
        LabelsError: A sample cannot be used, or several heads could be meant.
    """
    _check_version(source.json)
    samples = source.json["data"].elements()
    head = _chosen_head(source, samples)
    classes = _classes_of(source.json, head)
    said = any(_says_what_is_labelled(sample) for sample in samples)
    timed = [
        example
        for sample in samples
        for example in _sample_events(source, sample, head, classes, said=said)
    ]
    if any(example.label != VERIFIED for example in timed):
        return timed
    whole = [e for sample in samples for e in _clip_labels(source, sample, head, classes)]
    return [*whole, *timed]


def osl_videos(source: LabelSource) -> list[LabelledVideo]:
    """List the videos whose moments are labelled, also those without any."""
    videos = []
    for sample in source.json["data"].elements():
        if sample.has("events") and (sample["events"].elements() or _status(sample) == "verified"):
            name, group = _videos(source, sample)[0], _group(source, sample)
            videos.append(labelled_video(source, name, group=group))
    return videos


def _check_version(root: JsonValue) -> None:
    if root.has("version") and not str(root["version"].value).startswith("2"):
        raise root["version"].error(f"{root['version'].value!r}; Touchline reads version 2")


def _chosen_head(source: LabelSource, samples: Sequence[JsonValue]) -> str:
    """The head to read: the one asked for, or the only one that the samples use."""
    heads: dict[str, None] = {}
    for row in (row for s in samples if s.has("events") for row in s["events"].elements()):
        heads.setdefault(row["head"].text() if row.has("head") else "")
    if not heads:
        labelled = [sample["labels"] for sample in samples if sample.has("labels")]
        heads = {name: None for labels in labelled for name, _ in labels.members()}
    if source.head:
        if heads and source.head not in heads:
            hint = did_you_mean(source.head, list(heads)) or f"The heads are {', '.join(heads)}."
            raise LabelsError(source.path, f"no head {source.head!r} is labelled. {hint}")
        return source.head
    if len(heads) > 1:
        raise LabelsError(
            source.path,
            f"{len(heads)} heads are labelled: {', '.join(heads)}. Convert the labels of one with "
            "touchline labels FILE --head HEAD --convert csv -o labels.csv.",
        )
    return next(iter(heads), "")


def _classes_of(root: JsonValue, head: str) -> list[str]:
    """The classes that the file declares for a head; empty if it declares none."""
    if not (root.has("labels") and root["labels"].has(head) and root["labels"][head].has("labels")):
        return []
    return [name.text() for name in root["labels"][head]["labels"].elements()]


def _class(label: JsonValue, classes: Sequence[str]) -> str:
    name = label.text()
    if classes and name not in classes:
        hint = did_you_mean(name, classes) or f"The classes are {', '.join(classes)}."
        raise label.error(f"{name!r} is no class of this head. {hint}")
    return name


def _videos(source: LabelSource, sample: JsonValue) -> list[str]:
    """The videos of a sample: several if it has several views."""
    found = []
    for given in sample["inputs"].elements():
        kind = given["type"].text() if given.has("type") else ""
        name = given["path"].text()
        if kind == "video" or (not kind and Path(name).suffix.lower() in FOOTAGE_SUFFIXES):
            found.append(footage_in(source, name))
    if not found:
        raise sample["inputs"].error("no input is a video. Touchline reads labels of videos.")
    return found


def _group(source: LabelSource, sample: JsonValue) -> str:
    if sample.has("metadata"):
        for name in GROUPS:
            if sample["metadata"].has(name):
                return str(sample["metadata"][name].value)
    return _videos(source, sample)[0]


def _sample_events(
    source: LabelSource,
    sample: JsonValue,
    head: str,
    classes: Sequence[str],
    *,
    said: bool,
) -> Iterator[Example]:
    """The moments of a sample, and its verified stretches if the file says what is labelled."""
    status, intervals = _status(sample), _intervals(sample)
    has_moments = sample.has("events") and status != "excluded"
    if has_moments or said:
        video, group = _videos(source, sample)[0], _group(source, sample)
    for row in sample["events"].elements() if has_moments else ():
        if (row["head"].text() if row.has("head") else "") != head:
            continue
        time_s = row["position_ms"].number() / 1000
        if not any(start_s <= time_s < end_s for start_s, end_s in intervals):
            raise row["position_ms"].error(
                f"{time_s:g} s is outside of the sample's intervals. Remove the event, or extend "
                "an interval."
            )
        yield make_example(
            source,
            row.where,
            video=video,
            label=_class(row["label"], classes),
            group=group,
            start_s=time_s,
            end_s=time_s,
            score=_confidence(row),
            attributes=read_attributes(row, known=EVENT_MEMBERS),
        )
    if not (said and (has_moments or _says_what_is_labelled(sample))):
        return
    for start_s, end_s in intervals if status == "verified" else [(0.0, 0.0)]:
        whole = end_s == math.inf
        yield make_example(
            source,
            f"{sample.where}.metadata",
            video=video,
            label=VERIFIED,
            group=group,
            start_s=None if whole else start_s,
            end_s=None if whole else end_s,
        )


def _confidence(row: JsonValue) -> float:
    return next((read_score(row, name) for name in CONFIDENCES if row.has(name)), 1.0)


def _says_what_is_labelled(sample: JsonValue) -> bool:
    return sample.has("metadata") and any(
        sample["metadata"].has(name) for name in ("annotation_status", "intervals")
    )


def _status(sample: JsonValue) -> str:
    """What is labelled of a sample. Without a status it is verified, as in OpenSportsLab."""
    if not (sample.has("metadata") and sample["metadata"].has("annotation_status")):
        return "verified"
    value = sample["metadata"]["annotation_status"]
    if value.text() not in STATUSES:
        raise value.error(f"{value.value!r}; it must be {', '.join(STATUSES[:-1])} or excluded")
    return value.text()


def _intervals(sample: JsonValue) -> list[_Span]:
    """The parts [start, end) of the video that are the sample, in seconds; else all of it."""
    if not (sample.has("metadata") and sample["metadata"].has("intervals")):
        return [(0.0, math.inf)]
    spans: list[_Span] = []
    rows = sample["metadata"]["intervals"]
    for row in rows.elements():
        if row.has("annotation_status"):
            raise row.error("the status is that of the whole sample. Move it to its metadata.")
        start_s, end_s = (row[name].number() / 1000 for name in ("start_time_ms", "end_time_ms"))
        if end_s <= start_s:
            raise row.error(f"the interval [{start_s:g} s, {end_s:g} s) is empty")
        if spans and start_s < spans[-1][1]:
            raise row.error("begins before the one before ends. Sort them, and join what overlaps.")
        spans.append((start_s, end_s))
    if not spans and _status(sample) != "excluded":
        raise rows.error("the list is empty. Remove it, or exclude the sample.")
    return spans


def _clip_labels(
    source: LabelSource, sample: JsonValue, head: str, classes: Sequence[str]
) -> Iterator[Example]:
    """The classes of a sample, each as the label of every view of it."""
    if not (sample.has("labels") and sample["labels"].has(head)):
        return
    given = sample["labels"][head]
    labels = given["labels"].elements() if given.has("labels") else [given["label"]]
    for label in labels:
        for video in _videos(source, sample):
            yield make_example(
                source,
                label.where,
                video=video,
                label=_class(label, classes),
                group=_group(source, sample),
                score=_confidence(given),
            )


def write_osl(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write each video as a sample; an event is written as the moment of its peak.

    Raises:
        ValueError: A video has several groups, an attribute has the name of a member of OSL, or
            some labels have times and some are of whole files whose length is not known.
    """
    labels = [example for example in examples if example.label != VERIFIED]
    if len({example.start_s is None for example in labels}) > 1:
        examples = [_timed(example, target) for example in examples]
    samples = []
    for path, mine in by_footage(examples):
        labels = [example for example in mine if example.label != VERIFIED]
        moments = [example.event() for example in labels if example.start_s is not None]
        whole = [example for example in labels if example.start_s is None]
        sample = osl_sample(
            footage_reference(path, target.folder), moments, health=target.healths.get(path)
        )
        if not moments and whole:
            del sample["events"]
            names = list(dict.fromkeys(example.label for example in whole))
            sample["labels"] = {
                OWN_HEAD: {"label": names[0]} if len(names) == 1 else {"labels": names}
            }
        sample["metadata"] = {"match_id": mine[0].group} | _written_status(mine)
        samples.append(sample)
    return osl_json(samples, classes=sorted({e.label for e in examples} - {VERIFIED}))


def _timed(example: Example, target: LabelTarget) -> Example:
    """The example with times, for files in which others have times; ValueError if not known."""
    if example.start_s is not None or example.label == VERIFIED:
        return example
    if example.path not in target.healths:
        raise ValueError(
            f"{example.source or example.path}: the label has no times, but others have. OSL holds "
            "moments or classes of whole clips. Convert them separately."
        )
    return replace(example, start_s=0.0, end_s=target.healths[example.path].duration_s)


def _written_status(examples: Sequence[Example]) -> dict[str, object]:
    """What is labelled of a video. OSL holds no event outside of intervals that are verified."""
    verified = [example for example in examples if example.label == VERIFIED]
    if not verified:
        return {}
    if any(example.start_s is None for example in verified):
        return {"annotation_status": "verified"}
    spans: list[tuple[int, int]] = []
    for start, end in sorted((_ms(e.start_s or 0.0), _ms(e.end_s or 0.0)) for e in verified):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        elif start < end:
            spans.append((start, end))
    moments = [_ms(e.event().peak_s) for e in examples if e.label != VERIFIED]
    if not spans or not all(any(a <= ms < b for a, b in spans) for ms in moments):
        return {"annotation_status": "unlabeled"}
    return {
        "annotation_status": "verified",
        "intervals": [{"start_time_ms": start, "end_time_ms": end} for start, end in spans],
    }


def osl_sample(
    video: str,
    moments: Sequence[Event],
    *,
    health: FootageHealth | None,
    game_times: Mapping[Event, str] | None = None,
    predicted: bool = False,
) -> dict[str, object]:
    """Return a sample of one video.

    Args:
        video: The path of the video relative to the file.
        moments: The events, each written as the moment of its peak.
        health: What is known of the footage, for its rate.
        game_times: The match clock of each event, as SoccerNet writes it.
        predicted: A model has found the events, so each has a confidence.

    Raises:
        ValueError: An attribute has the name of a member of OSL.
    """
    given: dict[str, object] = {"type": "video", "path": video}
    if health is not None and health.frame_rate is not None and not health.variable_rate:
        given["fps"] = float(Fraction(health.frame_rate))
    rows = []
    for event in sorted(moments, key=lambda event: event.peak_s):
        row: dict[str, object] = {
            "head": OWN_HEAD,
            "label": event.label,
            "position_ms": _ms(event.peak_s),
        }
        if game_times is not None and event in game_times:
            row["gameTime"] = game_times[event]
        if predicted or event.score != 1:
            row["confidence"] = float(event.score)
        rows.append(row | free_members(event, taken=EVENT_MEMBERS))
    stem = Path(video).with_suffix("").as_posix()
    return {"id": stem, "inputs": [given], "events": rows}


def _ms(time_s: float) -> int:
    return math.floor(time_s * 1000 + 0.5)


def osl_json(
    samples: Sequence[Mapping[str, object]], *, classes: Sequence[str], predicted: bool = False
) -> str:
    """Return the text of a file.

    Args:
        samples: The samples.
        classes: The classes of the head.
        predicted: A model has found the events.
    """
    spotting = any("events" in sample for sample in samples)
    document = {
        "version": OSL_VERSION,
        "task": "action_spotting" if spotting else "action_classification",
        "modalities": ["video"],
        "metadata": {"type": "predictions"} if predicted else {},
        "labels": {OWN_HEAD: {"type": "single_label", "labels": list(classes)}},
        "data": list(samples),
    }
    return dump_json(document)
