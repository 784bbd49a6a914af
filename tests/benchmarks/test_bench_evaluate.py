"""The made-up season that the metrics' speed is measured on."""

from pathlib import Path

import pytest

from touchline.pipeline.benchmarks.evaluate import (
    READING,
    bench_evaluate,
    made_up_season,
    write_season,
)
from touchline.pipeline.evaluation.evaluate import METRICS
from touchline.pipeline.evaluation.event_sets import read_event_set


def test_a_season_has_as_many_events_as_it_says():
    truth, predictions = made_up_season(2)
    assert [len(events) for events in truth.events.values()] == [200, 200]
    assert [len(events) for events in predictions.events.values()] == [1000, 1000]
    assert len({event.label for event in truth.events["match 0"]}) == 17


def test_reading_and_every_metric_are_timed():
    reading, *rows = bench_evaluate(2, resamples=2)
    assert (reading.name, reading.value) == (READING, None)
    assert [row.name for row in rows] == list(METRICS)
    assert all(0 < row.value < 1 for row in rows if row.name != "soccernet-unshown")
    assert all(row.wall_s > 0 for row in (reading, *rows))


def test_what_cannot_be_measured_is_refused_at_once():
    with pytest.raises(ValueError, match="matches is 0; it must be 1 or more"):
        bench_evaluate(0, resamples=0)
    with pytest.raises(ValueError, match="resamples is -1; it must be 0 or more"):
        bench_evaluate(1, resamples=-1)


def test_a_season_comes_back_from_its_files(tmp_path):
    truth, predictions = made_up_season(2)
    labels, out = write_season(truth, predictions, tmp_path)
    read = read_event_set(out)
    assert {Path(v).stem: len(es) for v, es in read.events.items()} == {
        "match 0": 1000,
        "match 1": 1000,
    }
    accepted = sum(len(events) for events in predictions.only_accepted().values())
    assert sum(len(events) for events in read.only_accepted().values()) == accepted > 0
    assert [len(events) for events in read_event_set(labels).events.values()] == [200, 200]
