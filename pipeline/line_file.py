"""A file of lines that only grows, and from which a kill or a full disk costs the last line."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Self


class LineFile:
    """A file to which whole lines are added. Each is on disk when `append` returns.

    A last line without its end was cut short. It is not read, and the next line takes its place.

    Attributes:
        lines: The whole lines that were there when the file was opened, without their ends.
        torn: What followed them.
    """

    def __init__(self, path: Path) -> None:
        """Open a file, or start one.

        Raises:
            OSError: It cannot be read or written.
        """
        path.touch()
        self._path = path.absolute()
        # Without a buffer: after a full disk there is nothing that would be written later.
        self._file = path.open("r+b", buffering=0)
        try:
            parts = self._file.read().split(b"\n")
        except BaseException:
            self._file.close()
            raise
        self.torn = parts.pop()
        self.lines = parts
        self._end = sum(len(line) + 1 for line in self.lines)

    @property
    def is_removed(self) -> bool:
        """Whether somebody removed, moved or replaced the file while it is open."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # a drive that does not answer; writing says so
            return False

    def append(self, content: bytes) -> None:
        """Add whole lines, with their ends.

        Raises:
            OSError: The disk takes no more; the file is as it was.
        """
        self._cut()
        try:
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())
        except OSError:
            # A full disk may have taken a part.
            with suppress(OSError):
                self._cut()
            raise
        self._end += len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _cut(self) -> None:
        """Remove what lies behind the last line that is certain to be on disk."""
        self._file.truncate(self._end)
        self._file.seek(self._end)
