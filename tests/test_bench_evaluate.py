"""The made-up season that the metrics' speed is measured on."""

from touchline.pipeline.bench_evaluate import bench_evaluate, made_up_season
from touchline.pipeline.evaluate import METRICS


def test_a_season_has_as_many_events_as_it_says():
    truth, predictions = made_up_season(2)
    assert [len(events) for events in truth.events.values()] == [200, 200]
    assert [len(events) for events in predictions.events.values()] == [1000, 1000]
    assert len({event.label for event in truth.events["match 0"]}) == 17


def test_every_metric_is_timed():
    rows = list(bench_evaluate(2, resamples=2))
    assert [name for name, _, _ in rows] == list(METRICS)
    assert all(0 < value < 1 for name, value, _ in rows if name != "soccernet-unshown")
