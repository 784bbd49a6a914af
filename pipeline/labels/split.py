"""Split examples into training and validation by whole matches.

A group is the match that an example comes from. Neighbouring seconds of one match look alike. If a
group were on both sides of a split, a model could score well just by recognising the match.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from touchline.models.spelling import did_you_mean
from touchline.pipeline.types import Example


@dataclass(frozen=True)
class Split:
    """Examples to train on, to validate on, and to keep out of both; whole groups only.

    Attributes:
        train: Examples to train on.
        val: Examples to validate on.
        excluded: Examples that are not used.

    Raises:
        ValueError: Two parts share a group or a footage file, or training lacks a class that
            validation has. Events that the broadcast does not show do not count.
    """

    train: tuple[Example, ...]
    val: tuple[Example, ...]
    excluded: tuple[Example, ...] = ()

    def __post_init__(self) -> None:
        parts = {"training": self.train, "validation": self.val, "excluded": self.excluded}
        group_part: dict[str, str] = {}
        path_part: dict[Path, str] = {}
        real = _real_paths([*self.train, *self.val, *self.excluded])
        for part, examples in parts.items():
            for example in examples:
                _refuse_both(
                    f"group {example.group!r}", group_part.setdefault(example.group, part), part
                )
                first = path_part.setdefault(real[example.path], part)
                _refuse_both(f"footage {example.path}", first, part)
        if not self.train:
            raise ValueError("the split leaves nothing to train on. Validate on fewer groups.")
        val, train = visible_examples(self.val), visible_examples(self.train)
        if absent := sorted(_labels(val) - _labels(train)):
            groups = sorted({e.group for e in val if e.label == absent[0]})
            raise ValueError(
                f"training has no example of class {absent[0]!r}, because all of them are in the "
                f"validation groups {', '.join(groups)}. Use one of these for training."
            )

    @property
    def not_validated(self) -> tuple[str, ...]:
        """Classes that training has and validation lacks, so that they cannot be measured."""
        train, val = visible_examples(self.train), visible_examples(self.val)
        return tuple(sorted(_labels(train) - _labels(val)))


def visible_examples(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Drop the events that the broadcast does not show."""
    return tuple(example for example in examples if example.visible)


def _refuse_both(what: str, first: str, second: str) -> None:
    if first != second:
        raise ValueError(
            f"the split divides {what} between {first} and {second}. "
            "All examples of a match must be on one side."
        )


def _real_paths(examples: Iterable[Example]) -> dict[Path, Path]:
    """Map each footage path to its real path, so that one file has one name."""
    return {path: path.resolve() for path in {example.path for example in examples}}


def _labels(examples: Iterable[Example]) -> set[str]:
    return {example.label for example in examples}


def split_by_group(
    examples: Sequence[Example],
    *,
    val_groups: Sequence[str] | None = None,
    val_share: float = 0.2,
    exclude_groups: Sequence[str] = (),
    seed: int = 0,
) -> Split:
    """Split examples into training and validation, whole groups at a time.

    Without `val_groups`, groups are chosen so that each class has about `val_share` of its examples
    in validation and, if possible, is on both sides.

    Args:
        examples: The labels.
        val_groups: The validation groups; None chooses them.
        val_share: Share of the examples for validation, in [0, 1); 0: no validation.
        exclude_groups: Groups to use for neither.
        seed: Random seed of the choice.

    Raises:
        ValueError: A group is unknown, only validation would have some class, or no group can be
            taken from training.

    Example:
        >>> from touchline.pipeline import read_labels, split_by_group
        >>> split = split_by_group(read_labels("labels.csv"), val_groups=["B"])
        >>> len(split.train), len(split.val)
        (3, 2)
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"--val-share is {val_share}; it must be in [0, 1)")
    groups = sorted({example.group for example in examples})
    _check_groups("--exclude-groups", exclude_groups, groups)
    excluded = tuple(e for e in examples if e.group in exclude_groups)
    rest = [e for e in examples if e.group not in exclude_groups]
    if val_groups is None:
        val_groups = choose_val_groups(rest, val_share=val_share, seed=seed)
    _check_groups("--val-groups", val_groups, groups)
    if both := sorted(set(val_groups) & set(exclude_groups)):
        raise ValueError(
            f"group {both[0]!r} is in --val-groups and in --exclude-groups. Choose one."
        )
    return Split(
        train=tuple(e for e in rest if e.group not in val_groups),
        val=tuple(e for e in rest if e.group in val_groups),
        excluded=excluded,
    )


def _check_groups(option: str, names: Sequence[str], groups: Sequence[str]) -> None:
    if isinstance(names, str):
        raise ValueError(f"the groups are {names!r}; they must be a list of group names")
    for name in names:
        if name not in groups:
            some = ", ".join(groups[:8]) + (", ..." if len(groups) > 8 else "")
            hint = did_you_mean(name, groups) or f"The groups are {some}."
            raise ValueError(f"{option} names {name!r}, which no example has. {hint}")


def choose_val_groups(
    examples: Sequence[Example], *, val_share: float, seed: int = 0
) -> tuple[str, ...]:
    """Choose groups that hold about `val_share` of every class.

    The search starts from random choices and moves one group at a time. Groups that share a file
    move together.

    Args:
        examples: The labels.
        val_share: Share of the examples for validation, in [0, 1); 0 chooses no group.
        seed: Random seed of the starts.

    Raises:
        ValueError: There are no examples, or no group can be taken from training.
    """
    if val_share == 0:
        return ()
    bundles = _bound_groups(examples)
    if len(bundles) < 2:
        raise ValueError(
            f"all {len(examples)} examples are of one match ({', '.join(bundles[0])}), and a split "
            "never divides a match. Label a second match, or skip validation with --val-share 0."
            if bundles
            else "the labels hold no example to train on. Stretches labelled 'verified' are not "
            "examples. Label events or clips."
        )
    seen = visible_examples(examples)
    names = sorted(_labels(seen))
    counts = np.zeros((len(bundles), len(names)))  # (G, K)
    row = {group: g for g, bundle in enumerate(bundles) for group in bundle}
    for (group, label), n in Counter((e.group, e.label) for e in seen).items():
        counts[row[group], names.index(label)] += n
    chosen = _search(counts, val_share=val_share, seed=seed)
    if not chosen.any():
        raise ValueError(
            "no match can be used for validation, because each is the only one with some class. "
            "Label more matches, or skip validation with --val-share 0."
        )
    return tuple(group for g in np.flatnonzero(chosen) for group in bundles[g])


def _bound_groups(examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """Sets of groups that share a file, sorted."""
    bundle_of = {example.group: {example.group} for example in examples}
    first_of: dict[Path, str] = {}
    real = _real_paths(examples)
    for example in examples:
        mine, other = (
            bundle_of[example.group],
            bundle_of[first_of.setdefault(real[example.path], example.group)],
        )
        if mine is not other:
            mine |= other
            for group in other:
                bundle_of[group] = mine
    return sorted({tuple(sorted(bundle)) for bundle in bundle_of.values()})


NUM_STARTS = 16
"""Random starts of the search for a split. More find a slightly better one, but take longer."""

MANY_GROUPS = 1000
"""With this many groups, one start is enough, and more would take minutes."""


def _search(
    counts: npt.NDArray[np.float64], *, val_share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """(G,) True for the rows of counts (G, K) that make the best validation set."""
    rng = np.random.default_rng(seed)
    best, best_cost = np.zeros(len(counts), dtype=np.bool_), np.inf
    for _ in range(NUM_STARTS if len(counts) < MANY_GROUPS else 1):
        chosen = rng.random(len(counts)) < val_share
        cost = float(_cost(chosen @ counts, counts, val_share=val_share))
        while True:
            signed = np.where(chosen, -1.0, 1.0)[:, None] * counts
            moved = _cost(chosen @ counts + signed, counts, val_share=val_share)  # (G,)
            g = int(np.argmin(moved))
            if moved[g] >= cost - 1e-12:
                break
            chosen[g] = not chosen[g]
            cost = float(moved[g])
        if cost < best_cost - 1e-12:
            best, best_cost = chosen.copy(), cost
    return best


def _cost(
    val: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], *, val_share: float
) -> npt.NDArray[np.float64]:
    """How far validation counts (..., K) are from the share; missing classes cost most."""
    total = counts.sum(axis=0)
    off = ((val / total - val_share) ** 2).sum(axis=-1)
    no_train = (val >= total).sum(axis=-1)
    no_val = (val <= 0).sum(axis=-1)
    return np.asarray(off + 100.0 * len(total) * no_train + 10.0 * no_val)
