"""Footage that arrives in a folder: it is handed out when it no longer grows."""

from __future__ import annotations

import time
from pathlib import Path

from touchline.pipeline.footage.inputs import footage_files

State = tuple[int, int]


class Arrivals:
    """Finds files that have arrived in a folder; each is handed out once, and again if it changes.

    A file has arrived when its size and its time have stayed the same for a while. The clock of
    this machine measures that: the times of files on a network drive are those of the server.
    """

    def __init__(self, folder: Path, *, rest_s: float, leave_out: Path | None = None) -> None:
        """Watch a folder.

        Args:
            folder: The folder, with all folders below it.
            rest_s: How long a file must stay the same.
            leave_out: Do not look in this folder; what is there was written by Touchline.

        Raises:
            ValueError: `rest_s` is negative, or `folder` is no folder.
        """
        if rest_s < 0:
            raise ValueError(f"rest_s is {rest_s:g}; it must be 0 or more")
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder. Name the folder to watch.")
        self._folder = folder
        self._rest_s = rest_s
        self._leave_out = leave_out
        self._resting: dict[Path, tuple[State, float]] = {}
        self._given: dict[Path, State] = {}

    def __call__(self) -> list[Path]:
        """Return the files that have arrived since the last call, sorted by name."""
        arrived = []
        now_s = time.monotonic()
        for path in footage_files([self._folder], leave_out=self._leave_out):
            try:
                found = path.stat()
            except OSError:  # it was removed while the folder was listed
                continue
            state = found.st_size, found.st_mtime_ns
            if path == self._folder or self._given.get(path) == state:
                continue
            before, since_s = self._resting.get(path, (None, now_s))
            if before != state:
                self._resting[path] = state, now_s
                since_s = now_s
            if now_s - since_s >= self._rest_s:
                del self._resting[path]
                self._given[path] = state
                arrived.append(path)
        return arrived
