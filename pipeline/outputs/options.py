"""Options of written files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class WriteOptions:
    """How some formats write events.

    Attributes:
        before_s: Seconds that an event without length gets before its moment, in formats for match
            analysis.
        after_s: Seconds after it.
        rolls: The seconds before and after, for single classes.
        ascii_only: Write ? for characters that ASCII does not have, where a format may need it.
        recorded: When the recording began, as ISO 8601 with a time zone; empty if not known.

    Raises:
        ValueError: A length is negative or infinite, both are 0, or `recorded` is no such time.

    Example:
        >>> from touchline.pipeline import WriteOptions, read_events_json, write_result
        >>> result = read_events_json("out/match/events.json")
        >>> options = WriteOptions(before_s=3, after_s=6, rolls={"goal": (10, 5)})
        >>> paths = write_result(result, "analysis", formats=["sportscode"], options=options)
        >>> paths[0].name
        'sportscode.xml'
    """

    before_s: float = 5.0
    after_s: float = 5.0
    rolls: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ascii_only: bool = False
    recorded: str = ""

    def __post_init__(self) -> None:
        for before_s, after_s in ((self.before_s, self.after_s), *self.rolls.values()):
            if not (0 <= before_s < math.inf and 0 <= after_s < math.inf and before_s + after_s):
                raise ValueError(
                    f"{before_s:g} s before and {after_s:g} s after an event make no clip. Both "
                    "must be at least 0, and one more than 0."
                )

        if self.recorded and not _is_time(self.recorded):
            raise ValueError(
                f"the recording began at {self.recorded!r}; it must be a date, a time and a time "
                "zone, such as 2026-05-10T19:45:00Z"
            )

    def roll(self, label: str) -> tuple[float, float]:
        """Return the seconds before and after an event of a class."""
        return self.rolls.get(label, (self.before_s, self.after_s))


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def parse_rolls(texts: list[str], *, ascii_only: bool = False, recorded: str = "") -> WriteOptions:
    """Read "BEFORE,AFTER" and "CLASS=BEFORE,AFTER", in seconds.

    Args:
        texts: The texts. One without a class is for all classes that have none of their own.
        ascii_only: See `WriteOptions`.
        recorded: See `WriteOptions`.

    Raises:
        ValueError: A text has another form, or see `WriteOptions`.
    """
    options = WriteOptions()
    for_all, rolls = (options.before_s, options.after_s), dict[str, tuple[float, float]]()
    for text in texts:
        name, _, lengths = text.rpartition("=")
        try:
            before_s, after_s = (float(part) for part in lengths.split(","))
        except ValueError:
            raise ValueError(
                f"the roll is {text!r}; it must be BEFORE,AFTER or CLASS=BEFORE,AFTER in seconds, "
                "such as goal=8,4"
            ) from None
        if name:
            rolls[name] = before_s, after_s
        else:
            for_all = before_s, after_s
    return WriteOptions(*for_all, rolls, ascii_only, recorded)
