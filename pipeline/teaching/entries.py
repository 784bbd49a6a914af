"""The types of a journal's entries. The journal of a project is read through them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from touchline.models.json_values import from_json
from touchline.pipeline.teaching.actions import ActionFields
from touchline.pipeline.teaching.options import StudioOptions


@dataclass(frozen=True)
class ActionEntry:
    """What the person did."""

    action: ActionFields


@dataclass(frozen=True)
class MatchEntry:
    """A match of the project.

    Attributes:
        match: Its id.
        path: The file, relative to the folder of the project.
        stamp: Size in bytes and time of the last change, in nanoseconds.
        content: SHA-256 of the file; None until it is known.
    """

    match: str
    path: str
    stamp: tuple[int, int]
    content: str | None = None


SuggestedRow = TypedDict(
    "SuggestedRow",
    {
        "class": str, "start": float, "end": float, "peak": float, "score": float,
        "accepted": bool,
    },
)  # fmt: skip
"""An event that a detection found."""


@dataclass(frozen=True)
class SuggestedEntry:
    """What a detection found in a match, instead of what an earlier one found.

    Attributes:
        suggested: The id of the match.
        events: The events.
    """

    suggested: str
    events: tuple[SuggestedRow, ...]


@dataclass(frozen=True)
class SettingsEntry:
    """How the project samples footage."""

    settings: StudioOptions


Entry = ActionEntry | MatchEntry | SuggestedEntry | SettingsEntry

# The field that tells the kinds of entries apart.
KINDS: Mapping[str, type[Entry]] = {
    "action": ActionEntry,
    "match": MatchEntry,
    "suggested": SuggestedEntry,
    "settings": SettingsEntry,
}


def read_entry(entry: Mapping[str, Any]) -> Entry:
    """Build an entry from a line of the journal.

    Raises:
        ValueError: It is of no known kind, or a field is missing, unknown or of another type. The
            message names the path, as in "$.action.start: a text instead of a number".
    """
    for name, kind in KINDS.items():
        if name in entry:
            return from_json(dict(entry), kind)
    raise ValueError(f"$: it holds {', '.join(entry) or 'nothing'}")
