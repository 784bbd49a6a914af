"""Read and write labels as ELAN annotation files (`.eaf`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import numpy as np

from touchline.pipeline.labels.csv_files import attribute_columns
from touchline.pipeline.labels.parsed import XmlElement
from touchline.pipeline.labels.source import LabelSource, footage_in, make_example
from touchline.pipeline.labels.target import LabelTarget, dump_xml, only_footage
from touchline.pipeline.types import Event, Example


def is_elan(source: LabelSource) -> bool:
    """Recognise ELAN by its root element."""
    return source.kind == "xml" and source.xml.tag == "ANNOTATION_DOCUMENT"


def read_elan(source: LabelSource) -> list[Example]:
    """Read the time-aligned annotations of every tier; times are in milliseconds.

    Slots without a time are spread evenly between their neighbours, as ELAN shows them. The label
    is the annotation's text, or the name of its tier if there is no text. Annotations that refer to
    another one are its attributes, each named by its tier up to an "@".

    Raises:
        LabelsError: Times are not in milliseconds or missing, or no footage is named.
    """
    root = source.xml
    for header in root.all("HEADER"):
        if (units := header.attributes.get("TIME_UNITS", "milliseconds")) != "milliseconds":
            raise header.error(f"times are in {units}. Save the file with milliseconds.")
    slots = {slot["TIME_SLOT_ID"]: slot for slot in root.all("TIME_ORDER", "TIME_SLOT")}
    order = {name: k for k, name in enumerate(slots)}
    video, origin_ms = _elan_footage(source)
    notes = _notes(root)
    return [
        make_example(
            source,
            annotation.where,
            video=video,
            label="".join(v.text for v in annotation.all("ANNOTATION_VALUE")) or tier["TIER_ID"],
            start_s=(times[annotation["TIME_SLOT_REF1"]] + origin_ms) / 1000,
            end_s=(times[annotation["TIME_SLOT_REF2"]] + origin_ms) / 1000,
            attributes=notes.get(annotation.attributes.get("ANNOTATION_ID", ""), {}).items(),
        )
        for tier in root.all("TIER")
        if (annotations := tier.all("ANNOTATION", "ALIGNABLE_ANNOTATION"))
        for times in [_tier_times(annotations, slots, order)]
        for annotation in annotations
    ]


def _notes(root: XmlElement) -> dict[str, dict[str, str]]:
    """The texts of the annotations that refer to another one, by its ID and by their tier."""
    notes: dict[str, dict[str, str]] = {}
    for tier in root.all("TIER"):
        name = tier.attributes.get("TIER_ID", "").split("@")[0]
        for note in tier.all("ANNOTATION", "REF_ANNOTATION"):
            text = "".join(value.text for value in note.all("ANNOTATION_VALUE"))
            mine = notes.setdefault(note["ANNOTATION_REF"], {})
            mine[name] = f"{mine[name]} {text}" if name in mine else text
    return notes


def _elan_footage(source: LabelSource) -> tuple[str, float]:
    """The footage's name, and the time in it, in milliseconds, at which ELAN counts from 0."""
    media = source.xml.all("HEADER", "MEDIA_DESCRIPTOR")
    videos = [m for m in media if m.attributes.get("MIME_TYPE", "").startswith("video")] or media
    if not videos:
        raise source.xml.error(
            "no MEDIA_DESCRIPTOR that names the footage. Link the video in ELAN."
        )
    attributes = videos[0].attributes
    url = attributes.get("RELATIVE_MEDIA_URL") or videos[0]["MEDIA_URL"]
    parts = urlsplit(url)
    name = unquote(parts.path) if parts.scheme in ("file", "http", "https") else url
    name = footage_in(source, name.removeprefix("./"))
    origin_ms = videos[0].number("TIME_ORIGIN") if "TIME_ORIGIN" in attributes else 0.0
    return name, origin_ms


def _tier_times(
    annotations: Sequence[XmlElement], slots: Mapping[str, XmlElement], order: Mapping[str, int]
) -> dict[str, float]:
    """The time of each slot of a tier, in milliseconds.

    In a tier with time subdivision, slots between two others may have no time. ELAN shows them
    spread evenly between those two.
    """
    used = set()
    for annotation in annotations:
        for reference in ("TIME_SLOT_REF1", "TIME_SLOT_REF2"):
            if annotation[reference] not in slots:
                raise annotation.error(f"there is no time slot {annotation[reference]!r}")
            used.add(annotation[reference])
    names = sorted(used, key=lambda name: order[name])
    known = [k for k, name in enumerate(names) if "TIME_VALUE" in slots[name].attributes]
    for k in set(range(len(names))) - set(range(known[0], known[-1] + 1) if known else ()):
        raise slots[names[k]].error(
            f"the time slot {names[k]!r} has no time. Align the annotation in ELAN."
        )
    values = [slots[names[k]].number("TIME_VALUE") for k in known]
    return dict(zip(names, map(float, np.interp(range(len(names)), known, values)), strict=True))


def write_elan(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write one video with one tier per class, and a tier below it per attribute.

    Times are whole milliseconds, points last 1 ms.
    """
    root = ET.Element(
        "ANNOTATION_DOCUMENT", AUTHOR="", DATE="1970-01-01T00:00:00+00:00", FORMAT="3.0"
    )
    root.set("VERSION", "3.0")
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    name = only_footage(examples, target.folder)
    media = ET.SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=name, MIME_TYPE="video/*")
    media.set("RELATIVE_MEDIA_URL", name)
    order = ET.SubElement(root, "TIME_ORDER")
    for number, (tier_name, events) in enumerate(_tiers(examples)):
        tier = ET.SubElement(root, "TIER", LINGUISTIC_TYPE_REF="event", TIER_ID=tier_name)
        _add_notes(root, tier_name, number, [event for _, _, event in events])
        for k, (start_ms, end_ms, event) in enumerate(events):
            annotation = ET.SubElement(
                ET.SubElement(tier, "ANNOTATION"),
                "ALIGNABLE_ANNOTATION",
                ANNOTATION_ID=f"a{number}_{k}",
            )
            for i, ms in enumerate((start_ms, end_ms), start=1):
                slot = f"ts{number}_{k}_{i}"
                ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
                annotation.set(f"TIME_SLOT_REF{i}", slot)
            ET.SubElement(annotation, "ANNOTATION_VALUE").text = event.label
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="event",
        TIME_ALIGNABLE="true",
    )
    ET.SubElement(
        root,
        "LINGUISTIC_TYPE",
        CONSTRAINTS="Symbolic_Association",
        GRAPHIC_REFERENCES="false",
        LINGUISTIC_TYPE_ID="attribute",
        TIME_ALIGNABLE="false",
    )
    ET.SubElement(
        root,
        "CONSTRAINT",
        DESCRIPTION="1-1 association with a parent annotation",
        STEREOTYPE="Symbolic_Association",
    )
    return dump_xml(root)


def _add_notes(root: ET.Element, tier_name: str, number: int, events: Sequence[Event]) -> None:
    """Add a tier for each attribute of the events of a tier; `number` is that of the tier."""
    for i, name in enumerate(attribute_columns(events, taken=())):
        tier = ET.SubElement(
            root,
            "TIER",
            LINGUISTIC_TYPE_REF="attribute",
            PARENT_REF=tier_name,
            TIER_ID=f"{name}@{tier_name}",
        )
        for k, event in enumerate(events):
            if value := dict(event.attributes).get(name):
                note = ET.SubElement(
                    ET.SubElement(tier, "ANNOTATION"),
                    "REF_ANNOTATION",
                    ANNOTATION_ID=f"n{number}_{k}_{i}",
                    ANNOTATION_REF=f"a{number}_{k}",
                )
                ET.SubElement(note, "ANNOTATION_VALUE").text = value


def _tiers(examples: Sequence[Example]) -> list[tuple[str, list[tuple[int, int, Event]]]]:
    """Tier names with (start ms, end ms, event); a tier of ELAN cannot hold overlaps."""
    tiers: dict[str, list[tuple[int, int, Event]]] = {}
    for event in sorted((e.event() for e in examples), key=lambda e: (e.label, e.start_s, e.end_s)):
        start_ms = round(event.start_s * 1000)
        end_ms = max(start_ms + 1, round(event.end_s * 1000))
        name, number = event.label, 1
        while name in tiers and tiers[name][-1][1] > start_ms:
            number += 1
            name = f"{event.label} {number}"
        tiers.setdefault(name, []).append((start_ms, end_ms, event))
    return list(tiers.items())
