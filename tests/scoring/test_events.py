"""Scores to events, against values worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from touchline.models.training_record import PeakWidths
from touchline.pipeline.scoring.events import (
    find_candidates,
    find_events,
    operating_points,
    window_cells,
)
from touchline.pipeline.scoring.nms import suppress_near, suppress_replays
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import Event, ScoreTrack

RAW = EventOptions(smooth_s=0.0)


def track_of(*goal, card=None, damaged=(), hop_s=0.5, window_s=2.0, start_s=0.0):
    """A track of 2 s windows every 0.5 s: window i is [i/2, i/2 + 2], its centre i/2 + 1."""
    start = start_s + np.arange(len(goal)) * hop_s
    columns = [goal] if card is None else [goal, card]
    scores = np.array(columns, dtype=np.float32).T.reshape(len(goal), len(columns))
    probs = np.concatenate([1 - scores.max(axis=1, keepdims=True), scores], axis=1)
    labels = ("background", "goal", "card")[: 1 + len(columns)]
    flags = np.zeros(len(goal), dtype=bool)
    flags[list(damaged)] = True
    return ScoreTrack(labels, start, start + window_s, probs.astype(np.float32), flags)


def points(**options):
    return {label: OperatingPoint(**options) for label in ("goal", "card")}


def test_each_window_speaks_for_the_instants_nearest_its_centre():
    left_s, right_s = window_cells(track_of(0, 0, 0, 0))
    # Centres 1, 1.5, 2, 2.5; the footage is [0, 3.5].
    assert left_s.tolist() == [0.0, 1.25, 1.75, 2.25]
    assert right_s.tolist() == [1.25, 1.75, 2.25, 3.5]


def test_a_cell_never_leaves_its_window():
    left_s, right_s = window_cells(track_of(0, 0, hop_s=10.0))
    assert left_s.tolist() == [0.0, 10.0]
    assert right_s.tolist() == [2.0, 12.0]


def test_an_event_longer_than_the_window_comes_out_with_its_own_interval():
    # An event over [3, 8] fires the windows whose centre it covers: 3, 3.5, ..., 8.
    centre_s = np.arange(30) * 0.5 + 1
    track = track_of(*np.where((centre_s >= 3) & (centre_s <= 8), 0.9, 0.0))
    (event,) = find_events(track, points(), RAW)
    assert (event.start_s, event.end_s, event.peak_s) == (2.75, 8.25, 5.5)


def test_an_event_at_the_start_reaches_back_to_the_start_of_the_footage():
    (event,) = find_events(track_of(0.9, 0.8, 0, 0, 0), points(), RAW)
    assert (event.start_s, event.end_s) == (0.0, 1.75)


def test_the_threshold_is_inclusive():
    track = track_of(0, 0, 0.7, 0, 0)
    assert len(find_events(track, points(threshold=0.7), RAW)) == 1
    assert find_events(track, points(threshold=0.701), RAW) == []


def test_the_peak_is_interpolated_between_hops():
    # The parabola through (1.5, .5), (2, .9), (2.5, .7): vertex at 2 + 0.25 * (.7-.5)/(.4+.2).
    (event,) = find_events(track_of(0, 0.5, 0.9, 0.7, 0), points(), RAW)
    assert event.peak_s == pytest.approx(2 + 0.25 * 0.2 / 0.6, abs=1e-5)
    assert event.score == 0.9
    assert (event.start_s, event.end_s) == (1.25, 2.75)


def test_a_plateau_peaks_in_its_middle():
    (event,) = find_events(track_of(0, 0.9, 0.9, 0.9, 0.9, 0.6, 0), points(), RAW)
    assert event.peak_s == 2.25  # centres 1.5 .. 3


def test_hysteresis_starts_at_the_threshold_and_ends_below_low():
    track = track_of(0, 0.3, 0.8, 0.3, 0.3, 0.1, 0.3, 0)
    (event,) = find_events(track, points(threshold=0.6, low=0.3, join_s=0), RAW)
    assert (event.start_s, event.end_s) == (1.25, 3.25)  # windows 1 to 4; window 6 never started


def test_runs_at_most_join_s_apart_become_one():
    track = track_of(0, 0.8, 0.1, 0.1, 0.9, 0)  # cells of windows 1 and 4: 1 s between them
    assert len(find_events(track, points(join_s=0.99), RAW)) == 2
    (event,) = find_events(track, points(join_s=1.0), RAW)
    assert (event.start_s, event.end_s, event.score) == (1.25, 3.25, 0.9)


def test_gaps_and_lengths_are_compared_to_the_microsecond():
    # 0.1 s hops: the gap between windows 1 and 5 is 0.30000000000000004 s in floating point.
    track = track_of(0, 0.9, 0, 0, 0, 0.9, 0, hop_s=0.1, start_s=0.1)
    assert len(find_events(track, points(join_s=0.3), RAW)) == 1
    assert len(find_events(track, points(min_length_s=0.1, join_s=0), RAW)) == 2


def test_short_events_are_dropped_and_long_ones_cut_around_their_peak():
    track = track_of(0, 0.6, 0.6, 0.9, 0.6, 0.6, 0, 0, 0, 0.6, 0, 0)  # 2.5 s and 0.5 s long
    (event,) = find_events(track, points(min_length_s=0.6, join_s=0.5), RAW)
    assert (event.start_s, event.end_s) == (1.25, 3.75)
    short, _ = find_events(track, points(max_length_s=1.0, join_s=0.5), RAW)
    assert (short.start_s, short.end_s, short.peak_s) == (2.0, 3.0, 2.5)


def test_smoothing_is_a_normalised_gaussian_of_one_hop_by_default():
    w1, w2, w3 = np.exp(-0.5), np.exp(-2.0), np.exp(-4.5)
    w4 = np.exp(-8.0)
    (event,) = find_events(track_of(*[0] * 6, 1, *[0] * 6), points(threshold=0.3))
    assert event.score == pytest.approx(1 / (1 + 2 * (w1 + w2 + w3 + w4)), abs=1e-6)


def test_smoothing_leaves_constant_scores_alone_to_the_very_ends():
    (event,) = find_events(track_of(*[0.6] * 9), points(threshold=0.6))
    assert (event.start_s, event.end_s, event.score) == (0.0, 6.0, 0.6)


def test_background_never_becomes_an_event():
    assert find_events(track_of(0, 0, 0, 0), points(threshold=0.1)) == []


def test_damaged_windows_never_become_events():
    track = track_of(0, 0.9, 0.9, 0, 0.9, 0, damaged=[1, 2])
    (event,) = find_events(track, points(), RAW)
    assert event.start_s == 2.75
    assert find_candidates(track_of(0.9, 0.9, damaged=[0, 1]), points()) == []
    assert find_events(track_of(0.9, 0.9, 0.9, damaged=[1]), points(join_s=0), RAW) == [
        Event("goal", 0.0, 1.25, 1.0, 0.9),
        Event("goal", 1.75, 3.0, 2.0, 0.9),
    ]


def test_classes_are_found_independently_and_in_time_order():
    track = track_of(0, 0, 0, 0.9, 0.9, 0, card=[0, 0.8, 0.8, 0.8, 0, 0])
    assert [e.label for e in find_events(track, points(), RAW)] == ["card", "goal"]


def test_spots_are_the_local_maxima_and_near_ones_give_way():
    track = track_of(0, 0.6, 0.2, 0.9, 0, 0, 0, 0, 0.8, 0)  # centres 1.5, 2.5, 5
    spots = find_events(track, points(), EventOptions(smooth_s=0, spots=True, nms_s=0.5))
    assert [e.score for e in spots] == [0.6, 0.9, 0.8]
    assert all(e.start_s == e.end_s == e.peak_s for e in spots)
    # By default a window: 2 s. The one at 1.5 is within it of the one at 2.5.
    spots = find_events(track, points(), EventOptions(smooth_s=0, spots=True))
    assert [e.score for e in spots] == [0.9, 0.8]


def test_each_class_may_have_its_own_smoothing_and_suppression():
    one = [0] * 6 + [1] + [0] * 6
    two = [0, 0, 0.9, 0, 0, 0, 0, 0.8, 0, 0, 0, 0, 0]  # centres 2 and 4.5
    widths = {"goal": PeakWidths(smooth_s=0.5, nms_s=0.0), "card": PeakWidths(0.0, 2.5)}
    options = EventOptions(spots=True, widths=widths)
    low = points(threshold=0.3)
    found = find_events(track_of(*one, card=two), low, options)
    # A hop is 0.5 s: the goal is smoothed as by default, the card not at all.
    (default,) = find_events(track_of(*one), low, EventOptions(spots=True))
    assert [(e.label, e.score) for e in found] == [("card", 0.9), ("goal", default.score)]
    wider = {**widths, "card": PeakWidths(0.0, 2.4)}
    apart = find_events(track_of(*one, card=two), low, EventOptions(spots=True, widths=wider))
    assert [e.score for e in apart if e.label == "card"] == [0.9, 0.8]


def test_what_is_asked_for_all_classes_outweighs_a_class_s_own_widths():
    widths = {"goal": PeakWidths(smooth_s=2.0, nms_s=9.0)}
    track = track_of(0, 0, 0.9, 0, 0, 0, 0, 0.8, 0, 0)
    asked = EventOptions(smooth_s=0.0, spots=True, nms_s=1.0, widths=widths)
    assert [e.score for e in find_events(track, points(), asked)] == [0.9, 0.8]
    (one,) = find_events(track, points(), EventOptions(smooth_s=0.0, spots=True, widths=widths))
    assert one.score == 0.9
    assert find_events(track, points(), EventOptions(spots=True, widths=widths)) == []
    # A suppression of spots is none of intervals.
    intervals = EventOptions(smooth_s=0.0, widths=widths)
    assert [e.score for e in find_events(track, points(join_s=0), intervals)] == [0.9, 0.8]


def test_a_class_s_spots_suppress_no_other_class():
    track = track_of(0, 0, 0.9, 0, 0, card=[0, 0, 0.4, 0, 0])
    both = find_events(track, points(threshold=0.3), EventOptions(smooth_s=0, spots=True, nms_s=9))
    assert [(e.label, e.score) for e in both] == [("card", 0.4), ("goal", 0.9)]


def test_single_frames_are_smoothed_over_more_than_a_hop():
    track = track_of(*[0] * 20, 1, *[0] * 20, hop_s=0.25, window_s=0.25)
    (event,) = find_events(track, points(threshold=0.01), EventOptions(spots=True))
    # A Gaussian of 0.8 s on a grid of 0.25 s has its peak at 0.25 / (0.8 sqrt(2 pi)).
    assert event.score == pytest.approx(0.25 / (0.8 * math.sqrt(2 * math.pi)), rel=1e-3)
    twice = track_of(*[0] * 9, 1, *[0] * 7, 0.9, *[0] * 9, hop_s=0.25, window_s=0.25)
    raw = EventOptions(smooth_s=0, spots=True)
    assert [e.score for e in find_events(twice, points(), raw)] == [1]  # 2 s apart


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
@pytest.mark.parametrize("name", ["smooth_s", "nms_s"])
def test_impossible_widths_are_refused(name, seconds):
    with pytest.raises(ValueError, match=name):
        replace(PeakWidths(0.5, 2.0), **{name: seconds})


def spot(at_s, score, label="goal"):
    return Event(label, at_s, at_s, at_s, score)


def test_nms_is_inclusive_and_only_kept_events_suppress():
    events = [spot(10, 0.9), spot(12, 0.8), spot(14, 0.7)]
    # 12 falls to 10; 14 would fall to 12, but 12 is gone.
    assert suppress_near(events, window_s=2.0) == [events[0], events[2]]
    assert suppress_near(events, window_s=1.99) == events


def test_soft_nms_weakens_by_the_squared_distance():
    events = [spot(10, 0.9), spot(11, 0.8), spot(13, 0.7)]
    kept = suppress_near(events, window_s=2.0, soft=True, floor=0.01)
    # .7 at 13 goes second and weakens 11 by (2/2)^2 = 1; 10 weakened it by (1/2)^2.
    assert [e.score for e in kept] == pytest.approx([0.9, 0.2, 0.7])
    assert len(suppress_near(events, window_s=2.0, soft=True, floor=0.21)) == 2


def test_a_replay_within_the_refractory_time_is_dropped_even_if_it_scores_higher():
    events = [spot(10, 0.6), spot(40, 0.9), spot(41, 0.8), spot(100, 0.7)]
    assert [e.peak_s for e in suppress_replays(events, refractory_s=30)] == [10, 41, 100]
    assert suppress_replays(events, refractory_s=0) == events


def test_candidates_are_the_events_and_the_lower_maxima_elsewhere():
    track = track_of(0, 0.05, 0.2, 0.12, 0.02, 0, 0.7, 0.4, 0.1, 0.3, 0.005, 0)
    events = find_events(track, points(), RAW)
    candidates = find_candidates(track, points(), RAW)
    assert [e.score for e in events] == [0.7]
    assert [e.score for e in candidates] == [0.2, 0.7, 0.3]
    assert candidates[1] == events[0]
    # At least half of .2: windows 2 and 3.
    assert (candidates[0].start_s, candidates[0].end_s) == (1.75, 2.75)
    assert [e.score for e in find_candidates(track, points(), RAW, floor=0.25)] == [0.7, 0.3]


def test_a_candidate_stops_at_an_accepted_event():
    # Window 3 (.45) is a maximum of its own, 2 (.44) is not below its half, 1 is the event's.
    track = track_of(0, 0.9, 0.44, 0.45, 0.3, 0)
    event, candidate = find_candidates(track, points(), RAW)
    assert event.end_s == candidate.start_s == 1.75
    assert candidate.end_s == 3.25


def test_what_the_replay_rule_dropped_does_not_return_as_a_candidate():
    goal = [0.0] * 30
    goal[2], goal[12], goal[20] = 0.9, 0.95, 0.3  # centres 2, 7, 11
    options = EventOptions(smooth_s=0, refractory_s=6)
    assert [e.score for e in find_candidates(track_of(*goal), points(), options)] == [0.9, 0.3]


def test_no_windows_give_no_events():
    assert find_events(track_of(), points()) == []


def test_one_window_gives_its_whole_interval():
    (event,) = find_events(track_of(0.9), points())
    assert (event.start_s, event.end_s, event.peak_s) == (0, 2, 1)


def test_a_class_without_an_operating_point_is_an_error():
    with pytest.raises(ValueError, match="card"):
        find_events(track_of(0.9, card=[0.1]), {"goal": OperatingPoint()})


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": 0.3, "low": 0.4}, "low"),
        ({"join_s": -1}, "join_s"),
        ({"join_s": math.inf}, "join_s"),
        ({"join_s": math.nan}, "join_s"),
        ({"min_length_s": math.nan}, "min_length_s"),
        ({"max_length_s": math.inf}, "max_length_s"),
        ({"max_length_s": math.nan}, "max_length_s"),
        ({"min_length_s": 5.0, "max_length_s": 2.0}, "max_length_s"),
    ],
)
def test_impossible_operating_points_are_refused(bad, name):
    with pytest.raises(ValueError, match=name):
        OperatingPoint(**bad)


def test_windows_out_of_order_are_refused():
    track = track_of(0.9, 0.1)
    backwards = ScoreTrack(
        track.labels, track.start_s[::-1], track.end_s[::-1], track.probs, track.damaged
    )
    with pytest.raises(ValueError, match="time order"):
        find_events(backwards, points())


def test_calibrated_thresholds_enter_the_operating_points():
    labels = ("background", "goal", "card")
    default = OperatingPoint(threshold=0.5, low=0.4, join_s=2)
    made = operating_points(labels, thresholds={"card": 0.3}, default=default)
    assert made == {
        "goal": OperatingPoint(threshold=0.5, low=0.4, join_s=2),
        "card": OperatingPoint(threshold=0.3, low=0.3, join_s=2),
    }
