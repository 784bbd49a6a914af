"""What every average precision is made of: events as columns, greedy matching, ranked hits.

A metric decides which prediction hits which truth; here the hits become precision, recall and
their mean, over the whole set or over any resampling of its matches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from touchline.pipeline.types import Bool, Event, Float64, Int64

EventsByVideo = Mapping[str, Sequence[Event]]
"""The events of each video, by a name that truth and predictions share."""

NO_MATCH = -1


@dataclass(frozen=True)
class Columns:
    """Events as columns, (N,) each, in the order given: `video` indexes the list of videos."""

    video: Int64
    start_s: Float64
    end_s: Float64
    peak_s: Float64
    score: Float64

    def __len__(self) -> int:
        return len(self.video)

    def take(self, index: Int64 | Bool) -> Columns:
        """The chosen rows."""
        return Columns(
            self.video[index],
            self.start_s[index],
            self.end_s[index],
            self.peak_s[index],
            self.score[index],
        )


def columns_by_label(events: EventsByVideo, videos: Sequence[str]) -> dict[str, Columns]:
    """The events of each class as columns, in the order of the videos and of their events."""
    rows: dict[str, list[tuple[int, float, float, float, float]]] = {}
    for v, video in enumerate(videos):
        for e in events.get(video, ()):
            rows.setdefault(e.label, []).append((v, e.start_s, e.end_s, e.peak_s, e.score))
    return {label: _columns(found) for label, found in rows.items()}


def all_columns(events: EventsByVideo, videos: Sequence[str]) -> Columns:
    """The events of all classes as columns, in the order of the videos and of their events."""
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
    """The videos of all sets, those of the first set first, each once."""
    return list(dict.fromkeys(video for events in sets for video in events))


def pairs_within(first: Columns, second: Columns, reach_s: float) -> tuple[Int64, Int64]:
    """Index pairs (i, j) of one video whose peaks are at most `reach_s` apart, by i then j's time.

    A little more may come back than asked: times are compared beside the video's number.
    """
    return _pairs_between(first, second, first.peak_s - reach_s, first.peak_s + reach_s, "peak_s")


def pairs_overlapping(first: Columns, second: Columns) -> tuple[Int64, Int64]:
    """Index pairs (i, j) of one video whose intervals overlap, and some that do not; by i."""
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
    # One axis for all videos: they are further apart on it than any two times can be.
    apart = float(np.ptp(every)) + 1.0
    order = np.lexsort((time_s, second.video))
    place = (second.video * apart + time_s)[order]
    low = np.searchsorted(place, first.video * apart + low_s - 1e-3, side="left")
    high = np.searchsorted(place, first.video * apart + high_s + 1e-3, side="right")
    i, position = expand_ranges(low, high)
    return i, order[position]


def expand_ranges(low: Int64, high: Int64) -> tuple[Int64, Int64]:
    """Ranges [low[i], high[i]) -> one (i, member) per member."""
    count = high - low
    i = np.repeat(np.arange(len(low)), count)
    first = np.repeat(low - (np.cumsum(count) - count), count)
    return i, first + np.arange(int(count.sum()))


def match_greedily(taker: Int64, taken: Int64, *, num_takers: int, num_taken: int) -> Int64:
    """(num_takers,) what each taker got, or NO_MATCH.

    The pairs are in the order of preference: the takers one after the other, each with its own
    best choice first. Every taker gets the first of its choices that is still free.
    """
    partner = [NO_MATCH] * num_takers
    free = [True] * num_taken
    for i, j in zip(taker.tolist(), taken.tolist(), strict=True):
        if free[j] and partner[i] == NO_MATCH:
            partner[i] = j
            free[j] = False
    return np.array(partner, dtype=np.int64)


@dataclass(frozen=True)
class Units:
    """What a bootstrap resamples: matches, or stretches of `block_s` seconds of them.

    first: the number of the first unit of each video.  num: U, how many units there are.
    """

    first: Mapping[str, int]
    num: int
    block_s: float | None = None

    def of(self, columns: Columns, videos: Sequence[str]) -> Int64:
        """(N,) the unit of each event, by its video and its peak."""
        unit = np.array([self.first[video] for video in videos], dtype=np.int64)[columns.video]
        if self.block_s is not None:
            unit = unit + np.maximum(columns.peak_s // self.block_s, 0).astype(np.int64)
        return unit


def match_units(videos: Sequence[str], groups: Mapping[str, str] | None = None) -> Units:
    """One unit per match: videos of one group together, every other video by itself."""
    names = {video: (groups or {}).get(video, video) for video in videos}
    place = {name: u for u, name in enumerate(dict.fromkeys(names.values()))}
    return Units({video: place[name] for video, name in names.items()}, len(place))


def block_units(videos: Sequence[str], *sets: EventsByVideo, block_s: float) -> Units:
    """One unit per stretch of `block_s` seconds: for sets of too few matches to resample.

    Stretches run from the start of each video to its last event.
    """
    if not 0 < block_s < np.inf:
        raise ValueError(f"block_s is {block_s}; it must be above 0 seconds")
    first, num = {}, 0
    for video in videos:
        last_s = max((e.peak_s for s in sets for e in s.get(video, ())), default=0.0)
        first[video] = num
        num += max(int(last_s // block_s), 0) + 1
    return Units(first, num, block_s)


@dataclass(frozen=True)
class Ranking:
    """The predictions of one class at one threshold, best first: what hit and what did not.

    score, hit, unit: (n,), where `unit` numbers the match a prediction belongs to; a hit belongs
    to the match of its truth. num_truth: (U,) truths per match.
    """

    score: Float64
    hit: Bool
    unit: Int64
    num_truth: Float64


@dataclass(frozen=True)
class Rule:
    """How a family of metrics makes one number of rankings.

    area: "interpolated", the sum over the hits of the best precision at this or a later hit, over
        the number of truths; "plain", of the precision at the hit itself; "eleven_point", the mean
        of the best precision at recalls 0, 0.1, ..., 1 over 200 thresholds of the score.
    absent: a class without truth in the whole set is left out of the mean ("skip") or counts 0
        ("zero").
    average: over the thresholds, the plain mean or the trapezoidal one.
    scale: factor of the average over more than one threshold.
    """

    area: Literal["interpolated", "plain", "eleven_point"]
    absent: Literal["skip", "zero"] = "skip"
    average: Literal["mean", "trapezoid"] = "mean"
    scale: float = 1.0


@dataclass(frozen=True)
class MeanAP:
    """A metric over a set: its rankings, and the figures of any resampling of the matches.

    thresholds: T tolerances in seconds, or temporal IoUs.  labels: K classes, sorted.
    rankings: K rows of T.  num_units: U, the matches that can be resampled.
    """

    metric: str
    thresholds: tuple[float, ...]
    labels: tuple[str, ...]
    rankings: tuple[tuple[Ranking, ...], ...]
    rule: Rule
    num_units: int

    def per_class(self, counts: Float64 | None = None) -> Float64:
        """(R, K, T) AP where match u counts `counts[r, u]` times; NaN for a class without truth.

        Without counts every match counts once, and R is 1.
        """
        counts = np.ones((1, self.num_units)) if counts is None else counts
        area = _AREAS[self.rule.area]
        rows = [area(row, counts) for row in self.rankings]
        shape = (len(counts), 0, len(self.thresholds))
        return np.stack(rows, axis=1) if rows else np.zeros(shape)

    def per_threshold(self, per_class: Float64) -> Float64:
        """(R, K, T) -> (R, T), the mean over classes; NaN where there is no truth at all.

        A class that a resampling does not draw is always left out, as it says nothing there.
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
        """(R, K, T) -> (R,): the mean over classes, averaged over thresholds."""
        scale = self.rule.scale if len(self.thresholds) > 1 else 1.0
        return self.average(self.per_threshold(per_class)) * scale

    def value(self) -> float:
        """The headline of the whole set."""
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
    """(R, T): `area` of the copies of each hit and the predictions before it, over the truths."""
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
    """The thresholds that rank the same predictions, together: what precedes a hit is shared."""
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
    reached = np.searchsorted(levels, ranking.score, side="right")  # how many levels it reaches
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


_AREAS = {
    "interpolated": _interpolated_area,
    "plain": _plain_area,
    "eleven_point": _eleven_point_area,
}


def ratio(total: Float64, truths: Float64) -> Float64:
    """total / truths, NaN where there is no truth."""
    return np.asarray(np.divide(total, truths, out=np.full_like(total, np.nan), where=truths > 0))


def rank(
    predictions: Columns,
    truth: Columns,
    partner: Int64,
    *,
    videos: Sequence[str],
    units: Units,
    keep: Bool | None = None,
) -> Ranking:
    """Predictions in the order they are in, `partner` their truths; `keep` drops some of them."""
    hit = partner != NO_MATCH
    unit = units.of(predictions, videos)
    truth_unit = units.of(truth, videos)
    unit[hit] = truth_unit[partner[hit]]
    kept = np.ones(len(predictions), dtype=np.bool_) if keep is None else keep
    num_truth = np.bincount(truth_unit, minlength=units.num).astype(np.float64)
    return Ranking(predictions.score[kept], hit[kept], unit[kept], num_truth)


def by_score(columns: Columns) -> Columns:
    """Best first; ties stay in the order given."""
    return columns.take(np.argsort(-columns.score, kind="stable"))


def label_list(labels: Iterable[str] | None, *found: Mapping[str, Columns]) -> tuple[str, ...]:
    """The classes asked for, or all that occur, sorted."""
    if labels is not None:
        return tuple(labels)
    return tuple(sorted({label for columns in found for label in columns}))
