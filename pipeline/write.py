"""Results to files: each format is one entry of WRITERS, every file is written beside and renamed.

A path inside a file (`video`) is relative to the folder the file lies in, so that results and
footage can be moved together and `events.csv` can be read back as labels.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.errors import LabelsError, TouchlineError
from touchline.pipeline.types import Event, FootageHealth, MatchResult, ScoreTrack

EVENTS_JSON_VERSION = 1

CSV_COLUMNS = ("video", "label", "start_s", "end_s", "peak_s", "score", "start", "end", "peak")

# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def timecode(time_s: float) -> str:
    """H:MM:SS.mmm, rounded to the millisecond before it is divided (59.9996 -> 0:01:00.000)."""
    if not math.isfinite(time_s):
        raise ValueError(f"time_s is {time_s}; it must be a finite number of seconds")
    milliseconds = math.floor(abs(time_s) * 1000 + 0.5)
    minutes, ms = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if time_s < 0 and milliseconds else ""
    return f"{sign}{hours}:{minutes:02d}:{ms // 1000:02d}.{ms % 1000:03d}"


@contextmanager
def beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to `path` on success, removed on error.

    It keeps the suffix, by which encoders choose the container.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not longer than a short name: the target's own may already be as long as a name can be.
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.part{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write `content` to `path` whole or not at all; text as UTF-8, line ends as given."""
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with beside(path) as temporary, temporary.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)


def video_reference(footage: Path, folder: Path) -> str:
    """The footage's path relative to `folder`, with forward slashes; absolute on another drive."""
    try:
        return Path(os.path.relpath(footage, folder)).as_posix()
    except ValueError:
        return footage.resolve().as_posix()


def in_time_order(events: Iterable[Event]) -> list[Event]:
    """Events by start, then peak, then label."""
    return sorted(events, key=lambda e: (e.start_s, e.peak_s, e.label, -e.score))


def text_cell(text: str) -> str:
    """A CSV text cell that no spreadsheet runs as a formula and no reader splits."""
    safe = "'" + text if text.startswith(FORMULA_STARTS) else text
    # csv.writer quotes the line end it writes, a line feed, but not a carriage return.
    return safe.replace("\r", " ")


def events_csv(result: MatchResult, folder: Path) -> str:
    """The accepted events, one row each, in time order."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(CSV_COLUMNS)
    video = text_cell(video_reference(result.path, folder))
    for event in in_time_order(result.accepted):
        times = (event.start_s, event.end_s, event.peak_s)
        rows.writerow(
            [video, text_cell(event.label)]
            + [f"{t:.3f}" for t in times]
            + [f"{event.score:.4f}"]
            + [timecode(t) for t in times]
        )
    return out.getvalue()


def events_json(result: MatchResult, folder: Path) -> str:
    """All candidates with `accepted`, beside footage health, model and options.

    `result.options["model"]`, where there is one, becomes the document's `model`.
    """
    accepted = set(result.accepted)
    options = {key: value for key, value in result.options.items() if key != "model"}
    document = {
        "version": EVENTS_JSON_VERSION,
        "video": video_reference(result.path, folder),
        "footage": None if result.health is None else dataclasses.asdict(result.health),
        "model": result.options.get("model", {}),
        "options": options,
        "events": [
            _event_row(event, accepted=event in accepted)
            for event in in_time_order({*result.candidates, *result.accepted})
        ],
    }
    if result.error is not None:
        document["error"] = result.error
    return json.dumps(document, indent=1, allow_nan=False, default=_json_value) + "\n"


def _event_row(event: Event, *, accepted: bool) -> dict[str, Any]:
    times = {name: round(getattr(event, name), 6) for name in ("start_s", "end_s", "peak_s")}
    return {
        "label": event.label,
        **times,
        "score": round(event.score, 6),
        "accepted": accepted,
    }


def _json_value(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"events.json cannot hold {type(value).__name__} {value!r}")


@dataclass(frozen=True)
class Writer:
    """One output format: the name of its file in OUT/<stem>/ and what makes its content."""

    file_name: str
    render: Callable[[MatchResult, Path], str]


WRITERS = {
    "csv": Writer("events.csv", events_csv),
    "json": Writer("events.json", events_json),
}


def write_result(
    result: MatchResult, folder: str | os.PathLike[str], *, formats: Iterable[str] = ("csv", "json")
) -> list[Path]:
    """Write `result` to `folder` in every format named; the paths, in the order of the names."""
    names = list(formats)
    for name in names:
        if name not in WRITERS:
            raise ValueError(f"no output format {name!r}; there are {', '.join(WRITERS)}")
    written = []
    for name in names:
        writer = WRITERS[name]
        path = Path(folder) / writer.file_name
        written.append(write_atomic(path, writer.render(result, Path(folder))))
    return written


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
    if document.get("version") != EVENTS_JSON_VERSION:
        raise LabelsError(
            source, f"is version {document.get('version')!r}; this reads {EVENTS_JSON_VERSION}"
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
        fields["damaged_s"] = tuple((float(a), float(b)) for a, b in fields.get("damaged_s", ()))
        fields["warnings"] = tuple(fields.get("warnings", ()))
        return FootageHealth(**fields)
    except (TypeError, ValueError) as error:
        raise LabelsError(source, f'"footage" is not footage health: {error}') from None


def save_track(path: str | os.PathLike[str], track: ScoreTrack) -> Path:
    """A score track as one .npz, from which events are cut again without the network."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        labels=np.array(track.labels, dtype=np.str_),
        start_s=track.start_s,
        end_s=track.end_s,
        probs=track.probs,
        damaged=track.damaged,
    )
    return write_atomic(path, content.getvalue())


def load_track(path: str | os.PathLike[str]) -> ScoreTrack:
    """The score track that `save_track` wrote; nothing in the file is run."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return ScoreTrack(
                labels=tuple(str(label) for label in arrays["labels"]),
                start_s=arrays["start_s"].astype(np.float64),
                end_s=arrays["end_s"].astype(np.float64),
                probs=arrays["probs"].astype(np.float32),
                damaged=arrays["damaged"].astype(np.bool_),
            )
    except FileNotFoundError:
        raise TouchlineError(path, "no such file") from None
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise TouchlineError(path, f"is not a score track of touchline ({error})") from None
