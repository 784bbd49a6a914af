"""touchline report: the page to look at, made again from events.json."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from touchline.tools import console


def report_command(
    events: Annotated[
        list[Path],
        typer.Argument(
            help="events.json files, or events as CSV, ...",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the pages (default: beside EVENTS)."),
    ] = None,
    footage: Annotated[
        Path | None, typer.Option(help="The footage, where it is not the one that EVENTS names.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels to compare with, of any format.")
    ] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Make a small copy of the footage that browsers play.")
    ] = False,
    kickoff: Annotated[
        list[str] | None,
        typer.Option(help="PERIOD=H:MM:SS of the file, or PERIOD=FILE@H:MM:SS; once per period."),
    ] = None,
    period_min: Annotated[
        float | None, typer.Option(help="Minutes of a period, for other sports than football.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
) -> None:
    """Make report.html of EVENTS, and index.html over them where they are several."""
    from touchline.pipeline.batch import output_folders
    from touchline.pipeline.report import write_index, write_report
    from touchline.pipeline.results import read_results, read_truth
    from touchline.tools.clock import clock_of

    found = [(path, result) for path in events for result in read_results(path, footage=footage)]
    results = [result for _, result in found]
    folders = [path.parent for path, _ in found]
    if out is not None:
        many = len(found) > 1
        folders = output_folders([r.path for r in results], out) if many else [out]
    elif len(set(folders)) < len(folders):
        raise ValueError("the reports would be written over each other; give each a folder with -o")
    truths = [None] * len(results) if labels is None else read_truth(labels, results)
    for result, folder, truth in zip(results, folders, truths, strict=True):
        if labels is not None and truth is None:
            console.warn(f"{result.path}: {labels} has no labels for it")
        clock = clock_of(result, kickoff or [], period_min=period_min, alone=len(results) == 1)
        page = write_report(result, folder, truth=truth, clock=clock, proxy=proxy)
        if not quiet:
            console.out.print(console.escape(str(page)), soft_wrap=True, highlight=False)
    if len(results) > 1:
        over = out or Path(os.path.commonpath([folder.resolve() for folder in folders]))
        index = write_index(results, over, folders=folders)
        if not quiet:
            console.out.print(console.escape(str(index)), soft_wrap=True, highlight=False)
