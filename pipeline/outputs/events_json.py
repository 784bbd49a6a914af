"""Write `events.json`, the full result of a match, and read it back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from touchline.models.errors import LabelsError
from touchline.models.json_values import to_json
from touchline.pipeline.labels.parsed import JsonValue, typed
from touchline.pipeline.labels.source import LabelSource
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.outputs.result_view import Sheet
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth

EVENTS_FILE = "events.json"
"""The name of the full result in a result folder."""

EVENTS_JSON_VERSION = 1


def is_events_json(path: Path) -> bool:
    """Tell whether a file is an events.json of Touchline, under any name.

    If the file cannot be read as JSON, its name decides. Reading it then says what is wrong.
    """
    if path.suffix.lower() != ".json":
        return False
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return path.name == EVENTS_FILE
    return isinstance(document, dict) and {"version", "video", "events"} <= set(document)


def read_events_json(path: str | os.PathLike[str]) -> MatchResult:
    """Read an events.json as the result it was written from, without its score track.

    A file without "footage", "model" or "options" can be read; the result then has None there.

    Raises:
        LabelsError: The file cannot be read, is not an events.json, or is damaged. The message
            names the file and the place in it.

    Example:
        >>> from touchline.pipeline import read_events_json
        >>> result = read_events_json("out/match/events.json")
        >>> for event in result.accepted:
        ...     print(f"{event.label} at {event.peak_s:.1f} s, score {event.score:.2f}")
        bright at 4.0 s, score 1.00
        bright at 8.8 s, score 0.99
    """
    source = Path(path)
    root = LabelSource(source, source.parent).json
    document = root.value
    if not isinstance(document, dict) or not isinstance(document.get("events"), list):
        raise LabelsError(source, 'has no list "events". Did touchline write it?')
    if type(document.get("version")) is not int or document["version"] != EVENTS_JSON_VERSION:
        raise LabelsError(
            source,
            f"is version {document.get('version')!r}. This Touchline reads version "
            f"{EVENTS_JSON_VERSION}.",
        )
    read = typed(root, _Document)
    events = [_event(root["events"].elements()[k], row) for k, row in enumerate(read.events)]
    if "\0" in read.video:
        raise root["video"].error(f"{read.video!r} is not a file name")
    clock = None if read.options is None else read.options.match_clock
    said = document.get("options") or {}
    return MatchResult(
        path=Path(os.path.normpath(source.parent / read.video)),
        candidates=tuple(events),
        accepted=tuple(e for e, row in zip(events, read.events, strict=True) if row.accepted),
        health=read.footage,
        options=read.options.applied() if read.options and said.keys() - {"match_clock"} else None,
        model=read.model if document.get("model") else None,
        clock=clock,
        error=read.error,
    )


@dataclass(frozen=True)
class _Row:
    """One event of the file."""

    label: str
    start_s: float
    end_s: float
    peak_s: float
    score: float
    accepted: bool
    clock: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Options(AppliedOptions):
    """The options, with the match clock among them."""

    match_clock: MatchClock | None = None

    def applied(self) -> AppliedOptions:
        """The options alone."""
        return AppliedOptions(**{f.name: getattr(self, f.name) for f in fields(AppliedOptions)})


@dataclass(frozen=True)
class _Document:
    """The file as `json_text` writes it."""

    version: int
    video: str
    events: tuple[_Row, ...]
    footage: FootageHealth | None = None
    model: ModelSummary | None = None
    options: _Options | None = None
    error: str | None = None


def _event(place: JsonValue, row: _Row) -> Event:
    if row.start_s < 0:
        raise place.error(f"start_s is {row.start_s:g}; it must be 0 or more")
    times = (row.start_s, row.end_s, row.peak_s)
    try:
        return Event(row.label, *times, row.score, tuple(row.attributes.items()))
    except ValueError as error:
        raise place.error(str(error)) from None


def json_text(sheet: Sheet) -> str:
    """Return the text of an events.json: all candidates, footage health, model and options."""
    result = sheet.result
    document = {
        "version": EVENTS_JSON_VERSION,
        "video": sheet.video,
        "footage": to_json(result.health),
        "model": model_document(result),
        "options": options_document(result, sheet.clock),
        "events": [
            event_row(sheet, event, accepted=accepted) for event, accepted in sheet.candidates
        ],
    }
    if result.error is not None:
        document["error"] = result.error
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def model_document(result: MatchResult) -> dict[str, Any]:
    """Return the model as events.json has it: only what is known."""
    return {k: v for k, v in to_json(result.model or ModelSummary()).items() if v is not None}


def options_document(result: MatchResult, clock: MatchClock | None) -> dict[str, Any]:
    """Return the options as events.json has them, the match clock among them."""
    options: dict[str, Any] = {} if result.options is None else to_json(result.options)
    return options if clock is None else options | {"match_clock": to_json(clock)}


def event_row(sheet: Sheet, event: Event, *, accepted: bool) -> dict[str, Any]:
    """Return an event as events.json and events.jsonl have it.

    Args:
        sheet: The result that the event belongs to, with its match clock.
        event: The event.
        accepted: Whether it reaches the threshold of its class.
    """
    times = {name: round(getattr(event, name), 6) for name in ("start_s", "end_s", "peak_s")}
    row: dict[str, Any] = {"label": event.label, **times, "score": round(event.score, 6)}
    row["accepted"] = accepted
    if sheet.clock is not None:
        row["clock"] = sheet.clock.text(event.peak_s)
    if event.attributes:
        row["attributes"] = dict(event.attributes)
    return row
