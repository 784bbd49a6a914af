"""A remote store that takes the results of a run (s3://bucket/prefix), through fsspec.

Results are made in a local folder, then sent. A store that fails for a while is asked again, with
longer and longer pauses.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit

from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.batch import TRIAL_FILE
from touchline.pipeline.detection.folders import ASIDE
from touchline.pipeline.footage.address import CONNECT_S, Address, changed_at, file_system
from touchline.pipeline.outputs.events_json import EVENTS_FILE

T = TypeVar("T")

# Pauses between the tries: two minutes in all.
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)

# An object appears under its name when all of it has arrived. Elsewhere a file is renamed then.
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})

# The tries are counted here, not by botocore as well.
S3_SETTINGS = {
    "config_kwargs": {
        "connect_timeout": CONNECT_S,
        "read_timeout": 60.0,
        "retries": {"max_attempts": 0},
    }
}

# Another try does not help against these.
LASTING = (FileNotFoundError, PermissionError, NotImplementedError, ValueError, ImportError)
LASTING_CODES = (errno.EINVAL, errno.EPERM, errno.ENOSYS)

# A result folder holds it until the store has taken everything.
UNSENT_FILE = ".unsent"


class Store:
    """The files below an address, by names such as "match/events.json".

    Attributes:
        address: The address of the folder.
    """

    def __init__(self, address: Address, *, on_try: Callable[[], None] = lambda: None) -> None:
        """Prepare a store; nothing is asked yet.

        Args:
            address: The address of the folder, such as s3://bucket/season.
            on_try: Called before each request.

        Raises:
            TouchlineError: No installed package knows this kind of address.
        """
        self._on_try = on_try
        self.address = Address(str(address).rstrip("/"))
        scheme = urlsplit(str(address)).scheme.lower()
        self._is_whole = scheme in OBJECT_STORES
        settings = S3_SETTINGS if scheme in ("s3", "s3a") else {}
        try:
            self._system, self._root = file_system(self.address, settings=settings)
        except ValueError as error:
            raise TouchlineError(self.address, f"nothing can be written there ({error}).") from None

    def check(self) -> None:
        """Write a small file and remove it.

        Raises:
            TouchlineError: Nothing can be written.
        """
        name = f"{TRIAL_FILE}-{uuid.uuid4().hex[:12]}"
        self.write(name, b"\n")
        self.remove(name)

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all files below a folder, from the root.

        Raises:
            TouchlineError: The store does not answer.
        """

        def find() -> Iterable[str]:
            self._system.invalidate_cache()
            try:
                return list(self._system.find(self._place(folder)))
            except FileNotFoundError:
                return []

        root = self._root.rstrip("/") + "/"
        return [name.removeprefix(root) for name in self._tried(find) if name.startswith(root)]

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none.

        Raises:
            TouchlineError: The store does not answer.
        """

        def read() -> bytes | None:
            self._system.invalidate_cache()
            try:
                return bytes(self._system.cat_file(self._place(name)))
            except FileNotFoundError:
                return None

        return self._tried(read)

    def write(self, name: str, content: bytes, *, patient: bool = True) -> None:
        """Write a file, completely or not at all.

        Args:
            name: Its name.
            content: What it holds.
            patient: Try again if the store fails.

        Raises:
            TouchlineError: The store does not take it.
        """
        place = self._place(name)

        def write() -> None:
            if self._is_whole:
                self._system.pipe_file(place, content)
                return
            parent, _, last = place.rpartition("/")
            half = f"{parent}/.{uuid.uuid4().hex[:12]}.part{PurePosixPath(last).suffix}"
            self._system.makedirs(parent, exist_ok=True)
            self._system.pipe_file(half, content)
            self._system.mv(half, place)

        self._tried(write, pauses_s=PAUSES_S if patient else ())

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            TouchlineError: The store does not do it.
        """
        self._tried(lambda: self._system.rm_file(self._place(name)))

    def fetch(self, folder: Path) -> None:
        """Make a local folder what the folder of its name in the store is; none if it is empty.

        Raises:
            TouchlineError: The store does not answer.
            OSError: The disk takes no more.
        """
        shutil.rmtree(folder, ignore_errors=True)
        for name in self.names(folder.name):
            content = self.read(name)
            path = folder.parent / name
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        self._date(folder)

    def outline(self, folder: Path, names: Iterable[str]) -> None:
        """Make a local folder with the events.json of the store, all other files being empty.

        It is enough to see whether a match is done.

        Args:
            folder: The local folder.
            names: Names of the files in it.

        Raises:
            TouchlineError: The store does not answer.
        """
        folder.mkdir(exist_ok=True)
        for name in names:
            content = self.read(f"{folder.name}/{name}") if name == EVENTS_FILE else b""
            (folder / name).write_bytes(content or b"")
        self._date(folder)

    def send(self, folder: Path) -> None:
        """Make the folder of its name in the store what a local folder is.

        events.json stands for the rest: an old one is set aside first, the new one comes last.

        Raises:
            TouchlineError: The store does not take it. Another try goes on from there.
        """
        prefix = f"{folder.name}/"
        there = {name.removeprefix(prefix) for name in self.names(folder.name)}
        here = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if EVENTS_FILE in there:
            self._move(prefix + EVENTS_FILE, prefix + EVENTS_FILE + ASIDE)
            there |= {EVENTS_FILE + ASIDE}
        for name in sorted(here, key=lambda name: (name == EVENTS_FILE, name)):
            self.write(prefix + name, (folder / name).read_bytes())
        for name in sorted(there - here - {EVENTS_FILE}):
            self.remove(prefix + name)

    def _move(self, name: str, to: str) -> None:
        def move() -> None:
            self._system.mv(self._place(name), self._place(to))

        self._tried(move)

    def _date(self, folder: Path) -> None:
        """Give events.json the time of the store; without one, all footage is younger."""
        path = folder / EVENTS_FILE
        if path.exists():
            changed_s = changed_at(Address(f"{self.address}/{folder.name}/{EVENTS_FILE}"))
            os.utime(path, (changed_s or 0.0,) * 2)

    def _place(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _tried(self, work: Callable[[], T], *, pauses_s: Iterable[float] = PAUSES_S) -> T:
        """What `work` returns, tried again after each of the pauses."""
        for pause_s in (*pauses_s, None):
            self._on_try()
            try:
                return work()
            except Exception as error:
                if pause_s is None or _is_lasting(error):
                    raise TouchlineError(self.address, _why(error)) from None
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")


def folders_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of the files in each result folder.

    Args:
        names: Names such as "match/events.json"; those in no folder are left out.
    """
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder and "/" not in folder:
            folders[folder].append(file)
    return folders


def _is_lasting(error: Exception) -> bool:
    return isinstance(error, LASTING) or getattr(error, "errno", None) in LASTING_CODES


def _why(error: Exception) -> str:
    """Why the store did not do what was asked, and what to do."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        return f"there is no such bucket or folder ({text}). Make it, or check its name."
    if isinstance(error, PermissionError):
        return f"the store refuses access ({text}). Check the login and what it may write."
    if _is_lasting(error):
        return f"the store cannot do this ({text}). Check the address."
    return f"the store fails ({text}). Repeat the command when it works again."
