"""Measure predicted events against labels: metrics with their intervals, and kinds of error.

The metrics are in `spotting` and `intervals`, what they share in `ranking`. Confidence intervals
and tests are in `significance`, the kinds of error in `breakdown`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from touchline.pipeline.evaluation.breakdown import (
    Breakdown,
    break_down_intervals,
    break_down_spots,
    join_breakdowns,
)
from touchline.pipeline.evaluation.event_sets import EventSet, only_judged
from touchline.pipeline.evaluation.intervals import (
    ACTIVITYNET_TIOUS,
    AMBIGUOUS,
    THUMOS_TIOUS,
    activitynet_map,
    thumos_map,
)
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.evaluation.players import PLAYER_TOLERANCE_S, player_f1
from touchline.pipeline.evaluation.ranking import (
    EventsByVideo,
    MeanAP,
    Units,
    block_units,
    match_units,
    video_names,
)
from touchline.pipeline.evaluation.significance import (
    Difference,
    Figure,
    compare,
    describe_intervals,
    figure,
    join_metrics,
    resampled_counts,
    swap_counts,
)
from touchline.pipeline.evaluation.spotting import (
    SOCCERNET_WIDTHS_S,
    SPOTTING_TOLERANCES_S,
    Shown,
    soccernet_map,
    spotting_map,
)
from touchline.pipeline.types import Float64

Measured = TypeVar("Measured", MeanAP, Breakdown)
Figures = Callable[[Measured, Float64 | None], Float64]
Measure = Callable[[EventSet, EventsByVideo, Sequence[float], Units, EvaluateOptions], MeanAP]


@dataclass(frozen=True)
class Metric:
    """One entry of the table of metrics.

    Attributes:
        what: One line for people.
        unit: "s" if thresholds are times, "tIoU" if they are overlaps.
        thresholds: The thresholds that the metric's authors use.
        measure: Computes the metric from labels, predictions, thresholds, units and options.
    """

    what: str
    unit: str
    thresholds: tuple[float, ...]
    measure: Measure


def _of_events(mean_ap: Callable[..., MeanAP]) -> Measure:
    """Adapt a metric that needs only the events of the labels."""

    def measure(
        truth: EventSet,
        predictions: EventsByVideo,
        thresholds: Sequence[float],
        units: Units,
        _: EvaluateOptions,
    ) -> MeanAP:
        return mean_ap(truth.events, predictions, thresholds, units=units)

    return measure


def _soccernet(shown: Shown) -> Measure:
    def measure(
        truth: EventSet,
        predictions: EventsByVideo,
        widths_s: Sequence[float],
        units: Units,
        options: EvaluateOptions,
    ) -> MeanAP:
        return soccernet_map(
            truth.events,
            predictions,
            widths_s,
            rate_hz=options.bins_per_second,
            visible=truth.visible,
            shown=shown,
            units=units,
        )

    return measure


_TIGHT, _LOOSE = SOCCERNET_WIDTHS_S["tight"], SOCCERNET_WIDTHS_S["loose"]

METRICS: Mapping[str, Metric] = {
    "spotting": Metric(
        "E2E-Spot: mAP at a tolerance (half the window)",
        "s",
        SPOTTING_TOLERANCES_S,
        _of_events(spotting_map),
    ),
    "soccernet-tight": Metric(
        "SoccerNet: average-mAP, windows of 1 to 5 s", "s", _TIGHT, _soccernet("all")
    ),
    "soccernet-loose": Metric(
        "SoccerNet: average-mAP, windows of 5 to 60 s", "s", _LOOSE, _soccernet("all")
    ),
    "soccernet-visible": Metric(
        "SoccerNet tight, only visible actions", "s", _TIGHT, _soccernet("visible")
    ),
    "soccernet-unshown": Metric(
        "SoccerNet tight, only unshown actions", "s", _TIGHT, _soccernet("unshown")
    ),
    "player-f1": Metric(
        "SoccerNet player-centric: macro-F1 of who, what and when, within 12 frames at 25 per "
        "second, scores from 0.15",
        "s",
        (PLAYER_TOLERANCE_S,),
        _of_events(player_f1),
    ),
    "activitynet": Metric(
        "ActivityNet: mAP at tIoU .5 to .95", "tIoU", ACTIVITYNET_TIOUS, _of_events(activitynet_map)
    ),
    "thumos": Metric(
        "THUMOS'14: mAP at tIoU .3 to .7", "tIoU", THUMOS_TIOUS, _of_events(thumos_map)
    ),
}


@dataclass(frozen=True)
class ClassFigures:
    """The figures of one class.

    Attributes:
        label: The class.
        num_truth: How many events of it are labelled.
        num_predictions: How many are predicted, at any score.
        ap: Average precision at each threshold.
        average: Its average over the thresholds.
    """

    label: str
    num_truth: int
    num_predictions: int
    ap: tuple[Figure, ...]
    average: Figure


@dataclass(frozen=True)
class MetricFigures:
    """The figures of one metric.

    Attributes:
        name: A name from `METRICS`.
        metric: The rankings that all figures come from.
        headline: The mean over classes and thresholds.
        per_threshold: The mean over classes at each threshold.
        per_class: One entry per class, sorted by name.
    """

    name: str
    metric: MeanAP
    headline: Figure
    per_threshold: tuple[Figure, ...]
    per_class: tuple[ClassFigures, ...]


@dataclass(frozen=True)
class Evaluation:
    """All figures of one set of predictions.

    Attributes:
        num_videos: How many videos are labelled.
        num_units: How many matches (or stretches) are resampled for the intervals.
        unit: Their name in the plural.
        intervals: A sentence that says what the intervals rest on.
        metrics: The figures of each metric.
        breakdowns: The kinds of error of the accepted events: one entry for spotting, one for
            intervals, as measured.
        accepted: Precision, recall and F1 over all classes; one entry per breakdown.

    Example:
        >>> from touchline.pipeline import evaluate_events, read_event_set
        >>> truth = read_event_set("labels.csv")
        >>> evaluation = evaluate_events(truth, truth)
        >>> for figures in evaluation.metrics:
        ...     print(figures.name, figures.headline)
        spotting 1.000 [1.000, 1.000]
        activitynet 1.000 [1.000, 1.000]
        >>> evaluation.accepted[0]["recall"].value
        1.0
    """

    num_videos: int
    num_units: int
    unit: str
    intervals: str
    metrics: tuple[MetricFigures, ...]
    breakdowns: tuple[Breakdown, ...]
    accepted: tuple[Mapping[str, Figure], ...]


def evaluate_events(
    truth: EventSet, predictions: EventSet, options: EvaluateOptions | None = None
) -> Evaluation:
    """Measure the average precision of all predictions and the errors of the accepted ones.

    Args:
        truth: The labelled events.
        predictions: The predicted events, under the same video names (see `pair_videos`).
        options: What to measure; None takes the defaults.

    Raises:
        ValueError: A metric is unknown, or the labels hold no event.

    Example:
        >>> from touchline.pipeline import evaluate_events, pair_videos, read_event_set
        >>> truth = read_event_set("labels.csv")
        >>> paired = pair_videos(truth, read_event_set("out"))
        >>> evaluation = evaluate_events(truth, paired.predictions)
        >>> for row in evaluation.metrics[0].per_class:
        ...     print(f"{row.label}: {row.num_predictions} of {row.num_truth} events found, "
        ...           f"AP {row.average.value:.2f}")
        bright: 2 of 3 events found, AP 0.67
    """
    options = options or EvaluateOptions()
    truth, predictions = only_judged(truth, truth), only_judged(predictions, truth)
    units = _units(truth, options, predictions.events)
    counts = resampled_counts(units.num, resamples=options.resamples, seed=options.seed)
    figures = []
    for name in chosen_metrics(truth, options):
        metric = _measure(name, truth, predictions.events, options, units)
        samples = None if counts is None else metric.per_class(counts)
        figures.append(_figures(name, metric, samples))
    measured = [(one.name, one.metric) for one in figures]
    breakdowns = _breakdowns(truth, predictions, measured, units)
    return Evaluation(
        num_videos=len(truth.events),
        num_units=units.num,
        unit=unit_name(options),
        intervals=describe_intervals(units.num, unit_name(options), resamples=options.resamples),
        metrics=tuple(figures),
        breakdowns=breakdowns,
        accepted=tuple(_accepted_figures(one, counts) for one in breakdowns),
    )


def compare_events(
    truth: EventSet, a: EventSet, b: EventSet, options: EvaluateOptions | None = None
) -> dict[str, Difference]:
    """Compare predictions B with A by every metric and by the F1 of accepted events.

    Args:
        truth: The labelled events.
        a: The first predictions, under the same video names.
        b: The second predictions, likewise.
        options: What to measure; None takes the defaults.

    Returns:
        The differences B - A by name, over the same matches.

    Raises:
        ValueError: A metric is unknown, or the labels hold no event.
    """
    options = options or EvaluateOptions()
    truth, a, b = (only_judged(one, truth) for one in (truth, a, b))
    units = _units(truth, options, a.events, b.events)
    draws = _Draws(
        resampled_counts(units.num, resamples=options.resamples, seed=options.seed),
        swap_counts(units.num, resamples=options.resamples, seed=options.seed),
        units.num,
    )
    found = {}
    measured: list[list[tuple[str, MeanAP]]] = [[], []]
    for name in chosen_metrics(truth, options):
        first, second = (_measure(name, truth, one.events, options, units) for one in (a, b))
        found[name] = draws.compare(first, second, join_metrics(first, second), _headline)
        measured[0].append((name, first))
        measured[1].append((name, second))
    accepted = [_breakdowns(truth, s, m, units) for s, m in zip((a, b), measured, strict=True)]
    for one, other in zip(*accepted, strict=True):
        both = join_breakdowns(one, other)
        found[f"accepted F1 at {one.at}"] = draws.compare(one, other, both, _f1)
    return found


@dataclass(frozen=True)
class _Draws:
    """The resamples and the permutations of `num_units` matches; None: there are none."""

    counts: Float64 | None
    swaps: Float64 | None
    num_units: int

    def compare(
        self, first: Measured, second: Measured, both: Measured, of: Figures[Measured]
    ) -> Difference:
        """`of` gives the figures for given counts of the matches; for None each counts once."""
        return compare(
            float(of(first, None)[0]),
            float(of(second, None)[0]),
            None if self.counts is None else of(first, self.counts),
            None if self.counts is None else of(second, self.counts),
            None if self.swaps is None else of(both, 1 - self.swaps) - of(both, self.swaps),
            num_units=self.num_units,
        )


def _headline(metric: MeanAP, counts: Float64 | None) -> Float64:
    return metric.headline(metric.per_class(counts))


def _f1(one: Breakdown, counts: Float64 | None) -> Float64:
    return one.overall(counts)["f1"]


def chosen_metrics(truth: EventSet, options: EvaluateOptions) -> tuple[str, ...]:
    """Name the metrics of the options, or by default those that suit the labels.

    Raises:
        ValueError: A metric is unknown, or the labels hold no event.
    """
    if not any(truth.events.values()):
        raise ValueError("the labels hold no event. There is nothing to measure against.")
    for name in options.metrics:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; it must be one of {', '.join(METRICS)}")
    if options.metrics:
        return options.metrics
    lengths = any(e.end_s > e.start_s for events in truth.events.values() for e in events)
    return ("spotting", "activitynet") if lengths else ("spotting",)


def _measure(
    name: str,
    truth: EventSet,
    predictions: EventsByVideo,
    options: EvaluateOptions,
    units: Units,
) -> MeanAP:
    metric = METRICS[name]
    asked = options.tolerances_s if metric.unit == "s" else options.tious
    return metric.measure(truth, predictions, asked or metric.thresholds, units, options)


def _units(truth: EventSet, options: EvaluateOptions, *predictions: EventsByVideo) -> Units:
    videos = video_names(truth.events, *predictions)
    if options.block_s is None:
        return match_units(videos, truth.groups)
    return block_units(videos, truth.events, *predictions, block_s=options.block_s)


def unit_name(options: EvaluateOptions) -> str:
    """Name what is resampled, in the plural."""
    return "matches" if options.block_s is None else f"stretches of {options.block_s:g} s"


def _figures(name: str, metric: MeanAP, samples: np.ndarray[Any, Any] | None) -> MetricFigures:
    table = metric.per_class()
    per_class = []
    for k, (label, row) in enumerate(zip(metric.labels, metric.rankings, strict=True)):
        drawn = None if samples is None else samples[:, k]  # (R, T)
        per_class.append(
            ClassFigures(
                label=label,
                num_truth=int(row[0].num_truth.sum()),
                num_predictions=len(row[0].score),
                ap=tuple(
                    figure(table[0, k, t], None if drawn is None else drawn[:, t])
                    for t in range(len(metric.thresholds))
                ),
                average=figure(
                    float(metric.average(table[0, k])),
                    None if drawn is None else metric.average(drawn),
                ),
            )
        )
    means = metric.per_threshold(table)[0]
    drawn_means = None if samples is None else metric.per_threshold(samples)
    return MetricFigures(
        name=name,
        metric=metric,
        headline=figure(metric.value(), None if samples is None else metric.headline(samples)),
        per_threshold=tuple(
            figure(means[t], None if drawn_means is None else drawn_means[:, t])
            for t in range(len(means))
        ),
        per_class=tuple(per_class),
    )


def _accepted_figures(one: Breakdown, counts: Float64 | None) -> dict[str, Figure]:
    """Precision, recall and F1 over all classes with their intervals."""
    drawn = None if counts is None else one.overall(counts)
    return {
        name: figure(float(value[0]), None if drawn is None else drawn[name])
        for name, value in one.overall().items()
    }


def _breakdowns(
    truth: EventSet, predictions: EventSet, measured: Sequence[tuple[str, MeanAP]], units: Units
) -> tuple[Breakdown, ...]:
    """Errors at the middle threshold of the first metric in seconds and the first in tIoU.

    SoccerNet's thresholds are full widths, so the tolerance is half of one.
    """
    accepted = predictions.only_accepted()
    # An ambiguous stretch is not an event, so it cannot be missed.
    actual = {v: [e for e in es if e.label != AMBIGUOUS] for v, es in truth.events.items()}
    found: dict[str, Breakdown] = {}
    for name, metric in measured:
        unit = METRICS[name].unit
        if unit in found:
            continue
        threshold = middle_threshold(metric)
        if unit == "tIoU":
            found[unit] = break_down_intervals(actual, accepted, tiou=threshold, units=units)
        else:
            tolerance_s = threshold / 2 if name.startswith("soccernet") else threshold
            found[unit] = break_down_spots(actual, accepted, tolerance_s=tolerance_s, units=units)
    return tuple(found.values())


def middle_threshold(metric: MeanAP) -> float:
    """Return the threshold for errors and curves: tIoU 0.5 if present, otherwise the middle."""
    if metric.metric in ("activitynet", "thumos") and 0.5 in metric.thresholds:
        return 0.5
    return metric.thresholds[(len(metric.thresholds) - 1) // 2]
