"""Write `index.html`, the page that lists every match of a run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from touchline.models.atomic_files import write_atomic
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.result_view import Sheet, one_line
from touchline.pipeline.outputs.writers import result_sheet
from touchline.pipeline.report.html import page_html
from touchline.pipeline.report.match_page import REPORT_FILE
from touchline.pipeline.timecode import timecode

INDEX_FILE = "index.html"


def write_index(
    results: Sequence[MatchResult],
    out: str | os.PathLike[str],
    *,
    folders: Sequence[Path],
    num_skipped: int = 0,
) -> Path:
    """Write index.html, with a row per footage file and a link to its report.

    Args:
        results: The results of the run, failed ones included.
        out: The folder to write to.
        folders: The folder of each result's report, in the order of `results`.
        num_skipped: How many of the results were made by an earlier run.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import read_results, write_index
        >>> [match] = read_results("out/match/events.json")
        >>> write_index([match], "out", folders=[Path("out/match")]).as_posix()
        'out/index.html'
    """
    out = out if isinstance(out, Path) else Path(out)
    labels = sorted({event.label for result in results for event in result.accepted})
    rows = [
        _index_row(result_sheet(result, folder), out, labels)
        for result, folder in zip(results, folders, strict=True)
    ]
    page = page_html(
        "index",
        rows=rows,
        labels=[one_line(label) for label in labels],
        num_events=sum(len(result.accepted) for result in results),
        num_skipped=num_skipped,
        num_failed=sum(result.error is not None for result in results),
        total=timecode(sum(row["duration_s"] for row in rows))[:-4],
    )
    return write_atomic(out / INDEX_FILE, page)


def _index_row(sheet: Sheet, out: Path, labels: Sequence[str]) -> dict[str, Any]:
    result = sheet.result
    counts = Counter(event.label for event in result.accepted)
    duration_s = max(sheet.duration_s, 1e-3)
    return {
        "name": one_line(result.path.name),
        # The reports go with the page, also if both go to a remote store.
        "href": Sheet(MatchResult(sheet.folder / REPORT_FILE), Path(out)).video_url,
        "path": one_line(footage_reference(result.path, out)),
        "error": one_line(result.error) if result.error is not None else None,
        "duration_s": sheet.duration_s,
        "duration": timecode(sheet.duration_s)[:-4],
        "size": f"{result.health.width} × {result.health.height}" if result.health else "",
        "num_events": len(result.accepted),
        "counts": [
            (labels.index(label), one_line(label), n) for label, n in sorted(counts.items())
        ],
        "marks": [
            {
                "label": labels.index(event.label),
                "x": round(1000 * event.start_s / duration_s, 1),
                "width": round(max(3.0, 1000 * (event.end_s - event.start_s) / duration_s), 1),
                "title": sheet.caption(event),
            }
            for event in sheet.accepted
        ],
        "warnings": [one_line(w) for w in result.health.warnings] if result.health else [],
        "damaged": bool(result.health and result.health.damaged_s),
    }
