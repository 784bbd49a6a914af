"""Background for training: unlabelled time of footage, hard stretches of it, eventless files."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import FootageError
from touchline.pipeline.decode import probe_footage
from touchline.pipeline.distributed import current_world
from touchline.pipeline.labels import Split
from touchline.pipeline.negatives import background_examples, eventless_examples
from touchline.pipeline.score_clips import ClipOptions, clip_probs, score_clips
from touchline.pipeline.types import BACKGROUND, Example

# More windows than this are not scored to find hard ones among them.
MAX_CANDIDATES = 2000

HARD_SHARE = 0.5
"""Mined negatives: the others stay random, for what looks hardest may be an unlabelled event."""


@dataclass(frozen=True)
class BackgroundPlan:
    """Where negatives come from.

    footage: eventless files, all of them for training. ratio: so many stretches of unlabelled time
    per event where labels have times, margin_s away from every label. earlier: a model that finds
    the hard ones among them.
    """

    footage: tuple[Path, ...] = ()
    ratio: float = 1.0
    margin_s: float = 2.0
    earlier: TrainedModel | None = None
    seed: int = 0


def with_background(split: Split, plan: BackgroundPlan, *, window_s: float, device: str) -> Split:
    """The split with negatives of window_s seconds, those of unlabelled time on both sides.

    Footage that cannot be read is passed over here: reading its labels' clips reports it. Headers
    may promise more than there is: `load_clips` leaves such negatives out.
    """
    eventless = [
        example
        for path in plan.footage
        for begin_s, end_s in [_pictures_s(path)]
        for example in eventless_examples(path, end_s, window_s=window_s, begin_s=begin_s)
    ]
    unlabelled = _unlabelled(split.train, plan, window_s)
    if plan.earlier is not None and not unlabelled:
        raise ValueError(
            "hard negatives are sought in the unlabelled time of footage whose labels have times, "
            "and there is none: leave out --hard-negatives"
        )
    if plan.earlier is not None:
        every = _unlabelled(split.train, replace(plan, ratio=np.inf), window_s)
        mined = hardest(unlabelled, every, plan.earlier, device=device, seed=plan.seed)
        # Scores may round otherwise in another process, and all must train on the same.
        unlabelled = current_world().agreed(mined)
    train = (*split.train, *unlabelled, *eventless)
    # Validation can measure background only where training teaches it.
    taught = any(example.label == BACKGROUND for example in train)
    val = _unlabelled(split.val, plan, window_s) if taught else []
    return replace(split, train=train, val=(*split.val, *val))


def _pictures_s(path: Path) -> tuple[float, float]:
    """When the first picture begins and the last one ends: sound may begin before and go on."""
    health = probe_footage(path)
    ends_s = (health.duration_s, health.pictures_end_s, health.actual_duration_s)
    return health.first_frame_s, min((end_s for end_s in ends_s if end_s), default=0.0)


def _unlabelled(
    examples: Sequence[Example], plan: BackgroundPlan, window_s: float
) -> list[Example]:
    by_path: dict[Path, list[Example]] = defaultdict(list)
    for example in examples:
        by_path[example.path].append(example)
    negatives = []
    for path, mine in by_path.items():
        if any(example.start_s is None for example in mine):
            continue
        with contextlib.suppress(FootageError):
            begin_s, end_s = _pictures_s(path)
            negatives += background_examples(
                mine,
                end_s,
                begin_s=begin_s,
                window_s=window_s,
                margin_s=plan.margin_s,
                ratio=min(plan.ratio, float(MAX_CANDIDATES)),
                seed=plan.seed,
            )
    return negatives


def hardest(
    random: Sequence[Example],
    every: Sequence[Example],
    earlier: TrainedModel,
    *,
    device: str = "auto",
    seed: int = 0,
) -> list[Example]:
    """As many negatives as `random`, HARD_SHARE of them those that `earlier` takes for events.

    every: all stretches there are to choose from.
    """
    candidates = list(every)
    if len(candidates) > MAX_CANDIDATES:
        kept = np.random.default_rng(seed).permutation(len(candidates))[:MAX_CANDIDATES]
        candidates = [candidates[i] for i in sorted(kept)]
    # Stretches that cannot be read are no candidates; reading the random ones tells of them.
    options = ClipOptions(views=1, max_bad=len(candidates), device=device)
    scores = score_clips(earlier, candidates, options)
    candidates, probs = list(scores.examples), clip_probs(earlier, scores)
    wanted = round(HARD_SHARE * len(random))
    hard = [candidates[i] for i in np.argsort(-probs[:, 1:].max(axis=1), kind="stable")[:wanted]]
    rest = [example for example in random if example not in hard]
    return hard + rest[: len(random) - len(hard)]
