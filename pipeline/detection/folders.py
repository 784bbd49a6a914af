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

# The start of an address, also after it was read as a path (one slash less).
ADDRESS = re.compile(rf"({'|'.join(SCHEMES)}):/", re.IGNORECASE)

# The suffix of files that are set aside. No command takes them for results.
ASIDE = ".old"


def output_folders(paths: Sequence[Path], out: Path) -> list[Path]:
    """Return OUT/<stem> for each input; inputs with the same stem get a hash of their path."""
    stems = [safe_name(path.stem, fallback="footage") for path in paths]
    shared = Counter(stem.casefold() for stem in stems)
    return [
        out / (stem if shared[stem.casefold()] == 1 else f"{stem}-{path_hash(path)}")
        for stem, path in zip(stems, paths, strict=True)
    ]


def possible_folders(path: Path, planned: Path) -> tuple[Path, Path]:
    """Return the folders that may hold results of an input: without and with a hash.

    Args:
        path: The footage.
        planned: Its folder from `output_folders`.
    """
    stem = safe_name(path.stem, fallback="footage")
    return planned.with_name(stem), planned.with_name(f"{stem}-{path_hash(path)}")


def result_folder(path: Path, planned: Path, health: FootageHealth | None = None) -> Path:
    """Return the result folder of an input; it replaces no results of other footage.

    If OUT/<stem> holds results of other footage, the folder gets a hash of the path. This holds
    even if the other footage is gone, because its drive may only be unplugged. It does not hold if
    `health` shows that the other footage was moved to `path`. If an earlier run left results of
    this input, with or without a hash, its folder is used again.

    Args:
        path: The footage.
        planned: Its folder from `output_folders`.
        health: What is known about the footage. None: it has not been read yet.
    """
    alone, hashed = possible_folders(path, planned)
    if hashed.is_dir():
        return hashed
    earlier = _earlier(alone)
    if earlier is None:
        return planned
    is_same = named_footage(earlier.path, alone) == named_footage(path, alone)
    return alone if is_same or _was_moved(earlier, alone, health) else hashed


def _earlier(folder: Path) -> MatchResult | None:
    """The result of an earlier run in a folder, set aside or not."""
    for name in (EVENTS_FILE, f"{EVENTS_FILE}{ASIDE}"):
        with suppress(TouchlineError):
            return read_events_json(folder / name)
    return None


def _was_moved(earlier: MatchResult, folder: Path, health: FootageHealth | None) -> bool:
    """Tell whether the footage of earlier results is gone and `health` is of the same file."""
    was = earlier.health
    if health is None or was is None or was.size_bytes is None:
        return False
    is_alike = (was.size_bytes, was.duration_s, was.start_timecode) == (
        health.size_bytes, health.duration_s, health.start_timecode
    )  # fmt: skip
    return is_alike and _is_gone(earlier.path, folder)


def _is_gone(footage: Path, folder: Path) -> bool:
    """Tell whether footage that is named in a result folder is surely gone."""
    # For addresses, and drives that do not answer, this is not known.
    if ADDRESS.match(named_footage(footage, folder)):
        return False
    try:
        footage.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def named_footage(footage: Path, folder: Path) -> str:
    """Return the name that distinguishes footage from other footage: its path from a folder.

    Seen from the folder, the name stays the same if both are moved. It is the same for a path that
    was given and for the path that `read_events_json` returns for the results in the folder.
    """
    return _unsigned(Path(os.path.normpath(footage_reference(footage, folder))).as_posix())


def _unsigned(name: str) -> str:
    """Remove the query from the address of a footage file, because signatures change it."""
    place, *_ = name.split("?")
    is_file = ADDRESS.match(name) and PurePosixPath(place).suffix.lower() in FOOTAGE_SUFFIXES
    return place if is_file else name


def path_hash(path: Path) -> str:
    """Return eight hex digits for a path. The signature of an address does not change them."""
    # Unlike `resolve`, this accepts a link to itself. Reading it gives the error later.
    place = _unsigned(str(path)) if isinstance(path, Address) else os.path.realpath(path)
    return hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
