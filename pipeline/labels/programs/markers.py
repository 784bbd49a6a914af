"""Read and write the markers of editing programs: Premiere Pro's CSV, DaVinci Resolve's EDL.

The edit index of DaVinci Resolve, a CSV file, is read only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from touchline.models.errors import LabelsError
from touchline.pipeline.labels.csv_files import csv_lines, read_table
from touchline.pipeline.labels.source import LabelSource, footage_beside, make_example
from touchline.pipeline.labels.times import TimeReader
from touchline.pipeline.timecode import FrameRate
from touchline.pipeline.types import Example

PREMIERE_COLUMNS = ("Marker Name", "Description", "In", "Out", "Duration", "Marker Type")

INDEX_COLUMNS = ("V", "Record In", "Record Out", "Notes")

RESOLVE_START_HOUR = 1
"""Timelines of Resolve begin at one hour, unless the footage has a timecode."""

RESOLVE_COLOURS = (
    "Blue", "Red", "Green", "Yellow", "Cyan", "Pink", "Purple", "Fuchsia", "Rose", "Lavender",
    "Sky", "Mint", "Lemon", "Sand", "Cocoa", "Cream",
)  # fmt: skip

CODE = r"(?:\d\d[:;]){3}\d\d\d?"
EDIT = re.compile(rf"\d{{3,}} +\S+ +V +C +{CODE} +{CODE} +({CODE}) +{CODE}")
COLOUR = "|C:ResolveColor"
MARKER = re.compile(r"\w+ *\|M:(.*)\|D:(\d+)")


@dataclass(frozen=True)
class Marker:
    """A marker on a timeline.

    Attributes:
        name: Its name: the class.
        note: Its note.
        first: Its first frame, counted from the start of the footage.
        after: The frame after its last.
    """

    name: str
    note: str
    first: int
    after: int


@dataclass(frozen=True)
class _Placed:
    """A marker on a timeline of Resolve.

    Attributes:
        where: Its place in the file, for messages.
        code: The timecode of its first frame.
        length: Its number of frames, or the timecode of the frame after its last.
        name: Its name: the class.
        attributes: What else is known of it.
    """

    where: str
    code: str
    length: int | str
    name: str
    attributes: list[tuple[str, str]]


def is_premiere_markers(source: LabelSource) -> bool:
    """Recognise Premiere's list of markers by its first columns."""
    start = source.text.lstrip("\ufeff").lstrip()[:40] if source.kind == "text" else ""
    return bool(re.match(r'"?Marker Name"?[\t,;]"?Description"?[\t,;]', start))


def read_premiere_markers(source: LabelSource) -> list[Example]:
    """Read each marker as a label: its name, or without a name its description.

    Timecode counts from that of the footage's first frame. The footage is the one video that the
    source names, or the video with the name of the file.

    Raises:
        LabelsError: A marker has no name, or its times cannot be read.
    """
    video = footage_beside(source)
    times = TimeReader(source)
    examples = []
    for where, cells in read_table(source, marks=PREMIERE_COLUMNS[:3]):
        name, note = cells["Marker Name"], cells["Description"]
        start_s = times.seconds(f"{where}: In", cells["In"], video)
        end_s = times.seconds(f"{where}: Out", cells.get("Out") or cells["In"], video)
        examples.append(
            make_example(
                source,
                where,
                video=video,
                label=name or note,
                start_s=start_s,
                end_s=end_s,
                attributes=[("note", note if name else "")],
            )
        )
    return examples


def premiere_markers(markers: Iterable[Marker], rate: FrameRate, *, start_frame: int) -> str:
    """Return a list of markers as Premiere writes and Premiere's extensions read them.

    Args:
        markers: The markers.
        rate: The rate of the timecode.
        start_frame: The frame number of the footage's start timecode.
    """
    rows: list[Sequence[str]] = [PREMIERE_COLUMNS]
    for marker in markers:
        spans = (
            start_frame + marker.first,
            start_frame + marker.after,
            marker.after - marker.first,
        )
        rows.append((marker.name, marker.note, *map(rate.smpte, spans), "Comment"))
    return csv_lines(rows)


def is_resolve_markers(source: LabelSource) -> bool:
    """Recognise an EDL of Resolve's timeline markers by the marks in it."""
    return source.kind == "text" and "|M:" in source.text and COLOUR in source.text


def read_resolve_markers(source: LabelSource) -> list[Example]:
    """Read each timeline marker as a label: its name is the class, its note an attribute.

    Times count from the start timecode of the footage. If it has none and all markers are after
    01:00:00:00, where timelines of Resolve begin, they count from there.

    Raises:
        LabelsError: A line cannot be read, or the frame rate is unknown.
    """
    return _on_timeline(source, list(_resolve_lines(source)))


def is_resolve_index(source: LabelSource) -> bool:
    """Recognise an edit index of Resolve by its first columns."""
    start = source.text.lstrip("\ufeff").lstrip()[:40] if source.kind == "text" else ""
    return bool(re.match(r'"?#"?[\t,;]"?Reel"?[\t,;]"?Match"?[\t,;]', start))


def read_resolve_index(source: LabelSource) -> list[Example]:
    """Read each marker of an edit index as a label: its text (Notes) is the class.

    Times count as those of `read_resolve_markers` do. The keywords of a marker are an attribute.

    Raises:
        LabelsError: A row is a clip instead of a marker, or its times cannot be read.
    """
    return _on_timeline(source, list(_index_rows(source)))


def _index_rows(source: LabelSource) -> Iterator[_Placed]:
    for where, cells in read_table(source, marks=INDEX_COLUMNS):
        if cells["V"]:
            raise LabelsError(
                source.path,
                f"{where}: a clip on the track {cells['V']}, not a marker. Choose Show Markers in "
                "the menu of Resolve's edit index, and export it again.",
            )
        yield _Placed(
            where,
            code=cells["Record In"],
            length=cells["Record Out"],
            name=cells["Notes"],
            attributes=[("keywords", cells.get("Marker Keywords", ""))],
        )


def _on_timeline(source: LabelSource, found: Sequence[_Placed]) -> list[Example]:
    """Turn markers on a timeline into labels of the footage that it holds."""
    if not found:
        return []
    video = footage_beside(source)
    times = TimeReader(source)
    start = times.timeline_start(found[0].where, [marker.code for marker in found], video)
    examples = []
    for marker in found:
        first = times.frame(marker.where, marker.code, video) - start
        if first < 0:
            raise LabelsError(
                source.path, f"{marker.where}: {marker.code} is before the footage begins"
            )
        frames = marker.length
        if isinstance(frames, str):
            frames = times.frame(marker.where, frames, video) - start - first
        begin_s = times.frame_s(marker.where, first, video)
        # Resolve gives a marker without length one frame.
        end_s = begin_s if frames == 1 else times.frame_s(marker.where, first + frames, video)
        examples.append(
            make_example(
                source,
                marker.where,
                video=video,
                label=marker.name,
                start_s=begin_s,
                end_s=end_s,
                attributes=marker.attributes,
            )
        )
    return examples


def _resolve_lines(source: LabelSource) -> Iterator[_Placed]:
    code = ""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if edit := EDIT.match(line):
            code = edit[1]
        elif COLOUR in line:
            note, _, rest = line.partition(COLOUR)
            marker = MARKER.fullmatch(rest.strip())
            if marker is None or not code:
                raise LabelsError(
                    source.path,
                    f"line {number}: not a marker after its edit. Export the markers again.",
                )
            yield _Placed(
                f"line {number}",
                code=code,
                length=int(marker[2]),
                name=marker[1],
                attributes=[("note", note.strip())],
            )
            code = ""


def resolve_markers(
    markers: Iterable[Marker], rate: FrameRate, *, title: str, start_frame: int
) -> str:
    """Return an EDL that Resolve imports as timeline markers.

    Args:
        markers: The markers.
        rate: The rate of the timeline.
        title: The title of the list.
        start_frame: The frame number of the timeline's start.
    """
    lines = [
        f"TITLE: {title}",
        f"FCM: {'DROP FRAME' if rate.drop_frame else 'NON-DROP FRAME'}",
        "",
    ]
    colours: dict[str, str] = {}
    for number, marker in enumerate(markers, start=1):
        first = start_frame + marker.first
        span = f"{rate.smpte(first)} {rate.smpte(first + 1)}"
        colour = colours.setdefault(
            marker.name, RESOLVE_COLOURS[len(colours) % len(RESOLVE_COLOURS)]
        )
        name, frames = marker.name.replace("|", "/"), marker.after - marker.first
        lines += [
            f"{number:03d}  001      V     C        {span} {span}",
            f"{_note(marker.note)}|C:ResolveColor{colour} |M:{name} |D:{frames}",
            "",
        ]
    return "\n".join(lines)


def _note(text: str) -> str:
    """A note as Resolve reads it: one that begins with a digit looks like the next edit."""
    text = text.replace("|", "/").strip()
    return f"{'- ' if text[:1].isdigit() else ''}{text} " if text else " "
