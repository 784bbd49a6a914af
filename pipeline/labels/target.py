"""Provide what every writer of labels needs: where the file goes, its JSON or XML."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree as ET

from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.types import Event, Example, FootageHealth


@dataclass(frozen=True)
class LabelTarget:
    """Where labels are written, and what formats need to know for that.

    Attributes:
        folder: The folder of the file. Footage is named relative to it.
        rate_hz: Frames per second, for formats that count frames; None: not given.
        healths: What is known of the footage.
    """

    folder: Path
    rate_hz: float | None = None
    healths: Mapping[Path, FootageHealth] = field(default_factory=dict)

    def rate_of(self, footage: Path, *, own_first: bool) -> float:
        """Find the frames per second for the labels of a footage file.

        With `own_first` the footage's own constant rate comes before `rate_hz`, otherwise after.

        Raises:
            ValueError: Neither is known.
        """
        health = self.healths.get(footage)
        own = None
        if health is not None and health.frame_rate is not None and not health.variable_rate:
            own = float(Fraction(health.frame_rate))
        rates = (own, self.rate_hz) if own_first else (self.rate_hz, own)
        for rate_hz in rates:
            if rate_hz is not None:
                return rate_hz
        raise ValueError(
            f"this format counts frames, and {footage} has no constant frame rate. Give the rate "
            "with --rate-hz (rate_hz in Python)."
        )


def free_members(event: Example | Event, *, taken: Collection[str]) -> dict[str, str]:
    """Return the attributes of an event as members of a JSON object.

    Args:
        event: The event, or label.
        taken: The members that the object has already.

    Raises:
        ValueError: An attribute has the name of one of these.
    """
    members = dict(event.attributes)
    if both := [name for name in members if name in taken]:
        raise ValueError(
            f"an attribute is called {both[0]!r}, which means something else in this format. "
            "Rename it."
        )
    return members


def by_footage(examples: Sequence[Example]) -> Iterator[tuple[Path, list[Example]]]:
    """Group examples by footage file; ValueError if one file has several groups."""
    for path, mine in groupby(sorted(examples, key=lambda e: e.path), key=lambda e: e.path):
        together = list(mine)
        if len({example.group for example in together}) > 1:
            raise ValueError(
                f"{path} has labels of several groups, but this format holds one group per file"
            )
        yield path, together


def dump_json(value: object) -> str:
    """Write JSON with indents and a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def only_footage(examples: Sequence[Example], folder: Path) -> str:
    """Return the one footage file of all examples, relative to `folder`; else ValueError."""
    names = sorted({footage_reference(example.path, folder) for example in examples})
    if len(names) != 1:
        raise ValueError(f"this format holds one video per file, but these are {', '.join(names)}")
    return names[0]


# XML 1.0 holds neither these characters nor references to them.
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def dump_xml(root: ET.Element, *, doctype: str = "") -> str:
    """Write XML with indents and a final newline; what XML cannot hold becomes U+FFFD.

    Args:
        root: The root element.
        doctype: The line that declares the type of the document.
    """
    ET.indent(root)
    body = NOT_XML.sub("\N{REPLACEMENT CHARACTER}", ET.tostring(root, encoding="unicode"))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{doctype}{body}\n'
