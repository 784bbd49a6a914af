"""Provide what every label format needs: the file, its JSON or XML, and checked examples.

Errors are LabelsError. They name the line of text or XML, or the path inside JSON.
"""

from __future__ import annotations

import codecs
import glob
import json
import math
import os
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from pathlib import Path, PureWindowsPath
from typing import TypeVar
from xml.etree import ElementTree as ET
from xml.parsers import expat

from touchline.models.errors import FootageError, LabelsError
from touchline.models.json_values import from_json
from touchline.models.spelling import did_you_mean
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES, footage_reference
from touchline.pipeline.types import Event, Example, FootageHealth

T = TypeVar("T")

HOW_TO_GIVE_A_RATE = (
    "Convert the file once with touchline labels FILE --rate-hz RATE --convert csv -o labels.csv, "
    "or give rate_hz to read_labels."
)

UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# A list of times may begin with [0:12] instead of a list of JSON.
TIME_IN_BRACKETS = re.compile(rb"\[\d+:")

# A text in UTF-16 holds NUL bytes too. XML without a byte order mark starts with "<".
UTF16_STARTS = (*UTF16_BOMS, b"<")


# float() also reads 1_0 as 10, and digits of other scripts.
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE | re.ASCII)

# Scores that were computed with 32 bits exceed 1 by up to this.
SCORE_ROUNDING = 1e-6

# Tools round the start and the end of an event without length apart by up to this.
TIME_ROUNDING_S = 0.01

# How files that people give as labels begin, and what to do with them.
KNOWN_FILES = (
    (b"\xd0\xcf\x11\xe0", "an Excel workbook. In Excel, save the sheet as CSV UTF-8."),
    (b"\x1f\x8b", "a gzip archive. Unpack it and give the file in it."),
    (b"7z\xbc\xaf", "a 7-Zip archive. Unpack it and give the file in it."),
    (b"Rar!", "a RAR archive. Unpack it and give the file in it."),
    (b"%PDF", "a PDF document. Give the labels as a CSV file."),
    (b"SQLite format 3", "a SQLite database. Export the labels from the program that made it."),
)


@dataclass(frozen=True)
class LabelSource:
    """A label file or folder, and what it does not say itself.

    Attributes:
        path: The file or folder.
        footage_folder: Footage is named relative to it.
        rate_hz: Frames per second, for formats that count frames; None: not given.
        footage: The name of the one video, for formats that name none; empty: not given.
        head: The head to read, for formats with several; empty: not given.
    """

    path: Path
    footage_folder: Path
    rate_hz: float | None = None
    footage: str = ""
    head: str = ""

    @cached_property
    def raw(self) -> bytes:
        """The bytes of the file; LabelsError if it cannot be read or is binary."""
        try:
            with self.path.open("rb") as file:
                start = file.read(1024)
                self._refuse_known(start)
                if b"\0" in start and not start.startswith(UTF16_STARTS):
                    kind = (
                        "video" if self.path.suffix.lower() in FOOTAGE_SUFFIXES else "binary file"
                    )
                    raise LabelsError(
                        self.path,
                        f"a {kind}, not a label or events file. "
                        "Give the labels or events, such as labels.csv or events.json.",
                    )
                return start + file.read()
        except FileNotFoundError:
            raise LabelsError(self.path, "no such file") from None
        except OSError as error:
            raise LabelsError(self.path, f"cannot be read: {error.strerror}") from error

    def _refuse_known(self, start: bytes) -> None:
        """Raise LabelsError if the file is known not to be labels; `start` is how it begins."""
        if start.startswith(b"PK\x03\x04"):
            raise LabelsError(self.path, _zip_content(self.path))
        for magic, message in KNOWN_FILES:
            if start.startswith(magic):
                raise LabelsError(self.path, message)

    @cached_property
    def kind(self) -> str:
        """The kind of content, regardless of the name: "folder", "json", "xml" or "text"."""
        if self.path.is_dir():
            return "folder"
        start = self.raw[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
        if TIME_IN_BRACKETS.match(start):
            return "text"
        return {b"{": "json", b"[": "json", b"<": "xml"}.get(start[:1], "text")

    @cached_property
    def text(self) -> str:
        """The file as text: UTF-8 with or without a byte order mark, or UTF-16 with one.

        Raises:
            LabelsError: It is neither.
        """
        utf16 = self.raw.startswith(UTF16_BOMS)
        try:
            return self.raw.decode("utf-16" if utf16 else "utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise LabelsError(
                self.path, f"line {line}: not UTF-8. Save the file as UTF-8."
            ) from None

    @cached_property
    def json(self) -> JsonValue:
        """The root value of a JSON file; LabelsError if it is not JSON."""
        try:
            value = json.loads(self.text, object_pairs_hook=_unique_keys)
        except json.JSONDecodeError as error:
            # What the reader wants at the end of a text is in the part that is lost.
            cut = not self.text[error.pos :].strip()
            what = (
                "the JSON ends too early. The file may be cut short."
                if cut
                else (f"not JSON ({error.msg}, column {error.colno})")
            )
            raise LabelsError(self.path, f"line {error.lineno}: {what}") from None
        except (ValueError, RecursionError) as error:
            raise LabelsError(self.path, f"not JSON that can be used: {error}") from None
        return JsonValue(self.path, "$", value)

    @cached_property
    def xml(self) -> XmlElement:
        """The root element of an XML file."""
        return parse_xml(self.path, self.raw)


def _zip_content(path: Path) -> str:
    """What a ZIP file is, and what to do with it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        names = []
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook. In Excel, save the sheet as CSV UTF-8 and give that file."
    if "content.xml" in names:
        return "a spreadsheet or document of LibreOffice. Save the sheet as CSV (UTF-8)."
    return "a ZIP archive. Unpack it and give the label file in it."


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


class _TwiceNamed(dict[str, object]):
    """An object with two equal keys. Plain json would keep only the last and lose labels."""

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
    attributes: Iterable[tuple[str, str]] = (),
) -> Example:
    """Make an example, checked by the rules that all label formats share.

    Args:
        source: The label file.
        where: The place of the label in it, for messages.
        video: The footage, relative to the footage folder.
        label: The class; it must not be empty.
        group: The match. Without one, the footage's name is the group.
        start_s: Start in seconds; None for both times: the whole file.
        end_s: End in seconds. An end up to 10 ms before the start is rounding: it becomes the
            start.
        visible: False if the broadcast does not show the event.
        peak_s: The event's moment; None: the middle.
        score: The score of a prediction; 1 for labels.
        attributes: Names and values of what else is known. Empty values are left out.

    Raises:
        LabelsError: A value breaks a rule.
    """
    if not label.strip():
        raise LabelsError(source.path, f"{where}: the label is empty. Name the class.")
    if start_s is not None and end_s is not None and end_s < start_s:
        if start_s - end_s > TIME_ROUNDING_S:
            raise LabelsError(
                source.path, f"{where}: the end {end_s:.12g} s is before {start_s:.12g} s"
            )
        end_s = start_s
    if "\0" in video:
        raise LabelsError(source.path, f"{where}: {video!r} is not a file name")
    video = _name_here(source.footage_folder, video)
    return Example(
        path=_path(source, video),
        label=composed(label.strip()),
        group=composed(group.strip() or Path(os.path.normpath(video)).as_posix()),
        start_s=start_s,
        end_s=end_s,
        source=f"{source.path} {where}",
        visible=visible,
        peak_s=peak_s,
        score=score,
        attributes=tuple((name, value) for name, value in attributes if name and value),
    )


@dataclass(frozen=True)
class LabelledVideo:
    """A video that a label file labels, perhaps without events.

    Attributes:
        path: Its path, as the examples have it.
        group: Its match.
        subset: Its subset (training, validation, ...); empty if there are none.
        unjudged: Spans (start_s, end_s) that nobody labelled. An event there is neither right nor
            wrong.
    """

    path: Path
    group: str
    subset: str = ""
    unjudged: tuple[tuple[float, float], ...] = ()


def labelled_video(
    source: LabelSource, name: str, *, group: str, subset: str = ""
) -> LabelledVideo:
    """Return a video by the name that the label file gives it.

    Args:
        source: The label file.
        name: The footage, relative to the footage folder.
        group: The match.
        subset: The subset, if the format has subsets.
    """
    path = _path(source, _name_here(source.footage_folder, name))
    return LabelledVideo(path, composed(group), subset)


def _path(source: LabelSource, name: str) -> Path:
    return Path(os.path.normpath(source.footage_folder / name))


def composed(text: str) -> str:
    """Return the text in composed Unicode (NFC), so that a letter with an accent has one form."""
    return unicodedata.normalize("NFC", text)


def _name_here(folder: Path, name: str) -> str:
    """A footage name as this system has it: its form of accents, and its slashes."""
    slashed = PureWindowsPath(name).as_posix() if "\\" in name else name
    forms = (name, composed(slashed), unicodedata.normalize("NFD", slashed), slashed)
    return next((form for form in forms if (folder / form).exists()), forms[1])


def footage_in(source: LabelSource, name: str) -> str:
    """Find footage that was named on another machine: its name in the footage folder.

    If no such file exists, the last part of the name is tried. If that fails too, the name stays as
    it is.
    """
    if (source.footage_folder / name).exists():
        return name
    last = PureWindowsPath(name).name  # splits at both kinds of slash
    return last if (source.footage_folder / last).exists() else name


def footage_beside(source: LabelSource) -> str:
    """Find the footage of a format that names none: a video with the name of the label file.

    Raises:
        LabelsError: There are several such videos.
    """
    if source.footage:
        return source.footage
    stem = source.path.stem
    found = sorted(
        path.name
        for path in source.footage_folder.glob(f"{glob.escape(stem)}.*")
        if path.suffix.lower() in FOOTAGE_SUFFIXES
    )
    if len(found) > 1:
        raise LabelsError(
            source.path,
            f"this format names no footage, and {' and '.join(found)} could both be its video. "
            "Name one with --footage of touchline labels.",
        )
    return found[0] if found else stem


def footage_called(
    source: LabelSource, name: str, entry: JsonValue, listed: dict[Path, dict[str, list[str]]]
) -> str:
    """Find the footage of a video by its name without ending; the name itself if there is none.

    Args:
        source: The label file.
        name: The name of the video.
        entry: The value that names it, for messages.
        listed: Keeps the footage of each folder, by its name without ending, for the next call.

    Raises:
        LabelsError: Several files have the name.
    """
    wanted = source.footage_folder / name
    if "\0" in name or not wanted.parent.is_dir() or wanted.is_file():
        return name
    if wanted.parent not in listed:
        by_stem = listed[wanted.parent] = defaultdict(list)
        for path in wanted.parent.iterdir():
            if path.suffix.lower() in FOOTAGE_SUFFIXES:
                by_stem[path.stem].append(path.name)
    # ActivityNet's own files are named v_<name>.
    here = listed[wanted.parent]
    found = sorted(here.get(wanted.name, []) + here.get(f"v_{wanted.name}", []))
    if len(found) > 1:
        raise entry.error(
            f"{' and '.join(found)} could both be this video. Keep only one of them in the folder."
        )
    return (Path(name).parent / found[0]).as_posix() if found else name


def frame_clock(
    source: LabelSource, video: str, *, error: Callable[[str], LabelsError]
) -> tuple[float, float, str | None]:
    """Find how the frames of labels become times.

    Args:
        source: The label file. Its `rate_hz` comes before the rate of the footage.
        video: The footage, relative to the footage folder.
        error: Makes an error that names the place in the file.

    Returns:
        The time of frame 0 in seconds, the frames per second, and the timecode of frame 0 if the
        footage has one. Without footage, frame 0 is at 0 s.

    Raises:
        LabelsError: The frame rate is unknown.
    """
    from touchline.pipeline.decoding.probe import probe_footage

    path = source.footage_folder / video
    try:
        health = probe_footage(path)
    except FootageError as problem:
        if source.rate_hz is not None:
            return 0.0, source.rate_hz, None
        raise error(
            "times are in frames, and the frame rate cannot be read from the footage "
            f"({problem}). {HOW_TO_GIVE_A_RATE}"
        ) from None
    if source.rate_hz is not None:
        return health.first_frame_s, source.rate_hz, health.start_timecode
    if health.frame_rate is None or health.variable_rate:
        raise error(
            f"times are in frames, and {path} has no constant frame rate. {HOW_TO_GIVE_A_RATE}"
        )
    return health.first_frame_s, float(Fraction(health.frame_rate)), health.start_timecode


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


def read_score(row: JsonValue, key: str) -> float:
    """Read a score in [0, 1]; 1 if the row has none. LabelsError for other values."""
    if not row.has(key):
        return 1.0
    value = row[key]
    return parse_score(value.file, value.where, value.number())


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
