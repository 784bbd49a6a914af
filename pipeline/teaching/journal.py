"""The journal of a project: one JSON line per action, on disk before it is reported as done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from touchline.models.errors import TouchlineError
from touchline.pipeline.line_file import LineFile

FORMAT = "touchline-studio-1"
FIRST_LINE = json.dumps({"format": FORMAT}).encode() + b"\n"


class JournalError(TouchlineError):
    """A journal that cannot be read or written."""


class Journal:
    """A file of JSON lines that only grows. The first line holds its format.

    A line without its end was cut short by a kill or a full disk. It was never
    reported as written, so it is removed when the journal is opened again.
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
            self._file = LineFile(path)
        except OSError as error:
            raise JournalError(path, f"cannot be written: {error.strerror}") from None
        try:
            self.entries = self._read()
            if not self._file.lines:
                self._write({"format": FORMAT})
        except OSError as error:
            self.close()
            raise JournalError(path, f"cannot be written: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write an entry. When this returns, it is on disk.

        Raises:
            JournalError: The disk is full or refuses, or the file was removed; the journal is as
                it was.
        """
        if self._file.is_removed:
            raise JournalError(
                self.path,
                "was removed or moved while the project was open. Nothing was changed. Start the "
                "studio again",
            )
        try:
            self._write(entry)
        except OSError as error:
            raise JournalError(
                self.path, f"cannot be written: {error.strerror}. Nothing was changed"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        self._file.append(line.encode("utf-8", "surrogatepass"))

    def _read(self) -> list[dict[str, Any]]:
        """Return the entries after the first line."""
        lines = self._file.lines
        if not lines:
            if not FIRST_LINE.startswith(self._file.torn):
                raise JournalError(self.path, "line 1 is damaged (this is no journal)")
            return []
        found = self._entry(1, lines[0]).get("format")
        if found != FORMAT:
            raise JournalError(
                self.path,
                f"is of another version ({found!r}, not {FORMAT!r}). Open it with the Touchline "
                "that made it, or start a new project with -o",
            )
        return [self._entry(n, line) for n, line in enumerate(lines[1:], start=2)]

    def _entry(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise JournalError(self.path, f"line {number} is damaged ({error})") from None
        if not isinstance(entry, dict):
            raise JournalError(self.path, f"line {number} is damaged (not an object)")
        return entry
