"""Read and write labels as Touchline's own CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.labels.source import (
    LabelSource,
    LabelTarget,
    make_example,
    parse_number,
)
from touchline.pipeline.types import Example

REQUIRED_COLUMNS = ("video", "label", "start_s", "end_s")
COLUMNS = (*REQUIRED_COLUMNS, "group")
TRUTH = {"true": True, "1": True, "": True, "false": False, "0": False}

# Exports put an apostrophe before cells that a spreadsheet would run as a formula.
GUARDED = re.compile(r"^'(?=[=+\-@\t\r])")

# In countries with a decimal comma, spreadsheets separate cells by semicolons. A first line "sep=;"
# may say so.
SEPARATOR_LINE = re.compile(r"^sep=([,;\t])$")
DECIMAL_COMMA = re.compile(r"^(\d+),(\d+)$")
NUMBERS = ("start_s", "end_s", "peak_s", "score")


def read_csv(source: LabelSource) -> list[Example]:
    """Read one example per row; unknown columns are ignored.

    The first line shows whether cells are separated by commas, semicolons or tabs. With semicolons
    and tabs, numbers may have a decimal comma. If both times are empty, the label is for the whole
    file. `visible` and `peak_s` are optional columns. `score` is read only together with `peak_s`,
    as in events.csv; alone it may be the score of the match.

    Raises:
        LabelsError: A column is missing, or a row cannot be used.
    """
    separator = _separator(source.text)
    rows = _rows(source, separator)
    first = next(rows, None)
    if first is None:
        raise LabelsError(
            source.path, f"the file is empty. Its first line must be {','.join(COLUMNS)}."
        )
    header = [name.strip() for name in first[1]]
    _check_header(source.path, first[0], header)
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
        if separator != ",":
            cells |= {k: DECIMAL_COMMA.sub(r"\1.\2", cells[k]) for k in NUMBERS if k in cells}
        examples.append(_example(source, where, cells))
    return examples


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
    for name in (*COLUMNS, "visible", "peak_s", "score"):
        if header.count(name) > 1:
            raise LabelsError(
                path, f"line {line}: {header.count(name)} columns {name!r}. Keep one."
            )


def _example(source: LabelSource, where: str, cells: dict[str, str]) -> Example:
    path = source.path
    if not cells["video"]:
        raise LabelsError(path, f"{where}: video is empty. Name the footage file.")
    if bool(cells["start_s"]) != bool(cells["end_s"]):
        missing, given = ("end_s", "start_s") if cells["start_s"] else ("start_s", "end_s")
        raise LabelsError(
            path, f"{where}: {given} without {missing}. Give both, or neither for the whole clip."
        )
    start_s, end_s, peak_s = (
        _seconds(path, where, name, cells.get(name, "")) for name in ("start_s", "end_s", "peak_s")
    )
    if peak_s is not None and not (
        start_s is not None and end_s is not None and start_s <= peak_s <= end_s
    ):
        raise LabelsError(path, f"{where}: peak_s {peak_s:g} is not between start_s and end_s")
    return make_example(
        source,
        where,
        video=cells["video"],
        label=cells["label"],
        group=cells.get("group", ""),
        start_s=start_s,
        end_s=end_s,
        visible=_visible(path, where, cells.get("visible", "")),
        peak_s=peak_s,
        score=_score(path, where, cells) if "peak_s" in cells else 1.0,
    )


def _seconds(path: Path, where: str, name: str, cell: str) -> float | None:
    return parse_number(path, f"{where}: {name}", cell) if cell else None


def _visible(path: Path, where: str, cell: str) -> bool:
    if cell.casefold() not in TRUTH:
        raise LabelsError(path, f"{where}: visible is {cell!r}; it must be true or false")
    return TRUTH[cell.casefold()]


def _score(path: Path, where: str, cells: dict[str, str]) -> float:
    if not cells.get("score"):
        return 1.0
    score = parse_number(path, f"{where}: score", cells["score"])
    if score > 1:
        raise LabelsError(path, f"{where}: score is {score:g}; it must be in [0, 1]")
    return score


def write_csv(examples: Sequence[Example], target: LabelTarget) -> str:
    """Write CSV; footage is named relative to the folder of the file.

    The columns visible, and peak_s with score, are written only if an example needs them.
    """
    visible = any(not e.visible for e in examples)
    detected = any(e.peak_s is not None or e.score != 1 for e in examples)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    extra = ("visible",) * visible + ("peak_s", "score") * detected
    writer.writerow((*COLUMNS, *extra))
    for e in examples:
        row = [
            footage_reference(e.path, target.folder),
            e.label,
            _cell(e.start_s),
            _cell(e.end_s),
            e.group,
        ]
        row += [str(e.visible).lower()] * visible + [_cell(e.peak_s), _cell(e.score)] * detected
        writer.writerow(row)
    return out.getvalue()


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
