"""Compute average precision: events as columns, greedy matching, ranked hits.

A metric decides which prediction hits which labelled event. Here the hits become precision, recall
and their mean, over the whole set or over any resample of its matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from touchline.pipeline.types import Bool, Event, Float64, Int64

EventsByVideo = Mapping[str, Sequence[Event]]
"""The events of each video, by a name that labels and predictions share."""

NO_MATCH = -1


@dataclass(frozen=True)
class Columns:
    """N events as columns, (N,) each.

    Attributes:
        video: Index into the list of videos.
        start_s: Start in seconds.
        end_s: End in seconds.
        peak_s: The event's moment in seconds.
        score: 0 to 1.
    """

    video: Int64
    start_s: Float64
    end_s: Float64
    peak_s: Float64
    score: Float64

    def __len__(self) -> int:
        return len(self.video)

    def take(self, index: Int64 | Bool) -> Columns:
        """Return the rows with these indices, or where a mask (N,) is True."""
        return Columns(
            self.video[index],
            self.start_s[index],
            self.end_s[index],
            self.peak_s[index],
            self.score[index],
        )


def columns_by_label(events: EventsByVideo, videos: Sequence[str]) -> dict[str, Columns]:
    """Turn the events of each class into columns, ordered by video, then as given."""
    rows: dict[str, list[tuple[int, float, float, float, float]]] = {}
    for v, video in enumerate(videos):
        for e in events.get(video, ()):
            rows.setdefault(e.label, []).append((v, e.start_s, e.end_s, e.peak_s, e.score))
    return {label: _columns(found) for label, found in rows.items()}


def all_columns(events: EventsByVideo, videos: Sequence[str]) -> Columns:
    """Turn the events of all classes into columns, ordered by video, then as given."""
    return _columns(
        [
            (v, e.start_s, e.end_s, e.peak_s, e.score)
            for v, video in enumerate(videos)
            for e in events.get(video, ())
        ]
    )


def _columns(rows: Sequence[tuple[int, float, float, float, float]]) -> Columns:
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
    return Columns(table[:, 0].astype(np.int64), *(table[:, c] for c in range(1, 5)))


NO_EVENTS = _columns([])


def video_names(*sets: EventsByVideo) -> list[str]:
    """List the videos of all sets once, in the order of the sets."""
    return list(dict.fromkeys(video for events in sets for video in events))


def pairs_within(first: Columns, second: Columns, reach_s: float) -> tuple[Int64, Int64]:
    """List pairs (i, j) of one video whose peaks are close, sorted by i, then by j's time.

    Pairs up to a millisecond further apart may be included.

    Args:
        first: The events that i counts.
        second: The events that j counts.
        reach_s: Largest distance of two peaks, in seconds.
    """
    return _pairs_between(first, second, first.peak_s - reach_s, first.peak_s + reach_s, "peak_s")


def pairs_overlapping(first: Columns, second: Columns) -> tuple[Int64, Int64]:
    """List pairs (i, j) of one video whose intervals may overlap, sorted by i.

    All overlapping pairs are included, and some that do not overlap.
    """
    longest_s = float((second.end_s - second.start_s).max(initial=0.0))
    return _pairs_between(first, second, first.start_s - longest_s, first.end_s, "start_s")


def _pairs_between(
    first: Columns,
    second: Columns,
    low_s: Float64,
    high_s: Float64,
    time: Literal["peak_s", "start_s"],
) -> tuple[Int64, Int64]:
    """Pairs of one video where low_s[i] <= the time of j <= high_s[i], within a millisecond."""
    time_s: Float64 = getattr(second, time)
    every = np.concatenate([low_s, high_s, time_s, [0.0]])
    # All videos on one time axis, further apart than any two times of a video.
    apart = float(np.ptp(every)) + 1.0
    order = np.lexsort((time_s, second.video))
    place = (second.video * apart + time_s)[order]
    low = np.searchsorted(place, first.video * apart + low_s - 1e-3, side="left")
    high = np.searchsorted(place, first.video * apart + high_s + 1e-3, side="right")
    i, position = expand_ranges(low, high)
    return i, order[position]


def expand_ranges(low: Int64, high: Int64) -> tuple[Int64, Int64]:
    """Expand ranges [low[i], high[i]) to one (i, member) per member."""
    count = high - low
    i = np.repeat(np.arange(len(low)), count)
    first = np.repeat(low - (np.cumsum(count) - count), count)
    return i, first + np.arange(int(count.sum()))


def match_greedily(taker: Int64, taken: Int64, *, num_takers: int, num_taken: int) -> Int64:
    """Give every taker its first choice that is still free: (num_takers,), or NO_MATCH.

    Args:
        taker: (E,) the taker of each pair, in the order in which takers choose.
        taken: (E,) what the pair offers; each taker's best choice first.
        num_takers: How many takers there are.
        num_taken: How many things can be taken.
    """
    partner = [NO_MATCH] * num_takers
    free = [True] * num_taken
    for i, j in zip(taker.tolist(), taken.tolist(), strict=True):
        if free[j] and partner[i] == NO_MATCH:
            partner[i] = j
            free[j] = False
    return np.array(partner, dtype=np.int64)


def taken_by(taken: Int64, *, num_taken: int) -> Int64:
    """Turn what each taker got into who took each thing: (num_taken,), or NO_MATCH."""
    takers = np.flatnonzero(taken != NO_MATCH)
    taker = np.full(num_taken, NO_MATCH)
    taker[taken[takers]] = takers
    return taker


@dataclass(frozen=True)
class Units:
    """What a bootstrap resamples: matches, or stretches of them.

    Attributes:
        first: The number of each video's first unit.
        num: U, how many units there are.
        block_s: Length of a stretch in seconds; None: units are matches.
    """

    first: Mapping[str, int]
    num: int
    block_s: float | None = None

    def of(self, columns: Columns, videos: Sequence[str]) -> Int64:
        """Find the unit (N,) of each event by its video and its peak."""
        unit = np.array([self.first[video] for video in videos], dtype=np.int64)[columns.video]
        if self.block_s is not None:
            unit = unit + np.maximum(columns.peak_s // self.block_s, 0).astype(np.int64)
        return unit


def match_units(videos: Sequence[str], groups: Mapping[str, str] | None = None) -> Units:
    """Make one unit per match: the videos of a group, or a video without a group."""
    names = {video: (groups or {}).get(video, video) for video in videos}
    place = {name: u for u, name in enumerate(dict.fromkeys(names.values()))}
    return Units({video: place[name] for video, name in names.items()}, len(place))


def block_units(videos: Sequence[str], *sets: EventsByVideo, block_s: float) -> Units:
    """Make one unit per stretch of a video, for sets with too few matches to resample.

    Args:
        videos: The videos.
        sets: The events; each video is cut up to its last event.
        block_s: Length of a stretch in seconds.

    Raises:
        ValueError: `block_s` is not a number above 0.
    """
    if not 0 < block_s < np.inf:
        raise ValueError(f"block_s is {block_s}; it must be more than 0 seconds")
    first, num = {}, 0
    for video in videos:
        last_s = max((e.peak_s for s in sets for e in s.get(video, ())), default=0.0)
        first[video] = num
        num += max(int(last_s // block_s), 0) + 1
    return Units(first, num, block_s)


@dataclass(frozen=True)
class ClassEvents:
    """Labelled and predicted events of each class, ready to be matched.

    Attributes:
        videos: The videos that the columns index.
        units: What is resampled.
        truth: The labelled events of each class.
        predictions: The predicted events of each class.
    """

    videos: Sequence[str]
    units: Units
    truth: Mapping[str, Columns]
    predictions: Mapping[str, Columns]

    def unit_of(self, columns: Columns) -> Int64:
        """Find the unit (N,) of each event."""
        return self.units.of(columns, self.videos)

    def num_truth(self, columns: Columns) -> Float64:
        """Count labelled events per unit (U,)."""
        return np.bincount(self.unit_of(columns), minlength=self.units.num).astype(np.float64)


def events_by_class(
    truth: EventsByVideo,
    predictions: EventsByVideo,
    units: Units | None,
    *,
    order: Literal["labels", "predictions", "names"] = "labels",
) -> ClassEvents:
    """Turn the events of both sides into columns of each class.

    Args:
        truth: Labelled events.
        predictions: Predicted events.
        units: What is resampled; None: each video.
        order: The order of the videos, which decides between equal scores: as in the labels, as in
            the predictions, or by name.
    """
    both = (predictions, truth) if order == "predictions" else (truth, predictions)
    videos = video_names(*both)
    videos = sorted(videos) if order == "names" else videos
    return ClassEvents(
        videos,
        units or match_units(videos),
        columns_by_label(truth, videos),
        columns_by_label(predictions, videos),
    )


@dataclass(frozen=True)
class Ranking:
    """The n predictions of one class at one threshold, best first.

    Attributes:
        score: (n,) scores.
        hit: (n,) whether the prediction hit an event.
        unit: (n,) the unit of the prediction; a hit belongs to the unit of its event.
        num_truth: (U,) labelled events per unit.
    """

    score: Float64
    hit: Bool
    unit: Int64
    num_truth: Float64


@dataclass(frozen=True)
class Rule:
    """How a family of metrics turns rankings into one number.

    Attributes:
        area: How average precision is computed. "plain": the sum of the precision at each hit,
            divided by the number of labelled events. "interpolated": likewise with the best
            precision at this or a later hit. "eleven_point": the mean of the best precision at
            recalls 0, 0.1, ..., 1 over 200 thresholds of the score. "f1": no area, but F1 over all
            ranked predictions.
        absent: A class without labelled events is left out of the mean ("skip") or counts 0
            ("zero").
        average: Average over the thresholds: plain ("mean") or by the trapezoidal rule
            ("trapezoid").
        scale: Factor of the average over more than one threshold.
    """

    area: Literal["interpolated", "plain", "eleven_point", "f1"]
    absent: Literal["skip", "zero"] = "skip"
    average: Literal["mean", "trapezoid"] = "mean"
    scale: float = 1.0


@dataclass(frozen=True)
class MeanAP:
    """A metric on a set of events; it gives the figures of any resample of the matches.

    Attributes:
        metric: The name of the metric.
        thresholds: T tolerances in seconds, or T temporal IoUs.
        labels: K classes, sorted.
        rankings: K rows of T rankings.
        rule: How rankings become one number.
        num_units: U, the number of matches (or stretches).
    """

    metric: str
    thresholds: tuple[float, ...]
    labels: tuple[str, ...]
    rankings: tuple[tuple[Ranking, ...], ...]
    rule: Rule
    num_units: int

    def per_class(self, counts: Float64 | None = None) -> Float64:
        """Compute AP (R, K, T) with match u counted `counts[r, u]` times.

        Without counts every match counts once, R = 1. NaN for a class without labelled events.
        """
        counts = np.ones((1, self.num_units)) if counts is None else counts
        area = _AREAS[self.rule.area]
        rows = [area(row, counts) for row in self.rankings]
        shape = (len(counts), 0, len(self.thresholds))
        return np.stack(rows, axis=1) if rows else np.zeros(shape)

    def per_threshold(self, per_class: Float64) -> Float64:
        """(R, K, T) -> (R, T), the mean over classes; NaN without any labelled event.

        A class without an event in a resample is always left out of it.
        """
        present = np.isfinite(per_class)
        total = np.where(present, per_class, 0.0).sum(axis=1)
        counted = present.sum(axis=1)  # (R, T)
        if self.rule.absent == "zero":
            without = sum(not row[0].num_truth.any() for row in self.rankings)
            if without == len(self.rankings):
                return np.zeros_like(total)
            counted = np.where(counted > 0, counted + without, 0)
        return ratio(total, counted)

    def average(self, per_threshold: Float64) -> Float64:
        """(..., T) -> (...), the average over thresholds."""
        weight = np.ones(per_threshold.shape[-1])
        if self.rule.average == "trapezoid" and len(weight) > 1:
            weight[[0, -1]] = 0.5
        return np.asarray(per_threshold @ weight / weight.sum())

    def headline(self, per_class: Float64) -> Float64:
        """(R, K, T) -> (R,), the mean over classes, averaged over thresholds."""
        scale = self.rule.scale if len(self.thresholds) > 1 else 1.0
        return self.average(self.per_threshold(per_class)) * scale

    def value(self) -> float:
        """The headline figure of the whole set."""
        return float(self.headline(self.per_class())[0])


def _interpolated_area(row: Sequence[Ranking], counts: Float64) -> Float64:
    def area(copies: Float64, before: Float64) -> float:
        # Copies of one hit stand next to each other: precision is best at the last of them.
        precision = np.cumsum(copies) / np.maximum(before + copies, 1.0)
        precision[copies == 0] = 0.0
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(best @ copies)

    return _area_of_hits(row, counts, area)


def _plain_area(row: Sequence[Ranking], counts: Float64) -> Float64:
    def area(copies: Float64, before: Float64) -> float:
        hits = np.cumsum(copies) - copies
        total = 0.0
        for copy in range(1, int(copies.max(initial=0.0)) + 1):
            drawn = copies >= copy
            total += float(((hits[drawn] + copy) / (before[drawn] + copy)).sum())
        return total

    return _area_of_hits(row, counts, area)


def _area_of_hits(
    row: Sequence[Ranking], counts: Float64, area: Callable[[Float64, Float64], float]
) -> Float64:
    """(R, T) `area` of (copies of each hit, predictions before it), divided by labelled events."""
    total = np.zeros((len(counts), len(row)))
    truths = np.stack([counts @ ranking.num_truth for ranking in row], axis=1)
    for ranked, thresholds in _alike(row):
        places = [np.flatnonzero(row[t].hit) for t in thresholds]
        last = max((int(place[-1]) + 1 for place in places if len(place)), default=0)
        unit = ranked.unit[:last]
        for r, count in enumerate(counts):
            weight = count[unit]
            before = np.cumsum(weight) - weight
            for t, place in zip(thresholds, places, strict=True):
                total[r, t] = area(weight[place], before[place])
    return ratio(total, truths)


def _alike(row: Sequence[Ranking]) -> list[tuple[Ranking, list[int]]]:
    """Group the thresholds that rank the same predictions: their `before` is the same."""
    found: list[tuple[Ranking, list[int]]] = []
    for t, ranking in enumerate(row):
        for other, thresholds in found:
            if np.array_equal(other.unit, ranking.unit):
                thresholds.append(t)
                break
        else:
            found.append((ranking, [t]))
    return found


NUM_SCORE_LEVELS = 200
RECALLS = np.arange(11) / 10


def _eleven_point_area(row: Sequence[Ranking], counts: Float64) -> Float64:
    return np.stack([_eleven_points(ranking, counts) for ranking in row], axis=1)


def _eleven_points(ranking: Ranking, counts: Float64) -> Float64:
    U = len(ranking.num_truth)
    levels = np.linspace(0, 1, NUM_SCORE_LEVELS)
    reached = np.searchsorted(levels, ranking.score, side="right")  # number of levels reached
    cell = ranking.unit * (NUM_SCORE_LEVELS + 1) + reached
    size = U * (NUM_SCORE_LEVELS + 1)
    every = np.bincount(cell, minlength=size).reshape(U, -1).astype(np.float64)
    right = np.bincount(cell, ranking.hit, minlength=size).reshape(U, -1)
    shown = np.cumsum((counts @ every)[:, :0:-1], axis=1)[:, ::-1]  # (R, levels)
    hits = np.cumsum((counts @ right)[:, :0:-1], axis=1)[:, ::-1]
    truths = counts @ ranking.num_truth
    precision = hits / np.maximum(shown, 1.0)
    recall = hits / np.maximum(truths, 1.0)[:, None]
    best = [np.where(recall >= r, precision, 0.0).max(axis=1) for r in RECALLS]
    return np.where(truths > 0, np.mean(best, axis=0), np.nan)


def _f1(row: Sequence[Ranking], counts: Float64) -> Float64:
    """(R, T) F1 of all predictions; NaN without labelled events."""
    columns = []
    for ranking in row:
        U = len(ranking.num_truth)
        shown = counts @ np.bincount(ranking.unit, minlength=U).astype(np.float64)
        hits = counts @ np.bincount(ranking.unit, ranking.hit, minlength=U)
        truths = counts @ ranking.num_truth
        columns.append(np.where(truths > 0, 2 * hits / np.maximum(shown + truths, 1.0), np.nan))
    return np.stack(columns, axis=1)


_AREAS = {
    "interpolated": _interpolated_area,
    "plain": _plain_area,
    "eleven_point": _eleven_point_area,
    "f1": _f1,
}


def ratio(part: Float64, whole: Float64) -> Float64:
    """Divide, giving NaN where the divisor is 0."""
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


def rank(
    predictions: Columns,
    truth: Columns,
    partner: Int64,
    events: ClassEvents,
    *,
    keep: Bool | None = None,
) -> Ranking:
    """Rank predictions in the order they are in.

    Args:
        predictions: N predictions of one class.
        truth: Its labelled events.
        partner: (N,) the event each prediction hit, or NO_MATCH.
        events: The events they are from.
        keep: (N,) False drops a prediction; None keeps all.
    """
    hit = partner != NO_MATCH
    unit = events.unit_of(predictions)
    unit[hit] = events.unit_of(truth)[partner[hit]]
    kept = np.ones(len(predictions), dtype=np.bool_) if keep is None else keep
    return Ranking(predictions.score[kept], hit[kept], unit[kept], events.num_truth(truth))


def by_score(columns: Columns) -> Columns:
    """Sort events best first; ties stay in the order given."""
    return columns.take(np.argsort(-columns.score, kind="stable"))


def label_list(labels: Iterable[str] | None, *found: Mapping[str, Columns]) -> tuple[str, ...]:
    """Return `labels`, or if None all classes that occur, sorted."""
    if labels is not None:
        return tuple(labels)
    return tuple(sorted({label for columns in found for label in columns}))
