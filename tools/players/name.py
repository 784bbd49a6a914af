"""`touchline players name`: say who is in photos, or whom the events of a match are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.pipeline.players.options import WhoOptions
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.errors import PhotoError
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.players.lineup import Lineup
    from touchline.pipeline.players.name import Naming
    from touchline.pipeline.players.who import FaceWitness, Who
    from touchline.pipeline.types import Event

WHO = WhoOptions()
MOST_SHOWN = 5


def name_command(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="PHOTO...|MATCH EVENTS",
            help="Photos, or folders of photos. With --lineup: the footage, and its events.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="The model that `touchline players train` wrote (default: players.safetensors). "
            "With --lineup: faces are a second witness beside shirt numbers (default: they are "
            "not looked at).",
            show_default=False,
        ),
    ] = None,
    lineup: Annotated[
        Path | None,
        typer.Option(
            help="A line-up (CSV: team,number,name,colour). Players of events are then named by "
            "the shirt numbers in the seconds after each event."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="With --lineup: write an events.json with the players to this file."
        ),
    ] = None,
    after: Annotated[
        float, typer.Option(help="With --lineup: seconds after an event that are looked at.")
    ] = WHO.after_s,
    json_: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Say who is in photos, or whom events are about: a name, or unknown and why.

    Exits with 1 if a file is no picture; the others are still answered.
    """
    if lineup is not None:
        _name_events(photos, lineup, model, out, after, as_json=json_)
        return
    if out is not None:
        raise ValueError("--out is for the events of a match. Give a line-up with --lineup, too.")
    from touchline.models.errors import PhotoError
    from touchline.pipeline.players.name import face_finder, load_players_model, name_players
    from touchline.pipeline.players.photos import read_photo

    loaded = load_players_model(model or Path("players.safetensors"))
    find_faces = face_finder(loaded)
    rows: list[tuple[Path, Naming | PhotoError]] = []
    for path in _files(photos):
        try:
            (naming,) = name_players(loaded, [read_photo(path)], find_faces=find_faces)
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
        "face": None if found.face is None else found.face.box,
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


def _name_events(
    given: list[Path],
    lineup: Path,
    model: Path | None,
    out: Path | None,
    after_s: float,
    *,
    as_json: bool,
) -> None:
    """Name the players of the accepted events of one match."""
    from touchline.models.weights.installed import DIGIT_RECOGNISER, TEXT_DETECTOR, verified_file
    from touchline.pipeline.outputs.read_results import read_results, refuse_empty
    from touchline.pipeline.players.lineup import read_lineup
    from touchline.pipeline.players.numbers import NumberReader
    from touchline.pipeline.players.who import name_events
    from touchline.pipeline.training.result import Progress

    if len(given) != 2:
        raise ValueError(
            f"--lineup takes the footage and its events, but {len(given)} files are given. "
            "Example: touchline players name match.mp4 out/match/events.json --lineup teams.csv"
        )
    footage, events = given
    console.keep_inputs(out, footage, events, lineup, *([model] if model else []))
    teams = read_lineup(lineup)
    (result,) = read_results(events, footage=footage)
    refuse_empty(events, [result])
    witness = None if model is None else _witness(model, lineup, teams)
    reader = NumberReader(verified_file(TEXT_DETECTOR)[0], verified_file(DIGIT_RECOGNISER)[0])
    options = WhoOptions(after_s=after_s)
    looked_at = "shirt numbers" if witness is None else "shirt numbers and faces"
    with console.phase_bars(quiet=False) as on_progress:
        named = name_events(
            footage,
            result.accepted,
            teams,
            reader.numbers,
            options,
            witness=witness,
            on_event=lambda done: on_progress(Progress(looked_at, done, len(result.accepted))),
        )
    if out is not None:
        _write(out, result, [event for event, _ in named])
    if as_json:
        console.print_json([_event_row(event, who) for event, who in named])
    else:
        _show_events(named)


def _witness(model: Path, lineup: Path, teams: Lineup) -> FaceWitness:
    """What names faces, by a model of players."""
    from touchline.models.errors import CheckpointError
    from touchline.pipeline.players.name import face_finder, load_players_model, name_players
    from touchline.pipeline.players.who import FaceWitness, known_players, names_apart

    loaded = load_players_model(model)
    find_faces = face_finder(loaded)
    if find_faces is None:
        raise CheckpointError(
            model, "learnt whole photos. Faces on a match need `players train --crop face`."
        )
    known = known_players(loaded.labels, teams)
    if not known:
        raise CheckpointError(
            model, f"knows no player of {lineup}. Write names as the folders of photos are called."
        )
    only_model, only_lineup = names_apart(loaded.labels, teams)
    if only_model:
        console.warn(f"not in {lineup}, so their faces do not count: {_listed(only_model)}")
    if only_lineup:
        console.warn(f"not in {model}, so named by numbers alone: {_listed(only_lineup)}")
    return FaceWitness(
        lambda picture: name_players(loaded, [picture], find_faces=find_faces)[0], known
    )


def _listed(names: list[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:MOST_SHOWN])
    more = len(names) - MOST_SHOWN
    return shown if more <= 0 else f"{shown}, and {more} more"


def _write(out: Path, result: MatchResult, events: list[Event]) -> None:
    """Write an events.json in which the accepted events have their players."""
    from touchline.models.atomic_files import write_atomic
    from touchline.pipeline.outputs.events_json import json_text
    from touchline.pipeline.outputs.writers import result_sheet

    by_old = dict(zip(result.accepted, events, strict=True))
    candidates = tuple(by_old.get(event, event) for event in result.candidates)
    named = replace(result, accepted=tuple(events), candidates=candidates)
    write_atomic(out, json_text(result_sheet(named, out.parent)))


def _event_row(event: Event, who: Who) -> dict[str, object]:
    return {
        "label": event.label,
        "peak_s": event.peak_s,
        "team": who.team,
        "jersey": who.number,
        "player": who.name,
        "score": round(who.score, 4),
        "pictures": who.pictures,
        "by": who.by or None,
        "why_unknown": who.why or None,
    }


def _show_events(named: list[tuple[Event, Who]]) -> None:
    from rich.table import Table

    from touchline.pipeline.timecode import timecode

    table = Table(box=None)
    for name in ("time", "event", "team", "number", "player", "score", "by", ""):
        table.add_column(name, overflow="fold")
    for event, who in named:
        score = f"{who.score:.2f}" if who.name else ""
        texts = (who.team or "", who.number or "", who.name or "unknown", score, who.by, who.why)
        table.add_row(timecode(event.peak_s), *map(console.escape, (event.label, *texts)))
    console.out.print(table)
