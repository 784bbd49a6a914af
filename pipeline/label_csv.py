"""Our own label file: CSV with the columns video, label, start_s, end_s, group."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.pipeline.types import Example

REQUIRED_COLUMNS = ("video", "label", "start_s", "end_s")
COLUMNS = (*REQUIRED_COLUMNS, "group")


def read_csv(path: Path, text: str, *, footage_folder: Path) -> list[Example]:
    """The examples of our CSV, one per row; further columns are ignored.

    Both times empty: the whole file. Videos are relative to `footage_folder`. Without a group
    (column or cell) a file is its own group. Errors name the line.
    """
    rows = _rows(path, text)
    first = next(rows, None)
    if first is None:
        raise LabelsError(path, f"the file is empty; its first line must be {','.join(COLUMNS)}")
    header = [name.strip() for name in first[1]]
    _check_header(path, first[0], header)
    examples = []
    for line, row in rows:
        where = f"line {line}"
        if len(row) != len(header):
            raise LabelsError(
                path, f"{where}: {len(row)} cells; the first line names {len(header)} columns"
            )
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        examples.append(_example(path, where, cells, footage_folder=footage_folder))
    return examples


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Every row that is not blank, with the line it starts on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    start = 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise LabelsError(path, f"line {start}: not CSV ({error})") from error


def _check_header(path: Path, line: int, header: Sequence[str]) -> None:
    for name in REQUIRED_COLUMNS:
        if name in header:
            continue
        hint = f"the columns must be {','.join(COLUMNS)}"
        if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
            hint = "the cells must be separated by commas"
        elif near := nearest(name, header):
            hint = f"is {near!r} meant?"
        raise LabelsError(path, f"line {line}: no column {name!r}; {hint}")
    for name in COLUMNS:
        if header.count(name) > 1:
            raise LabelsError(path, f"line {line}: {header.count(name)} columns {name!r}; keep one")


def _example(path: Path, where: str, cells: dict[str, str], *, footage_folder: Path) -> Example:
    video = cells["video"]
    if not video:
        raise LabelsError(path, f"{where}: video is empty; name the footage file")
    start, end = cells["start_s"], cells["end_s"]
    if bool(start) != bool(end):
        missing, given = ("end_s", "start_s") if start else ("start_s", "end_s")
        raise LabelsError(
            path, f"{where}: {given} without {missing}; give both, or neither for the whole clip"
        )
    return make_example(
        path,
        where,
        video=video,
        label=cells["label"],
        group=cells.get("group", ""),
        start_s=parse_seconds(path, where, "start_s", start) if start else None,
        end_s=parse_seconds(path, where, "end_s", end) if end else None,
        footage_folder=footage_folder,
    )


def write_csv(examples: Iterable[Example], *, relative_to: Path) -> str:
    """Our CSV as text; footage below `relative_to` is named relative to it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for example in examples:
        start = "" if example.start_s is None else repr(example.start_s)
        end = "" if example.end_s is None else repr(example.end_s)
        video = relative_name(example.path, relative_to)
        writer.writerow([video, example.label, start, end, example.group])
    return out.getvalue()


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, whatever the case; None where nothing comes close."""
    by_folded = {other.casefold(): other for other in sorted(names, reverse=True)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def parse_seconds(path: Path, where: str, what: str, text: str) -> float:
    """A time in seconds, finite and not negative; LabelsError otherwise."""
    try:
        value = float(text)
    except ValueError:
        raise LabelsError(
            path, f"{where}: {what} is {text!r}; it must be a number of seconds, such as 12.5"
        ) from None
    if not math.isfinite(value) or value < 0:
        raise LabelsError(path, f"{where}: {what} is {text!r}; it must be 0 s or later")
    return value


def make_example(
    path: Path,
    where: str,
    *,
    video: str,
    label: str,
    footage_folder: Path,
    group: str = "",
    start_s: float | None = None,
    end_s: float | None = None,
) -> Example:
    """An example out of checked parts: the rules every label format shares.

    The label must not be empty and the end not before the start. Without a group the footage's
    name is the group, so that a file is never in two.
    """
    if not label.strip():
        raise LabelsError(path, f"{where}: the label is empty; name the class")
    if start_s is not None and end_s is not None and end_s < start_s:
        raise LabelsError(path, f"{where}: end_s {end_s:g} is before start_s {start_s:g}")
    return Example(
        path=Path(os.path.normpath(footage_folder / video)),
        label=label.strip(),
        group=group.strip() or Path(os.path.normpath(video)).as_posix(),
        start_s=start_s,
        end_s=end_s,
        source=f"{path} {where}",
    )


def relative_name(footage: Path, folder: Path) -> str:
    """The footage's name as a label file in `folder` gives it, with forward slashes."""
    here, there = Path(os.path.abspath(folder)), Path(os.path.abspath(footage))  # noqa: PTH100
    return (there.relative_to(here) if there.is_relative_to(here) else there).as_posix()
