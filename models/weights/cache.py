"""Where fetched weights lie, and what proves that they are still the ones that were fetched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from pathlib import Path

from filelock import FileLock

from touchline.models.atomic_files import write_atomic
from touchline.models.checkpoint import file_digest
from touchline.models.errors import WeightsError
from touchline.models.weights.download import OnProgress, Patience, fetch
from touchline.models.weights.files import read_weights_file
from touchline.models.weights.installed import installed_path, verified_path
from touchline.models.weights.table import WeightsEntry

LOCK_FILE = "digests.json"
"""SHA-256 of every file in the cache as it was when it first came."""


def cache_dir() -> Path:
    """TOUCHLINE_CACHE, else the platform's folder for caches."""
    named = os.environ.get("TOUCHLINE_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "touchline"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "touchline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "touchline"


def cached_path(entry: WeightsEntry) -> Path:
    """Where the file of these weights lies, or will."""
    return cache_dir() / "weights" / entry.file_name


def local_path(entry: WeightsEntry) -> Path | None:
    """The file of these weights, in the cache or in its Python package; None where it is absent."""
    path = installed_path(entry) if entry.is_in_package else cached_path(entry)
    return path if path is not None and path.is_file() else None


def obtain(
    entry: WeightsEntry,
    *,
    on_progress: OnProgress | None = None,
    patience: Patience | None = None,
) -> tuple[Path, str]:
    """The verified file of these weights and its SHA-256, fetched where the cache has none.

    A file in a Python package is used where pip put it. WeightsError where the file cannot be had,
    or is not what was published or first fetched.
    """
    if entry.is_in_package:
        return verified_path(entry)
    path = cached_path(entry)
    if not path.exists():
        try:
            fetch(
                entry.address,
                path,
                check=lambda part: _check(entry, part, path),
                on_progress=on_progress,
                patience=patience,
            )
        except WeightsError as error:
            raise WeightsError(path, f"{error.message}. {_by_hand(entry, error.message)}") from None
    return path, _verify(entry, path)


def first_seen(entry: WeightsEntry) -> str | None:
    """The SHA-256 that these weights had when they first came; None before that."""
    return _read_lock(cached_path(entry).parent).get(entry.file_name)


def _by_hand(entry: WeightsEntry, message: str) -> str:
    what = "it" if entry.address in message else entry.address
    proof = f"its digest is {entry.digest}" if entry.digest else "its publisher gives no digest"
    return f"To place it by hand, fetch {what} elsewhere ({proof}) and put it at this path"


def _check(entry: WeightsEntry, part: Path, path: Path) -> None:
    """WeightsError unless a finished download is what was published."""
    size = part.stat().st_size
    if entry.size_bytes is not None and size != entry.size_bytes:
        raise WeightsError(path, f"what came has {size} bytes; {entry.size_bytes} were published")
    if entry.digest is not None:
        found = published_digest(part, entry.digest)
        if found != entry.digest:
            raise WeightsError(path, f"what came has digest {found}; {entry.digest} is published")
    else:
        # Nothing proves these bytes, but a page of HTML or half a file shall not get the name.
        read_weights_file(part, suffix=path.suffix)


def _verify(entry: WeightsEntry, path: Path) -> str:
    """The SHA-256 of a file in the cache, held against what is known of it."""
    again = f"delete it and run: touchline models pull {entry.name}"
    sha256 = file_digest(path)
    # The list is replaced whole, so it is read without the lock: a cache may be for reading only.
    if _is_known(entry, path, sha256, again):
        return sha256
    if entry.digest is not None and published_digest(path, entry.digest) != entry.digest:
        raise WeightsError(path, f"not the published file ({entry.digest}); {again}")
    try:
        with FileLock(path.with_name(LOCK_FILE + ".lock")):
            if not _is_known(entry, path, sha256, again):
                _write_lock(path.parent, {**_read_lock(path.parent), entry.file_name: sha256})
    except OSError as error:
        # A verified file is used all the same; its digest is remembered by who can write there.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return sha256


def _is_known(entry: WeightsEntry, path: Path, sha256: str, again: str) -> bool:
    """Whether the file came before; WeightsError where it was another one then."""
    known = _read_lock(path.parent).get(entry.file_name)
    if known not in (None, sha256):
        raise WeightsError(
            path,
            f"changed since it first came: SHA-256 is {sha256}, it was {known}; {again}",
        )
    return known is not None


def published_digest(path: Path, like: str) -> str:
    """The file's digest in the form of `like`: sha256:HEX of as many digits, or git-blob:HEX."""
    kind, _, digits = like.partition(":")
    if kind == "sha256":
        return f"sha256:{file_digest(path)[: len(digits)]}"
    if kind == "git-blob":
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        return f"git-blob:{digest.hexdigest()}"
    raise ValueError(f"digest is {like!r}; it must be sha256:HEX or git-blob:HEX")


def _read_lock(folder: Path) -> dict[str, str]:
    path = folder / LOCK_FILE
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        return {str(name): str(digest) for name, digest in content.items()}
    except (ValueError, AttributeError) as error:
        raise WeightsError(
            path, f"not a list of digests ({error}); delete it to trust the cache as it is"
        ) from None


def _write_lock(folder: Path, digests: dict[str, str]) -> None:
    write_atomic(folder / LOCK_FILE, json.dumps(digests, indent=1, sort_keys=True) + "\n")
