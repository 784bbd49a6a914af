"""Measure how long the metrics take on a made-up season of matches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.pipeline.evaluation.evaluate import METRICS, evaluate_events
from touchline.pipeline.evaluation.event_sets import EventSet, as_truth, pair_videos, read_event_set
from touchline.pipeline.evaluation.options import EvaluateOptions
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.types import Event

MATCH_S = 90 * 60.0
NUM_CLASSES = 17
TRUTHS, PREDICTIONS = 200, 1000
ACCEPTED_SCORE = 0.5

READING = "reading the files"


def made_up_season(num_matches: int, *, seed: int = 0) -> tuple[EventSet, EventSet]:
    """Matches of 90 minutes, each with 200 true events of 17 classes and 1,000 predictions.

    Half of the true events are predicted, about two seconds off. The other predictions have random
    times.
    """
    rng = np.random.default_rng(seed)
    truth: dict[str, list[Event]] = {}
    predictions: dict[str, list[Event]] = {}
    for m in range(num_matches):
        actual = _events(rng, TRUTHS, score=None)
        found = [_moved(event, rng) for event in actual[: TRUTHS // 2]]
        truth[f"match {m}"] = actual
        predictions[f"match {m}"] = found + _events(rng, PREDICTIONS - len(found), score=0.8)
    return _as_set(truth, 0.0), _as_set(predictions, ACCEPTED_SCORE)


def _events(rng: np.random.Generator, num: int, *, score: float | None) -> list[Event]:
    """Events of 1 to 10 s at random times. Scores go up to `score`; None gives every event 1."""
    start_s = rng.uniform(0, MATCH_S - 10, num)
    length_s = rng.uniform(1, 10, num)
    label = rng.integers(0, NUM_CLASSES, num)
    scores = np.ones(num) if score is None else rng.uniform(0, score, num)
    return [
        Event(f"class {k}", float(s), float(s + d), float(s + d / 2), float(p))
        for k, s, d, p in zip(label, start_s, length_s, scores, strict=True)
    ]


def _moved(event: Event, rng: np.random.Generator) -> Event:
    by_s = float(np.clip(rng.normal(0, 2), -event.start_s, MATCH_S))
    times = (event.start_s + by_s, event.end_s + by_s, event.peak_s + by_s)
    return Event(event.label, *times, float(rng.uniform(0.3, 1)))


def _as_set(events: dict[str, list[Event]], threshold: float) -> EventSet:
    return EventSet(
        events=events,
        accepted={v: [e.score >= threshold for e in es] for v, es in events.items()},
        visible={v: [True] * len(es) for v, es in events.items()},
    )


def write_season(truth: EventSet, predictions: EventSet, folder: Path) -> tuple[Path, Path]:
    """Write the labels as one CSV and the predictions as an output folder of `detect`.

    Args:
        truth: The labels.
        predictions: The events, accepted or not.
        folder: The folder to write to.
    """
    rows = ["video,label,start_s,end_s,group"]
    for video, events in truth.events.items():
        rows += [f"{video}.mp4,{e.label},{e.start_s:.3f},{e.end_s:.3f},{video}" for e in events]
    labels = write_atomic(folder / "labels.csv", "\n".join(rows) + "\n")
    accepted = predictions.only_accepted()
    for video, events in predictions.events.items():
        result = MatchResult(folder / f"{video}.mp4", tuple(events), tuple(accepted[video]))
        write_result(result, folder / "out" / video, formats=["json"])
    return labels, folder / "out"


@dataclass(frozen=True)
class Took:
    """What one step took.

    Attributes:
        name: The metric, or reading the files.
        value: The metric's value; None for reading.
        wall_s: Wall-clock seconds.
        processor_s: CPU seconds.
    """

    name: str
    value: float | None
    wall_s: float
    processor_s: float


def bench_evaluate(num_matches: int, *, resamples: int) -> Iterator[Took]:
    """Measure reading the season's files, and then each metric.

    A metric's seconds include its error analysis and its confidence intervals. CPU seconds are more
    reliable than wall-clock seconds if other programs run.

    Args:
        num_matches: Matches in the season.
        resamples: Bootstrap resamples for the confidence intervals; 0 skips them.

    Raises:
        ValueError: There is no match, or `resamples` is negative.
    """
    if num_matches < 1:
        raise ValueError(f"matches is {num_matches}; it must be 1 or more")
    if resamples < 0:
        raise ValueError(f"resamples is {resamples}; it must be 0 or more")
    return _steps(num_matches, resamples)


def _steps(num_matches: int, resamples: int) -> Iterator[Took]:
    with tempfile.TemporaryDirectory() as folder:
        labels, out = write_season(*made_up_season(num_matches), Path(folder))
        started = _now()
        truth = as_truth(read_event_set(labels))
        predictions = pair_videos(truth, read_event_set(out)).predictions
        yield _took(READING, None, started)
    for name in METRICS:
        options = EvaluateOptions(metrics=(name,), resamples=resamples)
        started = _now()
        (one,) = evaluate_events(truth, predictions, options).metrics
        yield _took(name, one.headline.value, started)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _took(name: str, value: float | None, started: tuple[float, float]) -> Took:
    wall_s, processor_s = _now()
    return Took(name, value, wall_s - started[0], processor_s - started[1])
