"""The threshold of one class: from labelled windows, or from footage in which nothing happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from touchline.models.classes import BACKGROUND
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.scoring.events import find_candidates, find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import Bool, Float64, ScoreTrack

LEAST_THRESHOLD = 0.01
"""No threshold lies below: candidates are not kept further down."""


@dataclass(frozen=True)
class Choice:
    """A threshold and what it does to the evidence it was chosen on.

    reached: False where nothing reaches the target; the threshold is then the nearest to it.
    positives: how many windows or events of the class there were.
    precision, recall, f1: of these; None where there are none.
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
class ThresholdCurve:
    """What every threshold worth trying gives of one class: (C,) arrays, from the highest down.

    score: the lowest score kept.  num_positive: how many windows or events there are to find.
    precision, recall, f1: NaN, 0 and 0 where nothing is kept.
    """

    score: Float64
    precision: Float64
    recall: Float64
    f1: Float64
    num_positive: int

    @property
    def threshold(self) -> Float64:
        """(C,) halfway between the lowest score kept and the highest one left out."""
        return halfway_down(self.score)

    def at(self, threshold: float) -> int | None:
        """Which point of the curve a threshold makes; None where it keeps nothing."""
        kept = int((self.score >= threshold).sum())
        return kept - 1 if kept else None


def halfway_down(score: Float64) -> Float64:
    """(C,) from each score halfway to the next one below, the last one halfway to 0."""
    halfway: Float64 = (score + np.append(score[1:], 0.0)) / 2
    return np.maximum(halfway, LEAST_THRESHOLD)


def window_curve(scores: Float64, positive: Bool) -> ThresholdCurve:
    """The curve of windows: `scores` (N,), and which are `positive` (N,).

    ValueError without a positive window.
    """
    if not positive.any():
        raise ValueError("no window is of this class: no threshold can be chosen")
    order = np.argsort(-scores, kind="stable")
    score, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return curve_from_counts(score[last], hits[last], last + 1, num_positive=int(positive.sum()))


def curve_from_counts(
    score: Float64, hits: npt.ArrayLike, kept: npt.ArrayLike, *, num_positive: int
) -> ThresholdCurve:
    """The curve from counts (C,): how many are kept from each score up, and how many hit."""
    right, shown = np.asarray(hits, dtype=np.float64), np.asarray(kept, dtype=np.float64)
    precision = np.divide(right, shown, out=np.full_like(right, np.nan), where=shown > 0)
    return ThresholdCurve(
        score, precision, right / num_positive, 2 * right / (shown + num_positive), num_positive
    )


def choose_threshold(curve: ThresholdCurve, target: Target) -> Choice:
    """The threshold of one class; ties go to the higher one."""
    reached = True
    if target.kind == "precision":
        good = np.nan_to_num(curve.precision) >= target.value
        reached = bool(good.any())
        best = np.where(good, curve.recall, -1.0) if reached else np.nan_to_num(curve.precision)
        c = int(best.argmax())
    else:
        c = int(curve.f1.argmax())
    choice = Choice(threshold=float(curve.threshold[c]), reached=reached)
    return describe_threshold(choice, curve)


def choose_above(curve: ThresholdCurve, least: Choice) -> Choice:
    """The best F1 with no lower threshold than `least` has, which may itself be the best."""
    allowed = curve.score >= least.threshold
    if allowed.any():
        c = int(np.where(allowed, curve.f1, -1.0).argmax())
        # What is kept down to this score is also kept from `least` up.
        threshold = max(float(curve.threshold[c]), least.threshold)
        least = replace(least, threshold=threshold)
    return describe_threshold(least, curve)


def describe_threshold(choice: Choice, curve: ThresholdCurve) -> Choice:
    """The choice with what its threshold does to the windows or events of the curve."""
    c = curve.at(choice.threshold)
    if c is None:
        return replace(choice, positives=curve.num_positive, recall=0.0, f1=0.0)
    precision = float(curve.precision[c])
    return replace(
        choice,
        positives=curve.num_positive,
        precision=None if math.isnan(precision) else precision,
        recall=float(curve.recall[c]),
        f1=float(curve.f1[c]),
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
