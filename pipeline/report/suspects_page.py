"""Write `suspects.html`: the labels of a training run that are worth a look, with pictures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage.address import footage_reference
from touchline.pipeline.heads.suspects import Suspect
from touchline.pipeline.outputs.result_view import one_line
from touchline.pipeline.reels.thumbnails import make_thumbnails
from touchline.pipeline.report.html import page_html
from touchline.pipeline.timecode import timecode
from touchline.pipeline.types import Example

MAX_SHOWN = 60
"""A page shows at most this many; the CSV file lists all."""

WIDTH_PX = 256
MAX_BYTES = 3_500_000


def write_suspects_page(suspects: Sequence[Suspect], path: Path) -> Path:
    """Write the page, most confident disagreement first.

    A suspect whose footage cannot be read has no picture.

    Args:
        suspects: The suspects, in order.
        path: The HTML file.
    """
    shown = suspects[:MAX_SHOWN]
    labels = sorted({name for suspect in shown for name in (suspect.label, suspect.predicted)})
    pictures = _pictures([suspect.example for suspect in shown])
    page = page_html(
        "suspects",
        rows=[
            _row(suspect, picture, labels, path.parent)
            for suspect, picture in zip(shown, pictures, strict=True)
        ],
        num_suspects=len(suspects),
    )
    return write_atomic(path, page)


def _row(
    suspect: Suspect, picture: str | None, labels: Sequence[str], folder: Path
) -> dict[str, Any]:
    example = suspect.example
    when = "whole clip"
    if example.start_s is not None and example.end_s is not None:
        when = f"{timecode(example.start_s)} to {timecode(example.end_s)}"
    return {
        "picture": picture,
        "label": (labels.index(suspect.label), one_line(suspect.label)),
        "predicted": (labels.index(suspect.predicted), one_line(suspect.predicted)),
        "label_prob": f"{suspect.label_prob:.2f}",
        "predicted_prob": f"{suspect.predicted_prob:.2f}",
        "reason": suspect.reason,
        "video": one_line(footage_reference(example.path, folder)),
        "when": when,
        "group": one_line(example.group),
    }


def _pictures(examples: Sequence[Example]) -> list[str | None]:
    """The middle frame of each example; each file is opened once."""
    of_file: dict[Path, list[int]] = defaultdict(list)
    for i, example in enumerate(examples):
        of_file[example.path].append(i)
    pictures: list[str | None] = [None] * len(examples)
    left = MAX_BYTES
    for path, mine in of_file.items():
        try:
            uris = make_thumbnails(
                path,
                [_middle_s(examples[i]) for i in mine],
                width_px=WIDTH_PX,
                max_bytes=left,
            )
        except TouchlineError:
            continue
        for i, uri in zip(mine, uris, strict=True):
            pictures[i] = uri
            left -= len(uri or "")
    return pictures


def _middle_s(example: Example) -> float:
    if example.start_s is None or example.end_s is None:
        return probe_footage(example.path).duration_s / 2
    return (example.start_s + example.end_s) / 2
