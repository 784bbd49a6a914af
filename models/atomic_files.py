"""Write files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
