"""Name the classes that a network answers with: the background, and the published class lists."""

from __future__ import annotations

from importlib.resources import files

BACKGROUND = "background"
"""The class for "nothing happens": always column 0 of every score."""


def class_list(name: str) -> tuple[str, ...]:
    """The classes that ship with the project under a name, in the order of the classifiers."""
    text = files("touchline.models").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
