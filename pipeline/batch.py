"""Many files: one result per input, always; a bad file costs itself, not the run."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import TouchlineError
from touchline.pipeline.address import SCHEMES, Address, changed_at
from touchline.pipeline.detect import DetectOptions, detect, make_scorer, options_record
from touchline.pipeline.label_source import FOOTAGE_SUFFIXES
from touchline.pipeline.report import REPORT_FILE, write_report
from touchline.pipeline.sheet import safe_name, video_reference
from touchline.pipeline.timing import MatchClock
from touchline.pipeline.types import FootageHealth, MatchResult
from touchline.pipeline.write import (
    WRITERS,
    check_formats,
    read_events_json,
    save_track,
    write_atomic,
    write_result,
)

EVENTS_FILE = "events.json"
SCORES_FILE = "scores.npz"
TRIAL_FILE = ".writable"

# What is always written: the record that a run goes on from and that other commands read.
RECORD = "json"

# Formats that hold every result, whatever is known of its footage.
TABLES = ("csv", RECORD)

# What is a run's own: the old one is of no use once there is a new one.
RESULTS = (EVENTS_FILE, WRITERS["csv"].file_name, SCORES_FILE, REPORT_FILE)

# All that may be there of an earlier run; its record first, by which the rest is known.
LEFT = tuple(dict.fromkeys((*RESULTS, *(writer.file_name for writer in WRITERS.values()))))

# How an address begins, also where it was read back as a path.
ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/", re.IGNORECASE)

# How names end under which no command looks for results.
ASIDE = ".old"


def output_folders(paths: Sequence[Path], out: Path) -> list[Path]:
    """OUT/<stem> of each input; inputs that share a stem get a short hash of their path."""
    stems = [safe_name(path.stem, fallback="footage") for path in paths]
    shared = Counter(stem.casefold() for stem in stems)
    return [
        out / (stem if shared[stem.casefold()] == 1 else f"{stem}-{path_hash(path)}")
        for stem, path in zip(stems, paths, strict=True)
    ]


def result_folder(path: Path, planned: Path, health: FootageHealth | None = None) -> Path:
    """`planned`, one of `output_folders`, or one in which nothing of other footage is replaced.

    Where OUT/<stem> holds results of other footage, a hash of the path is added, though that may be
    gone (its drive may only be unplugged), unless `health` shows that it was moved to `path`. Where
    an earlier run left results of this input, with or without a hash, they are written there again.
    """
    stem = safe_name(path.stem, fallback="footage")
    alone, hashed = (planned.with_name(name) for name in (stem, f"{stem}-{path_hash(path)}"))
    if hashed.is_dir():
        return hashed
    earlier = _earlier(alone)
    if earlier is None:
        return planned
    is_same = _named(earlier.path, alone) == _named(path, alone)
    return alone if is_same or _was_moved(earlier, alone, health) else hashed


def _earlier(folder: Path) -> MatchResult | None:
    """What an earlier run left in a folder, set aside or not."""
    for name in (EVENTS_FILE, f"{EVENTS_FILE}{ASIDE}"):
        with suppress(TouchlineError):
            return read_events_json(folder / name)
    return None


def _was_moved(earlier: MatchResult, folder: Path, health: FootageHealth | None) -> bool:
    """Whether footage is gone from where its results name it, and `health` is of the same."""
    was = earlier.health
    if health is None or was is None or was.size_bytes is None:
        return False
    is_alike = (was.size_bytes, was.duration_s, was.start_timecode) == (
        health.size_bytes, health.duration_s, health.start_timecode
    )  # fmt: skip
    return is_alike and _is_gone(earlier.path, folder)


def _is_gone(footage: Path, folder: Path) -> bool:
    """Whether footage that results in a folder name is evidently no longer there."""
    # Neither addresses nor what may not be looked at: a drive that does not answer, say.
    if ADDRESS.match(_named(footage, folder)):
        return False
    try:
        footage.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def _named(footage: Path, folder: Path) -> str:
    """What tells footage from other footage: seen from a folder, so that both can be moved.

    The same for what is given and for what `read_events_json` gives of its results there.
    """
    return _unsigned(Path(os.path.normpath(video_reference(footage, folder))).as_posix())


def _unsigned(name: str) -> str:
    """An address of a footage file without its query, which is another for each signature."""
    place, *_ = name.split("?")
    is_file = ADDRESS.match(name) and PurePosixPath(place).suffix.lower() in FOOTAGE_SUFFIXES
    return place if is_file else name


def path_hash(path: Path) -> str:
    """Eight hex digits that tell two paths apart; an address has one, whatever signs it."""
    # Unlike `resolve`, this takes a link to itself, which is told where it is to be read.
    place = _unsigned(str(path)) if isinstance(path, Address) else os.path.realpath(path)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:8]


def detect_all(
    paths: Sequence[Path],
    model: TrainedModel,
    out: Path,
    options: DetectOptions,
    *,
    model_record: dict[str, object] | None = None,
    skip_done: bool = False,
    formats: Sequence[str] = ("csv", "json"),
    report: bool = False,
    clocks: Mapping[Path, MatchClock] | None = None,
    on_start: Callable[[Path], None] = lambda _: None,
    on_time: Callable[[float, float], None] | None = None,
) -> Iterator[MatchResult]:
    """Detect in every file, write OUT/<stem>/, give each result as it is done.

    events.json and scores.npz are written whatever the formats, the files of those beside them.
    skip_done passes over inputs whose outputs are all there already, younger than the footage, of
    footage of its size, and made with the same model and options; what lies at an address must say
    when it was changed.
    Results of an earlier run stay until this one has analysed the match, then give way; exports in
    formats that are not asked for now are set aside as *.old. Where it failed, all is that was made
    with another model, other options or what lay at this path before.
    ValueError or OSError, before anything is decoded, for options that fit no file and an OUT that
    cannot be written to.
    model_record (path, sha256) goes to events.json. report: a page to look at beside them. clocks:
    where periods kick off, for the files where it is known.
    """
    formats = list(dict.fromkeys((*formats, RECORD)))
    check_formats(formats)
    # What no file of the run can be analysed with is told before the first one is.
    made_with = options_record(model, options)
    made_with["model"] |= model_record or {}
    _make_folder(out)
    outputs = [SCORES_FILE, *(WRITERS[name].file_name for name in formats)]
    outputs += [REPORT_FILE] * report
    scorer = make_scorer(model, options)
    for path, planned in zip(paths, output_folders(paths, out), strict=True):
        folder = result_folder(path, planned)
        clock = (clocks or {}).get(path)
        record = made_with if clock is None else made_with | {"match_clock": clock.as_options()}
        if skip_done:
            done = _finished(path, folder, record, outputs)
            if done is not None:
                yield replace(done, folder=folder)
                continue
        on_start(path)
        try:
            result = replace(detect(path, scorer, options, on_time=on_time), options=record)
            # Hours later, another run may have written there.
            folder = result_folder(path, planned, result.health)
            # Nothing of an earlier run may stay beside what is new, should this one be cut short.
            _set_aside(folder)
            _write(result, folder, formats, report=report)
        except TouchlineError as error:
            result = MatchResult(path=path, error=error.message)
        except (OSError, RuntimeError, ValueError, MemoryError) as error:
            result = MatchResult(path=path, error=f"{type(error).__name__}: {error}")
        # Where nothing can be renamed the error told is the one to mend.
        with suppress(OSError):
            if result.error is not None and _is_stale(path, folder, record):
                _set_aside(folder)
        yield replace(result, folder=folder)


def _write(result: MatchResult, folder: Path, formats: Sequence[str], *, report: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if result.track is not None:
        save_track(folder / SCORES_FILE, result.track)
    # What can always be written comes first: a format may refuse this footage.
    write_result(result, folder, formats=[name for name in formats if name in TABLES])
    if report:
        write_report(result, folder)
    _remove_old(folder, RESULTS)
    exported = write_result(result, folder, formats=[n for n in formats if n not in TABLES])
    _remove_old(folder, [path.name for path in exported])


def _remove_old(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / f"{name}{ASIDE}").unlink(missing_ok=True)


def _set_aside(folder: Path) -> None:
    """Rename what an earlier run left, so that nothing takes it for results of this one."""
    for name in LEFT:
        with suppress(FileNotFoundError):
            (folder / name).replace(folder / f"{name}{ASIDE}")


def _make_folder(out: Path) -> None:
    """OUT, made where it is missing; OSError where nothing can be written there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        message = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, message, str(out)) from None
    write_atomic(out / TRIAL_FILE, "\n").unlink(missing_ok=True)


def _finished(
    path: Path, folder: Path, record: Mapping[str, Any], outputs: Sequence[str]
) -> MatchResult | None:
    """What an earlier run left, whole and made alike, where the footage is as it was."""
    try:
        if not all((folder / name).is_file() for name in outputs):
            return None
        result = read_events_json(folder / EVENTS_FILE)
    except (OSError, TouchlineError):
        return None
    if _named(result.path, folder) != _named(path, folder) or not _is_alike(result, record):
        return None
    if _has_changed(path, folder, result.health) is not False:
        return None
    return replace(result, path=path)


def _is_stale(path: Path, folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether an earlier run left something of other footage at this path, or made otherwise."""
    try:
        result = read_events_json(folder / EVENTS_FILE)
    except TouchlineError:
        return (folder / EVENTS_FILE).exists()
    if _named(result.path, folder) != _named(path, folder):
        return False  # another run's, that wrote it meanwhile
    return not _is_alike(result, record) or _has_changed(path, folder, result.health) is True


def _is_alike(result: MatchResult, record: Mapping[str, Any]) -> bool:
    """Whether a result was made with this model and these options."""
    return bool(json.loads(json.dumps(record)) == result.options)


def _has_changed(path: Path, folder: Path, health: FootageHealth | None) -> bool | None:
    """Whether footage was changed since it was analysed; None where that cannot be told."""
    try:
        changed_s = changed_at(path)
        if changed_s is None:
            return None
        if (folder / EVENTS_FILE).stat().st_mtime < changed_s:
            return True
        if isinstance(path, Address) or health is None or health.size_bytes is None:
            return False
        # Footage may be replaced by an older file.
        return path.stat().st_size != health.size_bytes
    except (OSError, TouchlineError):
        return None
