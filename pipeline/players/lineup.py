"""Line-ups: who wears which number, in which colour."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageColor

from touchline.models.errors import LabelsError

COLUMNS = {
    "team": ("team",),
    "number": ("number", "jersey"),
    "name": ("name", "player"),
    "colour": ("colour", "color"),
}

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Lineup:
    """The players of a match.

    Attributes:
        players: The name of each player, by team and shirt number.
        colours: The colour of each team's shirts, RGB.
    """

    players: Mapping[tuple[str, str], str]
    colours: Mapping[str, Colour]


def read_lineup(path: Path) -> Lineup:
    """Read a CSV file with the columns team, number, name and colour.

    A colour is a name such as `red`, or `#c81e28`. One row per team is enough.

    Raises:
        LabelsError: The file cannot be read, a column is missing, or a row cannot be used. The
            message names the line.
    """
    if not path.is_file():
        raise LabelsError(path, "no such line-up. Name a CSV file: team,number,name,colour")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise LabelsError(path, "not UTF-8. Save the line-up as a CSV file in UTF-8.") from None
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        raise LabelsError(path, "an empty file. Its first line must be team,number,name,colour")
    at = _columns(path, [cell.strip().casefold() for cell in rows[0]])
    players: dict[tuple[str, str], str] = {}
    colours: dict[str, Colour] = {}
    for line, row in enumerate(rows[1:], start=2):
        cells = {name: row[k].strip() if k < len(row) else "" for name, k in at.items()}
        if any(cells.values()):
            _add(path, line, cells, players, colours)
    if not players:
        raise LabelsError(path, "holds no player. Give a line per player.")
    if missing := sorted({team for team, _ in players} - colours.keys()):
        raise LabelsError(
            path, f"team {missing[0]!r} has no colour. Write the colour of its shirts in one row."
        )
    return Lineup(players, colours)


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    at = {}
    for name, spellings in COLUMNS.items():
        found = [k for k, cell in enumerate(header) if cell in spellings]
        if not found:
            raise LabelsError(
                path, f"no column {name!r}. The first line must be team,number,name,colour"
            )
        at[name] = found[0]
    return at


def _add(
    path: Path,
    line: int,
    cells: Mapping[str, str],
    players: dict[tuple[str, str], str],
    colours: dict[str, Colour],
) -> None:
    """Take one row in."""
    place, team, number = f"line {line}", cells["team"], cells["number"]
    if not team or not cells["name"]:
        raise LabelsError(path, f"{place} has no team or no name.")
    if not (number.isascii() and number.isdigit() and len(number) <= 2):
        raise LabelsError(path, f"{place}: number is {number!r}; it must be 0 to 99")
    key = team, str(int(number))
    if key in players:
        raise LabelsError(path, f"{place}: {team} has number {number} twice")
    players[key] = cells["name"]
    if not cells["colour"]:
        return
    try:
        colour = ImageColor.getrgb(cells["colour"])[:3]
    except ValueError:
        raise LabelsError(
            path, f"{place}: colour is {cells['colour']!r}. Write a name such as red, or #c81e28"
        ) from None
    if colours.setdefault(team, colour) != colour:
        raise LabelsError(path, f"{place}: {team} has two colours. Give one.")
