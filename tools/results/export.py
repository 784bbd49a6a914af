"""`touchline export`: write events as files for other tools."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.outputs.options import WriteOptions
    from touchline.pipeline.timecode import FrameRate, MatchClock
    from touchline.pipeline.types import Event


def export_command(
    events: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVENTS",
            help="events.json files. Events or labels in other formats (CSV, ...) work too.",
            default_factory=list,
            show_default=False,
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="Formats to write, separated by commas, such as vtt,edl. `all` writes every "
            "format (cdf only with --recorded), `list` shows them."
        ),
    ] = "list",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the files (default: the folder of EVENTS)."),
    ] = None,
    footage: Annotated[
        Path | None, typer.Option(help="The footage, if it is not the file that EVENTS names.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            help="Frames per second of timecode: 25, 29.97, 29.97ndf or 30000/1001 "
            "(default: from the footage)."
        ),
    ] = None,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    one_match: Annotated[
        bool,
        typer.Option(
            "--one-match",
            help="With --to soccernet: write one file. EVENTS are the halves of one match, in "
            "order.",
        ),
    ] = False,
    roll: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[CLASS=]BEFORE,AFTER",
            help="Seconds that an event without length gets before and after its moment, with "
            "--to sportscode (default: 5,5). With CLASS=, for one class. May be given several "
            "times.",
            show_default=False,
        ),
    ] = None,
    ascii_: Annotated[
        bool,
        typer.Option("--ascii", help="With --to sportscode: write ? for characters outside ASCII."),
    ] = False,
    recorded: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="With --to cdf: when the recording began, such as 2026-05-10T19:45:00Z.",
            show_default=False,
        ),
    ] = "",
    beside_video: Annotated[
        bool,
        typer.Option(
            "--beside-video",
            help="With --to losslesscut or losslesscut-csv: write beside the video, under the name "
            "that LosslessCut looks for when it opens the video.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the paths of the files written, as JSON.")
    ] = False,
) -> None:
    """Write events as WebVTT, EDL, FCPXML, SoccerNet JSON and other formats."""
    from touchline.pipeline.outputs.options import parse_rolls
    from touchline.pipeline.outputs.read_results import read_results
    from touchline.pipeline.outputs.writers import write_beside_video
    from touchline.pipeline.timecode import parse_rate
    from touchline.tools.results.clock import clocks_of

    if to == "list":
        _list_formats(as_json=json_)
        return
    if not events:
        raise ValueError("no events are given. Name one or more events.json files.")
    formats = _named(to, recorded=recorded)
    left_out = 0
    options = parse_rolls(roll or [], ascii_only=ascii_, recorded=recorded)
    given = None if rate is None else parse_rate(rate)
    rate_hz = None if given is None else float(given.rate)
    found = [
        (path, result)
        for path in events
        for result in read_results(path, footage=footage, rate_hz=rate_hz)
    ]
    results = [result for _, result in found]
    if beside_video:
        if out is not None:
            raise ValueError("--beside-video writes beside the video. Leave out -o.")
        written = [
            write_beside_video(result, name, options=options)
            for result in results
            for name in formats
        ]
    elif one_match:
        clocks = clocks_of(results, kickoff or [], period_min=period_min)
        written = [_write_halves(results, clocks, formats, out)]
    else:
        folders = _folders(found, out)
        _refuse_overwriting(events, formats, folders)
        if given is None:
            _warn_of_other_rate(results, formats)
        clocks = clocks_of(results, kickoff or [], period_min=period_min)
        written, left_out = _write_each(results, folders, clocks, formats, given, options)
    console.show_written(written, quiet=quiet, as_json=json_)
    if left_out and to != "all":
        raise typer.Exit(1)


def _folders(found: Sequence[tuple[Path, MatchResult]], out: Path | None) -> list[Path]:
    """The folder for the files of each result: that of its events, or one in `out`."""
    from touchline.pipeline.detection.folders import output_folders

    if out is None:
        return [path.parent for path, _ in found]
    return [out] if len(found) == 1 else output_folders([result.path for _, result in found], out)


def _write_each(
    results: Sequence[MatchResult],
    folders: Sequence[Path],
    clocks: Sequence[MatchClock | None],
    formats: Sequence[str],
    rate: FrameRate | None,
    options: WriteOptions,
) -> tuple[list[Path], int]:
    """Write every result in every format that can hold it; return also how many could not."""
    from touchline.pipeline.outputs.writers import WRITERS, unwritable, write_result

    written: list[Path] = []
    left_out = 0
    for result, folder, clock in zip(results, folders, clocks, strict=True):
        problems = unwritable(result, formats, rate=rate, clock=clock, options=options)
        if len(problems) == len(formats) and len(results) == 1:
            raise ValueError(" ".join(problems.values()))
        for name, reason in problems.items():
            console.warn(f"no {WRITERS[name].file_name}. {reason}")
        left_out += len(problems)
        possible = [name for name in formats if name not in problems]
        written += write_result(
            result, folder, formats=possible, rate=rate, clock=clock, options=options
        )
    return written, left_out


def _named(to: str, *, recorded: str) -> list[str]:
    """The formats that `--to` names; for "all" those whose libraries are installed.

    Without the time of the recording, "all" leaves out the format that needs it.
    """
    from touchline.pipeline.outputs.writers import WRITERS, is_installed

    if to != "all":
        return [name.strip() for name in to.split(",")]
    if missing := [name for name in WRITERS if not is_installed(name)]:
        console.warn(
            f"not written, because a library is missing: {', '.join(missing)}. "
            "Install it with: pip install 'touchline[edit]'"
        )
    return [name for name in WRITERS if is_installed(name) and (name != "cdf" or recorded)]


def _warn_of_other_rate(results: Sequence[MatchResult], formats: Sequence[str]) -> None:
    """Warn when timecode counts frames at another rate than the footage declares."""
    from touchline.pipeline.outputs.writers import WRITERS
    from touchline.pipeline.timecode import rate_of_footage

    counting = [name for name in formats if WRITERS[name].counts]
    for result in results:
        health = result.health
        rate = None if health is None else rate_of_footage(health)
        if health is None or rate is None or not counting:
            continue
        # Footage without a rate of its own has a variable one.
        declared = Fraction(health.frame_rate or rate.rate)
        if health.variable_rate or abs(rate.rate / declared - 1) > Fraction(1, 1000):
            what = (
                "a variable frame rate"
                if health.variable_rate
                else f"{float(declared):.5g} frames per second"
            )
            console.warn(
                f"{result.path} has {what}. Timecode in {', '.join(counting)} counts "
                f"{float(rate.rate):.5g} frames per second, as video editors do. "
                "Use --rate for another rate."
            )


def _refuse_overwriting(
    events: Sequence[Path], formats: Sequence[str], folders: Sequence[Path]
) -> None:
    """ValueError if a file would overwrite its own source or another file of the same call."""
    from touchline.pipeline.outputs.events_json import is_events_json
    from touchline.pipeline.outputs.writers import WRITERS, check_formats

    check_formats(formats)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError("the files would overwrite each other. Give a folder with -o.")
    given = {path.resolve() for path in events if not is_events_json(path)}
    for folder in folders:
        for name in formats:
            target = folder / WRITERS[name].file_name
            if target.resolve() in given:
                raise ValueError(f"{target} would overwrite itself. Give a folder with -o.")


def _write_halves(
    results: Sequence[MatchResult],
    clocks: Sequence[MatchClock | None],
    formats: Sequence[str],
    out: Path | None,
) -> Path:
    """Write OUT/results_spotting.json from the halves of one match, in order.

    Times count from the kick-off of the half if it is known, otherwise from the start of its file.
    """
    from touchline.models.atomic_files import write_atomic
    from touchline.pipeline.labels.datasets.soccernet import on_half_clock, results_spotting
    from touchline.pipeline.outputs.writers import WRITERS

    if list(formats) != ["soccernet"] or out is None:
        raise ValueError("--one-match needs --to soccernet and --out FOLDER")
    halves: dict[int, Sequence[Event]] = {}
    for half, (result, clock) in enumerate(zip(results, clocks, strict=True), start=1):
        if clock is not None and half not in clock.kickoff_s:
            raise ValueError(
                f"{result.path} is half {half}, but the kick-off of half {half} is missing. "
                "Give it with --kickoff."
            )
        kickoff_s = 0.0 if clock is None else clock.kickoff_s[half]
        halves[half] = [on_half_clock(event, kickoff_s) for event in result.candidates]
    text = results_spotting(halves, match=results[0].path.parent.name)
    return write_atomic(out / WRITERS["soccernet"].file_name, text)


def _list_formats(*, as_json: bool) -> None:
    from rich.table import Table

    from touchline.pipeline.outputs.writers import WRITERS

    if as_json:
        rows = {name: {"file": w.file_name, "about": w.about} for name, w in WRITERS.items()}
        console.print_json(rows)
        return
    table = Table(box=None)
    for name in ("format", "file", "content"):
        table.add_column(name, no_wrap=name != "content")
    for name, writer in WRITERS.items():
        extra = f" (extra: {writer.extra})" if writer.extra else ""
        table.add_row(name, writer.file_name, writer.about + extra)
    console.out.print(table)
