"""Choose background examples: unlabelled time, hard negatives, event-free footage."""

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

# The most windows that are scored to find hard negatives.
MAX_CANDIDATES = 2000

HARD_SHARE = 0.5
"""The share of hard negatives. The rest stays random: a hard one may be an unlabelled event."""


@dataclass(frozen=True)
class BackgroundPlan:
    """Where background examples come from.

    Attributes:
        footage: Event-free files; all of them are for training.
        ratio: If labels have times: how many windows of unlabelled time to take per event.
        margin_s: How many seconds these windows stay away from every label.
        verified: Stretches in which every event is labelled. If there are any, unlabelled time is
            background only there; without, everywhere in footage whose labels have times.
        earlier: A model; half of these windows are its false alarms. None takes all at random.
        seed: Seed of the random choice.
    """

    footage: tuple[Path, ...] = ()
    ratio: float = 1.0
    margin_s: float = 2.0
    verified: tuple[Example, ...] = ()
    earlier: TrainedModel | None = None
    seed: int = 0


def with_background(split: Split, plan: BackgroundPlan, *, window_s: float, device: str) -> Split:
    """Return the split with background examples added.

    Windows of unlabelled time come from the footage of both sides. Footage that cannot be read is
    skipped; loading its clips reports it. If a header promises more video than there is,
    `load_clips` leaves out the windows after the end.

    Args:
        split: The training and validation examples.
        plan: Where background examples come from.
        window_s: Length of each background example.
        device: Where `plan.earlier` runs: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        FootageError: Event-free footage cannot be read.
        ValueError: Hard negatives are asked for, but there is no unlabelled time.
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
            "there is no unlabelled time to find hard negatives in. Leave out --hard-negatives, or "
            "use labels that have times"
        )
    if plan.earlier is not None:
        every = _unlabelled(split.train, replace(plan, ratio=np.inf), window_s)
        mined = hardest(unlabelled, every, plan.earlier, device=device, seed=plan.seed)
        # Scores may be rounded differently in another process, but all must train on the same.
        unlabelled = current_world().agreed(mined)
    train = (*split.train, *unlabelled, *eventless)
    # Validation can measure background only if training has examples of it.
    has_background = any(example.label == BACKGROUND for example in train)
    val = _unlabelled(split.val, plan, window_s) if has_background else []
    return replace(split, train=train, val=(*split.val, *val))


def _pictures_s(path: Path) -> tuple[float, float]:
    """Return when the first picture begins and the last one ends; the sound may be longer."""
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
                within=_stretches(plan.verified, path) if plan.verified else None,
                window_s=window_s,
                margin_s=plan.margin_s,
                ratio=min(plan.ratio, float(MAX_CANDIDATES)),
                seed=plan.seed,
            )
    return negatives


def _stretches(verified: Sequence[Example], path: Path) -> list[tuple[float, float]]:
    """Pairs (from_s, to_s) of the verified stretches of a file."""
    return [
        (0.0, np.inf) if one.start_s is None or one.end_s is None else (one.start_s, one.end_s)
        for one in verified
        if one.path == path
    ]


def verified_background(
    examples: Sequence[Example], verified: Sequence[Example], *, margin_s: float, least_s: float
) -> list[Example]:
    """Return the unlabelled time of verified stretches as background examples.

    Args:
        examples: The labels, those that the picture does not show among them.
        verified: The stretches in which every event is labelled.
        margin_s: Distance from every label in seconds.
        least_s: Shorter pieces are left out.

    Raises:
        FootageError: The footage of a verified stretch cannot be read.
    """
    found = []
    for path in dict.fromkeys(one.path for one in verified):
        mine = [example for example in examples if example.path == path]
        begin_s, end_s = _pictures_s(path)
        spans = unlabelled_spans(
            mine, end_s, margin_s=margin_s, begin_s=begin_s, within=_stretches(verified, path)
        )
        group = next(one.group for one in verified if one.path == path)
        source = f"verified time of {path}"
        found += [
            Example(path, BACKGROUND, group, from_s, to_s, source, optional=True)
            for from_s, to_s in spans
            if to_s - from_s >= least_s
        ]
    return found


def hardest(
    random: Sequence[Example],
    every: Sequence[Example],
    earlier: TrainedModel,
    *,
    device: str = "auto",
    seed: int = 0,
) -> list[Example]:
    """Replace a share of random background examples by false alarms of an earlier model.

    Args:
        random: Background examples chosen at random.
        every: All background examples to choose from.
        earlier: The model.
        device: Where it runs: auto, cpu, cuda, cuda:1 or mps.
        seed: Seed of the choice of at most MAX_CANDIDATES candidates.

    Returns:
        As many examples as `random`: HARD_SHARE of them those with the highest event scores, first.
    """
    candidates = list(every)
    if len(candidates) > MAX_CANDIDATES:
        kept = np.random.default_rng(seed).permutation(len(candidates))[:MAX_CANDIDATES]
        candidates = [candidates[i] for i in sorted(kept)]
    # Windows that cannot be read are skipped here; loading the chosen ones reports them.
    options = ClipOptions(views=1, max_bad=len(candidates), device=device)
    scores = score_clips(earlier, candidates, options)
    candidates, probs = list(scores.examples), clip_probs(earlier, scores)
    wanted = round(HARD_SHARE * len(random))
    hard = [candidates[i] for i in np.argsort(-probs[:, 1:].max(axis=1), kind="stable")[:wanted]]
    rest = [example for example in random if example not in hard]
    return hard + rest[: len(random) - len(hard)]


def unlabelled_spans(
    examples: Sequence[Example],
    end_s: float,
    *,
    margin_s: float,
    begin_s: float = 0.0,
    within: Sequence[tuple[float, float]] | None = None,
) -> list[tuple[float, float]]:
    """Return the spans of [begin_s, end_s] that are at least margin_s from every label.

    Args:
        examples: The labels of one file; one without times covers the whole file.
        end_s: When the last picture ends.
        margin_s: Distance from every label in seconds.
        begin_s: When the first picture begins.
        within: Stretches (from_s, to_s) that the spans must lie in; None: anywhere.

    Returns:
        Pairs (from_s, to_s) in time order.

    Raises:
        ValueError: margin_s is negative, or the labels are of several files.
    """
    if margin_s < 0:
        raise ValueError(f"margin_s is {margin_s}; it must be 0 or more")
    if len({example.path for example in examples}) > 1:
        raise ValueError("the examples are of several files; they must be of one")
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
    if within is not None:
        spans = [
            (max(span[0], part[0]), min(span[1], part[1]))
            for span in spans
            for part in _merged(within)
        ]
    return [(from_s, to_s) for from_s, to_s in spans if to_s > from_s]


def _merged(parts: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The union of stretches, in time order."""
    union: list[tuple[float, float]] = []
    for from_s, to_s in sorted(parts):
        if union and from_s <= union[-1][1]:
            union[-1] = (union[-1][0], max(to_s, union[-1][1]))
        else:
            union.append((from_s, to_s))
    return union


def background_examples(
    examples: Sequence[Example],
    end_s: float,
    *,
    window_s: float,
    margin_s: float,
    begin_s: float = 0.0,
    within: Sequence[tuple[float, float]] | None = None,
    ratio: float = 1.0,
    seed: int = 0,
) -> list[Example]:
    """Choose background examples from the unlabelled time of one file, at random.

    They do not overlap and come in time order. Labels that are background already count towards the
    ratio. The same seed gives the same windows.

    Args:
        examples: The labels of the file.
        end_s: When the last picture ends.
        window_s: Length of each example.
        margin_s: Distance from every label in seconds.
        begin_s: When the first picture begins.
        within: Stretches (from_s, to_s) that the examples must lie in; None: anywhere.
        ratio: How many examples per event; fewer if the unlabelled time is too short.
        seed: Seed of the random choice.

    Raises:
        ValueError: A number is out of its range, or the labels are of several files.
    """
    if window_s <= 0 or ratio < 0:
        raise ValueError(
            f"window_s is {window_s} and ratio is {ratio}; they must be more than 0, and 0 or more"
        )
    spans = unlabelled_spans(examples, end_s, margin_s=margin_s, begin_s=begin_s, within=within)
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
    """Cut an event-free file into background examples, one after the other.

    The group is the name of the file. A file shorter than a window is one example.

    Args:
        path: The file.
        end_s: When the last picture ends.
        window_s: Length of each example.
        begin_s: When the first picture begins.

    Raises:
        ValueError: window_s is not more than 0.
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
    """Return the starts of as many windows as fit; `phase` of the time left over is before them."""
    # The 1e-9 keeps rounding from losing a window of a span of exactly n windows.
    count = int((end_s - start_s) / window_s + 1e-9)
    left_s = max(0.0, end_s - start_s - count * window_s)
    return [start_s + phase * left_s + k * window_s for k in range(count)]
