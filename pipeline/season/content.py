"""What is in a footage file: its digest, and quick signs that it is still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from touchline.pipeline.footage.address import Address, remote_version

CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Content:
    """What a run read as footage.

    Attributes:
        size: Bytes; None if the server does not say.
        changed_ns: When a local file was last changed, in nanoseconds since 1970.
        sha256: The digest of a local file.
        version: What a server says about the version of a remote file. Its content is not read
            twice for a digest.
    """

    size: int | None = None
    changed_ns: int | None = None
    sha256: str | None = None
    version: str | None = None

    def is_same_as(self, path: Path) -> bool | None:
        """Tell whether a file has this content now; None if that is not known.

        The digest is computed only if the file was touched, moved or copied since.

        Raises:
            OSError: The file cannot be read.
            FootageError: The server cannot be asked.
        """
        if isinstance(path, Address):
            size, version = remote_version(path)
            return None if version is None else (size, version) == (self.size, self.version)
        found = path.stat()
        if self.sha256 is None or found.st_size != self.size:
            return None if self.sha256 is None else False
        return found.st_mtime_ns == self.changed_ns or content_of(path).sha256 == self.sha256

    def as_json(self) -> dict[str, Any]:
        """Return what is known, for the journal."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def content_of(path: Path, on_chunk: Callable[[], None] = lambda: None) -> Content:
    """Return the content of a file: of a local one with its digest.

    Args:
        path: The file or address.
        on_chunk: Called after each chunk that was read.

    Raises:
        OSError: The file cannot be read.
        FootageError: The server cannot be asked.
    """
    if isinstance(path, Address):
        size, version = remote_version(path)
        return Content(size, version=version)
    found = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            on_chunk()
    return Content(found.st_size, found.st_mtime_ns, digest.hexdigest())
