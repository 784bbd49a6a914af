"""Choose the result folder of each match: one folder per footage file, never shared."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from touchline.models.errors import TouchlineError
from touchline.pipeline.files import safe_name
from touchline.pipeline.footage.address import (
    FOOTAGE_SUFFIXES,
    SCHEMES,
    Address,
    footage_reference,
)
from touchline.pipeline.outputs.events_json import EVENTS_FILE, read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.types import FootageHealth

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
    is_same = named_footage(earlier.path, alone) == named_footage(path, alone)
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
    if ADDRESS.match(named_footage(footage, folder)):
        return False
    try:
        footage.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def named_footage(footage: Path, folder: Path) -> str:
    """What tells footage from other footage: seen from a folder, so that both can be moved.

    The same for what is given and for what `read_events_json` gives of its results there.
    """
    return _unsigned(Path(os.path.normpath(footage_reference(footage, folder))).as_posix())


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
