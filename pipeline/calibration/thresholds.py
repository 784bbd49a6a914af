"""Choose the threshold of one class, from labelled clips or from eventless footage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from touchline.models.classes import BACKGROUND
from touchline.models.training_record import ThresholdChoice
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.scoring.events import find_candidates, find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import Bool, Float64, ScoreTrack

LEAST_THRESHOLD = 0.01
"""The lowest threshold: candidates below it are not kept."""

CLEAR_GAIN = 1.0
"""The default threshold stays unless another gains more than this many events of all classes."""

CLEAR_GAIN_OF_CLASS = 2.0
"""A class keeps the common threshold unless its own gains more than this many events."""


@dataclass(frozen=True)
class ThresholdCurve:
    """The effect of every threshold of one class: (C,) arrays, from the highest score down.

    Attributes:
        score: The lowest score kept.
        hits: How many of those kept are right.
        kept: How many are kept.
        num_positive: How many windows or events there are to find.
    """

    score: Float64
    hits: Float64
    kept: Float64
    num_positive: int

    @property
    def precision(self) -> Float64:
        """(C,) the share of those kept that is right; NaN if nothing is kept."""
        unknown = np.full_like(self.hits, np.nan)
        return np.divide(self.hits, self.kept, out=unknown, where=self.kept > 0)

    @property
    def recall(self) -> Float64:
        """(C,) the share that is found."""
        return self.hits / self.num_positive

    @property
    def f1(self) -> Float64:
        """(C,) the harmonic mean of both; 0 if nothing is kept."""
        return 2 * self.hits / (self.kept + self.num_positive)

    @property
    def threshold(self) -> Float64:
        """(C,) halfway between the lowest score kept and the highest one dropped."""
        return halfway_down(self.score)

    @property
    def average_precision(self) -> float:
        """Average the precision over the recall that each lower score adds."""
        gained = np.diff(self.recall, prepend=0.0).clip(min=0.0)
        return float((np.nan_to_num(self.precision) * gained).sum())

    def at(self, threshold: float) -> int | None:
        """Find the point of the curve for a threshold; None if it keeps nothing."""
        kept = int((self.score >= threshold).sum())
        return kept - 1 if kept else None


def join_curves(curves: Sequence[ThresholdCurve]) -> ThresholdCurve:
    """Return the curve of several classes together, each at the same threshold."""
    score = np.unique(np.concatenate([curve.score for curve in curves]))[::-1]
    hits, kept = np.zeros(len(score)), np.zeros(len(score))
    for curve in curves:
        # How many of its points lie at or above each score; before the first, nothing is kept.
        reached = np.searchsorted(-curve.score, -score, side="right")
        hits += np.append(0.0, curve.hits)[reached]
        kept += np.append(0.0, curve.kept)[reached]
    return ThresholdCurve(score, hits, kept, sum(curve.num_positive for curve in curves))


def halfway_down(score: Float64) -> Float64:
    """Return for each score (C,) the middle to the next lower one; for the last, to 0."""
    halfway: Float64 = (score + np.append(score[1:], 0.0)) / 2
    return np.maximum(halfway, LEAST_THRESHOLD)


def window_curve(scores: Float64, positive: Bool) -> ThresholdCurve:
    """Make the curve of N windows: `scores` (N,), and whether each is `positive` (N,).

    Raises:
        ValueError: No window is positive.
    """
    if not positive.any():
        raise ValueError("no window is of this class, so no threshold can be chosen")
    order = np.argsort(-scores, kind="stable")
    score, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(score[1:] != score[:-1], True))
    return ThresholdCurve(
        score[last],
        hits[last].astype(np.float64),
        (last + 1).astype(np.float64),
        int(positive.sum()),
    )


def common_threshold(
    curves: Sequence[ThresholdCurve], *, copies: int = 1, floor: float = LEAST_THRESHOLD
) -> float:
    """Choose one threshold for all classes together, by the best F1 of their events.

    A class has few events, and the best F1 of a few events is partly luck. All classes together
    have more. So this is where the threshold of each class starts from.

    Args:
        curves: The effect of every threshold, one curve per class.
        copies: How many times the curves count each event.
        floor: The lowest threshold allowed.
    """
    default = OperatingPoint().threshold
    if not curves:
        return max(default, floor)
    every = join_curves(curves)
    slack = CLEAR_GAIN * copies / every.num_positive
    nearest = _nearest_good(every, floor, default, slack)
    return floor if nearest is None else nearest


def choose_threshold(
    curve: ThresholdCurve,
    target: Target,
    *,
    copies: int = 1,
    floor: float = LEAST_THRESHOLD,
    common: float | None = None,
) -> ThresholdChoice:
    """Choose the threshold of one class: for a precision, the highest of equally good ones.

    Args:
        curve: The effect of every threshold.
        target: What the threshold is to achieve.
        copies: How many times the curve counts each event.
        floor: For the best F1: the lowest threshold allowed.
        common: For the best F1: the threshold of all classes, from `common_threshold`. None: the
            class is judged alone.
    """
    if target.kind != "precision":
        return choose_above(curve, ThresholdChoice(floor), copies=copies, common=common)
    good = np.nan_to_num(curve.precision) >= target.value
    reached = bool(good.any())
    best = np.where(good, curve.recall, -1.0) if reached else np.nan_to_num(curve.precision)
    threshold = float(curve.threshold[int(best.argmax())])
    return describe_threshold(ThresholdChoice(threshold, reached), curve)


def choose_above(
    curve: ThresholdCurve,
    least: ThresholdChoice,
    *,
    copies: int = 1,
    common: float | None = None,
) -> ThresholdChoice:
    """Choose the threshold with the best F1 that is at least as high as the one of `least`.

    The best F1 of a few events is partly luck, and all thresholds between two scores far apart are
    equally good. So of the thresholds whose F1 is at most `CLEAR_GAIN_OF_CLASS` events below the
    best, the nearest to the threshold of all classes wins.

    Args:
        curve: The effect of every threshold.
        least: The lowest choice allowed.
        copies: How many times the curve counts each event.
        common: The threshold of all classes; None: the one of this class alone.
    """
    if common is None:
        common = common_threshold([curve], copies=copies, floor=least.threshold)
    slack = CLEAR_GAIN_OF_CLASS * copies / curve.num_positive
    threshold = _nearest_good(curve, least.threshold, common, slack)
    if threshold is not None:
        least = replace(least, threshold=threshold)
    return describe_threshold(least, curve)


def _nearest_good(curve: ThresholdCurve, least: float, aim: float, slack: float) -> float | None:
    """The threshold nearest to `aim` with F1 at most `slack` below the best; None without any."""
    allowed = curve.score >= least
    if not allowed.any():
        return None
    good = allowed & (curve.f1 >= curve.f1[allowed].max() - slack - 1e-9)
    # From halfway to the next lower score up to the lowest one kept, all thresholds are alike.
    low = np.maximum(curve.threshold[good], least)
    nearest = np.clip(aim, low, np.maximum(curve.score[good], low))
    return float(nearest[np.abs(nearest - aim).argmin()])


def describe_threshold(choice: ThresholdChoice, curve: ThresholdCurve) -> ThresholdChoice:
    """Add to a choice what its threshold does on the curve."""
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
    """Return the track with background and one class only."""
    columns = [0, track.labels.index(label)]
    return replace(track, labels=(BACKGROUND, label), probs=track.probs[:, columns])


def hours_of(tracks: Sequence[ScoreTrack]) -> float:
    """Add up the hours of footage that the tracks cover."""
    return sum(float(t.end_s[-1] - t.start_s[0]) for t in tracks if len(t.start_s)) / 3600


def count_events(
    tracks: Sequence[ScoreTrack], label: str, threshold: float, options: EventOptions
) -> int:
    """Count the events of one class that `detect` would find.

    Args:
        tracks: Score tracks of footage.
        label: The class.
        threshold: Its threshold.
        options: How scores become events.
    """
    point = {label: OperatingPoint(threshold=threshold)}
    return sum(len(find_events(one_class(track, label), point, options)) for track in tracks)


def choose_for_rate(
    tracks: Sequence[ScoreTrack], label: str, target: Target, options: EventOptions
) -> ThresholdChoice:
    """Choose the lowest threshold with at most `target.value` events per hour of eventless footage.

    The search goes down from the highest score and stops at the first threshold with too many
    events. Much lower thresholds may give fewer again, because events merge; these are of no use.

    Args:
        tracks: Score tracks of eventless footage.
        label: The class.
        target: The rate to keep.
        options: How scores become events.
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
            # No threshold can exclude a score of 1.
            threshold = (score + above) / 2
            found = count_events(tracks, label, threshold, options)
            reached = found <= target.value * hours
            return ThresholdChoice(threshold, reached, false_events=found, hours=hours)
        above = score
    found = count_events(tracks, label, LEAST_THRESHOLD, options)
    return ThresholdChoice(LEAST_THRESHOLD, false_events=found, hours=hours)


def most_events_per_hour(count: int, hours: float) -> float:
    """Compute the 95 % upper bound of a Poisson rate per hour: about 3 for 0 events in 1 hour."""
    low, high = 0.0, 10.0 * (count + 5)
    while high - low > 1e-9 * high:
        mean = (low + high) / 2
        terms = np.array([i * math.log(mean) - math.lgamma(i + 1) for i in range(count + 1)])
        if np.exp(terms - mean).sum() > 0.05:
            low = mean
        else:
            high = mean
    return high / hours
