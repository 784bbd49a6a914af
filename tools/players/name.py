"""`touchline players name`: say who is in photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.errors import PhotoError
    from touchline.pipeline.players.name import Naming


def name_command(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...", help="Photos, or folders of photos.", show_default=False
        ),
    ],
    model: Annotated[
        Path, typer.Option(help="The model that `touchline players train` wrote.")
    ] = Path("players.safetensors"),
    json_: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Say who is in photos: a name with its probability, or unknown and why.

    Exits with 1 if a file is no picture; the others are answered all the same.
    """
    from touchline.models.errors import PhotoError
    from touchline.pipeline.players.name import load_players_model, name_players
    from touchline.pipeline.players.photos import read_photo

    loaded = load_players_model(model)
    rows: list[tuple[Path, Naming | PhotoError]] = []
    for path in _files(photos):
        try:
            (naming,) = name_players(loaded, [read_photo(path)])
            rows.append((path, naming))
        except PhotoError as error:
            rows.append((path, error))
    if json_:
        console.print_json([_row(path, found) for path, found in rows])
    else:
        _show(rows)
    failed = [found for _, found in rows if isinstance(found, PhotoError)]
    for problem in failed:
        console.fail(str(problem))
    if failed:
        raise typer.Exit(1)


def _files(given: list[Path]) -> list[Path]:
    from touchline.models.errors import PhotoError

    files: list[Path] = []
    for one in given:
        if not one.is_dir():
            files.append(one)
            continue
        inside = sorted(
            path for path in one.iterdir() if path.is_file() and not path.name.startswith(".")
        )
        if not inside:
            raise PhotoError(one, "holds no file. Name photos, or a folder with photos in it.")
        files += inside
    return files


def _row(path: Path, found: Naming | Exception) -> dict[str, object]:
    from touchline.pipeline.players.name import Naming

    if not isinstance(found, Naming):
        return {"photo": str(path), "error": str(found)}
    return {
        "photo": str(path),
        "player": found.player,
        "probability": None if found.probability is None else round(found.probability, 4),
        "why_unknown": found.why or None,
    }


def _show(rows: list[tuple[Path, Naming | PhotoError]]) -> None:
    from rich.table import Table

    from touchline.pipeline.players.name import Naming

    table = Table(box=None)
    for name in ("photo", "player", "probability", ""):
        table.add_column(name, overflow="fold")
    for path, found in rows:
        if not isinstance(found, Naming):
            table.add_row(console.escape(str(path)), "-", "", "not a picture that can be read")
            continue
        probability = "" if found.probability is None else f"{found.probability:.2f}"
        player = found.player or "unknown"
        table.add_row(
            console.escape(str(path)),
            console.escape(player),
            probability,
            console.escape(found.why),
        )
    console.out.print(table)
