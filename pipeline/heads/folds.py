"""Split examples into folds of whole matches, for cross-validation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MAX_FOLDS = 5


def match_folds(groups: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Return the indices of each fold's examples; a match is never divided.

    There is a fold for each match, but at most MAX_FOLDS. Large matches are placed first, each in
    the fold in which its classes are rarest so far.

    Args:
        groups: The match of each example.
        labels: The class of each example.

    Raises:
        ValueError: All examples are of one match.
    """
    if len(set(groups)) < 2:
        raise ValueError(
            f"every training example is of the match {groups[0]!r}. Cross-validation holds out "
            "whole matches, so it needs two or more. Fill in the group of each example, or use "
            "--head own"
        )
    sizes = Counter(groups)
    num_folds = min(MAX_FOLDS, len(sizes))
    folds: list[list[int]] = [[] for _ in range(num_folds)]
    held: list[Counter[str]] = [Counter() for _ in range(num_folds)]
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        mine = [i for i, name in enumerate(groups) if name == group]
        classes = Counter(labels[i] for i in mine)

        def crowd(k: int, classes: Counter[str] = classes) -> tuple[int, int]:
            overlap = sum(held[k][label] * count for label, count in classes.items())
            return overlap, len(folds[k])

        k = min(range(num_folds), key=crowd)
        folds[k] += mine
        held[k] += classes
    return [fold for fold in folds if fold]
