"""The cache of downloaded weights, and the check that its files are unchanged."""

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
from touchline.models.json_values import from_json
from touchline.models.weights.archives import keep_member
from touchline.models.weights.download import OnProgress, Patience, fetch
from touchline.models.weights.files import read_weights_file
from touchline.models.weights.installed import installed_path, verified_path
from touchline.models.weights.table import WeightsEntry

LOCK_FILE = "digests.json"
"""Holds the SHA-256 that each file of the cache had after its first download."""


def cache_dir() -> Path:
    """Return the folder of the cache: TOUCHLINE_CACHE, else the platform's folder for caches."""
    named = os.environ.get("TOUCHLINE_CACHE")
    if named:
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "touchline"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "touchline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "touchline"


def cached_path(entry: WeightsEntry) -> Path:
    """Return the path of these weights in the cache, whether they are there or not."""
    return cache_dir() / "weights" / entry.file_name


def local_path(entry: WeightsEntry) -> Path | None:
    """Return the file of these weights, in the cache or in its Python package; None if missing."""
    path = installed_path(entry) if entry.is_in_package else cached_path(entry)
    return path if path is not None and path.is_file() else None


def obtain(
    entry: WeightsEntry,
    *,
    on_progress: OnProgress | None = None,
    patience: Patience | None = None,
) -> tuple[Path, str]:
    """Return the verified file of these weights and its SHA-256; download it if it is missing.

    A file in a Python package is used where pip put it.

    Args:
        entry: The weights.
        on_progress: Called during a download.
        patience: How long to retry a download. None: the defaults.

    Raises:
        WeightsError: The file cannot be downloaded, or is not the published one or the one of the
            first download.
    """
    if entry.is_in_package:
        return verified_path(entry)
    path = cached_path(entry)
    url, member = entry.url_and_member
    if not path.exists():
        try:
            fetch(
                url,
                path,
                unpack=lambda part: None if member is None else keep_member(part, member),
                check=lambda part: _check(entry, part, path),
                on_progress=on_progress,
                patience=patience,
            )
        except WeightsError as error:
            raise WeightsError(path, f"{error.message}. {_by_hand(entry, error.message)}") from None
    return path, _verify(entry, path)


def first_seen(entry: WeightsEntry) -> str | None:
    """Return the SHA-256 that these weights had after their first download; None before it."""
    return _read_lock(cached_path(entry).parent).get(entry.file_name)


def _by_hand(entry: WeightsEntry, message: str) -> str:
    url, member = entry.url_and_member
    what = "it" if url in message else url
    proof = f"its digest is {entry.digest}" if entry.digest else "its publisher gives no digest"
    if member is not None:
        return (
            f"You can download {what} on another machine, take {member} out of it ({proof}) and "
            "put that at this path."
        )
    return f"You can download {what} on another machine ({proof}) and put it at this path."


def _check(entry: WeightsEntry, part: Path, path: Path) -> None:
    """Raise WeightsError unless a finished download is the published file."""
    size = part.stat().st_size
    if entry.size_bytes is not None and size != entry.size_bytes:
        raise WeightsError(
            path, f"the download has {size} bytes; the published file has {entry.size_bytes}"
        )
    if entry.digest is not None:
        found = published_digest(part, entry.digest)
        if found != entry.digest:
            raise WeightsError(
                path, f"the download has digest {found}; the published file has {entry.digest}"
            )
    else:
        # No digest is published, but an HTML page or half a file must not get the name.
        read_weights_file(part, suffix=path.suffix)


def _verify(entry: WeightsEntry, path: Path) -> str:
    """Return the SHA-256 of a file in the cache, compared with what is known about the file."""
    again = f"Delete it and run `touchline models pull {entry.name}`."
    sha256 = file_digest(path)
    # Reading needs no lock, because the list is replaced as a whole. A cache may be read-only.
    if _is_known(entry, path, sha256, again):
        return sha256
    if entry.digest is not None and published_digest(path, entry.digest) != entry.digest:
        raise WeightsError(path, f"not the published file ({entry.digest}). {again}")
    try:
        with FileLock(path.with_name(LOCK_FILE + ".lock")):
            if not _is_known(entry, path, sha256, again):
                _write_lock(path.parent, {**_read_lock(path.parent), entry.file_name: sha256})
    except OSError as error:
        # The file is verified, so use it. Another user, who can write there, keeps its digest.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return sha256


def _is_known(entry: WeightsEntry, path: Path, sha256: str, again: str) -> bool:
    """Tell whether the digest of the file is known; WeightsError if it is another one now."""
    known = _read_lock(path.parent).get(entry.file_name)
    if known not in (None, sha256):
        raise WeightsError(
            path,
            f"changed since its first download: SHA-256 is {sha256}, it was {known}. {again}",
        )
    return known is not None


def published_digest(path: Path, like: str) -> str:
    """Return the file's digest in the form of `like`.

    Args:
        path: The file.
        like: "sha256:HEX" (the result has as many digits) or "git-blob:HEX".

    Raises:
        ValueError: `like` has another form.
    """
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
        return from_json(json.loads(path.read_text()), dict[str, str])
    except ValueError as error:
        raise WeightsError(
            path,
            f"not a list of digests ({error}). Delete it if you trust the files of the cache.",
        ) from None


def _write_lock(folder: Path, digests: dict[str, str]) -> None:
    write_atomic(folder / LOCK_FILE, json.dumps(digests, indent=1, sort_keys=True) + "\n")
