"""Write files so that a reader sees the old file or the new one, never half a file."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The names of temporary files, and when one that does not change is a leftover.
TEMPORARY = re.compile(r"^\.[0-9a-f]{12}\.part(\.|$)")
STALE_S = 600.0

# The disk, the quota or the file system takes no more.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path in the folder of `path`; rename it to `path` on success.

    On an error the temporary file is removed. It has the suffix of `path`, because encoders choose
    the container by it.

    Raises:
        OSError: The file cannot be written; it names `path`.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    # A short name: that of the target may already have the greatest length.
    temporary = target.with_name(f".{uuid.uuid4().hex[:12]}.part{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        # The system names the temporary file, or no file at all if the disk is full.
        if error.errno in FULL or error.filename in (str(temporary), os.fsencode(temporary)):
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, age_s: float = STALE_S) -> None:
    """Remove temporary files and folders that a killed run left in a folder.

    Args:
        folder: The folder; nothing happens if it is missing.
        age_s: Younger files stay, because another run may still be writing them.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if TEMPORARY.match(path.name) and time.time() - path.stat().st_mtime >= age_s:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()


def write_atomic(path: str | os.PathLike[str], content: str | bytes) -> Path:
    """Write `content` to `path` completely or not at all. Return the path.

    Text is written as UTF-8, with its line ends as they are.

    Raises:
        OSError: The file cannot be written; it names `path`.
    """
    # A file name in the text may not be UTF-8; the file must be.
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with atomic_path(path) as temporary, temporary.open("xb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    return Path(path)
