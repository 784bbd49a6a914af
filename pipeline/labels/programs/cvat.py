"""Read and write labels as CVAT video XML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from xml.etree import ElementTree as ET

from touchline.pipeline.labels.csv_files import attribute_columns
from touchline.pipeline.labels.parsed import XmlElement
from touchline.pipeline.labels.source import LabelSource, footage_in, frame_clock, make_example
from touchline.pipeline.labels.target import LabelTarget, dump_xml, only_footage
from touchline.pipeline.types import Event, Example, FootageHealth

# What CVAT calls the images of a video.
FRAME_NAME = re.compile(r"^frame_(\d+)(\.\w+)?$", re.IGNORECASE | re.ASCII)

# What CVAT writes for an attribute that nobody has set.
NO_VALUE = "__undefined__"

FRAME_STEP = re.compile(r"\bstep\s*=\s*(\d+)")


def is_cvat(source: LabelSource) -> bool:
    """Recognise CVAT by its root element."""
    return source.kind == "xml" and source.xml.tag == "annotations"


def read_cvat(source: LabelSource) -> list[Example]:
    """Read tracks of "CVAT for video 1.1", and tags of "CVAT for images 1.1", as intervals.

    A tag on consecutive frames is one interval. Shapes of images are skipped.
    An interval lasts from a shape until one with `outside="1"`; a track may hold several. Frames
    count from 0, the first frame of the video, which may be shown later than the sound starts.
    Their rate is `rate_hz`, or else the footage's.

    Raises:
        LabelsError: The file is another kind of export, or the frame rate is unknown.
    """
    root = source.xml
    tags = root.all("image", "tag")
    if root.all("image") and not tags:
        raise root.all("image")[0].error(
            "exported as 'CVAT for images'. Export 'CVAT for video 1.1' instead."
        )
    if root.all("meta", "project"):
        raise root.all("meta", "project")[0].error(
            "exported from a project. Export each task separately."
        )
    tracks = root.all("track")
    if not tracks and not tags:
        return []
    video = _cvat_footage(source)
    first_s, rate_hz, _ = frame_clock(source, video, error=root.error)
    step = _frame_step(root)
    spans = [(track, *span) for track in tracks for span in _stretches(track, step=step)]
    return [
        make_example(
            source,
            element.where,
            video=video,
            label=element["label"],
            start_s=first_s + first / rate_hz,
            end_s=first_s + end / rate_hz,
            attributes=_attributes(element),
        )
        for element, first, end in [*spans, *_tagged(root, step=step)]
    ]


def _attributes(element: XmlElement) -> list[tuple[str, str]]:
    """The attributes of a tag, or of the first shape of a track."""
    holder = element if element.tag == "tag" else element.children[0]
    found = [(attribute["name"], attribute.text) for attribute in holder.all("attribute")]
    return [(name, value) for name, value in found if value != NO_VALUE]


def _cvat_footage(source: LabelSource) -> str:
    root = source.xml
    named = root.all("meta", "source") + root.all("meta", "task", "source")
    name = next((element.text for element in named if element.text), "")
    if not name:
        raise root.error(
            "no <source> in <meta> that names the footage. Add <source>match.mp4</source>."
        )
    return footage_in(source, name)


def _frame_step(root: XmlElement) -> int:
    """The n of a task that shows every n-th frame; frames keep the video's numbers."""
    filters = root.all("meta", "task", "frame_filter") + root.all("meta", "job", "frame_filter")
    found = [FRAME_STEP.search(element.text) for element in filters]
    return next((int(match[1]) for match in found if match), 1)


def _stretches(track: XmlElement, *, step: int) -> Iterator[tuple[int, int]]:
    """The first frame of each visible part of a track, and the frame after its last."""
    if not track.children:
        raise track.error("a track without shapes. Remove it.")
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


def _tagged(root: XmlElement, *, step: int) -> Iterator[tuple[XmlElement, int, int]]:
    """The first tag of each run of frames with a label, its frame, and the frame after the last."""
    frames: dict[str, dict[int, XmlElement]] = {}
    for image in root.all("image"):
        named = FRAME_NAME.match(image["name"])
        if named is None:
            raise image.error(
                f"the image {image['name']!r} is no frame of a video. Tags are read of videos only."
            )
        for tag in image.all("tag"):
            frames.setdefault(tag["label"], {})[int(named[1])] = tag
    for tags in frames.values():
        first = None
        for frame in sorted(tags):
            first = frame if first is None else first
            if frame + step not in tags:
                yield tags[first], first, frame + step
                first = None


def write_cvat(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write one video; each interval is a track of a box in the corner. Times are whole frames."""
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    ET.SubElement(task, "mode").text = "interpolation"
    labels = ET.SubElement(task, "labels")
    for label in sorted({example.label for example in examples}):
        declare_label(labels, label, [e for e in examples if e.label == label])
    ET.SubElement(meta, "source").text = only_footage(examples, target.folder)
    for number, example in enumerate(examples):
        event = example.event()
        # CVAT counts the video's own frames, even if the labels were read with another rate.
        to_frame = partial(_nearest_frame, target.rate_of(example.path, own_first=True))
        health = target.healths.get(example.path)
        first, end = to_frame(event.start_s), to_frame(event.end_s)
        track = ET.SubElement(root, "track", id=str(number), label=event.label, source="manual")
        for frame, outside in track_shapes(first, end, health, to_frame):
            box = {"frame": str(frame), "outside": outside, "occluded": "0", "keyframe": "1"}
            corner = {"xtl": "0", "ytl": "0", "xbr": "16", "ybr": "16", "z_order": "0"}
            add_attributes(ET.SubElement(track, "box", box | corner), example)
    return dump_xml(root)


def declare_label(labels: ET.Element, name: str, events: Sequence[Event | Example]) -> None:
    """Declare a class of a task, with the attributes that its events have.

    Args:
        labels: The element to put the declaration in.
        name: The name of the class.
        events: The events of the class.
    """
    label = ET.SubElement(labels, "label")
    ET.SubElement(label, "name").text = name
    names = attribute_columns(events, taken=())
    declared = ET.SubElement(label, "attributes") if names else label
    for attribute_name in names:
        attribute = ET.SubElement(declared, "attribute")
        ET.SubElement(attribute, "name").text = attribute_name
        ET.SubElement(attribute, "mutable").text = "False"
        ET.SubElement(attribute, "input_type").text = "text"


def add_attributes(shape: ET.Element, event: Event | Example) -> None:
    """Put the attributes of an event into a shape of its track."""
    for name, value in event.attributes:
        ET.SubElement(shape, "attribute", name=name).text = value


def _nearest_frame(rate_hz: float, time_s: float) -> int:
    return round(time_s * rate_hz)


def track_shapes(
    first: int, end: int, health: FootageHealth | None, frame: Callable[[float], int]
) -> list[tuple[int, str]]:
    """Make the shapes (frame, outside) of a track that lasts from `first` to before `end`.

    CVAT counts frames from the first picture, which may be later than the start of the footage. It
    refuses shapes after the last picture, so an interval that lasts to the end is not closed.

    Args:
        first: First frame, counted from the start of the footage.
        end: The frame after the last, likewise.
        health: What is known of the footage; None if it cannot be read.
        frame: Turns seconds into frames.
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
