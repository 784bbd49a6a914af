"""Build typed values from parsed JSON, and parsed JSON from typed values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def from_json(value: object, kind: type[T]) -> T:
    """Build a `kind` (a dataclass, a tuple, ...) from parsed JSON, checking every type.

    Raises:
        ValueError: A field is missing, unknown or of another type, or the dataclass refuses it.
            The message names the place, as in "Expected `int`, got `str` - at `$.width`".
    """
    try:
        built = msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    # msgspec drops fields that a dataclass does not have; they must not get lost silently.
    if unknown := next(_unknown(value, to_json(built), "$"), None):
        raise ValueError(f"unknown field `{unknown}`. A newer Touchline may have written it")
    return built


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
