"""Events given while the track grows are the events of the whole track, whatever the scores."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from touchline.models.backbone import ClipSpec
from touchline.models.training_record import PeakWidths
from touchline.pipeline.live import settled as live
from touchline.pipeline.live.settled import SettledEvents
from touchline.pipeline.scoring import events
from touchline.pipeline.scoring.events import find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import ScoreTrack

settings.register_profile("touchline", deadline=None)
settings.load_profile("touchline")

LABELS = ("background", "goal", "card")
SPEC = ClipSpec(num_frames=8, rate_hz=4.0, size_px=32)
HOP_S = 0.5

levels = st.sampled_from([0, 0, 0, 0.02, 0.1, 0.3, 0.5, 0.5, 0.7, 1])
seconds = st.sampled_from([0.0, 0.5, 1.0, 2.5])


@st.composite
def tracks(draw):
    """Windows at a steady hop with holes and damage, the last one moved to the footage's end."""
    stretches = draw(
        st.lists(st.tuples(levels, levels, st.integers(1, 9)), min_size=1, max_size=25)
    )
    rows = [(0, a, b) for a, b, length in stretches for _ in range(length)]
    n = len(rows)
    noise = np.random.default_rng(draw(st.integers(0, 9))).uniform(0, 0.2, (n, 3))
    probs = np.clip(np.array(rows) * (1 - noise * draw(st.booleans())), 0, 1).astype(np.float32)
    steps = np.ones(n)
    for row in draw(st.lists(st.integers(0, n - 1), max_size=3)):
        steps[row] = 20
    start_s = np.cumsum(steps * HOP_S) + draw(st.sampled_from([0.0, 1.25]))
    start_s[-1] -= draw(st.sampled_from([0.0, 0.5])) * HOP_S * (n > 1)
    damaged = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    damaged = (damaged & draw(st.booleans())) | (steps > 1)
    return ScoreTrack(LABELS, start_s, start_s + SPEC.duration_s, probs, damaged)


points = st.builds(
    lambda threshold, low, join_s, least_s, longest_s: OperatingPoint(
        threshold=threshold,
        low=threshold * low,
        join_s=join_s,
        min_length_s=least_s,
        max_length_s=longest_s,
    ),
    st.sampled_from([0.05, 0.3, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0]),
    seconds,
    seconds,
    st.sampled_from([None, 3.0, 8.0]),
)

event_options = st.builds(
    EventOptions,
    smooth_s=st.sampled_from([None, 0.0, 0.7]),
    spots=st.booleans(),
    nms_s=st.sampled_from([None, 0.0, 1.0, 4.0]),
    soft_nms=st.booleans(),
    refractory_s=st.sampled_from([0.0, 5.0]),
    widths=st.sampled_from([None, {"goal": PeakWidths(0.3, 1.5)}]),
)


def parts_of(track, sizes):
    first = 0
    while first < len(track.start_s):
        end = first + sizes[first % len(sizes)]
        yield ScoreTrack(
            track.labels,
            track.start_s[first:end],
            track.end_s[first:end],
            track.probs[first:end],
            track.damaged[first:end],
        )
        first = end


@settings(max_examples=100)
@given(
    track=tracks(),
    goal=points,
    card=points,
    options=event_options,
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5),
)
def test_what_is_given_early_is_what_the_whole_track_gives(track, goal, card, options, sizes):
    settled = SettledEvents(LABELS, {"goal": goal, "card": card}, options, SPEC, HOP_S)
    given_early = [event for part in parts_of(track, sizes) for event in settled.add(part)]
    if len(track.start_s) >= 5:
        expected = set(find_events(track, {"goal": goal, "card": card}, regular(options)))
        assert set(given_early) <= expected
        assert len(given_early) == len(set(given_early))
        # Long after the last event everything has been given.
        quiet = silence_after(track, 60)
        given_later = [event for part in parts_of(quiet, sizes) for event in settled.add(part)]
        longer = joined_tracks(track, quiet)
        assert sorted(map(repr, given_early + given_later)) == sorted(
            map(repr, find_events(longer, {"goal": goal, "card": card}, regular(options)))
        )


def regular(options):
    """The options with the widths of a track without holes: here holes are many."""
    labels = {"goal", "card"} - set(options.widths or ())
    usual = {label: PeakWidths(HOP_S, SPEC.duration_s) for label in labels}
    return replace(options, widths={**usual, **(options.widths or {})})


def silence_after(track, count):
    start_s = track.start_s[-1] + HOP_S * np.arange(1, count + 1)
    probs = np.zeros((count, 3), np.float32)
    return ScoreTrack(LABELS, start_s, start_s + SPEC.duration_s, probs, np.zeros(count, bool))


def joined_tracks(a, b):
    arrays = (
        np.concatenate([getattr(a, name), getattr(b, name)])
        for name in ("start_s", "end_s", "probs", "damaged")
    )
    return ScoreTrack(LABELS, *arrays)


@pytest.mark.parametrize("options", [
    EventOptions(),
    EventOptions(smooth_s=0.0),
    EventOptions(smooth_s=0.9, nms_s=3.0),
    EventOptions(spots=True),
    EventOptions(spots=True, smooth_s=0.8, nms_s=2.0, refractory_s=5.0),
])  # fmt: skip
@pytest.mark.parametrize("join_s", [0.0, 1.0, 2.3])
def test_each_event_is_given_within_the_stated_latency(options, join_s):
    rng = np.random.default_rng(3)
    n = 800
    level = np.zeros(n)
    for row in range(20, n - 60, 40):
        level[row : row + rng.integers(1, 8)] = rng.uniform(0.6, 1)
    probs = np.stack([1 - level, level, np.zeros(n)], axis=1).astype(np.float32)
    start_s = np.arange(n) * HOP_S
    track = ScoreTrack(LABELS, start_s, start_s + SPEC.duration_s, probs, np.zeros(n, bool))
    point = OperatingPoint(threshold=0.3, join_s=join_s)
    settled = SettledEvents(LABELS, {"goal": point, "card": point}, options, SPEC, HOP_S)
    latest_s = 0.0
    count = 0
    for part in parts_of(track, [1]):
        for event in settled.add(part):
            count += 1
            latest_s = max(latest_s, part.end_s[-1] - event.end_s)
    assert count > 12
    assert settled.latency_s() - HOP_S * 2 <= latest_s <= settled.latency_s() + 1e-6


def test_the_rows_that_are_kept_stay_few():
    point = OperatingPoint()
    for options in (EventOptions(), EventOptions(spots=True)):
        settled = SettledEvents(LABELS, {"goal": point, "card": point}, options, SPEC, HOP_S)
        start_s = np.arange(4_000) * HOP_S
        level = (np.arange(4_000) % 50 < 4) * 0.9
        probs = np.stack([1 - level, level, np.zeros(4_000)], axis=1).astype(np.float32)
        track = ScoreTrack(LABELS, start_s, start_s + SPEC.duration_s, probs, np.zeros(4_000, bool))
        most = 0
        for part in parts_of(track, [10]):
            settled.add(part)
            most = max(most, *(len(own.rows) for own in settled._classes))
        assert most < 100


def test_a_class_that_stays_above_its_threshold_costs_no_more_as_hours_pass(monkeypatch):
    """Three hours, and the last event of another class is as quick to find as the first."""
    smoothed = []

    def counted(track, *, smooth_s):
        smoothed.append(len(track.start_s))
        return events.smooth_scores(track, smooth_s=smooth_s)

    monkeypatch.setattr(live, "smooth_scores", counted)
    point, n = OperatingPoint(), 3 * 3600 * 2
    settled = SettledEvents(LABELS, {"goal": point, "card": point}, EventOptions(), SPEC, HOP_S)
    start_s = np.arange(n) * HOP_S
    level = (np.arange(n) % 50 < 4) * 0.9
    probs = np.stack([np.zeros(n), level, np.full(n, 0.8)], axis=1).astype(np.float32)
    probs[-40:] = 0
    track = ScoreTrack(LABELS, start_s, start_s + SPEC.duration_s, probs, np.zeros(n, bool))
    given_early = [event for part in parts_of(track, [10]) for event in settled.add(part)]
    assert max(smoothed) < 100
    points = {"goal": point, "card": point}
    assert sorted(map(repr, given_early)) == sorted(map(repr, find_events(track, points)))
    assert next(event.end_s for event in given_early if event.label == "card") > 3 * 3600 - 30
