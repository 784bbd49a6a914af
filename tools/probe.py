"""`touchline probe`: report the health of footage files, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from touchline.models.errors import TouchlineError
from touchline.tools import console

if TYPE_CHECKING:
    from touchline.pipeline.types import FootageHealth


def probe_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FOOTAGE",
            help="Footage files, folders of footage, or addresses (https://, s3://, gs://).",
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Decode nothing. Faster, but finds no damage.")
    ] = False,
    stream: Annotated[
        int | None,
        typer.Option(
            help="Index of the video stream in the file (default: the default stream, otherwise "
            "the largest)."
        ),
    ] = None,
    isolation: Annotated[
        bool,
        typer.Option(
            help="Decode in a separate process, so that a crash of the decoder does no harm. "
            "--no-isolation is for debugging."
        ),
    ] = True,
) -> None:
    """Report what footage files declare and what they really contain.

    Decodes every frame to find damage. The exit code is 1 if a file cannot be read.
    """
    from touchline.pipeline.decoding.probe import probe_footage

    reports: list[dict[str, Any]] = []
    for file in _with_folders(files):
        try:
            with console.err.status(f"reading {console.escape(file)}"):
                health = probe_footage(
                    file,
                    depth="packets" if quick else "frames",
                    stream=stream,
                    isolation=isolation,
                )
        except TouchlineError as error:
            reports.append({"path": file, "verdict": "refused", "error": error.message})
            if not as_json:
                console.fail(f"{file}: {error.message}")
            continue
        looked = {"path": file, "verdict": health.verdict, "decoded": not quick}
        reports.append({**looked, **asdict(health)})
        if not as_json:
            console.out.print(Text(console.printable(file), "bold"), soft_wrap=True)
            console.out.print(health_table(health, decoded=not quick))
    if as_json:
        typer.echo(json.dumps(reports, indent=2))
    if any(report["verdict"] == "refused" for report in reports):
        raise typer.Exit(1)


def _with_folders(given: Sequence[str]) -> list[str]:
    """The files and addresses, with the footage in folders instead of the folders."""
    from touchline.pipeline.footage.inputs import footage_files

    files: list[str] = []
    for text in given:
        is_folder = "://" not in text and Path(text).is_dir()
        files += map(str, footage_files([Path(text)])) if is_folder else [text]
    return files


def health_table(health: FootageHealth, *, decoded: bool) -> Table:
    """A table with the health of one file; `decoded` says whether damage was looked for."""
    colour = {"ok": "green", "warnings": "yellow", "damaged": "red"}[health.verdict]
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, fact in _facts(health, decoded=decoded):
        table.add_row(name, Text(console.printable(fact)))
    table.add_row("verdict", Text(health.verdict, colour))
    return table


def _facts(health: FootageHealth, *, decoded: bool) -> list[tuple[str, str]]:
    picture = [f"{health.width}x{health.height}", health.pixel_format, health.dynamic_range]
    if health.pixel_aspect != "1/1":
        picture.append(f"pixels {health.pixel_aspect}")
    picture += ["interlaced"] * health.interlaced + ["turned or mirrored"] * health.turned
    # A recording that was never closed does not say how long it is: that length was found.
    declared_s = 0.0 if health.pictures_end_s is None else health.duration_s
    facts = [
        ("container", health.container),
        ("codec", f"{health.codec}, stream {health.stream_index}"),
        ("picture", ", ".join(part for part in picture if part)),
        ("sound", health.sound or "none"),
        ("rate", _rate(health)),
        ("duration", _both(declared_s, health.actual_duration_s, ".3f", " s")),
        ("frames", _both(health.num_frames, health.actual_frames, "d", "")),
        ("starts at", f"{health.start_s:.3f} s" + _timecode(health)),
        ("damaged", _spans(health.damaged_s) if decoded else "not checked (--quick)"),
        ("gaps", _spans(health.gaps_s) if decoded else "not checked (--quick)"),
    ]
    return facts + [("warning", warning) for warning in health.warnings]


def _rate(health: FootageHealth) -> str:
    if health.frame_rate is None or health.variable_rate:
        return "variable"
    numerator, denominator = map(int, health.frame_rate.split("/"))
    return f"{numerator / denominator:g} frames/s, constant"


def _timecode(health: FootageHealth) -> str:
    return "" if health.start_timecode is None else f" (timecode {health.start_timecode})"


def _both(declared: float, actual: float | None, form: str, unit: str) -> str:
    said = f"{declared:{form}}{unit} declared" if declared else "none declared"
    return said if actual is None else f"{actual:{form}}{unit}, {said}"


def _spans(spans: tuple[tuple[float, float], ...]) -> str:
    if not spans:
        return "none"
    listed = ", ".join(f"{start:.3f} to {end:.3f} s" for start, end in spans[:8])
    return listed if len(spans) <= 8 else f"{listed} and {len(spans) - 8} more"
