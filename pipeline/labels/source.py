"""What every label format needs: the file, its JSON or XML with places to name, and an example.

Errors are LabelsError and name the line of text or XML, or the path inside JSON.
"""

from __future__ import annotations

import codecs
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree as ET
from xml.parsers import expat

from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.types import Example, FootageHealth

HOW_TO_GIVE_A_RATE = (
    "give it as rate_hz to read_labels, or once with touchline labels FILE --rate-hz RATE "
    "--convert csv"
)


@dataclass(frozen=True)
class LabelSource:
    """A label file or folder, and what such files do not say themselves.

    footage_folder: what footage is named relative to.
    rate_hz:        frames per second, for formats that count frames; None where not given.
    """

    path: Path
    footage_folder: Path
    rate_hz: float | None = None

    @cached_property
    def raw(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise LabelsError(self.path, "no such file") from None
        except OSError as error:
            raise LabelsError(self.path, f"cannot be read: {error.strerror}") from error

    @cached_property
    def kind(self) -> str:
        """folder, json, xml or text: by content, whatever the name."""
        if self.path.is_dir():
            return "folder"
        start = self.raw[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        return {b"{": "json", b"[": "json", b"<": "xml"}.get(start, "text")

    @cached_property
    def text(self) -> str:
        """The file as text: UTF-8 with or without a byte order mark, or UTF-16 with one."""
        utf16 = self.raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        try:
            return self.raw.decode("utf-16" if utf16 else "utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise LabelsError(
                self.path, f"line {line}: not UTF-8; save the file as UTF-8"
            ) from None

    @cached_property
    def json(self) -> JsonValue:
        try:
            value = json.loads(self.text, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            raise LabelsError(
                self.path, f"line {error.lineno}: not JSON ({error.msg}, column {error.colno})"
            ) from None
        except (ValueError, RecursionError) as error:
            raise LabelsError(self.path, f"not JSON that can be used: {error}") from None
        return JsonValue(self.path, "$", value)

    @cached_property
    def xml(self) -> XmlElement:
        return parse_xml(self.path, self.raw)


@dataclass(frozen=True)
class LabelTarget:
    """Where labels are written: the folder of the file, which footage is named relative to.

    rate_hz: frames per second, for formats that count frames; None where not given. healths: what
    is known of footage.
    """

    folder: Path
    rate_hz: float | None = None
    healths: Mapping[Path, FootageHealth] = field(default_factory=dict)

    def rate_of(self, footage: Path, *, own_first: bool) -> float:
        """Frames per second of a file's labels; ValueError where nothing says it.

        own_first: whether the footage's own constant rate goes before the one that was given.
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
            f"this format counts frames, and {footage} tells no constant rate: give it as rate_hz"
        )


class _TwiceNamed(dict[str, object]):
    """An object of which json would keep the last of two equal keys, and lose labels so."""

    twice = ""


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    keys = [key for key, _ in pairs]
    marked = _TwiceNamed(members)
    marked.twice = next(key for key in keys if keys.count(key) > 1)
    return marked


@dataclass(frozen=True)
class JsonValue:
    """A value inside a JSON file, with the path to it ("$.annotations[3].position")."""

    file: Path
    where: str
    value: object

    def error(self, message: str) -> LabelsError:
        return LabelsError(self.file, f"{self.where}: {message}")

    def has(self, key: str) -> bool:
        return isinstance(self.value, dict) and key in self.value

    def __getitem__(self, key: str) -> JsonValue:
        """A member of an object."""
        members = dict(self.members())
        if key not in members:
            raise self.error(f"no {key!r} here. {did_you_mean(key, members)}".rstrip())
        return members[key]

    def members(self) -> list[tuple[str, JsonValue]]:
        """Key and value of each member of an object."""
        if isinstance(self.value, _TwiceNamed):
            raise self.error(f"the key {self.value.twice!r} stands twice; keep one")
        if not isinstance(self.value, dict):
            raise self.error(f"{_brief(self.value)} where an object {{...}} must be")
        return [(k, JsonValue(self.file, f"{self.where}.{k}", v)) for k, v in self.value.items()]

    def elements(self) -> list[JsonValue]:
        if not isinstance(self.value, list):
            raise self.error(f"{_brief(self.value)} where a list [...] must be")
        return [JsonValue(self.file, f"{self.where}[{i}]", v) for i, v in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error(f"{_brief(self.value)} where a text must be")
        return self.value

    def number(self) -> float:
        """A finite number of at least 0, which may be written as a text."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float | str):
            raise self.error(f"{_brief(self.value)} where a number must be")
        return parse_number(self.file, self.where, self.value)


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True)
class XmlElement:
    """An XML element and the line it starts on; text is that before its first child."""

    file: Path
    line: int
    tag: str
    attributes: dict[str, str]
    children: list[XmlElement] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        return f"line {self.line}"

    @property
    def text(self) -> str:
        return "".join(self.parts).strip()

    def error(self, message: str) -> LabelsError:
        return LabelsError(self.file, f"{self.where}: {message}")

    def __getitem__(self, attribute: str) -> str:
        if attribute not in self.attributes:
            raise self.error(f"<{self.tag}> has no attribute {attribute!r}")
        return self.attributes[attribute]

    def number(self, attribute: str) -> float:
        """An attribute that is a finite number of at least 0."""
        return parse_number(self.file, f"{self.where}: {attribute}", self[attribute])

    def all(self, *tags: str) -> list[XmlElement]:
        """Every element at the end of the path `tags`, in document order."""
        found = [self]
        for tag in tags:
            found = [child for element in found for child in element.children if child.tag == tag]
        return found


def parse_xml(path: Path, raw: bytes) -> XmlElement:
    """The root element. A DTD is refused: with it go entities, external or exploding."""
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
            f"line {parser.CurrentLineNumber}: a DTD (<!DOCTYPE ...>) is not read; label files "
            "need none, so remove it",
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
    """A finite number of at least 0; LabelsError otherwise."""
    try:
        value = float(given)
    except (ValueError, OverflowError):
        raise LabelsError(path, f"{where} is {given!r}; it must be a number such as 12.5") from None
    if not math.isfinite(value) or value < 0:
        raise LabelsError(path, f"{where} is {given!r}; it must be 0 or more")
    return value


def make_example(
    source: LabelSource,
    where: str,
    *,
    video: str,
    label: str,
    group: str = "",
    start_s: float | None = None,
    end_s: float | None = None,
    visible: bool = True,
    peak_s: float | None = None,
    score: float = 1.0,
) -> Example:
    """An example, checked by the rules that every label format shares.

    The label must not be empty and the end not before the start. Without a group the footage's
    name is the group, so that a file is never in two.
    """
    if not label.strip():
        raise LabelsError(source.path, f"{where}: the label is empty; name the class")
    if start_s is not None and end_s is not None and end_s < start_s:
        raise LabelsError(source.path, f"{where}: the end {end_s:g} s is before {start_s:g} s")
    if "\0" in video:
        raise LabelsError(source.path, f"{where}: {video!r} is no name of a file")
    return Example(
        path=Path(os.path.normpath(source.footage_folder / video)),
        label=label.strip(),
        group=group.strip() or Path(os.path.normpath(video)).as_posix(),
        start_s=start_s,
        end_s=end_s,
        source=f"{source.path} {where}",
        visible=visible,
        peak_s=peak_s,
        score=score,
    )


def footage_in(source: LabelSource, name: str) -> str:
    """Footage named by another machine, as a name in the footage folder.

    The name as given where such a file is there; else its last part where that is; else as given.
    """
    if (source.footage_folder / name).exists():
        return name
    last = PureWindowsPath(name).name  # knows both kinds of slash
    return last if (source.footage_folder / last).exists() else name


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and its subfolders, linked ones too, sorted; nothing hidden."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:  # a link that leads back to where it lies
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (Path(here, name) for name in sorted(files) if not name.startswith("."))


def read_score(row: JsonValue, key: str) -> float:
    if not row.has(key):
        return 1.0
    score = row[key].number()
    if score > 1:
        raise row[key].error(f"{score:g}; it must be in [0, 1]")
    return score


def by_footage(examples: Sequence[Example]) -> Iterator[tuple[Path, list[Example]]]:
    """Examples by footage; ValueError where one file has several groups."""
    for path, mine in groupby(sorted(examples, key=lambda e: e.path), key=lambda e: e.path):
        together = list(mine)
        if len({example.group for example in together}) > 1:
            raise ValueError(f"{path} has labels of several groups; this format keeps one")
        yield path, together


def dump_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def only_footage(examples: Sequence[Example], folder: Path) -> str:
    names = sorted({footage_reference(example.path, folder) for example in examples})
    if len(names) != 1:
        raise ValueError(f"this format holds one video per file; these are {', '.join(names)}")
    return names[0]


def dump_xml(root: ET.Element) -> str:
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"
