"""Find out whether an earlier run has finished a match with the same model and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.folders import named_footage
from touchline.pipeline.footage.address import Address, changed_at
from touchline.pipeline.outputs.events_json import EVENTS_FILE, read_events_json
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.types import FootageHealth


def finished_result(
    made_with: MatchResult,
    folder: Path,
    outputs: Sequence[str],
    *,
    is_same: Callable[[], bool | None] = lambda: None,
) -> MatchResult | None:
    """Return the result of an earlier run; None if it must be made again.

    It counts if all its files are there, it was made with the same model, options and match clock,
    and the footage is unchanged.

    Args:
        made_with: The footage, and the model, options and clock of this run.
        folder: The result folder.
        outputs: Names of the files that must be there.
        is_same: Asked whether the footage has the content of that time. None: its age and its
            size decide.
    """
    path = made_with.path
    try:
        if not all((folder / name).is_file() for name in outputs):
            return None
        result = read_events_json(folder / EVENTS_FILE)
    except (OSError, TouchlineError):
        return None
    if named_footage(result.path, folder) != named_footage(path, folder):
        return None
    if not _is_alike(result, made_with):
        return None
    same = is_same()
    if same is None:
        same = _has_changed(path, folder, result.health) is False
    if not same:
        return None
    return replace(result, path=path)


def is_stale(made_with: MatchResult, folder: Path) -> bool:
    """Tell whether a folder holds results of this path that are no longer right.

    They are if the footage has changed, or if the model, the options or the match clock differ.
    """
    path = made_with.path
    try:
        result = read_events_json(folder / EVENTS_FILE)
    except TouchlineError:
        return (folder / EVENTS_FILE).exists()
    if named_footage(result.path, folder) != named_footage(path, folder):
        return False  # another run wrote it in the meantime
    return not _is_alike(result, made_with) or _has_changed(path, folder, result.health) is True


def _is_alike(one: MatchResult, other: MatchResult) -> bool:
    """Tell whether a result was made with the model, options and match clock of another one."""
    a, b = one.model, other.model
    if a and b and a.sha256 and a.sha256 == b.sha256:
        a = replace(a, path=b.path)  # the model was moved
    options = one.options
    if options and other.options and other.options.batch_size is None:
        options = replace(options, batch_size=None)  # what memory held was not asked for
    return (options, a, one.clock) == (other.options, b, other.clock)


def _has_changed(path: Path, folder: Path, health: FootageHealth | None) -> bool | None:
    """Tell whether footage has changed since it was analysed; None if that is not known."""
    try:
        changed_s = changed_at(path)
        if changed_s is None:
            return None
        if (folder / EVENTS_FILE).stat().st_mtime < changed_s:
            return True
        if isinstance(path, Address) or health is None or health.size_bytes is None:
            return False
        # Footage may be replaced by an older file.
        return path.stat().st_size != health.size_bytes
    except (OSError, TouchlineError):
        return None
