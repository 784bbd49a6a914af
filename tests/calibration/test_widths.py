"""Smoothing and suppression of each class: chosen on made scores, against values by hand."""

import re
from dataclasses import replace

import numpy as np
import pytest
from calibration_material import LABELS, make_season, scores_of
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from touchline.models.checkpoint import load_checkpoint
from touchline.models.training_record import PeakWidths
from touchline.pipeline.calibration.calibrate import calibrate
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.stitched_clips import (
    StitchedClips,
    event_curve,
    match_events,
    reach_of,
    timing_error_s,
)
from touchline.pipeline.calibration.thresholds import one_class
from touchline.pipeline.calibration.widths import choose_widths
from touchline.pipeline.scoring.events import find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import Event, ScoreTrack
from touchline.tools.cli import app

SPOTS = EventOptions(spots=True)
DEFAULT = PeakWidths(smooth_s=0.8, nms_s=2.0)


def frame_track(goal, card=None):
    """Scores of single frames, four a second."""
    card = np.zeros_like(goal) if card is None else card
    probs = np.stack([1 - np.maximum(goal, card), goal, card], axis=1).astype(np.float32)
    start_s = np.arange(len(goal)) / 4
    return ScoreTrack(LABELS, start_s, start_s + 0.25, probs, np.zeros(len(goal), dtype=bool))


def short_events(num_events, *, every_s=10):
    """Events of half a second at 0.9; between them, three seconds at 0.5 that are none."""
    goal = np.zeros(4 * every_s * (num_events + 1))
    truth = []
    for k in range(1, num_events + 1):
        at = 4 * every_s * k
        goal[at : at + 2] = 0.9
        goal[at - 22 : at - 10] = 0.5
        truth.append(Event("goal", at / 4, at / 4 + 0.5, at / 4 + 0.25))
    return StitchedClips(frame_track(goal), tuple(truth))


def test_short_events_beside_long_false_ones_get_little_smoothing():
    # Smoothed over 0.8 s, half a second at 0.9 is lower than three seconds at 0.5.
    stitched = [short_events(8)]
    smooth = event_curve(stitched, [], "goal", SPOTS)
    widths, curve = choose_widths(stitched, [], "goal", SPOTS)
    assert smooth.average_precision < 0.6
    assert curve.average_precision == pytest.approx(1.0)
    # Two frames at 0.9 become 0.34 over 0.5 s, and 0.51 over 0.3 s.
    assert widths == PeakWidths(smooth_s=0.3, nms_s=2.0)


@pytest.mark.parametrize(("num_events", "is_left"), [(4, False), (5, True)])
def test_few_clips_keep_the_default(num_events, is_left):
    chosen, _ = choose_widths([short_events(num_events)], [], "goal", SPOTS)
    assert chosen == (PeakWidths(0.3, 2.0) if is_left else DEFAULT)
    # The same clips in three orders are no more clips.
    chosen, _ = choose_widths([short_events(num_events)] * 3, [], "goal", SPOTS)
    assert chosen == (PeakWidths(0.3, 2.0) if is_left else DEFAULT)


@pytest.mark.parametrize(("num_false", "is_left"), [(1, False), (12, True)])
def test_the_default_stays_if_others_gain_no_more_than_half_an_event(num_false, is_left):
    # Nine events of 4 s and one of half a second; 3 s at 0.5 are false and outrank the short one.
    goal, truth = np.zeros(4 * 10 * 24), []
    for k in range(1, 11):
        length = 16 if k < 10 else 2
        goal[40 * k : 40 * k + length] = 0.9
        truth.append(Event("goal", 10 * k, 10 * k + length / 4, 10 * k + length / 8))
    for k in range(11, 11 + num_false):
        goal[40 * k : 40 * k + 12] = 0.5
    stitched = [StitchedClips(frame_track(goal), tuple(truth))]
    by_default = event_curve(stitched, [], "goal", SPOTS).average_precision
    # The short one is the tenth right among 10 + num_false.
    assert by_default == pytest.approx(0.9 + 0.1 * 10 / (10 + num_false))
    chosen, _ = choose_widths(stitched, [], "goal", SPOTS)
    # Half an event of ten is 0.05.
    assert chosen == (PeakWidths(0.3, 2.0) if is_left else DEFAULT)


def test_the_default_stays_where_little_time_is_without_events():
    # Cards fill the time between goals, so false goals can show nowhere else.
    one = short_events(8)
    edges = [0.0, *(t for e in one.truth for t in (e.start_s, e.end_s)), 90.0]
    cards = [Event("card", a, b, (a + b) / 2) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    full = [replace(one, truth=(*one.truth, *cards))]
    assert choose_widths(full, [], "goal", SPOTS)[0] == DEFAULT
    for seconds, widths in ((89, DEFAULT), (91, PeakWidths(0.3, 2.0))):
        quiet = frame_track(np.zeros(4 * seconds))
        assert choose_widths(full, [quiet], "goal", SPOTS)[0] == widths


def test_doubled_peaks_far_apart_get_a_wider_suppression():
    # Each event of 4 s is seen at its start and, nearly as sure, at its end: 3.5 s apart.
    goal, truth = np.zeros(4 * 20 * 9), []
    for k in range(1, 9):
        at = 80 * k
        goal[at : at + 2], goal[at + 14 : at + 16] = 0.9, 0.85
        truth.append(Event("goal", at / 4, at / 4 + 4, at / 4 + 2))
    stitched = [StitchedClips(frame_track(goal), tuple(truth))]
    # Eight right above eight wrong: average precision is 1 either way, so the default stays ...
    assert choose_widths(stitched, [], "goal", SPOTS)[0] == DEFAULT
    # ... but where four are much weaker, the doubles of the others outrank them.
    weak = np.where(np.arange(len(goal)) < 80 * 5 - 4, 0.5, 1.0)
    stitched = [StitchedClips(frame_track(goal * weak), tuple(truth))]
    widths, curve = choose_widths(stitched, [], "goal", SPOTS)
    assert widths == PeakWidths(smooth_s=0.8, nms_s=4.0)
    assert curve.average_precision == pytest.approx(1.0)


def test_widths_that_are_asked_for_are_not_varied():
    stitched = [short_events(8)]
    asked = replace(SPOTS, smooth_s=0.8)
    assert choose_widths(stitched, [], "goal", asked)[0].smooth_s == 0.8
    assert choose_widths(stitched, [], "goal", replace(SPOTS, nms_s=3.0))[0].nms_s == 3.0


def test_false_events_of_eventless_footage_count_against_widths():
    stitched = [short_events(8)]
    quiet = frame_track(np.where(np.arange(400) % 20 < 2, 0.95, 0.0))
    alone, beside = (
        event_curve(stitched, tracks, "goal", replace(SPOTS, smooth_s=0.3)).average_precision
        for tracks in ([], [quiet])
    )
    assert alone == pytest.approx(1.0)
    assert beside < 0.5


@given(
    goal=st.lists(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]), min_size=2, max_size=80),
    smooth_s=st.sampled_from([0.0, 0.4]),
    soft_nms=st.booleans(),
)
@settings(deadline=None)
def test_one_search_counts_spots_as_a_search_for_each_threshold(goal, smooth_s, soft_nms):
    options = EventOptions(spots=True, smooth_s=smooth_s, nms_s=1.0, soft_nms=soft_nms)
    track = frame_track(np.array(goal))
    truth = tuple(Event("goal", t, t + 1, t + 0.5) for t in (1.0, 6.0, 11.0))
    curve = event_curve([StitchedClips(track, truth)], [track], "goal", options)
    for c, threshold in enumerate(curve.threshold):
        point = {"goal": OperatingPoint(threshold=float(threshold))}
        found = find_events(one_class(track, "goal"), point, options)
        hits = match_events(found, truth, reach_s=reach_of(track, options))
        assert curve.recall[c] == pytest.approx(len(hits) / 3)
        assert curve.f1[c] == pytest.approx(2 * len(hits) / (2 * len(found) + 3))


def test_the_timing_error_is_the_median_distance_of_right_peaks():
    goal = np.zeros(160)
    goal[[20, 61, 102, 150]] = 0.9, 0.9, 0.9, 0.8
    # Frames 20, 61 and 102 are centred on 5.125, 15.375 and 25.625; the last is no event.
    truth = tuple(Event("goal", t - 2, t + 2, t) for t in (5.0, 15.0, 24.625))
    stitched = [StitchedClips(frame_track(goal), truth)]
    options = replace(SPOTS, smooth_s=0.0)
    assert timing_error_s(stitched, "goal", 0.5, options) == pytest.approx(0.375)
    assert timing_error_s(stitched, "goal", 0.95, options) is None


def test_each_class_has_its_own_widths_and_none_suppresses_another():
    short = short_events(8)
    # Cards lie half a second after every goal, and are long: they keep the default.
    card, truth = np.zeros(len(short.track.start_s)), list(short.truth)
    for event in short.truth:
        at = round(event.end_s * 4)
        card[at : at + 16] = 0.8
        truth.append(Event("card", event.end_s, event.end_s + 4, event.end_s + 2))
    stitched = [StitchedClips(frame_track(short.track.probs[:, 1], card), tuple(truth))]
    for label in ("goal", "card"):
        widths, curve = choose_widths(stitched, [], label, SPOTS)
        assert widths == (PeakWidths(0.3, 2.0) if label == "goal" else DEFAULT)
        assert (curve.num_positive, curve.f1.max()) == (8, 1.0)


def test_calibration_stores_widths_for_spots_only(model):
    scores = scores_of([0, 1, 2])
    card = replace(short_events(8).truth[0], label="card", start_s=1, end_s=2, peak_s=1.5)
    short = short_events(8)
    one = StitchedClips(short.track, (*short.truth, card))
    fixed = {"target": Target("f1"), "stitched": [one], "temperature": 1.0}
    found = calibrate(model, scores, **fixed, events=SPOTS)
    assert found.widths == {"goal": PeakWidths(0.3, 2.0), "card": DEFAULT}
    assert found.choices["goal"].widths == PeakWidths(0.3, 2.0)
    assert found.choices["goal"].timing_error_s == pytest.approx(0.0, abs=1e-6)
    # Between the right ones at 0.51 and the false ones at 0.5.
    assert 0.5 < found.thresholds["goal"] < 0.51
    intervals = calibrate(model, scores, **fixed)
    assert intervals.widths is None
    assert intervals.choices["goal"].widths is None


def test_the_command_prints_widths_and_timing_and_writes_them_into_the_checkpoint(tmp_path, model):
    season = make_season(tmp_path, model)
    out = season / "spots.safetensors"
    arguments = [season / "model.safetensors", season / "labels.csv", "--groups", "B,C", "-o", out]
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments), "--spots"])
    assert result.exit_code == 0, result.output
    assert re.search(r"class +timing error +smoothing +NMS", result.stdout)
    assert re.search(r"goal +\S+( s)? +0\.12 s +0\.50 s", result.stdout)
    # A window is 0.5 s, a hop 0.125 s: the defaults, which two clips a class do not move.
    usual = PeakWidths(smooth_s=0.125, nms_s=0.5)
    loaded = load_checkpoint(out)
    assert loaded.widths == {"goal": usual, "card": usual}
    assert loaded.record.calibration.per_class["goal"].widths == usual
    result = CliRunner().invoke(app, ["calibrate", *map(str, arguments)])
    assert "NMS" not in result.stdout
    assert load_checkpoint(out).widths is None
