"""Read and write labels as Touchline's own CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.labels.parsed import parse_score
from touchline.pipeline.labels.source import LabelSource, make_example
from touchline.pipeline.labels.target import LabelTarget
from touchline.pipeline.labels.times import TimeReader
from touchline.pipeline.types import USUAL_ATTRIBUTES, Event, Example

REQUIRED_COLUMNS = ("video", "label", "start_s", "end_s")
COLUMNS = (*REQUIRED_COLUMNS, "group")
TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}

# Spreadsheets take a cell that begins with one of these for a formula. An apostrophe before it
# keeps them from that; reading takes it away again.
FORMULA = re.compile(r"^'*[=+\-@\t\r\n]")
GUARDED = re.compile(r"^'(?='*[=+\-@\t\r\n])")

# Control characters except for tabs and line ends, which quotes hold.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")

# In countries with a decimal comma, spreadsheets separate cells by semicolons. A first line "sep=;"
# may say so.
SEPARATOR_LINE = re.compile(r"^sep=([,;\t])$")
DECIMAL_COMMA = re.compile(r"^([\d:]+),(\d+)$")
# How text files of other programs begin.
OTHER_TEXTS = (
    ("WebVTT subtitles", re.compile(r"WEBVTT\b")),
    ("SubRip subtitles", re.compile(r"\s*\d+\s*\n\s*\d+:\d\d:\d\d[,.]\d+ *-->")),
    ("a CMX 3600 edit list (EDL)", re.compile(r"\s*(TITLE:|FCM:|\d{3}  )")),
    ("an M3U playlist", re.compile(r"#EXTM3U")),
    (
        "annotations of VIA",
        re.compile(r"# ?(SHARED_ID|EXPORTER|CSV_HEADER)|filename,file_size,file_attributes,"),
    ),
)

NUMBERS = ("start_s", "end_s", "peak_s", "score")
OWN_COLUMNS = (*COLUMNS, "visible", "peak_s", "score")

# events.csv repeats the times as people read them.
SHOWN_TIMES = ("start", "end", "peak", "clock")


def read_csv(source: LabelSource) -> list[Example]:
    """Read one example per row; columns of other names are its attributes.

    The first line shows whether cells are separated by commas, semicolons or tabs. With semicolons
    and tabs, numbers may have a decimal comma. If both times are empty, the label is for the whole
    file. `visible` and `peak_s` are optional columns. `score` is the score of an event only
    together with `peak_s`, as in events.csv. Alone it may be the score of the match, so it is an
    attribute.

    Raises:
        LabelsError: A column is missing, or a row cannot be used.
    """
    for what, pattern in OTHER_TEXTS:
        if pattern.match(source.text):
            raise LabelsError(
                source.path,
                f"{what}, which Touchline cannot read as labels. Make a CSV file with the columns "
                f"{','.join(COLUMNS)}.",
            )
    separator = _separator(source.text)
    rows = _rows(source, separator)
    first = next(rows, None)
    if first is None:
        raise LabelsError(
            source.path, f"the file is empty. Its first line must be {','.join(COLUMNS)}."
        )
    header = [name.strip() for name in first[1]]
    _check_header(source.path, first[0], header)
    times = TimeReader(source)
    examples = []
    for line, row in rows:
        where = f"line {line}"
        if len(row) != len(header):
            raise LabelsError(
                source.path,
                f"{where}: {len(row)} cells, but the first line names {len(header)} columns",
            )
        values = (GUARDED.sub("", cell.strip()) for cell in row)
        cells = dict(zip(header, values, strict=True))
        for name in NUMBERS if "peak_s" in cells else NUMBERS[:2]:
            cell = cells.get(name, "")
            if separator != "," or ":" in cell:
                cells[name] = DECIMAL_COMMA.sub(r"\1.\2", cell)
        examples.append(_example(source, where, cells, times))
    return examples


def read_table(source: LabelSource, *, marks: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Read the rows of another program's table by the names of its columns.

    Lines before the header, and empty rows, are left out.

    Args:
        source: The file.
        marks: Columns by which the header is known.

    Raises:
        LabelsError: There is no such header, or a row has more cells than it.
    """
    lines = source.text.splitlines()
    header_line = next((line for line in lines if all(mark in line for mark in marks)), "")
    rows = _rows(source, _separator(header_line))
    header: list[str] = []
    found = []
    for line, row in rows:
        cells = [GUARDED.sub("", cell.strip()) for cell in row]
        if not header:
            header = cells if set(marks) <= set(cells) else []
            continue
        if len(cells) > len(header):
            raise LabelsError(
                source.path,
                f"line {line}: {len(cells)} cells, but the header names {len(header)} columns",
            )
        padded = cells + [""] * (len(header) - len(cells))
        found.append((f"line {line}", dict(zip(header, padded, strict=True))))
    if not header:
        raise LabelsError(source.path, f"no line with the columns {', '.join(marks)}")
    return found


def _free_columns(header: Iterable[str]) -> list[str]:
    """The columns that are attributes."""
    names = list(header)
    detected = "peak_s" in names
    own = [name for name in OWN_COLUMNS if detected or name != "score"]
    shown = SHOWN_TIMES if detected and "peak" in names else ()
    return [name for name in names if name not in (*own, *shown)]


def _separator(text: str) -> str:
    """The separator in a line `sep=`, or else the most frequent one of the first line."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if said := SEPARATOR_LINE.match(first):
        return said[1]
    return max(",;\t", key=first.count)


def _rows(source: LabelSource, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    reader = csv.reader(io.StringIO(source.text, newline=""), strict=True, delimiter=separator)
    start = 1
    try:
        for row in reader:
            if start == 1 and SEPARATOR_LINE.match(separator.join(row)):
                pass
            elif any(cell.strip() for cell in row):
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise LabelsError(source.path, f"line {start}: not CSV ({error})") from error


def _check_header(path: Path, line: int, header: Sequence[str]) -> None:
    for name in REQUIRED_COLUMNS:
        if name in header:
            continue
        hint = did_you_mean(name, header) or f"The columns must be {','.join(COLUMNS)}."
        raise LabelsError(path, f"line {line}: no column {name!r}. {hint}")
    for name in header:
        if name and header.count(name) > 1:
            raise LabelsError(
                path, f"line {line}: {header.count(name)} columns {name!r}. Keep one."
            )


def _example(source: LabelSource, where: str, cells: dict[str, str], times: TimeReader) -> Example:
    path, video = source.path, cells["video"]
    if not video:
        raise LabelsError(path, f"{where}: video is empty. Name the footage file.")
    if bool(cells["start_s"]) != bool(cells["end_s"]):
        missing, given = ("end_s", "start_s") if cells["start_s"] else ("start_s", "end_s")
        raise LabelsError(
            path, f"{where}: {given} without {missing}. Give both, or neither for the whole clip."
        )
    start_s, end_s, peak_s = (
        times.seconds(f"{where}: {name}", cells[name], video) if cells.get(name) else None
        for name in ("start_s", "end_s", "peak_s")
    )
    if peak_s is not None and not (
        start_s is not None and end_s is not None and start_s <= peak_s <= end_s
    ):
        raise LabelsError(path, f"{where}: peak_s {peak_s:g} is not between start_s and end_s")
    return make_example(
        source,
        where,
        video=video,
        label=cells["label"],
        group=cells.get("group", ""),
        start_s=start_s,
        end_s=end_s,
        visible=_visible(path, where, cells.get("visible", "")),
        peak_s=peak_s,
        score=_score(path, where, cells) if "peak_s" in cells else 1.0,
        attributes=[(name, cells[name]) for name in _free_columns(cells)],
    )


def _visible(path: Path, where: str, cell: str) -> bool:
    if cell.casefold() not in TRUTH:
        raise LabelsError(path, f"{where}: visible is {cell!r}; it must be true or false")
    return TRUTH[cell.casefold()]


def _score(path: Path, where: str, cells: dict[str, str]) -> float:
    score = cells.get("score")
    return parse_score(path, f"{where}: score", score) if score else 1.0


def csv_lines(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as CSV that spreadsheets do not run and `read_csv` reads back.

    Control characters become U+FFFD.
    """
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        # csv.writer quotes carriage returns only where they end lines.
        csv.writer(line, lineterminator="\r\n").writerow([_guarded(cell) for cell in row])
        lines.append(line.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


def _guarded(cell: str) -> str:
    cell = CONTROL.sub("\N{REPLACEMENT CHARACTER}", cell)
    return f"'{cell}" if FORMULA.match(cell) else cell


def write_csv(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write CSV; footage is named relative to the folder of the file.

    The columns visible, and peak_s with score, are written only if an example needs them. Each
    attribute has a column.

    Raises:
        ValueError: An attribute has the name of another column.
    """
    visible = any(not e.visible for e in examples)
    detected = any(e.peak_s is not None or e.score != 1 for e in examples)
    extra = ("visible",) * visible + ("peak_s", "score") * detected
    free = attribute_columns(examples, taken=(*COLUMNS, *extra))
    rows: list[Sequence[str]] = [(*COLUMNS, *extra, *free)]
    for e in examples:
        row = [
            footage_reference(e.path, target.folder),
            e.label,
            _cell(e.start_s),
            _cell(e.end_s),
            e.group,
        ]
        row += [str(e.visible).lower()] * visible + [_cell(e.peak_s), _cell(e.score)] * detected
        values = dict(e.attributes)
        rows.append(row + [values.get(name, "") for name in free])
    return csv_lines(rows)


def attribute_columns(events: Iterable[Example | Event], *, taken: Collection[str]) -> list[str]:
    """List the names of all attributes, the usual ones first.

    Args:
        events: The events, or labels.
        taken: Names of other columns of the same table.

    Raises:
        ValueError: An attribute has the name of another column.
    """
    found = dict.fromkeys(name for event in events for name, _ in event.attributes)
    if both := [name for name in found if name in taken]:
        raise ValueError(
            f"an attribute is called {both[0]!r}, as a column of Touchline is. Rename it."
        )
    usual = [name for name in USUAL_ATTRIBUTES if name in found]
    return usual + [name for name in found if name not in usual]


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
