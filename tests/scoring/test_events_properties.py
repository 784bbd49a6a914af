"""What holds for every score track, whatever the scores: hypothesis looks for the exception."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from touchline.pipeline.scoring.events import find_candidates, find_events, smooth_scores
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import ScoreTrack

# The machine may be busy: a slow example is no failure.
settings.register_profile("touchline", deadline=None)
settings.load_profile("touchline")

LABELS = ("background", "goal", "card")

scores = st.lists(
    st.tuples(st.sampled_from([0, 0.02, 0.1, 0.3, 0.5, 0.5, 0.7, 1]), st.floats(0, 1, width=32)),
    min_size=1,
    max_size=60,
)
seconds = st.sampled_from([0.0, 0.5, 1.0, 2.5])


@st.composite
def tracks(draw):
    """Windows of one length at a steady hop, the last one moved to the footage's end."""
    rows = draw(scores)
    hop_s = draw(st.sampled_from([0.25, 0.5, 3.0]))
    start_s = np.arange(len(rows)) * hop_s + draw(st.sampled_from([0.0, 1.25]))
    if len(rows) > 1:
        start_s[-1] -= draw(st.sampled_from([0.0, 0.5])) * hop_s
    probs = np.concatenate([np.zeros((len(rows), 1)), rows], axis=1).astype(np.float32)
    damaged = np.array(draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    return ScoreTrack(LABELS, start_s, start_s + 2.0, probs, damaged & draw(st.booleans()))


@st.composite
def operating_points(draw):
    def point():
        threshold = draw(st.sampled_from([0.05, 0.3, 0.5, 1.0]))
        low = draw(st.sampled_from([None, threshold / 2, threshold]))
        longest_s = draw(st.sampled_from([None, 3.0, 8.0]))
        return OperatingPoint(
            threshold=threshold,
            low=low,
            join_s=draw(seconds),
            min_length_s=draw(seconds),
            max_length_s=longest_s,
        )

    return {"goal": point(), "card": point()}


event_options = st.builds(
    EventOptions,
    smooth_s=st.sampled_from([None, 0.0, 0.7]),
    spots=st.booleans(),
    nms_s=st.sampled_from([None, 0.0, 1.0, 4.0]),
    soft_nms=st.booleans(),
    refractory_s=st.sampled_from([0.0, 5.0]),
)


@given(track=tracks(), points=operating_points(), options=event_options)
def test_events_are_in_order_inside_the_footage_and_as_sure_as_asked(track, points, options):
    events = find_events(track, points, options)
    assert [e.start_s for e in events] == sorted(e.start_s for e in events)
    for event in events:
        assert event.label in ("goal", "card")
        assert track.start_s[0] <= event.start_s <= event.peak_s <= event.end_s <= track.end_s[-1]
        assert points[event.label].threshold <= event.score <= 1
        if options.spots:
            assert event.start_s == event.end_s
            continue
        length_s = event.end_s - event.start_s
        assert length_s >= points[event.label].min_length_s
        assert length_s <= (points[event.label].max_length_s or np.inf) + 1e-9


@given(track=tracks(), points=operating_points(), options=event_options)
def test_no_two_events_of_a_class_overlap_nor_lie_inside_each_other(track, points, options):
    for label in LABELS[1:]:
        found = [e for e in find_candidates(track, points, options) if e.label == label]
        for before, after in pairwise(found):
            assert before.end_s <= after.start_s + 1e-9
            assert before.peak_s < after.peak_s


@given(track=tracks(), points=operating_points(), options=event_options)
def test_candidates_hold_the_events_unchanged_and_below_the_threshold_else(track, points, options):
    events = find_events(track, points, options)
    candidates = find_candidates(track, points, options)
    assert [e for e in candidates if e.score >= points[e.label].threshold] == events
    assert all(e.score >= 0.01 for e in candidates)


@given(track=tracks(), points=operating_points(), options=event_options)
def test_no_event_peaks_within_the_refractory_time_of_the_one_before(track, points, options):
    for label in LABELS[1:]:
        found = [e for e in find_events(track, points, options) if e.label == label]
        for before, after in pairwise(found):
            assert after.peak_s - before.peak_s > options.refractory_s


@given(track=tracks(), points=operating_points(), options=event_options)
def test_shifting_the_scores_in_time_shifts_the_events(track, points, options):
    # A power of two keeps every sum of times exact, so that no comparison can tip over.
    later = ScoreTrack(LABELS, track.start_s + 1024, track.end_s + 1024, track.probs, track.damaged)
    here, there = find_candidates(track, points, options), find_candidates(later, points, options)
    assert [e.label for e in here] == [e.label for e in there]
    for a, b in zip(here, there, strict=True):
        moved = (b.start_s - 1024, b.end_s - 1024, b.peak_s - 1024, b.score)
        assert moved == pytest.approx((a.start_s, a.end_s, a.peak_s, a.score), abs=2e-6)


@given(first=scores, second=scores, points=operating_points(), options=event_options)
@settings(max_examples=50)
def test_tracks_joined_by_silence_give_the_events_of_each(first, second, points, options):
    def track_of(rows, start_s):
        start = start_s + np.arange(len(rows)) * 0.5
        probs = np.concatenate([np.zeros((len(rows), 1)), rows], axis=1).astype(np.float32)
        return ScoreTrack(LABELS, start, start + 2.0, probs, np.zeros(len(rows), dtype=bool))

    silence = [(0.0, 0.0)] * 24
    rows = silence + first + silence + second + silence
    cut = len(silence) + len(first) + len(silence) // 2
    whole = find_candidates(track_of(rows, 0.0), points, options)
    head = find_candidates(track_of(rows[:cut], 0.0), points, options)
    tail = find_candidates(track_of(rows[cut:], cut * 0.5), points, options)
    assert whole == head + tail


@given(track=tracks(), smooth_s=st.sampled_from([0.0, 0.5, 2.0]))
def test_smoothing_stays_between_the_least_and_the_greatest_score(track, smooth_s):
    smooth = smooth_scores(track, smooth_s=smooth_s)
    good = ~track.damaged
    assert (smooth[track.damaged] == 0).all()
    if good.any():
        assert smooth[good].min() >= track.probs[good].min() - 1e-6
        assert smooth[good].max() <= track.probs[good].max() + 1e-6
