"""Write the results of a live run: each run has a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from touchline.pipeline.files import safe_name
from touchline.pipeline.footage.address import Address, footage_stem
from touchline.pipeline.live.source import NAME_OF_INPUT, LiveSource
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.score_track import SCORES_FILE, save_track
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.report.match_page import write_report


def live_folder(source: LiveSource, out: Path, began: datetime) -> Path:
    """Return a new folder in OUT: the name of the stream, and when the run began.

    The same address may show another match tomorrow: a run never replaces another one's results.
    """
    path = source.path
    name = footage_stem(path)
    if isinstance(path, Address) and str(path) != NAME_OF_INPUT:
        name = str(path).partition("://")[2].rstrip("/")
    name = safe_name(name, fallback="live")
    planned = out / f"{name}-{began:%Y%m%d-%H%M%S}"
    folder, number = planned, 1
    while folder.exists():
        number += 1
        folder = planned.with_name(f"{planned.name}-{number}")
    return folder


def write_live(
    result: MatchResult, folder: Path, formats: Sequence[str], *, report: bool
) -> dict[str, str]:
    """Write the files of a result; return the formats that refused it, each with the reason.

    Args:
        result: The result.
        folder: Its folder, made if it is missing.
        formats: Names of the formats.
        report: Also write report.html.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_result(result, folder, formats=["json"])
    if result.track is not None:
        save_track(folder / SCORES_FILE, result.track)
    if report:
        write_report(result, folder)
    refused = {}
    for name in formats:
        try:
            write_result(result, folder, formats=[name])
        except ValueError as error:
            refused[name] = str(error)
    return refused
