"""Choose background examples for training: unlabelled time, hard negatives, eventless files."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.errors import FootageError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.distributed import current_world
from touchline.pipeline.labels.split import Split
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score_clips import clip_probs, score_clips
from touchline.pipeline.types import Example

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


def unlabelled_spans(
    examples: Sequence[Example], end_s: float, *, margin_s: float, begin_s: float = 0.0
) -> list[tuple[float, float]]:
    """The stretches of [begin_s, end_s] at least margin_s from every label, in time order.

    The examples are of one file. An example of the whole file leaves nothing.
    """
    if margin_s < 0:
        raise ValueError(f"margin_s is {margin_s}; it must be 0 or more")
    if len({example.path for example in examples}) > 1:
        raise ValueError("the examples are of several files; give those of one")
    taken = sorted(
        (0.0, end_s)
        if example.start_s is None or example.end_s is None
        else (example.start_s - margin_s, example.end_s + margin_s)
        for example in examples
    )
    spans, free_from_s = [], begin_s
    for taken_from_s, taken_to_s in [*taken, (end_s, end_s)]:
        if taken_from_s > free_from_s:
            spans.append((free_from_s, min(taken_from_s, end_s)))
        free_from_s = max(free_from_s, taken_to_s)
    return [(from_s, to_s) for from_s, to_s in spans if to_s > from_s]


def background_examples(
    examples: Sequence[Example],
    end_s: float,
    *,
    window_s: float,
    margin_s: float,
    begin_s: float = 0.0,
    ratio: float = 1.0,
    seed: int = 0,
) -> list[Example]:
    """Windows of `background` from the unlabelled time of one file, pictures of begin_s to end_s.

    There are `ratio` for every event, fewer where the time does not hold more; they last window_s,
    keep margin_s from every label, do not overlap, and come in time order. Labels that are
    background already count towards the ratio. The same seed gives the same windows.
    """
    if window_s <= 0 or ratio < 0:
        raise ValueError(
            f"window_s is {window_s} and ratio {ratio}; they must be more than 0, and 0 or more"
        )
    spans = unlabelled_spans(examples, end_s, margin_s=margin_s, begin_s=begin_s)
    events = [example for example in examples if example.label != BACKGROUND]
    if not events:
        return []
    wanted = max(0, round(ratio * len(events)) - (len(examples) - len(events)))
    rng = np.random.default_rng(seed)
    starts_s = [
        start_s
        for span in spans
        for start_s in _tiles(*span, window_s=window_s, phase=float(rng.random()))
    ]
    kept = rng.permutation(len(starts_s))[:wanted]
    path, group = events[0].path, events[0].group
    source = f"unlabelled time of {path}"
    return [
        Example(path, BACKGROUND, group, starts_s[i], starts_s[i] + window_s, source, optional=True)
        for i in sorted(kept)
    ]


def eventless_examples(
    path: Path, end_s: float, *, window_s: float, begin_s: float = 0.0
) -> list[Example]:
    """The whole of a file without events as windows of `background` side by side.

    Its stem is the group. A file shorter than a window is one example.
    """
    if window_s <= 0:
        raise ValueError(f"window_s is {window_s}; it must be more than 0")
    group, source = path.stem, f"background footage {path}"
    if end_s - begin_s < window_s:
        return [Example(path, BACKGROUND, group, source=source, optional=True)]
    return [
        Example(path, BACKGROUND, group, start_s, start_s + window_s, source, optional=True)
        for start_s in _tiles(begin_s, end_s, window_s=window_s, phase=0.5)
    ]


def _tiles(start_s: float, end_s: float, *, window_s: float, phase: float) -> list[float]:
    """Starts of as many windows side by side as fit; phase in [0, 1) shares out what is over."""
    # The hair added keeps a span of exactly n windows from losing one to rounding.
    count = int((end_s - start_s) / window_s + 1e-9)
    over_s = max(0.0, end_s - start_s - count * window_s)
    return [start_s + phase * over_s + k * window_s for k in range(count)]
