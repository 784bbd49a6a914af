"""Players learnt from photos: right on photos never seen, calibrated, and silent when unsure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_players import draw_player, looks, write_photos

from touchline.models.checkpoint import load_checkpoint, save_checkpoint
from touchline.models.errors import CheckpointError
from touchline.models.heads import DENSE_UNITS, HeadSpec
from touchline.models.weights.open import open_weights
from touchline.pipeline.heads.choose import ClipFeatures, Trial
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.players.name import load_players_model, name_players
from touchline.pipeline.players.options import LEAST_PROB, PlayersOptions
from touchline.pipeline.players.train import (
    calibrated,
    coverage_rows,
    least_prob,
    least_prob_for_strangers,
    num_named,
    stranger_probs,
    train_players,
)
from touchline.pipeline.types import Example


def picture(look, k: int, size_px: int = 224) -> np.ndarray:
    drawn = draw_player(look, np.random.default_rng([99, k]), size_px=size_px)
    return np.ascontiguousarray(drawn.transpose(2, 0, 1))


def answers(rows: list[tuple[float, int, int]]) -> HeldOut:
    """Photos of three classes: probability of the top class, its column, the true column."""
    probs = np.zeros((len(rows), 3))
    for i, (top, given, _) in enumerate(rows):
        probs[i] = (1 - top) / 2
        probs[i, given] = top
    targets = np.eye(3, dtype=np.float32)[[true for _, _, true in rows]]
    examples = tuple(Example(Path(str(i)), "x", str(i)) for i in range(len(rows)))
    judged = np.ones(len(rows), dtype=np.bool_)
    return HeldOut(examples, ("background", "a", "b"), probs, targets, judged)


def test_players_are_recognised_on_photos_that_no_head_has_seen(trained):
    held = trained.held_out
    right = held.probs.argmax(axis=1) == held.targets.argmax(axis=1)
    assert len(right) == 24
    assert right.mean() > 0.8


def test_the_trunk_stays_frozen_bit_for_bit(trained):
    weights = open_weights("efficientnet_lite0-imagenet", "cnn_lstm_lite0")
    own = trained.model.backbone.state_dict()
    trunk = [key for key in weights.state if key.startswith("stages.") and key in own]
    assert len(trunk) > 100
    assert all(torch.equal(own[key], weights.state[key]) for key in trunk)
    assert trained.model.backbone.num_frozen == len(trained.model.backbone.stages)


def test_a_saved_model_names_new_photos_and_refuses_small_and_soft_ones(trained, tmp_path):
    path = tmp_path / "players.safetensors"
    save_checkpoint(path, trained.model)
    model = load_players_model(path)
    people = looks(4, seed=3)
    found = name_players(model, [picture(look, k) for k, look in enumerate(people)])
    named = [(n.player, look.name) for n, look in zip(found, people, strict=True) if n.player]
    assert len(named) >= 2
    assert all(given == true for given, true in named)
    small, soft = picture(people[0], 0, 20), np.full((3, 200, 200), 90, np.uint8)
    unknown = name_players(model, [small, soft])
    assert [n.player for n in unknown] == [None, None]
    assert unknown[0].why.startswith("too small: 20 x 20 px")
    assert unknown[1].why.startswith("too soft: sharpness 0")


def test_the_answer_does_not_depend_on_the_other_photos(trained):
    people = looks(4, seed=3)
    pictures = [picture(look, 7) for look in people]
    together = name_players(trained.model, pictures)
    alone = [name_players(trained.model, [one])[0] for one in pictures]
    assert together == alone


def test_below_the_least_probability_a_player_is_unknown_and_the_reason_says_so(trained):
    strict = replace(trained.model, thresholds=dict.fromkeys(trained.model.labels[1:], 1.0))
    (naming,) = name_players(strict, [picture(looks(4, seed=3)[0], 1)])
    assert naming.player is None
    assert naming.why == (
        f"the likeliest player has {naming.probability:.2f}, at least 1.00 is needed"
    )


def test_people_in_the_folder_unknown_are_none_of_the_players(tmp_path):
    folder = write_photos(tmp_path / "photos", looks(3, seed=3), 6)
    (folder / "player 03").rename(folder / "unknown")
    found = train_players(folder, PlayersOptions(crop="none"), device="cpu")
    assert found.model.labels == ("background", "player 01", "player 02")
    assert found.model.has_background
    (naming,) = name_players(found.model, [picture(looks(3, seed=3)[2], 3)])
    assert naming.player is None


def test_the_least_probability_is_the_lowest_at_which_enough_names_are_right():
    rows = [(0.9, 1, 1), (0.8, 2, 2), (0.7, 1, 2), (0.6, 2, 2), (0.55, 1, 2)]
    assert least_prob(answers(rows), 0.95) == 0.8
    assert least_prob(answers(rows), 0.75) == 0.6
    assert least_prob(answers(rows), 0.6) == LEAST_PROB
    assert [num_named(answers(rows), p) for p in (0.8, 0.6, LEAST_PROB)] == [2, 4, 5]


def test_no_name_is_given_where_no_probability_is_sure_enough():
    assert least_prob(answers([(0.9, 1, 2), (0.8, 2, 2)]), 0.95) == 1.0


def test_answers_of_one_probability_are_named_together():
    assert least_prob(answers([(0.8, 1, 1), (0.8, 1, 2), (0.8, 1, 1)]), 0.9) == 1.0


def test_unknown_and_low_answers_never_set_the_least_probability():
    rows = [(0.99, 0, 1), (0.9, 1, 1), (0.4, 1, 1)]
    assert least_prob(answers(rows), 0.9) == LEAST_PROB
    assert num_named(answers(rows), LEAST_PROB) == 1


def test_coverage_takes_the_surest_photos_first():
    rows = [(0.9, 1, 1), (0.8, 2, 2), (0.7, 1, 2), (0.6, 2, 1)]
    assert coverage_rows(answers(rows))[0] == (1.0, 0.5, 4)
    assert (0.5, 1.0, 2) in coverage_rows(answers(rows))


def test_calibration_lowers_probabilities_that_were_too_sure(trained):
    rows = [(0.99, 1, 1 if k % 10 < 7 else 2) for k in range(60)]
    model, held = calibrated(replace(trained.model, has_background=False), answers(rows))
    assert model.temperature > 1.5
    # 70 % were right. Column 0 takes no part in a model without background.
    assert held.probs.max(axis=1) == pytest.approx(0.7, abs=0.03)


def corners(num_players: int) -> ClipFeatures:
    """Six photos of each player, around one corner per player."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(1, num_players + 1), 6)
    rows = 4 * np.eye(num_players + 1)[truth] + rng.normal(0, 0.1, (len(truth), num_players + 1))
    targets = np.eye(num_players + 1, dtype=np.float32)[truth]
    windows = [row[None, :, None].astype(np.float32) for row in rows]
    return ClipFeatures(windows, targets, has_background=False)


def test_strangers_are_asked_of_a_head_that_never_saw_them():
    trial = Trial(HeadSpec("linear"), 10.0, 0.0, 1.0)
    probs = stranger_probs(corners(5), trial, 1.0)
    assert probs is not None
    assert probs.shape == (30,)
    # A player that was seen would be answered with nearly 1 here; a stranger is far from all four.
    assert probs.max() < 0.7
    assert stranger_probs(corners(2), trial, 1.0) is None


def test_the_least_probability_for_strangers_lets_the_wanted_share_through():
    probs = np.array([0.9, 0.2, 0.8, 0.5])
    shares = {share: least_prob_for_strangers(probs, share) for share in (0, 0.25, 0.5, 1)}
    assert {s: float((probs >= p).mean()) for s, p in shares.items()} == {s: s for s in shares}


def test_few_strangers_are_named_in_training(trained):
    assert trained.strangers_named is not None
    assert trained.strangers_named <= PlayersOptions().max_strangers


def test_a_model_of_footage_is_no_model_of_players(trained, tmp_path):
    path = tmp_path / "model.safetensors"
    record = replace(trained.model.record, photos=None)
    save_checkpoint(path, replace(trained.model, record=record))
    with pytest.raises(CheckpointError, match="not of players"):
        load_players_model(path)
    with pytest.raises(ValueError, match="not of players"):
        name_players(load_checkpoint(path), [])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"head": "sparse"}, "head is 'sparse'"),
        ({"head": "dense", "freeze": "block6"}, "needs a frozen trunk"),
        ({"min_right": 0.2}, "min_right is 0.2"),
        ({"max_strangers": 2.0}, "max_strangers is 2.0"),
        ({"min_size_px": 1}, "min_size_px is 1"),
        ({"crop": "body"}, "crop is 'body'"),
        ({"min_sharpness": -1.0}, "min_sharpness is -1"),
        ({"epochs": 0}, "epochs is 0"),
    ],
)
def test_an_option_outside_its_range_is_an_error(options, says):
    with pytest.raises(ValueError, match=says):
        PlayersOptions(**options)


def test_a_network_of_clips_is_refused(photos):
    options = PlayersOptions(backbone="motion_net", weights="motion_net", crop="none")
    with pytest.raises(ValueError, match="motion_net"):
        train_players(photos, options, device="cpu")


@pytest.mark.slow
def test_the_dense_recipe_learns_and_is_kept_by_the_checkpoint(photos, tmp_path):
    found = train_players(photos, PlayersOptions(head="dense", epochs=4, crop="none"), device="cpu")
    right = found.held_out.probs.argmax(axis=1) == found.held_out.targets.argmax(axis=1)
    assert right.mean() > 0.6
    path = tmp_path / "dense.safetensors"
    save_checkpoint(path, found.model)
    model = load_players_model(path)
    assert model.backbone.head.hidden.weight.shape == (DENSE_UNITS, 1280 * 7 * 7)
    pictures = [picture(looks(4, seed=3)[0], 2)]
    assert name_players(model, pictures) == name_players(found.model, pictures)


@pytest.mark.slow
def test_last_stages_are_trained_only_where_cross_validation_gains(photos):
    found = train_players(
        photos, PlayersOptions(freeze="block6", epochs=2, crop="none"), device="cpu"
    )
    kept = "kept the frozen trunk" not in found.how[1]
    assert kept == (found.model.backbone.num_frozen < len(found.model.backbone.stages))
