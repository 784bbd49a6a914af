"""touchline export: events as files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from touchline.pipeline.types import MatchResult


def export_command(
    events: Annotated[
        list[Path],
        typer.Argument(
            help="events.json files, or events as CSV, ...",
            default_factory=list,
            show_default=False,
        ),
    ],
    to: Annotated[
        str, typer.Option(help="Formats, such as vtt,edl; all; list shows what there is.")
    ] = "list",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the files (default: beside EVENTS)."),
    ] = None,
    footage: Annotated[
        Path | None, typer.Option(help="The footage, where it is not the one that EVENTS names.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Frames per second to count in: 25, 29.97, 29.97ndf, 30000/1001."),
    ] = None,
    kickoff: Annotated[
        list[str] | None,
        typer.Option(help="PERIOD=H:MM:SS of the file, or PERIOD=FILE@H:MM:SS; once per period."),
    ] = None,
    period_min: Annotated[
        float | None, typer.Option(help="Minutes of a period, for other sports than football.")
    ] = None,
    one_match: Annotated[
        bool,
        typer.Option(
            "--one-match",
            help="SoccerNet: EVENTS are the halves of one match, in order; one file for both.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Write EVENTS as WebVTT, EDL, FCPXML, SoccerNet JSON and other formats."""
    from touchline.pipeline.batch import output_folders
    from touchline.pipeline.results import read_results
    from touchline.pipeline.timing import parse_rate
    from touchline.pipeline.write import WRITERS, write_result
    from touchline.tools.clock import clock_of

    if to == "list":
        _list_formats()
        return
    if not events:
        raise ValueError("name the events.json files to write in other formats")
    formats = list(WRITERS) if to == "all" else [name.strip() for name in to.split(",")]
    given = None if rate is None else parse_rate(rate)
    rate_hz = None if given is None else float(given.rate)
    found = [
        (path, result)
        for path in events
        for result in read_results(path, footage=footage, rate_hz=rate_hz)
    ]
    results = [result for _, result in found]
    if one_match:
        file = _write_halves(results, formats, out)
        if not quiet:
            console.out.print(console.escape(str(file)), soft_wrap=True, highlight=False)
        return
    folders = [path.parent for path, _ in found]
    if out is not None:
        many = len(found) > 1
        folders = output_folders([r.path for r in results], out) if many else [out]
    for result, folder in zip(results, folders, strict=True):
        clock = clock_of(result, kickoff or [], period_min=period_min, alone=len(results) == 1)
        for file in write_result(result, folder, formats=formats, rate=given, clock=clock):
            if not quiet:
                console.out.print(console.escape(str(file)), soft_wrap=True, highlight=False)


def _write_halves(results: Sequence[MatchResult], formats: Sequence[str], out: Path | None) -> Path:
    """OUT/results_spotting.json: the files are the halves in order, each on its own clock."""
    from touchline.pipeline.soccernet import results_spotting
    from touchline.pipeline.write import WRITERS, write_atomic

    if list(formats) != ["soccernet"] or out is None:
        raise ValueError("--one-match goes with --to soccernet and --out FOLDER, nothing else")
    halves = {half: result.candidates for half, result in enumerate(results, start=1)}
    text = results_spotting(halves, match=results[0].path.parent.name)
    return write_atomic(out / WRITERS["soccernet"].file_name, text)


def _list_formats() -> None:
    from rich.table import Table

    from touchline.pipeline.write import WRITERS

    table = Table(box=None)
    for name in ("format", "file", "what it is"):
        table.add_column(name, no_wrap=name != "what it is")
    for name, writer in WRITERS.items():
        table.add_row(name, writer.file_name, writer.about)
    console.out.print(table)
