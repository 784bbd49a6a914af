"""Sort every prediction and every labelled event by what went wrong with it, and what that cost.

In the spirit of TIDE (Bolya et al. 2020): one kind of error is corrected at a time, and the gain
in average precision is its cost. Costs do not add up: one prediction may need two corrections.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

from touchline.pipeline.evaluation.intervals import activitynet_map, temporal_iou
from touchline.pipeline.evaluation.ranking import (
    NO_MATCH,
    Columns,
    EventsByVideo,
    Units,
    all_columns,
    match_greedily,
    match_units,
    pairs_overlapping,
    ratio,
    video_names,
)
from touchline.pipeline.evaluation.spotting import closest_pairs, spotting_map
from touchline.pipeline.types import MICROSECOND_S, Bool, Event, Float64, Int64

SPOT_REACH = 4.0
"""A spot of the right class at most this many tolerances from an event is mistimed, not false."""

INTERVAL_REACH_TIOU = 0.1
"""An interval of the right class that overlaps an event by this much is mistimed, not false."""


class Kind(Enum):
    """What became of a prediction. "Missed" means that no better prediction hit the event.

    Attributes:
        HIT: Right class, right time.
        MISTIMED: Right class, near a missed event, but not near enough.
        CONFUSED: Right time of a missed event, wrong class.
        DUPLICATE: Right class and time, but a better prediction hit the event.
        FALSE: No event there.
    """

    HIT = "hit"
    MISTIMED = "mistimed"
    CONFUSED = "wrong_class"
    DUPLICATE = "duplicate"
    FALSE = "false"


MISSED = "missed"


@dataclass(frozen=True)
class ClassBreakdown:
    """Counts of one class.

    Attributes:
        label: The class.
        num_truth: Labelled events of the class.
        num_predictions: Predictions of the class.
        kinds: How many of these predictions are of each kind.
        missed: Labelled events that no prediction belongs to.
    """

    label: str
    num_truth: int
    num_predictions: int
    kinds: dict[Kind, int]
    missed: int

    @property
    def precision(self) -> float | None:
        """Hits divided by predictions; None without predictions."""
        return self.kinds[Kind.HIT] / self.num_predictions if self.num_predictions else None

    @property
    def recall(self) -> float | None:
        """Hits divided by labelled events; None without any."""
        return self.kinds[Kind.HIT] / self.num_truth if self.num_truth else None

    @property
    def f1(self) -> float | None:
        """Twice the hits divided by labelled events plus predictions; None without either."""
        both = self.num_truth + self.num_predictions
        return 2 * self.kinds[Kind.HIT] / both if both else None


@dataclass(frozen=True)
class Timing:
    """How far predicted times are from labelled ones.

    Attributes:
        what: The time compared: "peak", "start" or "end".
        errors_s: Predicted minus labelled time of each hit and mistimed prediction, in seconds.
    """

    what: str
    errors_s: Float64

    QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

    def quantiles_s(self) -> dict[float, float]:
        """Return the errors at `QUANTILES`; empty without errors."""
        if len(self.errors_s) == 0:
            return {}
        at = np.quantile(self.errors_s, self.QUANTILES)
        return {q: float(error_s) for q, error_s in zip(self.QUANTILES, at, strict=True)}


@dataclass(frozen=True)
class Breakdown:
    """The errors of one set of predictions at one threshold.

    Attributes:
        metric: "spotting" or "activitynet".
        threshold: The tolerance in seconds, or the temporal IoU.
        per_class: Counts of each class, sorted by name.
        timing: Errors of the peak, or of start and end.
        per_unit: (U, 3) hits, predictions and labelled events of each match (or stretch).
        average_precision: Mean over classes.
        cost: By kind of error, the average precision gained if only this kind is corrected. Missed
            events are corrected by removing them; if all are missed, the rest up to 1 is gained.
    """

    metric: str
    threshold: float
    per_class: tuple[ClassBreakdown, ...]
    timing: tuple[Timing, ...]
    per_unit: Float64
    average_precision: float
    cost: dict[str, float]

    @property
    def at(self) -> str:
        """The threshold with its unit, such as "1 s" or "tIoU 0.5"."""
        unit = "{:g} s" if self.metric == "spotting" else "tIoU {:g}"
        return unit.format(self.threshold)

    def total(self, kind: Kind) -> int:
        """Count the predictions of this kind over all classes."""
        return sum(row.kinds[kind] for row in self.per_class)

    def overall(self, counts: Float64 | None = None) -> dict[str, Float64]:
        """Compute precision, recall and f1 over all classes: (R,) each, NaN for 0 / 0.

        `counts` (R, U) says how often each match counts; None: each once, R = 1.
        """
        counts = np.ones((1, len(self.per_unit))) if counts is None else counts
        hits, guessed, actual = (counts @ self.per_unit).T
        return {
            "precision": ratio(hits, guessed),
            "recall": ratio(hits, actual),
            "f1": ratio(2 * hits, guessed + actual),
        }


@dataclass(frozen=True)
class _Flat:
    """The events of all classes and videos as lists and columns (N,); predictions best first."""

    video: list[str]
    events: list[Event]
    columns: Columns
    labels: npt.NDArray[np.str_]


@dataclass(frozen=True)
class _Pairs:
    """Pairs (E,) of a prediction `i` and an event `j` of one video, of any class.

    Sorted by prediction, the closest event first. `hit`: close enough.
    """

    i: Int64
    j: Int64
    hit: Bool


def break_down_spots(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    *,
    tolerance_s: float,
    units: Units | None = None,
) -> Breakdown:
    """Sort predictions as spots: a hit is within the tolerance, mistimed within four of them.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        tolerance_s: Largest distance of a hit, in seconds (inclusive).
        units: Which match each video belongs to; None: each video is a match.
    """

    def pair(guesses: Columns, actual: Columns) -> _Pairs:
        i, j, apart = closest_pairs(guesses, actual, reach_s=SPOT_REACH * tolerance_s)
        return _Pairs(i, j, apart <= tolerance_s + MICROSECOND_S)

    def average_precision(truth: EventsByVideo, predictions: EventsByVideo) -> float:
        return spotting_map(truth, predictions, tolerances_s=(tolerance_s,)).value()

    times = {"peak": lambda event: event.peak_s}
    family = _Family("spotting", tolerance_s, pair, average_precision, times)
    return _break_down(truth, predictions, family, units)


def break_down_intervals(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    *,
    tiou: float,
    units: Units | None = None,
) -> Breakdown:
    """Sort predictions as intervals by their overlap; mistimed ones overlap by at least 0.1.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        tiou: Smallest temporal IoU of a hit, in (0, 1].
        units: Which match each video belongs to; None: each video is a match.
    """

    def pair(guesses: Columns, actual: Columns) -> _Pairs:
        i, j = pairs_overlapping(guesses, actual)
        overlap = temporal_iou(guesses, actual, i, j)
        order = np.lexsort((j, -overlap, i))
        order = order[overlap[order] >= min(INTERVAL_REACH_TIOU, tiou)]
        return _Pairs(i[order], j[order], overlap[order] >= tiou)

    def average_precision(truth: EventsByVideo, predictions: EventsByVideo) -> float:
        return activitynet_map(truth, predictions, tious=(tiou,)).value()

    times = {"start": lambda event: event.start_s, "end": lambda event: event.end_s}
    family = _Family("activitynet", tiou, pair, average_precision, times)
    return _break_down(truth, predictions, family, units)


@dataclass(frozen=True)
class _Family:
    """The differences between spots and intervals."""

    metric: str
    threshold: float
    pair: Callable[[Columns, Columns], _Pairs]
    average_precision: Callable[[EventsByVideo, EventsByVideo], float]
    times: Mapping[str, Callable[[Event], float]]


def _break_down(
    truth: EventsByVideo, predictions: EventsByVideo, family: _Family, units: Units | None
) -> Breakdown:
    videos = video_names(truth, predictions)
    actual = _flatten(truth, videos)
    guesses = _best_first(_flatten(predictions, videos))
    pairs = family.pair(guesses.columns, actual.columns)
    kinds, partner, found = _sort_out(pairs, guesses, actual)
    before = family.average_precision(truth, predictions)
    cost = {}
    for name, fixed_truth, fixed in _corrected(guesses, actual, kinds, partner, found, videos):
        left = any(fixed_truth.values())
        cost[name] = (family.average_precision(fixed_truth, fixed) if left else 1.0) - before
    timed = [k for k, kind in enumerate(kinds) if kind in (Kind.HIT, Kind.MISTIMED)]
    timing = [
        Timing(
            what,
            np.array([time(guesses.events[k]) - time(actual.events[partner[k]]) for k in timed]),
        )
        for what, time in family.times.items()
    ]
    return Breakdown(
        metric=family.metric,
        threshold=family.threshold,
        per_class=_count(guesses, actual, kinds, found),
        timing=tuple(timing),
        per_unit=_count_units(
            guesses, actual, kinds, partner, units or match_units(videos), videos
        ),
        average_precision=before,
        cost=cost,
    )


def _flatten(events: EventsByVideo, videos: Sequence[str]) -> _Flat:
    rows = [(video, event) for video in videos for event in events.get(video, ())]
    return _Flat(
        video=[video for video, _ in rows],
        events=[event for _, event in rows],
        columns=all_columns(events, videos),
        labels=np.array([event.label for _, event in rows], dtype=np.str_),
    )


def _best_first(flat: _Flat) -> _Flat:
    order = np.argsort(-flat.columns.score, kind="stable")
    return _Flat(
        video=[flat.video[k] for k in order],
        events=[flat.events[k] for k in order],
        columns=flat.columns.take(order),
        labels=flat.labels[order],
    )


def _sort_out(pairs: _Pairs, guesses: _Flat, actual: _Flat) -> tuple[list[Kind], Int64, Bool]:
    """Kind (N,) and event (N,) of each prediction; which events (M,) have a prediction."""
    N, M = len(guesses.events), len(actual.events)
    kinds = [Kind.FALSE] * N
    partner = np.full(N, NO_MATCH)
    found = np.zeros(M, dtype=np.bool_)
    i, j = pairs.i, pairs.j
    same = guesses.labels[i] == actual.labels[j]
    for k in np.unique(i[same & pairs.hit]):
        kinds[k] = Kind.DUPLICATE
    for kind, wanted in (
        (Kind.HIT, same & pairs.hit),
        (Kind.MISTIMED, same),
        (Kind.CONFUSED, ~same & pairs.hit),
    ):
        free = wanted & (partner[i] == NO_MATCH) & ~found[j]
        got = match_greedily(i[free], j[free], num_takers=N, num_taken=M)
        new = np.flatnonzero(got != NO_MATCH)
        partner[new] = got[new]
        found[got[new]] = True
        for k in new:
            kinds[k] = kind
    return kinds, partner, found


def _corrected(
    guesses: _Flat,
    actual: _Flat,
    kinds: Sequence[Kind],
    partner: Int64,
    found: Bool,
    videos: Sequence[str],
) -> Iterator[tuple[str, EventsByVideo, EventsByVideo]]:
    """Yield (kind of error, labels, predictions) with only that kind of error corrected."""
    truth = _by_video(actual.video, actual.events, videos)
    for kind in (Kind.MISTIMED, Kind.CONFUSED, Kind.DUPLICATE, Kind.FALSE):
        fixed: list[Event | None] = list(guesses.events)
        for k, event in enumerate(guesses.events):
            if kinds[k] != kind:
                continue
            if kind == Kind.MISTIMED:
                fixed[k] = replace(actual.events[partner[k]], score=event.score)
            elif kind == Kind.CONFUSED:
                fixed[k] = replace(event, label=actual.events[partner[k]].label)
            else:
                fixed[k] = None
        yield kind.value, truth, _by_video(guesses.video, fixed, videos)
    kept = [event if spoken else None for event, spoken in zip(actual.events, found, strict=True)]
    predictions = _by_video(guesses.video, guesses.events, videos)
    yield MISSED, _by_video(actual.video, kept, videos), predictions


def _by_video(
    video: Sequence[str], events: Sequence[Event | None], videos: Sequence[str]
) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {name: [] for name in videos}
    for name, event in zip(video, events, strict=True):
        if event is not None:
            found[name].append(event)
    return found


def _count_units(
    guesses: _Flat,
    actual: _Flat,
    kinds: Sequence[Kind],
    partner: Int64,
    units: Units,
    videos: Sequence[str],
) -> Float64:
    """(U, 3) hits, predictions and labelled events; a hit counts in the unit of its event."""
    truth_unit, unit = units.of(actual.columns, videos), units.of(guesses.columns, videos)
    hit = np.array([kind == Kind.HIT for kind in kinds], dtype=np.bool_)
    unit[hit] = truth_unit[partner[hit]]
    counted = [np.bincount(of, minlength=units.num) for of in (unit[hit], unit, truth_unit)]
    return np.stack(counted, axis=1).astype(np.float64)


def _count(
    guesses: _Flat, actual: _Flat, kinds: Sequence[Kind], found: Bool
) -> tuple[ClassBreakdown, ...]:
    names = sorted({*guesses.labels.tolist(), *actual.labels.tolist()})
    counted = Counter(zip(guesses.labels.tolist(), kinds, strict=True))
    truths = Counter(actual.labels.tolist())
    missed = Counter(actual.labels[~found].tolist())
    rows = []
    for name in names:
        of_kind = {kind: counted[name, kind] for kind in Kind}
        rows.append(
            ClassBreakdown(name, truths[name], sum(of_kind.values()), of_kind, missed[name])
        )
    return tuple(rows)


def join_breakdowns(a: Breakdown, b: Breakdown) -> Breakdown:
    """Put B's matches after A's; only `overall` of the result is meaningful."""
    return replace(a, per_unit=np.concatenate([a.per_unit, b.per_unit]))
