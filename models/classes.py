"""The names of classes: the background, and the class lists of published weights."""

from __future__ import annotations

from importlib.resources import files

BACKGROUND = "background"
"""The class for "nothing happens". It is always column 0 of the scores."""

VERIFIED = "verified"
"""A label of this name is no class: every event in its stretch is labelled."""


def class_list(name: str) -> tuple[str, ...]:
    """Return a class list that ships with the project, in the order of the published logits."""
    text = files("touchline.models").joinpath(f"{name}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
