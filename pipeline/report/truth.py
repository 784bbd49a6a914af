"""Read the labels that a report compares events with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from touchline.pipeline.evaluation.evaluate import METRICS, evaluate_events
from touchline.pipeline.evaluation.event_sets import EventSet, pair_videos, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.types import Event, MatchResult

# An event counts as found where its peak lies in the label's interval, widened by this.
TOLERANCE_S = 2.0


@dataclass(frozen=True)
class Truth:
    """Labels to compare with, and measures already taken: name -> value as it is to be shown."""

    events: Sequence[Event]
    measures: Mapping[str, str] | None = None
    tolerance_s: float = TOLERANCE_S


def read_truth(path: str | os.PathLike[str], results: Sequence[MatchResult]) -> list[Truth | None]:
    """The labels of each result's footage with the field's measures; None where there are none.

    Videos are paired by path, else by the longest common end of their paths.
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
