"""Heads compared by cross-validation: whole matches are held out, and the better head wins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from touchline.models.heads import POOLINGS, HeadSpec, pool_features
from touchline.pipeline.heads.choose import (
    ClipFeatures,
    candidates,
    cross_validate,
    fit,
    held_out_probs,
)
from touchline.pipeline.heads.folds import match_folds


def clip_features(windows, truth, num_classes=3, **options):
    targets = np.eye(num_classes, dtype=np.float32)[truth]
    return ClipFeatures([w.astype(np.float32) for w in windows], targets, **options)


def test_no_match_is_in_two_folds_and_every_clip_is_in_one():
    groups = [f"match {n}" for n in (0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 6)]
    folds = match_folds(groups, ["goal", "card"] * 6)
    assert len(folds) == 5
    assert sorted(i for fold in folds for i in fold) == list(range(12))
    held = [{groups[i] for i in fold} for fold in folds]
    assert sum(len(names) for names in held) == len(set(groups))


def test_one_match_cannot_be_cross_validated():
    with pytest.raises(ValueError, match=r"of the match 'final'\. .*whole matches.*--head own"):
        match_folds(["final"] * 4, ["goal", "card"] * 2)


def test_what_only_identifies_the_match_is_worth_nothing():
    # Each match has its own feature and, by chance, one class: who saw the match would know all.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 4)
    truth = 1 + (groups % 2)
    windows = np.eye(10)[groups][:, None, :, None] * 5 + rng.normal(size=(40, 1, 10, 1)) * 0.01
    features = clip_features(windows, truth, has_background=False)
    names = [str(g) for g in groups]
    (trial,) = cross_validate(features, [HeadSpec("linear")], match_folds(names, names))
    assert trial.balanced_accuracy <= 0.6


def test_labels_at_random_give_chance():
    rng = np.random.default_rng(1)
    groups = [str(n % 6) for n in range(60)]
    truth = rng.integers(1, 3, 60)
    features = clip_features(rng.normal(size=(60, 2, 8, 4)), truth, has_background=False)
    trials = cross_validate(
        features, candidates("auto", framewise=True), match_folds(groups, groups)
    )
    assert all(0.3 < trial.balanced_accuracy < 0.7 for trial in trials)
    assert min(trial.log_loss for trial in trials) > 0.6


def test_the_head_that_sees_what_tells_the_classes_apart_wins():
    # Class 1 stands still, class 2 flickers: the mean over time is the same, the deviation is not.
    rng = np.random.default_rng(2)
    groups = [str(n % 5) for n in range(40)]
    truth = 1 + np.arange(40) // 20
    flicker = np.where(np.arange(8) % 2, 1.0, -1.0) * (truth == 2)[:, None]
    windows = flicker[:, None, None, :] + rng.normal(size=(40, 1, 6, 8)) * 0.2
    features = clip_features(windows, truth, has_background=False)
    trials = cross_validate(
        features, candidates("linear", framewise=True), match_folds(groups, groups)
    )
    assert trials[0].spec.pooling != "mean"
    assert trials[0].balanced_accuracy == 1.0
    by_mean = [t for t in trials if t.spec.pooling == "mean"]
    assert all(t.balanced_accuracy < 0.8 for t in by_mean)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("mirror", [False, True])
def test_pooling_gives_the_statistics_that_its_name_says(pooling, mirror):
    features = np.random.default_rng(0).normal(size=(3, 10, 4)).astype(np.float32)
    statistics = {"mean": np.mean, "std": np.std, "max": np.max}
    sides = np.split(features, 2, axis=1) if mirror else [features]
    expected = np.mean(
        [
            np.concatenate([statistics[name](x, axis=2) for name in pooling.split("_")], axis=1)
            for x in sides
        ],
        axis=0,
    )
    spec = HeadSpec("linear", pooling, "none", mirror)
    pooled = pool_features(torch.from_numpy(features), spec).numpy()
    assert pooled == pytest.approx(expected, abs=1e-6)
    assert pooled.shape[1] == features.shape[1] // (2 if mirror else 1) * spec.widening


def test_a_class_of_one_match_is_not_judged():
    # Background comes from one file only, so no fold can be trained on it and tested on it.
    rng = np.random.default_rng(3)
    groups = ["quiet"] * 4 + [str(n % 4) for n in range(32)]
    truth = np.array([0] * 4 + [1 + n % 2 for n in range(32)])
    windows = np.eye(3)[truth][:, None, :, None] * 3 + rng.normal(size=(36, 1, 3, 2)) * 0.1
    (trial,) = cross_validate(
        clip_features(windows, truth), [HeadSpec("linear")], match_folds(groups, groups)
    )
    assert trial.balanced_accuracy == 1.0
    assert trial.log_loss < 0.1


def test_a_frame_head_needs_a_trunk_that_sees_frames_one_by_one():
    with pytest.raises(ValueError, match=r"features of single frames.*--head linear"):
        candidates("frame", framewise=False)
    assert {spec.kind for spec in candidates("auto", framewise=False)} == {"linear"}


def test_auto_compares_frame_heads_where_there_is_background_and_linear_ones_elsewhere():
    kinds = {
        background: {
            spec.kind for spec in candidates("auto", framewise=True, background=background)
        }
        for background in (True, False)
    }
    assert kinds == {True: {"frame"}, False: {"linear"}}


def test_a_linear_head_without_mirror_images_sees_the_first_half_of_mirrored_features():
    rng = np.random.default_rng(5)
    windows = rng.normal(size=(4, 2, 12, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[[1, 2, 1, 2]]
    both = ClipFeatures(list(windows), targets, mirrored=True)
    half = ClipFeatures(list(windows[:, :, :6]), targets)
    spec = HeadSpec("linear", "mean_std", "l2")
    assert both.width == half.width == 6
    assert np.array_equal(both.inputs(spec)[0], half.inputs(spec)[0])
    other = ClipFeatures(list(windows[:, :, 6:]), targets)
    mean = (half.inputs(spec)[0] + other.inputs(spec)[0]) / 2
    assert both.inputs(replace(spec, mirror=True))[0] == pytest.approx(mean, abs=1e-6)


def test_the_temperature_of_a_frame_head_makes_a_weak_one_sure():
    # The classes are far apart, so a weak head is always right and its answers near one half.
    rng = np.random.default_rng(4)
    groups = [str(n % 5) for n in range(40)]
    truth = np.arange(40) % 2
    windows = np.eye(6)[truth][:, None, :, None] + rng.normal(size=(40, 1, 6, 8)) * 0.3
    features = clip_features(windows, truth, num_classes=2)
    folds = match_folds(groups, groups)
    (trial,) = cross_validate(features, [HeadSpec("frame")], folds)
    assert trial.temperature < 1
    probs = held_out_probs(features, trial, folds)
    assert -np.log(probs[np.arange(40), truth]).mean() == pytest.approx(trial.log_loss, rel=0.05)
    unsure = held_out_probs(features, replace(trial, temperature=1.0), folds)
    assert -np.log(unsure[np.arange(40), truth]).mean() > 2 * trial.log_loss
    plain, tempered = fit(features, replace(trial, temperature=1.0)), fit(features, trial)
    assert tempered.weight * trial.temperature == pytest.approx(plain.weight)
    assert tempered.bias * trial.temperature == pytest.approx(plain.bias)
