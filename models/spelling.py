"""Suggest the known name that a misspelt one probably means, and write numbers with their nouns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def nearest(name: str, names: Iterable[str], *, most: int = 1) -> list[str]:
    """Return the known names most like `name`, best first, ignoring case.

    Args:
        name: The name that is not known.
        names: The known names.
        most: How many to return at most; names that are not close are left out.
    """
    by_folded = {other.casefold(): other for other in sorted(names, reverse=True)}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=most, cutoff=0.6)
    return [by_folded[folded] for folded in found]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the sentence "Did you mean 'x'?", empty if no known name is close to `name`."""
    return ask(nearest(name, names))


def ask(suggestions: Sequence[str]) -> str:
    """Return the sentence "Did you mean 'x' or 'y'?", empty for no suggestions."""
    return f"Did you mean {' or '.join(map(repr, suggestions))}?" if suggestions else ""


def counted(number: int, noun: str) -> str:
    """Write a number and its noun: "1 clip", "2 clips", "2 matches"."""
    return f"{number} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """Return the plural of a noun: "clips", "matches", "penalties"."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "ch", "sh", "x")) else "s")


def ordinal(number: int) -> str:
    """Write which one of several: "4th", "11th", "21st"."""
    teens = 11 <= number % 100 <= 13
    return f"{number}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"
