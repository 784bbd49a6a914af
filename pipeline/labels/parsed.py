"""Read values out of JSON and XML; errors name the path or the line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from xml.parsers import expat

from touchline.models.errors import LabelsError
from touchline.models.json_values import from_json
from touchline.models.spelling import did_you_mean

T = TypeVar("T")

# float() also reads 1_0 as 10, and digits of other scripts.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)

# Scores that were computed with 32 bits exceed 1 by up to this.
SCORE_ROUNDING = 1e-6


class _TwiceNamed(dict[str, object]):
    """An object with two equal keys. Plain json would keep only the last and lose labels."""

    twice = ""


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object of JSON; one with two equal keys is refused when it is used."""
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    keys = [key for key, _ in pairs]
    marked = _TwiceNamed(members)
    marked.twice = next(key for key in keys if keys.count(key) > 1)
    return marked


@dataclass(frozen=True)
class JsonValue:
    """A value inside a JSON file.

    Attributes:
        file: The JSON file.
        where: The path to the value, such as "$.annotations[3].position".
        value: The value as json reads it.
    """

    file: Path
    where: str
    value: object

    def error(self, message: str) -> LabelsError:
        """Make an error that names the file and the path to this value."""
        return LabelsError(self.file, f"{self.where}: {message}")

    def has(self, key: str) -> bool:
        """Check for a member of an object."""
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> JsonValue:
        """Return a member of an object; LabelsError if it is missing."""
        if not isinstance(self.value, dict) or isinstance(self.value, _TwiceNamed):
            self.members()  # says what is wrong
        elif key in self.value:
            return JsonValue(self.file, f"{self.where}.{key}", self.value[key])
        names = [name for name, _ in self.members()]
        raise self.error(f"no {key!r} here. {did_you_mean(key, names)}".rstrip())

    def members(self) -> list[tuple[str, JsonValue]]:
        """List key and value of each member of an object; LabelsError if it is none."""
        if isinstance(self.value, _TwiceNamed):
            raise self.error(f"the key {self.value.twice!r} is there twice. Keep one.")
        if not isinstance(self.value, dict):
            raise self.error(f"{_brief(self.value)} instead of an object {{...}}")
        return [(k, JsonValue(self.file, f"{self.where}.{k}", v)) for k, v in self.value.items()]

    def elements(self) -> list[JsonValue]:
        """List the elements of a list; LabelsError if it is none."""
        if not isinstance(self.value, list):
            raise self.error(f"{_brief(self.value)} instead of a list [...]")
        return [JsonValue(self.file, f"{self.where}[{i}]", v) for i, v in enumerate(self.value)]

    def text(self) -> str:
        """Return a text; LabelsError if it is none."""
        if not isinstance(self.value, str):
            raise self.error(f"{_brief(self.value)} instead of a text")
        return self.value

    def flag(self) -> bool:
        """Return true or false; LabelsError for anything else."""
        if not isinstance(self.value, bool):
            raise self.error(f"{_brief(self.value)} instead of true or false")
        return self.value

    def number(self) -> float:
        """Return a finite number of at least 0, which may be written as text; else LabelsError."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            raise self.error(f"{_brief(self.value)} instead of a number")
        return parse_number(self.file, self.where, self.value)


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True)
class XmlElement:
    """An XML element.

    Attributes:
        file: The XML file.
        line: The line on which the element starts.
        tag: Its name.
        attributes: Its attributes.
        children: The elements inside it.
        parts: Its text before the first child, in pieces.
    """

    file: Path
    line: int
    tag: str
    attributes: dict[str, str]
    children: list[XmlElement] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The line, for messages."""
        return f"line {self.line}"

    @property
    def text(self) -> str:
        """The text before the first child."""
        return "".join(self.parts).strip()

    def error(self, message: str) -> LabelsError:
        """Make an error that names the file and the line."""
        return LabelsError(self.file, f"{self.where}: {message}")

    def __getitem__(self, attribute: str) -> str:
        """Return an attribute; LabelsError if it is missing."""
        if attribute not in self.attributes:
            raise self.error(f"<{self.tag}> has no attribute {attribute!r}")
        return self.attributes[attribute]

    def number(self, attribute: str) -> float:
        """Return an attribute that is a finite number of at least 0; else LabelsError."""
        return parse_number(self.file, f"{self.where}: {attribute}", self[attribute])

    def all(self, *tags: str) -> list[XmlElement]:
        """List all elements at the end of the path `tags`, in document order."""
        found = [self]
        for tag in tags:
            found = [child for element in found for child in element.children if child.tag == tag]
        return found


def parse_xml(path: Path, raw: bytes) -> XmlElement:
    """Read XML and return its root element.

    Raises:
        LabelsError: It is not XML, or it has a DTD. A DTD could define entities that read other
            files or fill the memory.
    """
    parser = expat.ParserCreate()
    open_elements: list[XmlElement] = []
    roots: list[XmlElement] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = XmlElement(path, parser.CurrentLineNumber, tag, attributes)
        (open_elements[-1].children if open_elements else roots).append(element)
        open_elements.append(element)

    def end(tag: str) -> None:
        open_elements.pop()

    def characters(text: str) -> None:
        if open_elements and not open_elements[-1].children:
            open_elements[-1].parts.append(text)

    def doctype(*_: object) -> None:
        raise LabelsError(
            path,
            f"line {parser.CurrentLineNumber}: a DTD (<!DOCTYPE ...>) is not allowed. Label files "
            "need none. Remove it.",
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise LabelsError(path, f"line {error.lineno}: not XML ({reason})") from None
    except (LookupError, ValueError) as error:
        raise LabelsError(path, f"line 1: not XML that can be read ({error})") from None
    return roots[0]


def parse_number(path: Path, where: str, given: str | float) -> float:
    """Turn a cell or JSON value into a finite number of at least 0.

    Args:
        path: The label file, for the message.
        where: The place in the file, for the message.
        given: The cell or value.

    Raises:
        LabelsError: It is not such a number.
    """
    try:
        if isinstance(given, str) and not NUMBER.fullmatch(given):
            raise ValueError(given)
        value = float(given)
    except (ValueError, OverflowError):
        raise LabelsError(path, f"{where} is {given!r}; it must be a number such as 12.5") from None
    if not math.isfinite(value) or value < 0:
        raise LabelsError(path, f"{where} is {given!r}; it must be 0 or more")
    return value


def parse_score(path: Path, where: str, given: str | float) -> float:
    """Turn a cell or JSON value into a score in [0, 1]; what rounding added to 1 is removed.

    Args:
        path: The label file, for the message.
        where: The place in the file, for the message.
        given: The cell or value.

    Raises:
        LabelsError: It is not such a number.
    """
    score = parse_number(path, where, given)
    if score > 1 + SCORE_ROUNDING:
        raise LabelsError(path, f"{where} is {score:.9g}; it must be in [0, 1]")
    return min(score, 1.0)


def read_attributes(row: JsonValue, *, known: Collection[str] = ()) -> list[tuple[str, str]]:
    """Read the members of an object as attributes; null, lists and objects are left out.

    Args:
        row: The object.
        known: Members that the format itself uses.
    """
    return [
        (name, member.value if isinstance(member.value, str) else json.dumps(member.value))
        for name, member in row.members()
        if name not in known and isinstance(member.value, str | int | float)
    ]


def typed(value: JsonValue, kind: type[T]) -> T:
    """Build a `kind` (a dataclass, ...) from a JSON value that Touchline itself has written.

    Args:
        value: The value.
        kind: The type to build.

    Raises:
        LabelsError: A member is missing, unknown, there twice or of another type.
    """
    _refuse_twins(value)
    try:
        return from_json(value.value, kind, place=value.where)
    except ValueError as error:
        raise LabelsError(value.file, str(error)) from None


def _refuse_twins(value: JsonValue) -> None:
    """LabelsError if some object has a key twice."""
    if isinstance(value.value, dict):
        for _, member in value.members():
            _refuse_twins(member)
    elif isinstance(value.value, list):
        for element in value.elements():
            _refuse_twins(element)


def read_score(row: JsonValue, key: str) -> float:
    """Read a score in [0, 1]; 1 if the row has none. LabelsError for other values."""
    if not row.has(key):
        return 1.0
    value = row[key]
    return parse_score(value.file, value.where, value.number())
