"""How long the metrics take on a season of made-up matches."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from touchline.pipeline.evaluate import METRICS, EvaluateOptions, evaluate_events
from touchline.pipeline.event_sets import EventSet
from touchline.pipeline.types import Event

MATCH_S = 90 * 60.0
NUM_CLASSES = 17
TRUTHS, PREDICTIONS = 200, 1000
ACCEPTED_SCORE = 0.9


def made_up_season(num_matches: int, *, seed: int = 0) -> tuple[EventSet, EventSet]:
    """Matches of 90 minutes: 200 true events of 17 classes each, and 1,000 predictions.

    Half of the truths are predicted, about two seconds off; the other predictions are anywhere.
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
    """Events anywhere in a match, of 1 to 10 s; scores up to `score`, 1 for truths."""
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


def bench_evaluate(num_matches: int, *, resamples: int) -> Iterator[tuple[str, float, float]]:
    """(metric, its value, seconds) for each metric of the table, errors and intervals included."""
    truth, predictions = made_up_season(num_matches)
    for name in METRICS:
        options = EvaluateOptions(metrics=(name,), resamples=resamples)
        started = time.perf_counter()
        (one,) = evaluate_events(truth, predictions, options).metrics
        yield name, one.headline.value or 0.0, time.perf_counter() - started
