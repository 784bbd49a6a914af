"""Provide what every reader of labels needs: the file, its footage, and checked examples.

Errors are LabelsError. They name the line of text or XML, or the path inside JSON.
"""

from __future__ import annotations

import codecs
import glob
import json
import os
import re
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PureWindowsPath

from touchline.models.errors import FootageError, LabelsError
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES
from touchline.pipeline.labels.parsed import JsonValue, XmlElement, parse_xml, unique_keys
from touchline.pipeline.types import Example

HOW_TO_GIVE_A_RATE = (
    "Convert the file once with touchline labels FILE --rate-hz RATE --convert csv -o labels.csv, "
    "or give rate_hz to read_labels."
)

UTF16_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# A list of times may begin with [0:12] instead of a list of JSON.
TIME_IN_BRACKETS = re.compile(rb"\[\d+:")

# A text in UTF-16 holds NUL bytes too. XML without a byte order mark starts with "<".
UTF16_STARTS = (*UTF16_BOMS, b"<")


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
            value = json.loads(self.text, object_pairs_hook=unique_keys)
        except json.JSONDecodeError as error:
            # An error at the very end of the text means that the rest of it is lost.
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
    """

    path: Path
    group: str
    subset: str = ""


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
