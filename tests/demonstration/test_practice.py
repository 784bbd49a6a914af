"""Practice sessions: what is said of a frame is true of it, and there are no plays in them."""

import numpy as np
import pytest

from touchline.models.networks.motion_net import SMALL
from touchline.pipeline.demonstration.court import RIM_X_M, RIM_Z_M
from touchline.pipeline.demonstration.practice import ACTIONS, Practice, render_session
from touchline.pipeline.demonstration.pretrain import PretrainOptions, Windows, pretrain


def moments(seed, seconds=60.0):
    """(action, ball, holder) of every frame."""
    practice = Practice(seconds, np.random.default_rng(seed))
    frames = [(practice.action, practice.ball.copy(), practice.holder) for _ in practice.frames()]
    assert practice.events == []
    return frames


@pytest.mark.parametrize("seed", range(3))
def test_the_ball_is_in_hand_while_it_is_dribbled_or_held_and_only_then(seed):
    frames = moments(seed)
    for action, _, holder in frames:
        assert (holder is not None) == (action in ("dribbled", "held")), action
    assert {action for action, _, _ in frames} == set(ACTIONS)


@pytest.mark.parametrize("seed", range(3))
def test_a_ball_that_scores_falls_through_the_hoop(seed):
    scored = [ball for action, ball, _ in moments(seed) if action == "scored"]
    assert scored
    for ball in scored:
        assert np.hypot(abs(ball[0]) - RIM_X_M, ball[1]) < 0.1
        assert ball[2] <= RIM_Z_M + 0.01


def test_a_knocked_ball_changes_its_way():
    frames = moments(0)
    turns = []
    for (a, x, _), (b, y, _), (_, z, _) in zip(frames, frames[1:], frames[2:], strict=False):
        if a in ("passed", "lobbed") and b == "knocked":
            turns.append(float(np.dot((y - x)[:2], (z - y)[:2])))
    assert turns
    assert np.mean(np.array(turns) < 0) > 0.8


def test_the_ball_is_painted_where_the_session_says():
    session = render_session(3, seconds=15.0, rate_hz=8, height_px=240)
    pixels = session.pixels.astype(int)
    orange = (pixels[..., 0] - pixels[..., 2] > 60) & (pixels[..., 0] > pixels[..., 1] + 20)
    at_ball, elsewhere = [], []
    for frame, (x, y) in zip(orange, session.ball_px.round().astype(int), strict=True):
        if 6 <= x < frame.shape[1] - 6 and 6 <= y < frame.shape[0] - 6:
            at_ball.append(frame[y - 1 : y + 2, x - 1 : x + 2].mean())
            elsewhere.append(np.roll(frame, 40, axis=1)[y - 1 : y + 2, x - 1 : x + 2].mean())
    assert np.mean(at_ball) > 2 * np.mean(elsewhere)


def test_the_same_seed_renders_the_same_session_and_another_seed_another():
    first, again, other = (
        render_session(seed, seconds=3.0, rate_hz=8, height_px=64) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.measures, again.measures)
    assert first.pixels.shape != other.pixels.shape or (first.pixels != other.pixels).any()


def test_a_mirrored_window_mirrors_the_place_of_the_ball():
    session = render_session(1, seconds=3.0, rate_hz=8, height_px=64)
    windows = Windows([session], np.random.default_rng(0))
    batch = windows.draw(8)
    assert batch.pixels.shape == (8, 3, SMALL.num_frames, 64, 64)
    found, mirrored = [], 0
    for pixels, place in zip(batch.pixels.numpy(), batch.ball_px, strict=True):
        for start in range(len(session.actions) - SMALL.num_frames + 1):
            for left in range(session.pixels.shape[2] - 63):
                crop = session.pixels[start : start + SMALL.num_frames, :, left : left + 64]
                inside = session.ball_px[start : start + SMALL.num_frames] - [left, 0]
                if np.array_equal(crop.transpose(3, 0, 1, 2), pixels):
                    found.append(np.allclose(place, inside))
                elif np.array_equal(crop[:, :, ::-1].transpose(3, 0, 1, 2), pixels):
                    found.append(np.allclose(place, [64, 0] + inside * [-1, 1]))
                    mirrored += 1
    assert len(found) == 8
    assert 0 < mirrored < 8
    assert all(found)


@pytest.mark.slow
def test_pretraining_lowers_its_losses():
    options = PretrainOptions(steps=12, batch_size=8)
    sessions = [render_session(seed, seconds=8.0, rate_hz=8, height_px=64) for seed in range(2)]
    rows = [figures for _, figures, _ in pretrain(options, sessions)]
    totals = [sum(row.values()) - row["accuracy"] for row in rows]
    assert np.mean(totals[-3:]) < np.mean(totals[:3])
    assert len(totals) == 12
