"""Write `events.json`, the full result of a match, and read it back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from touchline.models.errors import LabelsError
from touchline.models.json_values import from_json, to_json
from touchline.pipeline.labels.source import JsonValue, LabelSource
from touchline.pipeline.outputs.match_result import AppliedOptions, MatchResult, ModelSummary
from touchline.pipeline.outputs.result_view import Sheet
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth

T = TypeVar("T")

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
    rows = [_read_event(row) for row in root["events"].elements()]
    options, clock = _read_options(source, document.get("options") or None)
    video = root["video"].text() if root.has("video") else ""
    if "\0" in video:
        raise root["video"].error(f"{video!r} is not a file name")
    return MatchResult(
        path=Path(os.path.normpath(source.parent / video)),
        candidates=tuple(event for event, _ in rows),
        accepted=tuple(event for event, accepted in rows if accepted),
        health=_read_part(source, "footage", document.get("footage"), FootageHealth),
        options=options,
        model=_read_part(source, "model", document.get("model") or None, ModelSummary),
        clock=clock,
        error=root["error"].text() if root.has("error") else None,
    )


def _read_event(row: JsonValue) -> tuple[Event, bool]:
    times = {name: row[name].number() for name in ("start_s", "end_s", "peak_s", "score")}
    accepted = row["accepted"]
    if not isinstance(accepted.value, bool):
        raise accepted.error(f"{accepted.value!r} instead of true or false")
    attributes: list[tuple[str, str]] = []
    if row.has("attributes"):
        attributes = [(name, value.text()) for name, value in row["attributes"].members()]
    try:
        return Event(row["label"].text(), **times, attributes=tuple(attributes)), accepted.value
    except ValueError as error:
        raise row.error(str(error)) from None


def _read_options(
    source: Path, document: object
) -> tuple[AppliedOptions | None, MatchClock | None]:
    """The options, and the match clock that stands among them."""
    clock = None
    if isinstance(document, Mapping):
        clock = _read_part(source, "match_clock", document.get("match_clock"), MatchClock)
        document = {k: v for k, v in document.items() if k != "match_clock"} or None
    return _read_part(source, "options", document, AppliedOptions), clock


def _read_part(source: Path, name: str, value: object, kind: type[T]) -> T | None:
    if value is None:
        return None
    try:
        return from_json(value, kind)
    except ValueError as error:
        raise LabelsError(source, f'"{name}" is damaged: {error}') from None


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
