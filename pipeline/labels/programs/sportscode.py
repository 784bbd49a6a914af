"""Read and write the timelines of Hudl Sportscode as XML.

Nacsport, LongoMatch, Metrica and Angles read and write the same files. They name no footage.
"""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.parsed import XmlElement, parse_number, parse_score
from touchline.pipeline.labels.source import LabelSource, footage_beside, make_example
from touchline.pipeline.labels.target import LabelTarget, dump_xml
from touchline.pipeline.timecode import parse_time
from touchline.pipeline.types import USUAL_ATTRIBUTES, Example

# Labels of an instance with these groups are not attributes.
PEAK, SCORE, ACCEPTED, CLOCK = "peak", "score", "accepted", "clock"

# The label of an instance that is in no group, and the text that Sportscode puts under it.
NO_GROUP, FREE_TEXT = "tag", "free_text"

# Some programs that read these files do not decode escapes.
UNSAFE = str.maketrans({"&": "and", "<": "(", ">": ")"})
NOT_ASCII = re.compile(r"[^\x20-\x7e]")

BRIGHTEST = 65535
"""Sportscode's colours have 16 bits."""


@dataclass(frozen=True)
class Instance:
    """One row of a timeline.

    Attributes:
        code: The class.
        start_s: Start in seconds from the start of the file.
        end_s: End in seconds.
        labels: The groups and texts of its labels.
    """

    code: str
    start_s: float
    end_s: float
    labels: Iterable[tuple[str, str]] = field(default_factory=list)


def is_sportscode(source: LabelSource) -> bool:
    """Recognise Sportscode by its list of instances."""
    return (
        source.kind == "xml"
        and source.xml.tag.casefold() == "file"
        and any(child.tag == "ALL_INSTANCES" for child in source.xml.children)
    )


def read_sportscode(source: LabelSource) -> list[Example]:
    """Read each instance as an interval, its code as the class and its labels as attributes.

    The footage is the one video that the source names, or the video with the name of the file.
    Instances with the label `accepted: no` are left out.

    Raises:
        LabelsError: An instance has no code, or its times are not numbers.
    """
    video = footage_beside(source)
    examples = []
    for instance in source.xml.all("ALL_INSTANCES", "instance"):
        labels = _labels(instance)
        if labels.pop(ACCEPTED, "yes").casefold() in ("no", "false"):
            continue
        start_s, end_s = (_seconds(instance, name) for name in ("start", "end"))
        peak_s, score = None, 1.0
        if PEAK in labels:
            peak_s = parse_number(source.path, f"{instance.where}: {PEAK}", labels.pop(PEAK))
            peak_s = min(max(peak_s, start_s), end_s)
            labels.pop(CLOCK, None)
            if SCORE in labels:
                where = f"{instance.where}: {SCORE}"
                score = parse_score(source.path, where, labels.pop(SCORE))
        examples.append(
            make_example(
                source,
                instance.where,
                video=video,
                # Some programs leave the code of markers empty, and name them by a label.
                label=_child_text(instance, "code") or labels.pop(NO_GROUP, ""),
                start_s=start_s,
                end_s=end_s,
                peak_s=peak_s,
                score=score,
                attributes=labels.items(),
            )
        )
    return examples


def _labels(instance: XmlElement) -> dict[str, str]:
    """The texts of an instance by their group; several of one group are joined."""
    found: dict[str, str] = {}
    for label in instance.all("label"):
        group = next((e.text for e in label.all("group") if e.text), NO_GROUP)
        name = group.casefold()
        name = name if name in (*USUAL_ATTRIBUTES, PEAK, SCORE, ACCEPTED) else group
        text = ", ".join(e.text for e in label.all("text") if e.text) or label.text
        found[name] = f"{found[name]}, {text}" if name in found else text
    if free := next((e.text for e in instance.all(FREE_TEXT) if e.text), ""):
        found["note"] = f"{found['note']}, {free}" if "note" in found else free
    return found


def _child_text(instance: XmlElement, tag: str) -> str:
    for child in instance.all(tag):
        return child.text
    raise instance.error(f"<{instance.tag}> has no <{tag}>")


def _seconds(instance: XmlElement, tag: str) -> float:
    """A time in seconds. Programs that lengthen instances may start them before the video."""
    text = _child_text(instance, tag).replace(",", ".")
    where = f"{instance.where}: {tag}"
    if ":" in text:
        try:
            return max(0.0, parse_time(text))
        except ValueError as error:
            raise LabelsError(instance.file, f"{where}: {error}") from None
    if text.startswith("-"):
        parse_number(instance.file, where, text[1:])
        return 0.0
    return parse_number(instance.file, where, text)


def write_sportscode(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write the labels of one video, which the file does not name.

    Raises:
        ValueError: There are labels of several videos.
    """
    del target
    if len({example.path for example in examples}) > 1:
        raise ValueError("Sportscode holds one video per file. Name a folder to write files in.")
    instances = []
    for example in examples:
        detected = example.peak_s is not None or example.score != 1
        found = detection_labels(example.event().peak_s, example.score) if detected else []
        times = (example.event().start_s, example.event().end_s)
        instances.append(Instance(example.label, *times, [*found, *example.attributes]))
    return sportscode_xml(instances)


def detection_labels(peak_s: float, score: float) -> list[tuple[str, str]]:
    """Return the labels that say when an event peaks and how certain it is."""
    return [(PEAK, f"{peak_s:.6f}"), (SCORE, f"{score:.6f}")]


def sportscode_xml(instances: Sequence[Instance], *, ascii_only: bool = False) -> str:
    """Write a timeline with one row and colour per class.

    `&`, `<` and `>` become "and" and round brackets, because some programs do not decode escapes.

    Args:
        instances: The events, in the order to write them.
        ascii_only: Write ? for characters that ASCII does not have.
    """

    def safe(text: str) -> str:
        text = text.translate(UNSAFE)
        return NOT_ASCII.sub("?", text) if ascii_only else text

    root = ET.Element("file")
    ET.SubElement(ET.SubElement(root, "SORT_INFO"), "sort_type").text = "sort order"
    rows = ET.SubElement(root, "ALL_INSTANCES")
    for number, instance in enumerate(instances, start=1):
        row = ET.SubElement(rows, "instance")
        ET.SubElement(row, "ID").text = str(number)
        ET.SubElement(row, "start").text = f"{instance.start_s:.6f}"
        ET.SubElement(row, "end").text = f"{instance.end_s:.6f}"
        ET.SubElement(row, "code").text = safe(instance.code)
        for group, text in instance.labels:
            label = ET.SubElement(row, "label")
            ET.SubElement(label, "group").text = safe(group)
            ET.SubElement(label, "text").text = safe(text)
    codes = list(dict.fromkeys(safe(instance.code) for instance in instances))
    colours = ET.SubElement(root, "ROWS")
    for number, code in enumerate(codes):
        row = ET.SubElement(colours, "row")
        ET.SubElement(row, "sort_order").text = str(number + 1)
        ET.SubElement(row, "code").text = code
        rgb = colorsys.hsv_to_rgb(number / len(codes), 0.75, 0.9)
        for name, part in zip("RGB", rgb, strict=True):
            ET.SubElement(row, name).text = str(round(part * BRIGHTEST))
    return dump_xml(root)
