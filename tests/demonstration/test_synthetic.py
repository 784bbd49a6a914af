"""Made-up matches: their truth is exact, and a seed is a match."""

import itertools

import numpy as np
import pytest

from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.demonstration.court import (
    DISTRACTORS,
    FRAME_RATE_HZ,
    PLAYS,
    RIM_X_M,
    RIM_Z_M,
    Match,
)
from touchline.pipeline.demonstration.render_match import match_script, paint_match, render_match


def played(plays, *, seed):
    """The match after its last frame, and (time_s, ball, holder's index or None) per frame."""
    match = Match(plays, np.random.default_rng(seed))
    frames = []
    for _ in match.frames():
        holder = next((i for i, p in enumerate(match.players) if p is match.holder), None)
        frames.append((match.time_s, match.ball.copy(), holder))
    return match, frames


def goes_through_rim(frames, event):
    """Whether the ball sinks through a rim's height at the rim's place during the event."""
    inside = [ball for time_s, ball, _ in frames if event.start_s <= time_s <= event.end_s]
    for above, below in itertools.pairwise(inside):
        at_rim = np.hypot(abs(above[0]) - RIM_X_M, above[1]) < 0.25
        if at_rim and above[2] >= RIM_Z_M - 0.25 > below[2]:
            return True
    return False


@pytest.mark.parametrize("play", PLAYS)
@pytest.mark.parametrize("seed", range(5))
def test_a_play_is_recorded_once_and_lasts_as_long_as_it_takes(play, seed):
    match, frames = played([play], seed=seed)
    [event] = match.events
    assert event.label == play
    assert 0 <= event.start_s < event.end_s <= frames[-1][0]
    assert 0.7 <= event.end_s - event.start_s <= 3.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("play", "scores"),
    [("dunk", True), ("assist", True), ("three_pointer", True), ("block", False)],
)
def test_every_play_but_a_block_ends_in_the_basket(play, scores, seed):
    match, frames = played([play], seed=seed)
    assert goes_through_rim(frames, match.events[0]) is scores


@pytest.mark.parametrize("seed", range(5))
def test_an_assist_has_a_passer_and_another_who_scores(seed):
    match, frames = played(["assist"], seed=seed)
    [event] = match.events
    passer = [h for t, _, h in frames if t < event.start_s][-1]
    holders = {h for t, _, h in frames if event.start_s <= t <= event.end_s and h is not None}
    assert len(holders) == 1
    assert passer not in holders


@pytest.mark.parametrize("distractor", DISTRACTORS)
def test_what_only_looks_like_a_play_is_not_recorded(distractor):
    match, _ = played([distractor] * 2, seed=1)
    assert match.events == []


def test_an_unknown_play_is_refused_by_name():
    with pytest.raises(ValueError, match="slam"):
        Match(["slam"], np.random.default_rng(0))


def test_a_script_has_every_play_as_often_as_asked_among_the_distractors():
    script = match_script(np.random.default_rng(0), plays_each=3, distractors=8)
    assert [script.count(play) for play in PLAYS] == [3, 3, 3, 3]
    assert sum(script.count(name) for name in DISTRACTORS) == 8


def first_frames(seed, number):
    frames = itertools.islice(paint_match(["dunk"], seed=seed), number)
    return np.stack([image for image, _ in frames])


def test_the_same_seed_paints_the_same_match_and_another_seed_another():
    assert np.array_equal(first_frames(3, 12), first_frames(3, 12))
    assert not np.array_equal(first_frames(3, 12), first_frames(4, 12))


def test_footage_is_as_long_as_the_match_and_holds_its_plays(tmp_path):
    path = tmp_path / "match.mp4"
    events = render_match(path, plays_each=1, distractors=0, seed=5)
    assert sorted(event.label for event in events) == sorted(PLAYS)
    assert probe_footage(path).frame_rate == f"{FRAME_RATE_HZ}/1"
    times_s = np.concatenate([f.time_s for f in decode(path, rate_hz=None, size_px=32)])
    assert np.array_equal(times_s, np.arange(len(times_s)) / FRAME_RATE_HZ)
    assert events[-1].end_s < times_s[-1]
    assert [p.name for p in tmp_path.iterdir()] == ["match.mp4"]
