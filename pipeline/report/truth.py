"""Read the labels that a report compares the events with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from touchline.pipeline.evaluation.evaluate import METRICS, evaluate_events
from touchline.pipeline.evaluation.event_sets import EventSet, pair_videos, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.types import Event

# An event is right if its peak is at most this far outside the label's interval.
TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Truth:
    """The labels of one footage file, for comparison in its report.

    Attributes:
        events: The labels.
        measures: Metrics of the events against these labels: name -> value as text.
        tolerance_s: An event is right if its peak is at most this many seconds outside a label.

    Example:
        >>> from touchline.pipeline import Event, Truth
        >>> truth = Truth([Event("goal", 3.0, 5.0, peak_s=4.0)])
        >>> truth.tolerance_s
        2.0
    """

    events: Sequence[Event]
    measures: Mapping[str, str] | None = None
    tolerance_s: float = TOLERANCE_S


def read_truth(path: str | os.PathLike[str], results: Sequence[MatchResult]) -> list[Truth | None]:
    """The labels of each result's footage, with the metrics; None for footage without labels.

    Labels and results are matched by the path of the video, or by the longest common end of both
    paths.

    Args:
        path: Labels in any format that Touchline reads.
        results: The results to compare with the labels.

    Raises:
        LabelsError: The labels cannot be read.

    Example:
        >>> from touchline.pipeline import read_results, read_truth
        >>> results = read_results("out/match/events.json")
        >>> [truth] = read_truth("labels.csv", results)
        >>> [(label.label, label.start_s, label.end_s) for label in truth.events]
        [('bright', 3.0, 5.0), ('bright', 8.0, 9.5)]
    """
    truth = read_event_set(path)
    predictions = EventSet(
        events={os.fspath(r.path): list(r.candidates) for r in results},
        accepted={os.fspath(r.path): [e in set(r.accepted) for e in r.candidates] for r in results},
        visible={os.fspath(r.path): [True] * len(r.candidates) for r in results},
    )
    paired = pair_videos(truth, predictions).predictions
    names = list(paired.events)
    return [
        _truth(truth, paired, name) if name in truth.events else None
        for name, _ in zip(names, results, strict=True)
    ]


def _truth(truth: EventSet, predictions: EventSet, video: str) -> Truth:
    one_truth, one_prediction = _only(truth, video), _only(predictions, video)
    measures = {}
    if one_truth.events[video]:
        evaluation = evaluate_events(one_truth, one_prediction, EvaluateOptions(resamples=0))
        measures = {METRICS[m.name].what: str(m.headline) for m in evaluation.metrics}
    return Truth(tuple(truth.events[video]), measures, TOLERANCE_S)


def _only(events: EventSet, video: str) -> EventSet:
    return EventSet(
        {video: events.events[video]},
        {video: events.accepted[video]},
        {video: events.visible[video]},
        {video: events.groups[video]} if video in events.groups else {},
    )
