"""Results to files: each format is one entry of WRITERS, every file is written beside and renamed.

A path inside a file (`video`) is relative to the folder the file lies in, so that results and
footage can be moved together and `events.csv` can be read back as labels.
"""

from __future__ import annotations

import io
import json
import os
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.errors import LabelsError, TouchlineError
from touchline.pipeline import write_chapters, write_edits, write_tables
from touchline.pipeline.sheet import Sheet
from touchline.pipeline.timing import FrameRate, MatchClock, rate_of_footage
from touchline.pipeline.timing import timecode as timecode
from touchline.pipeline.types import Event, FootageHealth, MatchResult, ScoreTrack


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
    # A file name that is not UTF-8 must not make a file that is not UTF-8.
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with beside(path) as temporary:
        try:
            with temporary.open("xb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Of a full disk the system names no file, else the temporary one.
            error.filename = os.fspath(path)
            raise
    return Path(path)


@dataclass(frozen=True)
class Writer:
    """One output format: the name of its file in OUT/<stem>/, what makes its text, what it is.

    counts:  whether it counts frames, and so needs their rate.
    extra:   the optional install whose library it needs.
    """

    file_name: str
    text: Callable[[Sheet], str]
    about: str
    counts: bool = False
    extra: str = ""


# What each optional install brings, of what is asked for here.
EXTRAS = {"edit": ("opentimelineio", "otio_fcp_adapter")}

WRITERS = {
    "csv": Writer("events.csv", write_tables.csv_text, "accepted events as a table"),
    "json": Writer(
        "events.json", write_tables.json_text, "all candidates, footage, model, options"
    ),
    "jsonl": Writer("events.jsonl", write_tables.jsonl_text, "all candidates, one object per line"),
    "soccernet": Writer(
        "results_spotting.json", write_tables.soccernet_text, "SoccerNet action spotting results"
    ),
    "activitynet": Writer(
        "activitynet.json", write_tables.activitynet_text, "ActivityNet 1.3 detections"
    ),
    "labelstudio": Writer(
        "label_studio.json",
        write_tables.label_studio_text,
        "Label Studio pre-annotations",
        counts=True,
    ),
    "cvat": Writer(
        "cvat.xml", write_tables.cvat_text, "CVAT for video 1.1 pre-annotations", counts=True
    ),
    "vtt": Writer("events.vtt", write_chapters.vtt_text, "WebVTT subtitles"),
    "vtt-chapters": Writer(
        "chapters.vtt", write_chapters.vtt_chapters_text, "WebVTT chapters for web players"
    ),
    "srt": Writer("events.srt", write_chapters.srt_text, "SubRip subtitles"),
    "ffmetadata": Writer(
        "chapters.ffmeta", write_chapters.ffmetadata_text, "chapters for FFmpeg to put in the file"
    ),
    "youtube": Writer(
        "youtube.txt", write_chapters.youtube_text, "chapters for a YouTube description"
    ),
    "edl": Writer("events.edl", write_edits.edl_text, "CMX 3600 edit list", counts=True),
    "fcpxml": Writer(
        "events.fcpxml", write_edits.fcpxml_text, "Final Cut Pro, DaVinci Resolve", counts=True
    ),
    "otio": Writer(
        "events.otio", write_edits.otio_text, "OpenTimelineIO", counts=True, extra="edit"
    ),
    "premiere": Writer(
        "premiere.xml",
        write_edits.premiere_text,
        "Premiere Pro: Final Cut Pro 7 XML",
        counts=True,
        extra="edit",
    ),
    "losslesscut": Writer("events.llc", write_edits.losslesscut_text, "LosslessCut project"),
    "xspf": Writer("events.xspf", write_edits.xspf_text, "VLC playlist"),
    "m3u": Writer("events.m3u8", write_edits.m3u_text, "VLC playlist, the older format"),
}


def write_result(
    result: MatchResult,
    folder: str | os.PathLike[str],
    *,
    formats: Iterable[str] = ("csv", "json"),
    rate: FrameRate | None = None,
    clock: MatchClock | None = None,
) -> list[Path]:
    """Write `result` to `folder` in every format named; the paths, in the order of the names.

    rate and clock default to what the footage's health and the result's options say. ValueError,
    before anything is written, for an unknown format or one that cannot hold this result.
    """
    names = list(formats)
    check_formats(names)
    sheet = result_sheet(result, folder, rate=rate, clock=clock)
    texts = [(WRITERS[name].file_name, WRITERS[name].text(sheet)) for name in names]
    return [write_atomic(sheet.folder / file_name, text) for file_name, text in texts]


def check_formats(names: Iterable[str]) -> None:
    """ValueError for a name that is no output format, or one whose library is not installed."""
    for name in names:
        if name not in WRITERS:
            raise ValueError(f"no output format {name!r}; there are {', '.join(WRITERS)}")
        if not is_installed(name):
            extra = WRITERS[name].extra
            raise ValueError(
                f"the format {name} needs {EXTRAS[extra][0]}: pip install 'touchline[{extra}]', "
                "or leave the format out"
            )


def is_installed(name: str) -> bool:
    """Whether the library of an output format is there."""
    extra = WRITERS[name].extra
    return not extra or all(find_spec(library) is not None for library in EXTRAS[extra])


def events_json(result: MatchResult, folder: str | os.PathLike[str]) -> str:
    """What events.json in `folder` holds."""
    return WRITERS["json"].text(result_sheet(result, folder))


def result_sheet(
    result: MatchResult,
    folder: str | os.PathLike[str],
    *,
    rate: FrameRate | None = None,
    clock: MatchClock | None = None,
) -> Sheet:
    """What writers and the report are given; defaults as for `write_result`."""
    if rate is None and result.health is not None:
        rate = rate_of_footage(result.health)
    if clock is None:
        clock = MatchClock.from_options(result.options)
    return Sheet(result, Path(folder), rate, clock)


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
    expected = write_tables.EVENTS_JSON_VERSION
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


# What numpy, zipfile and zlib raise for archives that are cut, changed or of something else.
DAMAGED_TRACK = (
    OSError,
    KeyError,
    ValueError,
    AttributeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
        # Opened here, as numpy leaves a file open that turns out to be no archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return ScoreTrack(
                labels=tuple(str(label) for label in arrays["labels"]),
                start_s=arrays["start_s"].astype(np.float64),
                end_s=arrays["end_s"].astype(np.float64),
                probs=arrays["probs"].astype(np.float32),
                damaged=arrays["damaged"].astype(np.bool_),
            )
    except FileNotFoundError:
        raise TouchlineError(path, "no such file") from None
    except DAMAGED_TRACK as error:
        told = str(error) or type(error).__name__
        raise TouchlineError(
            path, f"is not a score track of touchline, or damaged ({told})"
        ) from None
