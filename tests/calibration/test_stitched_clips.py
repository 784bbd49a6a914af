"""Stitched clips: where their events lie, what thresholds do to them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.calibration import calibrate
from touchline.pipeline.calibration.calibrate import eventless_footage, score_in_several_orders
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.stitched_clips import (
    StitchedClips,
    event_curve,
    match_events,
    mixed_order,
    stitch,
)
from touchline.pipeline.calibration.thresholds import choose_threshold
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import sliding_windows
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Example, ScoreTrack

SPEC = ClipSpec(num_frames=4, rate_hz=2.0, size_px=16)


def clip(label, shade, *, num_frames, first=0, last=None, times=(None, None)):
    """A clip of one shade; windows start at `first` to `last`."""
    pixels = np.full((num_frames, 3, 16, 20), shade, dtype=np.uint8)
    last = num_frames - 4 if last is None else last
    return LabelledClip(
        Example(Path("x.mp4"), label, "m", *times), pixels, first, last, 0, num_frames
    )


def test_events_lie_where_their_clips_are_shown():
    clips = [clip("goal", 10, num_frames=6), clip("card", 20, num_frames=8)]
    frames, truth = stitch(clips, SPEC, seed=3)
    assert frames.pixels.shape == (14, 3, 16, 16)
    assert frames.time_s.tolist() == [k / 2 for k in range(14)]
    for event in truth:
        shown = frames.pixels[(frames.time_s >= event.start_s) & (frames.time_s < event.end_s)]
        assert set(shown.ravel()) == {{"goal": 10, "card": 20}[event.label]}
        assert len(shown) == {"goal": 6, "card": 8}[event.label]


def test_a_labelled_part_of_footage_is_the_event_and_what_surrounds_it_is_not():
    # 1 s of event in a window of 2 s, with half a second of surroundings for the jitter:
    # frames 0 to 5, windows start at 0 to 2, their middle is frame 3, the event frames 2 and 3.
    short = clip("goal", 10, num_frames=6, first=0, last=2, times=(100.0, 101.0))
    _, (event,) = stitch([short], SPEC)
    assert (event.start_s, event.end_s, event.peak_s) == (1.0, 2.0, 1.5)
    long = clip("goal", 10, num_frames=10, times=(100.0, 105.0))
    _, (event,) = stitch([long], SPEC)
    assert (event.start_s, event.end_s) == (0.0, 5.0)


def test_a_labelled_moment_is_the_moment_of_the_event():
    whole = clip("goal", 10, num_frames=10, times=(100.0, 105.0))
    moment = replace(whole, example=replace(whole.example, peak_s=101.5))
    _, (event,) = stitch([moment], SPEC)
    assert (event.start_s, event.end_s, event.peak_s) == (0.0, 5.0, 1.5)
    # Only the first seconds of the label are shown, and the moment comes after them.
    cut = clip("goal", 10, num_frames=6, times=(100.0, 105.0))
    late = replace(cut, example=replace(cut.example, peak_s=104.0))
    _, (event,) = stitch([late], SPEC)
    assert (event.start_s, event.end_s, event.peak_s) == (0.0, 3.0, 3.0)


def test_background_clips_hold_no_event():
    _, truth = stitch([clip("background", 5, num_frames=6)], SPEC)
    assert truth == ()


def test_eventless_footage_fills_the_gaps():
    clips = [clip("goal", 10, num_frames=6), clip("card", 20, num_frames=6)]
    quiet = np.full((40, 3, 17, 16), 99, dtype=np.uint8)
    frames, truth = stitch(clips, SPEC, eventless=[quiet], seed=1)
    inside = np.zeros(len(frames), dtype=bool)
    for event in truth:
        inside |= (frames.time_s >= event.start_s) & (frames.time_s < event.end_s)
    assert set(frames.pixels[~inside].ravel()) == {99}
    edges = [0.0, *(t for e in truth for t in (e.start_s, e.end_s)), len(frames) / 2]
    gaps_s = [b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert len(gaps_s) == 3
    assert all(2.0 <= gap_s <= 6.0 for gap_s in gaps_s)  # one to three windows of 2 s


def test_gaps_between_single_frames_last_seconds():
    # One frame at 4 Hz is a window of 0.25 s; gaps last 2 to 6 s as with windows of 2 s.
    spec = ClipSpec(num_frames=1, rate_hz=4.0, size_px=16)
    quiet = np.full((400, 3, 16, 16), 99, dtype=np.uint8)
    clips = [replace(clip(k, 10, num_frames=4), first=0, last=3) for k in "abcd"]
    frames, truth = stitch(clips, spec, eventless=[quiet], seed=1)
    edges = [0.0, *(t for e in truth for t in (e.start_s, e.end_s)), len(frames) / 4]
    gaps_s = [b - a for a, b in zip(edges[::2], edges[1::2], strict=True)]
    assert len(gaps_s) == 5
    assert all(2.0 <= gap_s <= 6.0 for gap_s in gaps_s)


@given(labels=st.lists(st.sampled_from("abc"), max_size=12), seed=st.integers(0, 99))
def test_neighbours_differ_in_class_wherever_that_is_possible(labels, seed):
    order = mixed_order(labels, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    most = max((labels.count(label) for label in labels), default=0)
    if 2 * most <= len(labels) + 1:
        assert all(labels[i] != labels[j] for i, j in pairwise(order))


def test_every_truth_is_hit_once_by_a_peak_it_holds():
    truth = [Event("goal", 10, 14, 12), Event("goal", 30, 34, 32)]
    found = [Event("goal", t, t, t, s) for t, s in ((11, 0.9), (13, 0.8), (35, 0.7), (20, 0.6))]
    assert match_events(found, truth, reach_s=1.0) == [(found[0], truth[0]), (found[2], truth[1])]
    assert match_events(found, truth, reach_s=0.9) == [(found[0], truth[0])]
    assert match_events(found[1:2] * 2, truth, reach_s=1.0) == [(found[1], truth[0])]


def test_a_peak_between_two_events_takes_the_nearer():
    near, far = Event("goal", 16, 20, 18), Event("goal", 10, 14, 12)
    (found,) = [Event("goal", 15.2, 15.2, 15.2, 0.9)]
    assert match_events([found], [far, near], reach_s=2.0) == [(found, near)]


def track_of(*goal):
    """Windows of 1 s, one every second."""
    start_s = np.arange(len(goal)) * 1.0
    probs = np.array([[1 - p, p] for p in goal], dtype=np.float32)
    return ScoreTrack(
        ("background", "goal"), start_s, start_s + 1, probs, np.zeros(len(goal), dtype=bool)
    )


RAW = EventOptions(smooth_s=0)


def test_thresholds_are_set_on_the_events_that_detection_would_find():
    # Goals in windows 2 and 8; something else scores .3 in window 5.
    stitched = StitchedClips(
        track_of(0, 0, 0.9, 0, 0, 0.3, 0, 0, 0.5, 0, 0),
        (Event("goal", 2, 3, 2.5), Event("goal", 8, 9, 8.5)),
    )
    curve = event_curve([stitched], [], "goal", RAW)
    assert curve.score.tolist() == [0.9, 0.5, 0.3]
    assert curve.precision.tolist() == [1, 1, pytest.approx(2 / 3)]
    assert curve.recall.tolist() == [0.5, 1, 1]
    found = choose_threshold(curve, Target("f1"))
    assert (found.threshold, found.f1, found.positives) == (0.5, 1.0, 2)


def test_what_a_low_threshold_runs_together_counts_once():
    # Below .2 the two goals become one long event, whose peak lies in the first.
    stitched = StitchedClips(
        track_of(0, 0.9, 0.2, 0.2, 0.2, 0.8, 0, 0.1),
        (Event("goal", 1, 2, 1.5), Event("goal", 5, 6, 5.5)),
    )
    curve = event_curve([stitched], [], "goal", RAW)
    assert curve.recall.tolist() == [0.5, 1, 0.5]


def test_events_of_eventless_footage_are_false():
    stitched = StitchedClips(track_of(0, 0.9, 0, 0, 0), (Event("goal", 1, 2, 1.5),))
    curve = event_curve([stitched], [track_of(0, 0, 0.95, 0)], "goal", RAW)
    assert curve.score.tolist() == pytest.approx([0.95, 0.9])
    assert curve.precision.tolist() == [0, 0.5]


def test_a_class_without_a_clip_has_no_curve():
    with pytest.raises(ValueError, match="no clip"):
        event_curve([StitchedClips(track_of(0.5), ())], [], "goal", RAW)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_gaps_of_stitched_clips_show_what_the_network_sees_of_footage(tmp_path, monkeypatch, fit):
    # Bright to the left and the right of the centre square, dark in it.
    picture = np.full((64, 256, 3), 255, dtype=np.uint8)
    picture[:, 96:160] = 0
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 256, 64, "bgr0"
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=32, fit=fit)
    model = TrainedModel(build_backbone("motion_net", 2, spec), "motion_net", ("background", "a"))
    gaps = []
    monkeypatch.setattr(
        calibrate, "score_stitched_clips", lambda *_, eventless, seed: gaps.extend(eventless)
    )
    score_in_several_orders(Scorer(model, device="cpu"), [], eventless_footage([path]))
    frames = decode(path, rate_hz=spec.rate_hz, size_px=spec.size_px)
    (window,) = sliding_windows(frames, spec)
    assert (gaps[0] == window.pixels).all()
