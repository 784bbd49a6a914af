"""The threshold of one class: from labelled windows, or from footage in which nothing happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from touchline.pipeline.events import EventOptions, OperatingPoint, find_candidates, find_events
from touchline.pipeline.types import BACKGROUND, Bool, Float64, ScoreTrack

LEAST_THRESHOLD = 0.01
"""No threshold lies below: candidates are not kept further down."""


@dataclass(frozen=True)
class Target:
    """What a threshold is to achieve.

    f1: the best F1 of windows.  precision: at least `value` of the windows found are right, with
    as many found as possible.  false_per_hour: of each class at most `value` events per hour of
    eventless footage; above that the best F1.
    """

    kind: Literal["f1", "precision", "false_per_hour"] = "f1"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "precision" and not 0 < self.value <= 1:
            raise ValueError(f"the wanted precision is {self.value}; it must be in (0, 1]")
        if self.kind == "false_per_hour" and not 0 <= self.value < math.inf:
            raise ValueError(f"false events per hour are {self.value}; it must be 0 or more")


@dataclass(frozen=True)
class Choice:
    """A threshold and what it does to the windows or footage it was chosen on.

    reached: False where nothing reaches the target; the threshold is then the nearest to it.
    precision, recall, f1: of the windows of labelled clips; None where there are none.
    false_events, hours: on eventless footage; None without it.
    """

    threshold: float
    reached: bool = True
    positives: int = 0
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_events: int | None = None
    hours: float | None = None


@dataclass(frozen=True)
class _Cuts:
    """What every possible threshold gives: (C,) from the highest score down."""

    score: Float64
    precision: Float64
    recall: Float64
    f1: Float64

    def threshold(self, c: int) -> float:
        """Halfway between the lowest score kept and the highest one left out."""
        below = self.score[c + 1] if c + 1 < len(self.score) else 0.0
        return max(float((self.score[c] + below) / 2), LEAST_THRESHOLD)


def _cuts(scores: Float64, positive: Bool) -> _Cuts:
    order = np.argsort(-scores, kind="stable")
    score, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    hits, kept = hits[last].astype(np.float64), last + 1.0
    total = float(positive.sum())
    return _Cuts(score[last], hits / kept, hits / total, 2 * hits / (kept + total))


def choose_threshold(scores: Float64, positive: Bool, target: Target) -> Choice:
    """The threshold of one class on windows: `scores` (N,), and which are `positive` (N,).

    Ties go to the higher threshold. ValueError without a positive window.
    """
    if not positive.any():
        raise ValueError("no window is of this class: no threshold can be chosen")
    cuts = _cuts(scores, positive)
    reached = True
    if target.kind == "precision":
        good = cuts.precision >= target.value
        reached = bool(good.any())
        best = np.where(good, cuts.recall, -1.0) if reached else cuts.precision
        c = int(best.argmax())
    else:
        c = int(cuts.f1.argmax())
    choice = Choice(threshold=cuts.threshold(c), reached=reached)
    return describe_threshold(choice, scores, positive)


def describe_threshold(choice: Choice, scores: Float64, positive: Bool) -> Choice:
    """The choice with what its threshold does to these windows."""
    kept = scores >= choice.threshold
    hits, total = int((kept & positive).sum()), int(positive.sum())
    return replace(
        choice,
        positives=total,
        precision=hits / int(kept.sum()) if kept.any() else None,
        recall=hits / total if total else None,
        f1=2 * hits / (int(kept.sum()) + total) if total else None,
    )


def one_class(track: ScoreTrack, label: str) -> ScoreTrack:
    """The track of background and one class."""
    columns = [0, track.labels.index(label)]
    return replace(track, labels=(BACKGROUND, label), probs=track.probs[:, columns])


def hours_of(tracks: Sequence[ScoreTrack]) -> float:
    """How much footage the tracks cover."""
    return sum(float(t.end_s[-1] - t.start_s[0]) for t in tracks if len(t.start_s)) / 3600


def count_events(
    tracks: Sequence[ScoreTrack], label: str, threshold: float, options: EventOptions
) -> int:
    """Events of one class at a threshold, made as `detect` makes them."""
    point = {label: OperatingPoint(threshold=threshold)}
    return sum(len(find_events(one_class(track, label), point, options)) for track in tracks)


def choose_for_rate(
    tracks: Sequence[ScoreTrack], label: str, target: Target, options: EventOptions
) -> Choice:
    """The lowest threshold with at most `target.value` events per hour of eventless footage.

    Looked for from the top down, to the first threshold with too many: where events merge at low
    thresholds there may be fewer again, but nobody wants those.
    """
    hours = hours_of(tracks)
    point = {label: OperatingPoint(threshold=1.0)}
    peaks = {
        event.score
        for track in tracks
        for event in find_candidates(one_class(track, label), point, options, floor=LEAST_THRESHOLD)
    }
    above = 1.0
    for score in sorted(peaks, reverse=True):
        if count_events(tracks, label, score, options) > target.value * hours:
            # A score of 1 cannot be kept out by any threshold.
            threshold = (score + above) / 2
            found = count_events(tracks, label, threshold, options)
            reached = found <= target.value * hours
            return Choice(threshold, reached, false_events=found, hours=hours)
        above = score
    found = count_events(tracks, label, LEAST_THRESHOLD, options)
    return Choice(LEAST_THRESHOLD, false_events=found, hours=hours)


def most_events_per_hour(count: int, hours: float) -> float:
    """The rate above which so few events would be seen in one of twenty such footages only.

    The 95 % upper bound of a Poisson rate: 3 per hour for none in one hour.
    """
    low, high = 0.0, 10.0 * (count + 5)
    while high - low > 1e-9 * high:
        mean = (low + high) / 2
        terms = np.array([i * math.log(mean) - math.lgamma(i + 1) for i in range(count + 1)])
        if np.exp(terms - mean).sum() > 0.05:
            low = mean
        else:
            high = mean
    return high / hours
