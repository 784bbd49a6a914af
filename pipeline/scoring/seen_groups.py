"""Tell which matches a model was trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.footage.address import footage_stem
from touchline.pipeline.types import Example


def unseen_examples(
    model: TrainedModel, examples: Sequence[Example]
) -> tuple[list[Example], list[str]]:
    """Return the examples of matches the model was not trained on, and the groups left out.

    Raises:
        ValueError: No example remains.
    """
    left_out = trained_groups(model, {example.group for example in examples})
    unseen = [example for example in examples if example.group not in left_out]
    if examples and not unseen:
        raise ValueError(
            f"the model was trained on every group of these labels ({', '.join(left_out[:8])}). "
            "Give labels of other matches."
        )
    return unseen, left_out


def trained_groups(model: TrainedModel, groups: Iterable[str]) -> list[str]:
    """Return which of these groups the model, or its initial weights, were trained on; sorted.

    A group that is a file name is recognised with or without its folder: clips/a.mp4 is a.mp4.
    """
    trained = model.record.groups.seen
    by_end: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for group in trained:
        by_end[_stem(group)[-1]].append(_stem(group))
    return sorted(g for g in set(groups) if g in trained or _has_same_end(_stem(g), by_end))


def _stem(group: str) -> tuple[str, ...]:
    """The parts of a group's name, without the ending that a file's name has."""
    path = PurePosixPath(group)
    return (*path.parts[:-1], footage_stem(path))


def _has_same_end(parts: tuple[str, ...], known: Mapping[str, Sequence[tuple[str, ...]]]) -> bool:
    return any(
        all(a == b for a, b in zip(reversed(parts), reversed(other), strict=False))
        for other in known.get(parts[-1], ())
    )
