"""Write `events.json`, the full result of a match, and read it back."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.errors import LabelsError
from touchline.pipeline.outputs.result_view import Sheet
from touchline.pipeline.types import Event, FootageHealth, MatchResult

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
    except (OSError, ValueError):
        return path.name == EVENTS_FILE
    return isinstance(document, dict) and {"version", "video", "events"} <= set(document)


def read_events_json(path: str | os.PathLike[str]) -> MatchResult:
    """An events.json as the result it was written from, without its score track."""
    source = Path(path)
    try:
        document = json.loads(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabelsError(source, f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise LabelsError(source, f"is not JSON ({error})") from None
    if not isinstance(document, dict) or not isinstance(document.get("events"), list):
        raise LabelsError(source, 'has no list "events": is it a file that touchline wrote?')
    expected = EVENTS_JSON_VERSION
    if document.get("version") != expected:
        raise LabelsError(
            source,
            f"is version {document.get('version')!r}; this reads {expected}",
        )
    rows = [_read_event(source, k, row) for k, row in enumerate(document["events"])]
    options = dict(document.get("options") or {})
    if document.get("model"):
        options["model"] = document["model"]
    return MatchResult(
        path=Path(os.path.normpath(source.parent / str(document.get("video", "")))),
        candidates=tuple(event for event, _ in rows),
        accepted=tuple(event for event, accepted in rows if accepted),
        health=_read_health(source, document.get("footage")),
        options=options,
        error=document.get("error"),
    )


def _read_event(source: Path, k: int, row: Any) -> tuple[Event, bool]:
    try:
        times = {name: float(row[name]) for name in ("start_s", "end_s", "peak_s", "score")}
        return Event(str(row["label"]), **times), bool(row["accepted"])
    except (KeyError, TypeError, ValueError) as error:
        raise LabelsError(source, f"events[{k}] is not an event: {error}") from None


def _read_health(source: Path, document: Any) -> FootageHealth | None:
    if document is None:
        return None
    try:
        fields = dict(document)
        for spans in ("damaged_s", "gaps_s"):
            fields[spans] = tuple((float(a), float(b)) for a, b in fields.get(spans, ()))
        fields["warnings"] = tuple(fields.get("warnings", ()))
        return FootageHealth(**fields)
    except (TypeError, ValueError) as error:
        raise LabelsError(source, f'"footage" is not footage health: {error}') from None


def json_text(sheet: Sheet) -> str:
    """All candidates with `accepted`, beside footage health, model and options.

    `result.options["model"]`, where there is one, becomes the document's `model`.
    """
    result = sheet.result
    options = {key: value for key, value in result.options.items() if key != "model"}
    if sheet.clock is not None:
        options["match_clock"] = sheet.clock.as_options()
    document = {
        "version": EVENTS_JSON_VERSION,
        "video": sheet.video,
        "footage": None if result.health is None else dataclasses.asdict(result.health),
        "model": result.options.get("model", {}),
        "options": options,
        "events": [
            event_row(sheet, event, accepted=accepted) for event, accepted in sheet.candidates
        ],
    }
    if result.error is not None:
        document["error"] = result.error
    return json.dumps(document, indent=1, allow_nan=False, default=json_value) + "\n"


def event_row(sheet: Sheet, event: Event, *, accepted: bool) -> dict[str, Any]:
    times = {name: round(getattr(event, name), 6) for name in ("start_s", "end_s", "peak_s")}
    row = {"label": event.label, **times, "score": round(event.score, 6), "accepted": accepted}
    if sheet.clock is not None:
        row["clock"] = sheet.clock.text(event.peak_s)
    return row


def json_value(value: object) -> object:
    """What json.dumps does not know but options may hold."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"JSON cannot hold {type(value).__name__} {value!r}")
