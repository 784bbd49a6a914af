"""Split examples into training and validation by whole matches.

A group is the match that an example comes from. Neighbouring seconds of one match look alike. If a
group stood on both sides of a split, a model could score by recognising the match.
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

NUM_STARTS = 16
"""Random starts of the search for a split; more find a slightly better one, slower."""

MANY_GROUPS = 1000
"""From so many on the first start is as good as the best, and the search would take minutes."""


@dataclass(frozen=True)
class Split:
    """Examples to train on, to validate on, and kept out of both; whole groups only.

    ValueError where two parts share a group or a footage file, or where validation has a class
    that training lacks; events out of the picture count for neither.
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
            raise ValueError("the split leaves nothing to train on; validate on fewer groups")
        val, train = visible_examples(self.val), visible_examples(self.train)
        if absent := sorted(_labels(val) - _labels(train)):
            groups = sorted({e.group for e in val if e.label == absent[0]})
            raise ValueError(
                f"training has no example of class {absent[0]!r}: all of them are in the "
                f"validation groups {', '.join(groups)}; leave one of these to training"
            )

    @property
    def not_validated(self) -> tuple[str, ...]:
        """Classes of training that validation lacks; their figures cannot be measured."""
        train, val = visible_examples(self.train), visible_examples(self.val)
        return tuple(sorted(_labels(train) - _labels(val)))


def visible_examples(examples: Iterable[Example]) -> tuple[Example, ...]:
    """Those that can be seen: all that is trained and validated on."""
    return tuple(example for example in examples if example.visible)


def _refuse_both(what: str, first: str, second: str) -> None:
    if first != second:
        raise ValueError(
            f"the split divides {what} between {first} and {second}: "
            "all examples of a match must stand on one side"
        )


def _real_paths(examples: Iterable[Example]) -> dict[Path, Path]:
    """Footage to one name for each file, however labels call it."""
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
    """Whole groups to training and validation.

    val_groups names the validation groups; else groups are chosen, the same under the same seed,
    so that every class has about `val_share` of its examples in validation and, where the groups
    allow it, stands on both sides. val_share 0 validates on nothing. Raises ValueError for unknown
    groups, a class that only validation would have, or where no group can be spared.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share is {val_share}; it must be in [0, 1)")
    groups = sorted({example.group for example in examples})
    _check_groups("exclude_groups", exclude_groups, groups)
    excluded = tuple(e for e in examples if e.group in exclude_groups)
    rest = [e for e in examples if e.group not in exclude_groups]
    if val_groups is None:
        val_groups = choose_val_groups(rest, val_share=val_share, seed=seed)
    _check_groups("val_groups", val_groups, groups)
    if both := sorted(set(val_groups) & set(exclude_groups)):
        raise ValueError(f"group {both[0]!r} is in val_groups and exclude_groups; choose one")
    return Split(
        train=tuple(e for e in rest if e.group not in val_groups),
        val=tuple(e for e in rest if e.group in val_groups),
        excluded=excluded,
    )


def _check_groups(option: str, names: Sequence[str], groups: Sequence[str]) -> None:
    if isinstance(names, str):
        raise ValueError(f"{option} is {names!r}; it must be a list of group names")
    for name in names:
        if name not in groups:
            some = ", ".join(groups[:8]) + (", ..." if len(groups) > 8 else "")
            hint = did_you_mean(name, groups) or f"The groups are {some}."
            raise ValueError(f"{option} names {name!r}, which no example has. {hint}")


def choose_val_groups(
    examples: Sequence[Example], *, val_share: float, seed: int = 0
) -> tuple[str, ...]:
    """Groups that hold about `val_share` of every class; the same under the same seed.

    Files that carry several groups bind these together. Descent from random starts, one set of
    groups moved at a time.
    """
    if val_share == 0:
        return ()
    bundles = _bound_groups(examples)
    if len(bundles) < 2:
        raise ValueError(
            f"all {len(examples)} examples are of one match ({', '.join(bundles[0])}) and a split "
            "never divides a match; label a second one, or validate on nothing with val_share 0"
            if bundles
            else "there are no examples to split"
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
            "no match can be spared for validation: each is the only one that has some class; "
            "label more matches, or validate on nothing with val_share 0"
        )
    return tuple(group for g in np.flatnonzero(chosen) for group in bundles[g])


def _bound_groups(examples: Sequence[Example]) -> list[tuple[str, ...]]:
    """Groups, those that share a file together; sorted."""
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


def _search(
    counts: npt.NDArray[np.float64], *, val_share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """The rows of counts (G, K) that cost least as validation, (G,) bool."""
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
    """How far validation counts (..., K) are from the share; a class missing costs most."""
    total = counts.sum(axis=0)
    off = ((val / total - val_share) ** 2).sum(axis=-1)
    no_train = (val >= total).sum(axis=-1)
    no_val = (val <= 0).sum(axis=-1)
    return np.asarray(off + 100.0 * len(total) * no_train + 10.0 * no_val)
