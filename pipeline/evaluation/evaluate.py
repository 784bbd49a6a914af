"""Events against labels: the field's metrics with their intervals, and what the errors are.

The metrics stand beside: `metrics_spotting`, `metrics_detection`, `metrics_clips`; what they share
in `ranking`, their intervals in `significance`, the errors in `breakdown`.
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
from touchline.pipeline.evaluation.event_sets import EventSet
from touchline.pipeline.evaluation.intervals import (
    ACTIVITYNET_TIOUS,
    AMBIGUOUS,
    THUMOS_TIOUS,
    activitynet_map,
    thumos_map,
)
from touchline.pipeline.evaluation.options import EvaluateOptions
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
Measure = Callable[[EventSet, EventsByVideo, Sequence[float], Units], MeanAP]


@dataclass(frozen=True)
class Metric:
    """One entry of the table: how it is measured and what its thresholds are.

    unit: "s" where thresholds are tolerances, "tIoU" where they are overlaps.
    """

    what: str
    unit: str
    thresholds: tuple[float, ...]
    measure: Measure


def _of_events(mean_ap: Callable[..., MeanAP]) -> Measure:
    """A metric that needs no more of the labels than their events."""

    def measure(
        truth: EventSet, predictions: EventsByVideo, thresholds: Sequence[float], units: Units
    ) -> MeanAP:
        return mean_ap(truth.events, predictions, thresholds, units=units)

    return measure


def _soccernet(shown: Shown) -> Measure:
    def measure(
        truth: EventSet, predictions: EventsByVideo, widths_s: Sequence[float], units: Units
    ) -> MeanAP:
        return soccernet_map(
            truth.events, predictions, widths_s, visible=truth.visible, shown=shown, units=units
        )

    return measure


_TIGHT, _LOOSE = SOCCERNET_WIDTHS_S["tight"], SOCCERNET_WIDTHS_S["loose"]

METRICS: Mapping[str, Metric] = {
    "spotting": Metric(
        "E2E-Spot: mAP at a tolerance, half the window",
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
        "SoccerNet tight, actions that are shown", "s", _TIGHT, _soccernet("visible")
    ),
    "soccernet-unshown": Metric(
        "SoccerNet tight, actions that are not shown", "s", _TIGHT, _soccernet("unshown")
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
    """One class: how many truths and predictions, AP at every threshold and on average."""

    label: str
    num_truth: int
    num_predictions: int
    ap: tuple[Figure, ...]
    average: Figure


@dataclass(frozen=True)
class MetricFigures:
    """One metric: its headline, the mean at every threshold, and every class."""

    name: str
    metric: MeanAP
    headline: Figure
    per_threshold: tuple[Figure, ...]
    per_class: tuple[ClassFigures, ...]


@dataclass(frozen=True)
class Evaluation:
    """All figures of one set of predictions.

    num_units, unit: what is resampled, such as 12 matches.
    intervals: what the intervals rest on and are worth, in words.
    breakdowns: of the accepted events, one per family of metrics measured.
    accepted: precision, recall and f1 over all classes, one per breakdown.
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
    """Average precision of all predictions, and the errors of the accepted ones.

    The videos of both must be named alike (see `pair_videos`). ValueError for an unknown metric,
    or labels without a single event.
    """
    options = options or EvaluateOptions()
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
    """B against A by every metric and by the F1 of accepted events, over the same matches."""
    options = options or EvaluateOptions()
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
    """The resamplings and the exchanges of `num_units` matches; None where there are none."""

    counts: Float64 | None
    swaps: Float64 | None
    num_units: int

    def compare(
        self, first: Measured, second: Measured, both: Measured, of: Figures[Measured]
    ) -> Difference:
        """`of` gives the figures of one of them where matches count so often, or once each."""
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
    """The metrics asked for, or those that the labels allow."""
    if not any(truth.events.values()):
        raise ValueError("the labels hold no event: there is nothing to measure against")
    for name in options.metrics:
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}")
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
    return metric.measure(truth, predictions, asked or metric.thresholds, units)


def _units(truth: EventSet, options: EvaluateOptions, *predictions: EventsByVideo) -> Units:
    videos = video_names(truth.events, *predictions)
    if options.block_s is None:
        return match_units(videos, truth.groups)
    return block_units(videos, truth.events, *predictions, block_s=options.block_s)


def unit_name(options: EvaluateOptions) -> str:
    """What is resampled."""
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
    """Precision, recall and F1 over all classes, with intervals."""
    drawn = None if counts is None else one.overall(counts)
    return {
        name: figure(float(value[0]), None if drawn is None else drawn[name])
        for name, value in one.overall().items()
    }


def _breakdowns(
    truth: EventSet, predictions: EventSet, measured: Sequence[tuple[str, MeanAP]], units: Units
) -> tuple[Breakdown, ...]:
    """Of the first spotting and the first detection metric, at the middle one of its thresholds.

    SoccerNet's thresholds are full widths: half of one is the tolerance.
    """
    accepted = predictions.only_accepted()
    # An ambiguous stretch is no event that could be missed.
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
    """The threshold that errors and curves are shown at: 0.5 for overlaps that have it."""
    if metric.metric in ("activitynet", "thumos") and 0.5 in metric.thresholds:
        return 0.5
    return metric.thresholds[(len(metric.thresholds) - 1) // 2]
