"""`touchline report`: make the HTML page again from events.json or from other events."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from touchline.tools import console
from touchline.tools.results.clock import Kickoff, PeriodMin


def report_command(
    events: Annotated[
        list[Path],
        typer.Argument(
            metavar="EVENTS",
            help="events.json files. Events or labels in other formats (CSV, ...) work too.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the pages (default: the folder of EVENTS)."),
    ] = None,
    footage: Annotated[
        Path | None, typer.Option(help="The footage, if it is not the file that EVENTS names.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels to compare the events with, in any format that Touchline reads."),
    ] = None,
    proxy: Annotated[
        bool,
        typer.Option(
            "--proxy",
            help="Also write proxy.mp4, a small copy of the footage that every browser plays.",
        ),
    ] = False,
    kickoff: Kickoff = None,
    period_min: PeriodMin = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="Print the paths of the files written, as JSON.")
    ] = False,
) -> None:
    """Make report.html for each EVENTS file, and index.html for several."""
    from touchline.pipeline.detection.folders import output_folders
    from touchline.pipeline.outputs.read_results import read_results
    from touchline.pipeline.report.match_page import write_report
    from touchline.pipeline.report.run_page import write_index
    from touchline.pipeline.report.truth import read_truth
    from touchline.tools.results.clock import clocks_of

    found = [(path, result) for path in events for result in read_results(path, footage=footage)]
    results = [result for _, result in found]
    folders = [path.parent for path, _ in found]
    if out is not None:
        many = len(found) > 1
        folders = output_folders([r.path for r in results], out) if many else [out]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(
            "the reports would overwrite each other. Leave out -o, or make one report per call."
        )
    truths = [None] * len(results) if labels is None else read_truth(labels, results)
    clocks = clocks_of(results, kickoff or [], period_min=period_min)
    results = [replace(r, clock=clock or r.clock) for r, clock in zip(results, clocks, strict=True)]
    written = []
    for result, folder, truth in zip(results, folders, truths, strict=True):
        if not result.path.is_file():
            console.warn(
                f"{result.path} does not exist, so the report has no thumbnails. "
                "Say where the footage is with --footage."
            )
        if labels is not None and truth is None:
            console.warn(f"{labels} has no labels for {result.path}")
        written.append(write_report(result, folder, truth=truth, proxy=proxy))
    if len(results) > 1:
        over = out or Path(os.path.commonpath([folder.resolve() for folder in folders]))
        written.append(write_index(results, over, folders=folders))
    console.show_written(written, quiet=quiet, as_json=json_)
