"""The journal of an output folder: one JSON line per input and state, for all of its runs."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from touchline.models.errors import TouchlineError
from touchline.pipeline.line_file import LineFile
from touchline.pipeline.season.lock import now

JOURNAL_FILE = "run.jsonl"


class RunJournal:
    """A file of JSON lines that only grows. Each is on disk before the run goes on.

    Lines that a full disk refuses are written with the next line.

    Attributes:
        last: The last line about each input, by the input's name.
    """

    def __init__(self, path: Path) -> None:
        """Open a journal, or start one.

        Raises:
            OSError: The file cannot be written.
        """
        self.last: dict[str, dict[str, Any]] = {}
        self._path = path
        self._waiting = b""
        self._file = LineFile(path)
        for line in self._file.lines:
            # Without its line, a match is judged by its files.
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and isinstance(entry.get("input"), str):
                    self.last[entry["input"]] = entry

    def write(self, state: str, **facts: Any) -> None:
        """Add a line.

        Args:
            state: What happened: "run", "started", "retried", "done", "skipped", "failed", "end".
            facts: More about it; `input` names the footage.

        Raises:
            TouchlineError: Somebody removed the file, and with it most likely the lock of its
                folder.
        """
        if self._file.is_removed:
            raise TouchlineError(
                self._path,
                "was removed or moved while a run wrote to it, so the run ends. Start it again: it "
                "skips what is complete.",
            )
        entry = {"time": now(), "state": state, **facts}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        self._waiting += line.encode("utf-8", "replace")
        with suppress(OSError):
            self._flush()

    def close(self) -> None:
        """Write what waits, and close the file.

        Raises:
            OSError: The disk takes no more.
        """
        try:
            self._flush()
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _flush(self) -> None:
        self._file.append(self._waiting)
        self._waiting = b""
