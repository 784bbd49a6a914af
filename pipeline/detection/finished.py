"""Tell whether an earlier run has already finished a match with the same model and options."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.folders import named_footage
from touchline.pipeline.footage.address import Address, changed_at
from touchline.pipeline.outputs.events_json import EVENTS_FILE, read_events_json
from touchline.pipeline.types import FootageHealth, MatchResult


def finished_result(
    path: Path, folder: Path, record: Mapping[str, Any], outputs: Sequence[str]
) -> MatchResult | None:
    """What an earlier run left, whole and made alike, where the footage is as it was."""
    try:
        if not all((folder / name).is_file() for name in outputs):
            return None
        result = read_events_json(folder / EVENTS_FILE)
    except (OSError, TouchlineError):
        return None
    if named_footage(result.path, folder) != named_footage(path, folder) or not _is_alike(
        result, record
    ):
        return None
    if _has_changed(path, folder, result.health) is not False:
        return None
    return replace(result, path=path)


def is_stale(path: Path, folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether an earlier run left something of other footage at this path, or made otherwise."""
    try:
        result = read_events_json(folder / EVENTS_FILE)
    except TouchlineError:
        return (folder / EVENTS_FILE).exists()
    if named_footage(result.path, folder) != named_footage(path, folder):
        return False  # another run's, that wrote it meanwhile
    return not _is_alike(result, record) or _has_changed(path, folder, result.health) is True


def _is_alike(result: MatchResult, record: Mapping[str, Any]) -> bool:
    """Whether a result was made with this model and these options."""
    return bool(json.loads(json.dumps(record)) == result.options)


def _has_changed(path: Path, folder: Path, health: FootageHealth | None) -> bool | None:
    """Whether footage was changed since it was analysed; None where that cannot be told."""
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
