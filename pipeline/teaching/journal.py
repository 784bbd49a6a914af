"""The journal of a project: one JSON line per action, on disk before anybody hears that it is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from touchline.models.errors import TouchlineError

FORMAT = "touchline-studio-1"


class JournalError(TouchlineError):
    """A journal that cannot be read or written."""


class Journal:
    """A file of JSON lines that only grows. The first line holds its format.

    A line without its end was cut short by a kill or a full disk. Nobody was told that it is on
    disk, so it is removed when the journal is opened again.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or start one.

        Args:
            path: The file; its folder must exist.

        Raises:
            JournalError: The file is of another version, is damaged, or cannot be written.
        """
        self.path = path
        try:
            self._file = path.open("a+b")
            self.entries = self._read()
            if self._file.tell() == 0:
                self._write({"format": FORMAT})
        except OSError as error:
            raise JournalError(path, f"cannot be written: {error.strerror}") from None

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry. When this returns, it is on disk.

        Raises:
            JournalError: The disk is full or refuses; the journal is as it was.
        """
        try:
            self._write(entry)
        except OSError as error:
            raise JournalError(
                self.path, f"cannot be written: {error.strerror}. Nothing was changed"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        end = self._file.seek(0, os.SEEK_END)
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            self._file.write(line.encode("utf-8", "surrogatepass"))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            # A full disk may have taken a part of the line. What Python still holds is dropped by
            # opening the file anew.
            self._reopen(end)
            raise

    def _reopen(self, end: int) -> None:
        os.truncate(self.path, end)
        broken, self._file = self._file, self.path.open("a+b")
        try:
            broken.close()
        except OSError:
            os.truncate(self.path, end)

    def _read(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        entries = [self._entry(n, line) for n, line in enumerate(lines, start=1)]
        if entries and entries[0].get("format") != FORMAT:
            raise JournalError(
                self.path,
                f"is of another version ({entries[0].get('format')!r}, not {FORMAT!r}). Open it "
                "with the Touchline that made it, or start a new project with -o",
            )
        self._file.seek(0, os.SEEK_END)
        return entries[1:]

    def _entry(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError as error:
            raise JournalError(self.path, f"line {number} is damaged ({error})") from None
        if not isinstance(entry, dict):
            raise JournalError(self.path, f"line {number} is damaged (not an object)")
        return entry
