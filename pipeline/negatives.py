"""Background examples: stretches of footage where nothing is labelled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from touchline.pipeline.types import BACKGROUND, Example


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
