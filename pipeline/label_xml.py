"""Label formats in XML: CVAT for video 1.1 and ELAN."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

from touchline.pipeline.label_source import (
    HOW_TO_GIVE_A_RATE,
    LabelSource,
    LabelTarget,
    XmlElement,
    footage_in,
    make_example,
    relative_name,
)
from touchline.pipeline.types import Example, FootageHealth

FRAME_STEP = re.compile(r"\bstep\s*=\s*(\d+)")


def is_cvat(source: LabelSource) -> bool:
    return source.kind == "xml" and source.xml.tag == "annotations"


def read_cvat(source: LabelSource) -> list[Example]:
    """CVAT for video 1.1: a track is an interval, from its first shape until `outside="1"`.

    A track that comes back is several. Frames count from 0 in the video itself, whose first frame
    may be shown after the sound began; their rate is `rate_hz`, else that of the footage.
    """
    root = source.xml
    if root.all("image"):
        raise root.all("image")[0].error(
            "exported as 'CVAT for images'; export 'CVAT for video 1.1'"
        )
    if root.all("meta", "project"):
        raise root.all("meta", "project")[0].error(
            "exported from a project; export each task by itself"
        )
    tracks = root.all("track")
    if not tracks:
        return []
    video = _cvat_footage(source)
    first_s, rate_hz = _frame_clock(source, video)
    step = _frame_step(root)
    return [
        make_example(
            source,
            track.where,
            video=video,
            label=track["label"],
            start_s=first_s + first / rate_hz,
            end_s=first_s + end / rate_hz,
        )
        for track in tracks
        for first, end in _stretches(track, step=step)
    ]


def _cvat_footage(source: LabelSource) -> str:
    root = source.xml
    named = root.all("meta", "source") + root.all("meta", "task", "source")
    name = next((element.text for element in named if element.text), "")
    if not name:
        raise root.error(
            "no <source> in <meta> that names the footage; add <source>match.mp4</source>"
        )
    return footage_in(source, name)


def _frame_clock(source: LabelSource, video: str) -> tuple[float, float]:
    """When frame 0 is shown, and frames per second; without footage frame 0 is at 0 s."""
    from touchline.models.errors import FootageError
    from touchline.pipeline.decode import probe_footage

    path = source.footage_folder / video
    try:
        health = probe_footage(path)
    except FootageError as error:
        if source.rate_hz is not None:
            return 0.0, source.rate_hz
        raise source.xml.error(
            f"times are in frames, and their rate cannot be read from the footage ({error}); "
            + HOW_TO_GIVE_A_RATE
        ) from None
    if source.rate_hz is not None:
        return health.first_frame_s, source.rate_hz
    if health.frame_rate is None or health.variable_rate:
        raise source.xml.error(
            f"times are in frames, and {path} has no constant rate; {HOW_TO_GIVE_A_RATE}"
        )
    return health.first_frame_s, float(Fraction(health.frame_rate))


def _frame_step(root: XmlElement) -> int:
    """The task looks at every n-th frame of the video; frames keep the video's numbers."""
    filters = root.all("meta", "task", "frame_filter") + root.all("meta", "job", "frame_filter")
    found = [FRAME_STEP.search(element.text) for element in filters]
    return next((int(match[1]) for match in found if match), 1)


def _stretches(track: XmlElement, *, step: int) -> Iterator[tuple[int, int]]:
    """First frame and the frame after the last of every visible stretch of a track."""
    if not track.children:
        raise track.error("a track without shapes; remove it")
    first: int | None = None
    last = 0
    for shape in sorted(track.children, key=lambda shape: shape.number("frame")):
        frame = int(shape.number("frame"))
        if shape.attributes.get("outside", "0") == "1":
            if first is not None:
                yield first, frame
            first = None
            continue
        first, last = (frame if first is None else first), frame
    if first is not None:
        yield first, last + step


def write_cvat(examples: Sequence[Example], target: LabelTarget) -> str:
    """One video; every interval a track of one box in the corner, times to one frame."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    ET.SubElement(task, "mode").text = "interpolation"
    labels = ET.SubElement(task, "labels")
    for label in sorted({example.label for example in examples}):
        ET.SubElement(ET.SubElement(labels, "label"), "name").text = label
    ET.SubElement(meta, "source").text = _only_footage(examples, target.folder)
    for number, example in enumerate(examples):
        event = example.event()
        # CVAT's frames are the video's, at whatever rate these labels may have been read.
        to_frame = partial(_nearest_frame, target.rate_of(example.path, own_first=True))
        health = target.healths.get(example.path)
        first, end = to_frame(event.start_s), to_frame(event.end_s)
        track = ET.SubElement(root, "track", id=str(number), label=event.label, source="manual")
        for frame, outside in track_shapes(first, end, health, to_frame):
            box = {"frame": str(frame), "outside": outside, "occluded": "0", "keyframe": "1"}
            corner = {"xtl": "0", "ytl": "0", "xbr": "16", "ybr": "16", "z_order": "0"}
            ET.SubElement(track, "box", box | corner)
    return _dump(root)


def _nearest_frame(rate_hz: float, time_s: float) -> int:
    return round(time_s * rate_hz)


def track_shapes(
    first: int, end: int, health: FootageHealth | None, frame: Callable[[float], int]
) -> list[tuple[int, str]]:
    """The frames of a track with `outside`, from `first` to the one before `end`.

    Both are counted from the footage's start by `frame`, CVAT counts from the first picture, before
    which there may be sound. It refuses shapes behind the last picture, so what goes on to the end
    is not closed but shown there.
    """
    skipped = 0 if health is None else frame(health.first_frame_s)
    first = max(0, first - skipped)
    end = max(first + 1, end - skipped)
    if health is None or health.duration_s <= 0:
        return [(first, "0"), (end, "1")]
    last = frame(health.duration_s) - skipped - 1
    if end <= last:
        return [(first, "0"), (end, "1")]
    return [(first, "0"), (last, "0")] if first < last else [(first, "0")]


def is_elan(source: LabelSource) -> bool:
    return source.kind == "xml" and source.xml.tag == "ANNOTATION_DOCUMENT"


def read_elan(source: LabelSource) -> list[Example]:
    """ELAN: the time-aligned annotations of every tier, times in milliseconds.

    The label is the annotation's text, or its tier's name where that is empty. Annotations that
    only refer to others are notes, and passed over.
    """
    root = source.xml
    for header in root.all("HEADER"):
        if (units := header.attributes.get("TIME_UNITS", "milliseconds")) != "milliseconds":
            raise header.error(f"times are in {units}; save with milliseconds")
    slots = {slot["TIME_SLOT_ID"]: slot for slot in root.all("TIME_ORDER", "TIME_SLOT")}
    video, origin_ms = _elan_footage(source)
    return [
        make_example(
            source,
            annotation.where,
            video=video,
            label="".join(v.text for v in annotation.all("ANNOTATION_VALUE")) or tier["TIER_ID"],
            start_s=(_slot_ms(slots, annotation, "TIME_SLOT_REF1") + origin_ms) / 1000,
            end_s=(_slot_ms(slots, annotation, "TIME_SLOT_REF2") + origin_ms) / 1000,
        )
        for tier in root.all("TIER")
        for annotation in tier.all("ANNOTATION", "ALIGNABLE_ANNOTATION")
    ]


def _elan_footage(source: LabelSource) -> tuple[str, float]:
    """The footage's name and where in it, in milliseconds, ELAN's time 0 lies."""
    media = source.xml.all("HEADER", "MEDIA_DESCRIPTOR")
    videos = [m for m in media if m.attributes.get("MIME_TYPE", "").startswith("video")] or media
    if not videos:
        raise source.xml.error("no MEDIA_DESCRIPTOR that names the footage; link the video in ELAN")
    attributes = videos[0].attributes
    url = attributes.get("RELATIVE_MEDIA_URL") or videos[0]["MEDIA_URL"]
    parts = urlsplit(url)
    name = unquote(parts.path) if parts.scheme in ("file", "http", "https") else url
    name = footage_in(source, name.removeprefix("./"))
    origin_ms = videos[0].number("TIME_ORIGIN") if "TIME_ORIGIN" in attributes else 0.0
    return name, origin_ms


def _slot_ms(slots: dict[str, XmlElement], annotation: XmlElement, reference: str) -> float:
    name = annotation[reference]
    if name not in slots:
        raise annotation.error(f"there is no time slot {name!r}")
    if "TIME_VALUE" not in slots[name].attributes:
        raise slots[name].error(f"the time slot {name!r} has no time; align the annotation in ELAN")
    return slots[name].number("TIME_VALUE")


def write_elan(examples: Sequence[Example], target: LabelTarget) -> str:
    """One video; one tier per class, times to 1 ms, points 1 ms long."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT", AUTHOR="", DATE="1970-01-01T00:00:00+00:00", FORMAT="3.0"
    )
    root.set("VERSION", "3.0")
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    name = _only_footage(examples, target.folder)
    media = ET.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=name, MIME_TYPE="video/*")
    media.set("RELATIVE_MEDIA_URL", name)
    order = ET.SubElement(root, "TIME_ORDER")
    for number, (tier_name, events) in enumerate(_tiers(examples)):
        tier = ET.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="event", TIER_ID=tier_name)
        for k, (start_ms, end_ms, label) in enumerate(events):
            annotation = ET.SubElement(
                ET.SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number}_{k}",
            )
            for i, ms in enumerate((start_ms, end_ms), start=1):
                slot = f"ts{number}_{k}_{i}"
                ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
                annotation.set(f"TIME_SLOT_REF{i}", slot)
            ET.SubElement(annotation, "ANNOTATION_VALUE").text = label
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="event",
        TIME_ALIGNABLE="true",
    )
    return _dump(root)


def _tiers(examples: Sequence[Example]) -> list[tuple[str, list[tuple[int, int, str]]]]:
    """Tier names with (start ms, end ms, label): ELAN's tiers hold no overlaps."""
    tiers: dict[str, list[tuple[int, int, str]]] = {}
    for event in sorted((e.event() for e in examples), key=lambda e: (e.label, e.start_s, e.end_s)):
        start_ms = round(event.start_s * 1000)
        end_ms = max(start_ms + 1, round(event.end_s * 1000))
        name, number = event.label, 1
        while name in tiers and tiers[name][-1][1] > start_ms:
            number += 1
            name = f"{event.label} {number}"
        tiers.setdefault(name, []).append((start_ms, end_ms, event.label))
    return list(tiers.items())


def _only_footage(examples: Sequence[Example], folder: Path) -> str:
    names = sorted({relative_name(example.path, folder) for example in examples})
    if len(names) != 1:
        raise ValueError(f"this format holds one video per file; these are {', '.join(names)}")
    return names[0]


def _dump(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
