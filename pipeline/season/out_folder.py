"""Where a run works: OUT itself, or a local folder from which results go to a remote store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.batch import Match, check_writable, make_folder
from touchline.pipeline.detection.folders import possible_folders
from touchline.pipeline.footage.address import Address, StoredFolder
from touchline.pipeline.season.journal import JOURNAL_FILE, RunJournal
from touchline.pipeline.season.lock import hold, lease
from touchline.pipeline.season.store import Store, folders_of


@dataclass(frozen=True)
class OutFolder:
    """Where a run works, locked for it.

    Attributes:
        folder: OUT, or a local folder in its place.
        journal: The journal of all runs.
        lost_holder: Who held the lock and ended without giving it up.
        store: The remote store that takes what is made in `folder`; None if it stays there.
        there: The files in each folder of the store when the run began.
    """

    folder: Path
    journal: RunJournal
    lost_holder: str | None
    store: Store | None = None
    there: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def address(self) -> Address | None:
        """The address of the store."""
        return None if self.store is None else self.store.address

    def outline(self, match: Match) -> None:
        """Show in `folder` what the store holds of a match.

        Raises:
            TouchlineError: The store does not answer.
        """
        if self.store is not None:
            for folder in possible_folders(match.path, match.planned):
                if folder.name in self.there:
                    self.store.outline(folder, self.there[folder.name])


@contextmanager
def open_out_folder(out: Path) -> Iterator[OutFolder]:
    """Lock OUT and open its journal.

    Args:
        out: The folder, made if it is missing, or its address in a remote store.

    Raises:
        OSError: Nothing can be written to the folder.
        TouchlineError: Another run writes there, or the store takes nothing.
    """
    if isinstance(out, Address):
        with tempfile.TemporaryDirectory(prefix="touchline-") as folder:
            yield from _remote_folder(Store(out), StoredFolder(folder))
        return
    make_folder(out)
    with hold(out) as gone, RunJournal(out / JOURNAL_FILE) as journal:
        yield OutFolder(out, journal, gone)


def _remote_folder(store: Store, folder: Path) -> Iterator[OutFolder]:
    """Lock a remote OUT; its journal is written in a local folder and sent now and then."""
    path = folder / JOURNAL_FILE
    check_writable(folder)
    store.check()

    def send_journal() -> None:
        if path.exists():
            store.write(JOURNAL_FILE, path.read_bytes(), patient=False)

    with lease(store, send_journal) as gone:
        write_atomic(path, store.read(JOURNAL_FILE) or b"")
        try:
            with RunJournal(path) as journal:
                yield OutFolder(folder, journal, gone, store, folders_of(store.names()))
        except BaseException:
            with suppress(TouchlineError):
                send_journal()
            raise
        store.write(JOURNAL_FILE, path.read_bytes())
