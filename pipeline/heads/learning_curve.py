"""Fit the chosen head to a part of the clips: which classes does more labelling help?"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from touchline.pipeline.heads.choose import ClipFeatures, Trial, held_out_probs
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.types import Float32

SHARES = (0.25, 0.5)
"""The parts of the training clips that heads are fitted to, besides all of them."""

DRAWS = 3
"""How often each part is drawn at random; recalls are averaged."""


@dataclass(frozen=True)
class CurvePoint:
    """Recall on clips of unseen matches, by how many clips the head was fitted to.

    Attributes:
        share: The share of the training clips of each class.
        recalls: The recall of each class, in [0, 1].
    """

    share: float
    recalls: Mapping[str, float]


def learning_curve(
    features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    held_out: HeldOut,
    *,
    deadline: float | None = None,
) -> tuple[CurvePoint, ...]:
    """Return the recall of each class after 25, 50 and 100 % of the clips.

    Every clip is answered by heads that did not see its match.

    Args:
        features: The training clips.
        trial: The head and its strength.
        folds: Indices of the clips of each fold; whole matches.
        held_out: The answers of heads fitted to all clips.
        deadline: A time of `time.monotonic` at which to stop.

    Returns:
        One point per share; nothing if time ran out.
    """
    points = []
    for share in SHARES:
        drawn = []
        for seed in range(DRAWS):
            if deadline is not None and time.monotonic() >= deadline:
                return ()
            rng = np.random.default_rng(seed)
            learn = partial(take_share, targets=features.targets, share=share, rng=rng)
            probs = held_out_probs(features, trial, folds, learn=learn)
            drawn.append(replace(held_out, probs=probs).only_judged().recalls())
        points.append(
            CurvePoint(share, {k: float(np.mean([r[k] for r in drawn])) for k in drawn[0]})
        )
    return (*points, CurvePoint(1.0, held_out.only_judged().recalls()))


def take_share(
    clips: Sequence[int], *, targets: Float32, share: float, rng: np.random.Generator
) -> list[int]:
    """Draw a share of the clips of each class, one or more.

    Args:
        clips: Indices of the clips to draw from.
        targets: (N, K) of all clips, 1 in the columns of each clip's classes.
        share: The share, in (0, 1].
        rng: The source of randomness.
    """
    order = rng.permutation(clips)
    taken: set[int] = set()
    for k in range(targets.shape[1]):
        of_class = order[targets[order, k] > 0]
        taken.update(of_class[: math.ceil(share * len(of_class))].tolist())
    return sorted(taken)
