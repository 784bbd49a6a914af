"""The learning curve: heads see a share of each class and never the match that they answer."""

import time

import numpy as np

from touchline.models.heads import HeadSpec
from touchline.pipeline.heads.choose import ClipFeatures, Trial, held_out_probs
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.heads.learning_curve import learning_curve, take_share

TRIAL = Trial(HeadSpec("linear"), 10.0, 0.0, 0.0)


def test_a_share_of_each_class_is_drawn_and_at_least_one_clip():
    targets = np.eye(3, dtype=np.float32)[[0] * 8 + [1] * 5 + [2]]
    taken = take_share(range(14), targets=targets, share=0.25, rng=np.random.default_rng(0))
    assert [sum(1 for i in taken if targets[i, k]) for k in range(3)] == [2, 2, 1]
    again = take_share(range(14), targets=targets, share=0.25, rng=np.random.default_rng(1))
    assert taken != again


def test_recall_rises_with_clips_where_clips_teach_something():
    # "goal" looks like one of twelve patterns: who saw few clips does not know most of them.
    rng = np.random.default_rng(0)
    truth = np.array([1, 2] * 60)
    groups = [str(n // 2 % 6) for n in range(120)]
    pattern = rng.integers(0, 12, 120)
    windows = np.where(truth[:, None] == 1, np.eye(12)[pattern] * 2, 0.3)
    windows = windows[:, None, :, None] + rng.normal(size=(120, 1, 12, 2)) * 0.15
    features = ClipFeatures(
        list(windows.astype(np.float32)), np.eye(3, dtype=np.float32)[truth], has_background=False
    )
    folds = match_folds(groups, groups)
    probs = held_out_probs(features, TRIAL, folds)
    held = HeldOut(
        (None,) * 120, ("background", "goal", "card"), probs, features.targets, np.ones(120, bool)
    )
    points = learning_curve(features, TRIAL, folds, held)
    assert [point.share for point in points] == [0.25, 0.5, 1.0]
    goal = [point.recalls["goal"] for point in points]
    assert goal[2] == (probs[truth == 1].argmax(axis=1) == 1).mean()
    assert goal[0] < goal[2]
    assert "background" not in points[0].recalls
    assert learning_curve(features, TRIAL, folds, held, deadline=time.monotonic()) == ()


def test_a_share_is_drawn_from_the_other_matches_only():
    seen = []
    features = ClipFeatures(
        [np.full((1, 2, 1), float(n), np.float32) for n in range(12)],
        np.eye(2, dtype=np.float32)[[0, 1] * 6],
    )
    folds = match_folds([str(n // 4) for n in range(12)], ["a"] * 12)

    def learn(clips):
        seen.append(set(clips))
        return clips

    held_out_probs(features, TRIAL, folds, learn=learn)
    assert [clips & set(fold) for clips, fold in zip(seen, folds, strict=True)] == [set()] * 3
    assert all(len(clips) == 8 for clips in seen)
