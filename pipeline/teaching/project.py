"""A project: the folder that keeps marks, answers and features of one or more matches."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import FootageError, TouchlineError
from touchline.models.json_values import to_json
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.footage.address import Address, footage_reference, footage_stem
from touchline.pipeline.labels.csv_files import write_csv
from touchline.pipeline.labels.read import JOURNAL_FILE, LABELS_FILE
from touchline.pipeline.labels.target import LabelTarget
from touchline.pipeline.teaching.actions import Action, History, State
from touchline.pipeline.teaching.entries import (
    ActionEntry,
    MatchEntry,
    SuggestedEntry,
    SuggestedRow,
    read_entry,
)
from touchline.pipeline.teaching.journal import Journal, JournalError
from touchline.pipeline.teaching.learning import Proposal
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.types import Event, Example, FootageHealth

ADDRESS_FILE, FEATURES_FOLDER = "address.txt", "features"


@dataclass(frozen=True)
class Match:
    """A footage file of a project.

    Attributes:
        id: Its name in the project.
        path: The file.
        stamp: Size in bytes and time of the last change, in nanoseconds.
        health: What its headers say; None if it cannot be read.
        content: SHA-256 of the file; None until it is known.
        problem: Why it cannot be used; None if it can.
    """

    id: str
    path: Path
    stamp: tuple[int, int]
    health: FootageHealth | None = None
    content: str | None = None
    problem: str | None = None

    @property
    def group(self) -> str:
        """The match as label files name it."""
        return footage_stem(self.path)


class Project:
    """An open project. Its methods may be called from several threads.

    Attributes:
        folder: The folder of the project.
        options: How footage is sampled; the same for all matches and for ever.
    """

    def __init__(
        self, folder: Path, footage: Sequence[Path] = (), options: StudioOptions | None = None
    ) -> None:
        """Open a project, or start one, and add matches to it.

        Args:
            folder: The folder; it is made if it is missing.
            footage: Files to add; those that the project has already are not added again.
            options: How to sample; None: as the project does, or the defaults.

        Raises:
            FootageError: A file cannot be read as video.
            JournalError: The journal is damaged, of another version, or cannot be written.
            TouchlineError: Another studio has the project open, or it has other options.
        """
        self.folder = folder
        self._mutex = threading.RLock()
        if not (folder / JOURNAL_FILE).exists():
            # A slip in a name leaves no folder behind.
            if not footage:
                raise TouchlineError(folder, "is no project. Name a footage file to start one")
            for path in footage:
                probe_footage(_whole(path))
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise TouchlineError(folder, self._open_elsewhere()) from None
        try:
            self._journal = Journal(folder / JOURNAL_FILE)
            try:
                self._open(footage, options)
            except BaseException:
                self._journal.close()
                raise
        except BaseException:
            self._lock.release()
            raise

    def _open_elsewhere(self) -> str:
        try:
            address = (self.folder / ADDRESS_FILE).read_text(encoding="utf-8").strip()
        except OSError:
            return "another studio has this project open. Use that one, or close it first"
        return f"another studio has this project open, at {address}. Use that one, or close it"

    def _open(self, footage: Sequence[Path], options: StudioOptions | None) -> None:
        self._matches: dict[str, Match] = {}
        self._history = History()
        self._suggested: dict[str, tuple[Proposal, ...]] = {}
        settings: StudioOptions | None = None
        for number, line in enumerate(self._journal.entries, start=2):
            try:
                entry = read_entry(line)
            except ValueError as error:
                raise JournalError(
                    self._journal.path, f"line {number} is damaged ({error})"
                ) from None
            try:
                if isinstance(entry, ActionEntry):
                    self._history.do(line["action"])
                elif isinstance(entry, MatchEntry):
                    self._recall(entry)
                elif isinstance(entry, SuggestedEntry):
                    self._take_suggested(entry)
                else:
                    settings = entry.settings
            except ValueError as error:
                raise JournalError(
                    self._journal.path, f"line {number} does not fit those before it ({error})"
                ) from None
        self._settle(settings, options)
        for path in footage:
            self.add_match(path)
        if not self._matches:
            raise TouchlineError(self.folder, "has no match yet. Name a footage file")
        # A full disk costs nothing here: the labels follow from the journal, and each answer
        # writes them again.
        with suppress(OSError):
            self.write_labels()

    def _settle(self, recorded: StudioOptions | None, options: StudioOptions | None) -> None:
        if recorded is None:
            self.options = options or StudioOptions()
            fixed = asdict(self.options)
            for where_it_runs in ("device", "precision"):
                del fixed[where_it_runs]
            self._journal.append({"settings": fixed})
            return
        asked = options or recorded
        self.options = replace(recorded, device=asked.device, precision=asked.precision)
        if (
            options is not None
            and self.options != options
            and options
            != replace(StudioOptions(), device=options.device, precision=options.precision)
        ):
            raise TouchlineError(
                self.folder,
                f"was made with {recorded.backbone}, {recorded.weights} and its own sampling. A "
                "project cannot change that; start another one with -o",
            )

    def _recall(self, entry: MatchEntry) -> None:
        """Take a match from the journal."""
        path = Path(os.path.normpath(self.folder.absolute() / entry.path))
        self._matches[entry.match] = Match(entry.match, path, entry.stamp, content=entry.content)

    def add_match(self, path: Path) -> Match:
        """Add a footage file, unless the project has it.

        Raises:
            FootageError: It cannot be read as video.
            JournalError: The journal cannot be written.
        """
        with self._mutex:
            path = _whole(path)
            for match in self._matches.values():
                if path == match.path:
                    return match
            probe_footage(path)
            match = Match(f"m{len(self._matches) + 1}", path, stamp=_stamp(path))
            self._journal.append(to_json(self._entry(match)))
            self._matches[match.id] = match
            return match

    def _entry(self, match: Match) -> MatchEntry:
        path = footage_reference(match.path, self.folder)
        return MatchEntry(match.id, path, match.stamp, match.content)

    def remember_content(self, match_id: str, content: str) -> None:
        """Record the digest of a match's file, as it is now.

        Raises:
            FootageError: The file is another one than its marks were made on.
            JournalError: The journal cannot be written.
        """
        with self._mutex:
            match, stamp = self._matches[match_id], _stamp(self._matches[match_id].path)
            if (match.content or content) != content or stamp[0] != match.stamp[0]:
                raise FootageError(
                    match.path,
                    "has changed since its marks were made, so their times may be wrong. Put the "
                    "old file back, or start a new project with -o",
                )
            match = replace(match, content=content, stamp=stamp)
            self._journal.append(to_json(self._entry(match)))
            self._matches[match_id] = match

    def health_of(self, match_id: str) -> FootageHealth:
        """Return what the headers of a match say; they are read once.

        Raises:
            FootageError: The file is gone or cannot be read.
        """
        with self._mutex:
            match = self._matches[match_id]
        if match.health is None:
            health = probe_footage(match.path)
            with self._mutex:
                self._matches[match_id] = match = replace(self._matches[match_id], health=health)
        assert match.health is not None
        return match.health

    def set_problem(self, match_id: str, problem: str | None) -> None:
        """Say why a match cannot be used; None: it can."""
        with self._mutex:
            self._matches[match_id] = replace(self._matches[match_id], problem=problem)

    def is_unchanged(self, match_id: str) -> bool:
        """Tell whether size and time of a match's file are those of its digest."""
        match = self.matches[match_id]
        return match.content is not None and _stamp(match.path) == match.stamp

    @property
    def matches(self) -> Mapping[str, Match]:
        """The matches by id, in the order in which they were added."""
        with self._mutex:
            return dict(self._matches)

    @property
    def state(self) -> State:
        """Everything that was said so far."""
        with self._mutex:
            return self._history.state

    @property
    def revision(self) -> int:
        """How many actions there have been."""
        with self._mutex:
            return self._history.revision

    @property
    def can_undo(self) -> bool:
        """Whether there is something to undo."""
        with self._mutex:
            return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        """Whether there is something to redo."""
        with self._mutex:
            return self._history.can_redo

    def do(self, action: Action) -> tuple[int, str]:
        """Do an action. When this returns, it is on disk.

        Returns:
            The revision after it, and the id of what it made.

        Raises:
            ActionError: It cannot be done; nothing has changed.
            JournalError: It cannot be written; nothing has changed.
        """
        with self._mutex:
            self._history.after(action, matches=self._matches)
            self._journal.append({"action": dict(action)})
            made = self._history.do(action)
            return self._history.revision, made

    def examples(self) -> list[Example]:
        """Return the confirmed events as labels, in the order of matches and times."""
        return [example for match_id in self.matches for example in self.examples_of(match_id)]

    def examples_of(self, match_id: str) -> list[Example]:
        """Return the confirmed events of one match as labels, in time order."""
        state, match = self.state, self.matches[match_id]
        names = {one.id: one.name for one in state.classes}
        marks = [mark for mark in state.marks.values() if mark.match == match_id]
        return [
            Example(
                match.path,
                names[mark.label],
                match.group,
                mark.start_s,
                mark.end_s,
                attributes=(("note", mark.note),) if mark.note else (),
            )
            for mark in sorted(marks, key=lambda mark: mark.start_s)
        ]

    def suggest(self, match_id: str, rows: Sequence[SuggestedRow]) -> None:
        """Keep events that a detection found as proposals for a match, instead of earlier ones.

        Args:
            match_id: The match.
            rows: The events.

        Raises:
            JournalError: They cannot be written.
        """
        with self._mutex:
            entry = SuggestedEntry(match_id, tuple(rows))
            self._journal.append(to_json(entry))
            self._take_suggested(entry)

    def _take_suggested(self, entry: SuggestedEntry) -> None:
        self._suggested[entry.suggested] = tuple(
            Proposal(
                Event(row["class"], row["start"], row["end"], row["peak"], row["score"]),
                row["accepted"],
                teaches=1 - abs(2 * row["score"] - 1),
            )
            for row in entry.events
        )

    def suggested(self, match_id: str) -> Sequence[Proposal]:
        """Return what a detection found in a match; its labels are ids of classes."""
        with self._mutex:
            return self._suggested.get(match_id, ())

    def write_labels(self) -> Path:
        """Write labels.csv, which follows from the journal. Return its path.

        Raises:
            OSError: It cannot be written.
        """
        text = write_csv(self.examples(), LabelTarget(self.folder))
        return write_atomic(self.folder / LABELS_FILE, text)

    def announce(self, address: str) -> None:
        """Leave the address for another studio that is started on the same project."""
        write_atomic(self.folder / ADDRESS_FILE, f"{address}\n")

    def close(self) -> None:
        """Close the journal and let others open the project."""
        with self._mutex:
            self._journal.close()
            (self.folder / ADDRESS_FILE).unlink(missing_ok=True)
            self._lock.release()


def _whole(path: Path) -> Path:
    """Return an absolute path without `..`; links stay.

    Raises:
        FootageError: It is an address.
    """
    if isinstance(path, Address):
        raise FootageError(path, "is an address. Save it to a file first: the page plays files")
    return Path(os.path.normpath(path.absolute()))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise FootageError(path, f"cannot be read: {error.strerror}") from None
    return facts.st_size, facts.st_mtime_ns
