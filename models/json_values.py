"""Build typed values from parsed JSON, and parsed JSON from typed values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


# What msgspec calls the types of JSON, in plain words.
WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
PLACED = re.compile(r"(.*?)(?: - at `\$(.*)`)?", re.DOTALL)
OTHER_TYPE = re.compile(r"Expected `(.*)`, got `(.*)`")
MISSING = re.compile(r"Object missing required field `(.*)`")


def from_json(value: object, kind: type[T], *, place: str = "$") -> T:
    """Build a `kind` (a dataclass, a tuple, ...) from parsed JSON, checking every type.

    Args:
        value: The parsed JSON.
        kind: The type to build.
        place: The path to the value in its file, for messages.

    Raises:
        ValueError: A field is missing, unknown or of another type, or the dataclass refuses it.
            The message names the path, as in "$.width: a text instead of a whole number".
    """
    try:
        built = msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise ValueError(_plain(str(error), place)) from None
    # msgspec drops fields that a dataclass does not have; they must not get lost silently.
    if unknown := next(_unknown(value, to_json(built), place), None):
        raise ValueError(f"unknown field `{unknown}`. A newer Touchline may have written it")
    return built


def _plain(message: str, place: str) -> str:
    """A message of msgspec in plain words, with the path first."""
    placed = PLACED.fullmatch(message)
    text, path = placed.groups() if placed else (message, None)
    if other := OTHER_TYPE.fullmatch(text):
        wanted, given = (
            " or ".join(WORDS.get(t, t) for t in g.split(" | ")) for g in other.groups()
        )
        text = f"{given} instead of {wanted}"
    elif missing := MISSING.fullmatch(text):
        text = f"no {missing[1]!r} here"
    return f"{place}{path or ''}: {text}"


def to_json(value: object) -> Any:
    """Turn a dataclass and all it holds into what `json` can write."""
    return msgspec.to_builtins(value, str_keys=True)


def _unknown(given: object, kept: object, place: str) -> Iterator[str]:
    """Places that `given` has and `kept` has not."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            if name not in kept:
                yield f"{place}.{name}"
            else:
                yield from _unknown(value, kept[name], f"{place}.{name}")
    elif isinstance(given, list | tuple) and isinstance(kept, list | tuple):
        for k, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _unknown(one, other, f"{place}[{k}]")
