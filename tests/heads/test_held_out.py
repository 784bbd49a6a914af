"""The record of held-out answers: no clip is answered by a head that saw its match."""

from pathlib import Path

import numpy as np
import pytest
from train_material import made_examples, parts, tiny_model

from touchline.models.heads import HeadSpec
from touchline.pipeline.heads.choose import ClipFeatures, Trial, cross_validate, held_out_probs
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.held_out import cross_validated, validated
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

LABELS = ("background", "goal", "card")
TRIAL = Trial(HeadSpec("linear"), 10.0, 0.0, 0.0)


def noisy_features(truth, seed=0):
    rng = np.random.default_rng(seed)
    windows = np.eye(3)[truth][:, None, :, None] + rng.normal(size=(len(truth), 2, 3, 4))
    return ClipFeatures(list(windows.astype(np.float32)), np.eye(3, dtype=np.float32)[truth])


def test_the_labels_of_a_match_have_no_influence_on_the_answers_to_it():
    groups = [str(n // 6) for n in range(24)]
    truth = np.array([0, 1, 2] * 8)
    folds = match_folds(groups, groups)
    before = held_out_probs(noisy_features(truth), TRIAL, folds)
    features = noisy_features(truth)
    features.targets[folds[0]] = np.roll(features.targets[folds[0]], 1, axis=1)
    after = held_out_probs(features, TRIAL, folds)
    assert np.array_equal(before[folds[0]], after[folds[0]])
    assert not np.allclose(before[folds[1]], after[folds[1]])


def test_the_record_gives_the_figures_that_the_head_was_chosen_by():
    groups = [str(n % 5) for n in range(60)]
    truth = np.array([0, 1, 2] * 20)
    features, folds = noisy_features(truth), match_folds(groups, groups)
    (trial,) = cross_validate(features, [HeadSpec("linear")], folds)
    examples = [Example(Path(f"{n}.mp4"), LABELS[k], groups[n]) for n, k in enumerate(truth)]
    held = cross_validated(features, trial, folds, examples=examples, labels=LABELS)
    recalls = [(held.probs[truth == k].argmax(axis=1) == k).mean() for k in range(3)]
    assert np.mean(recalls) == pytest.approx(trial.balanced_accuracy)
    assert held.probs.sum(axis=1) == pytest.approx(1)
    assert held.judged.all()
    assert held.examples[7].path.name == "7.mp4"


def test_a_class_of_one_match_is_marked_as_not_judged():
    # No head that answers the quiet match has seen background elsewhere.
    groups = ["quiet"] * 4 + [str(n % 4) for n in range(32)]
    truth = np.array([0] * 4 + [1 + n % 2 for n in range(32)])
    examples = [Example(Path("a.mp4"), LABELS[k], g) for k, g in zip(truth, groups, strict=True)]
    folds = match_folds(groups, groups)
    held = cross_validated(noisy_features(truth), TRIAL, folds, examples=examples, labels=LABELS)
    assert held.judged.tolist() == [False] * 4 + [True] * 32


@pytest.mark.usefixtures("tiny")
def test_a_fitted_head_keeps_the_answers_to_every_clip_with_its_label(tmp_path):
    train, val = parts(made_examples(tmp_path, ("blue", "red", "background"), 4))
    # One clip is labelled wrongly, and the heads fitted without its match say so.
    train[0] = Example(train[0].path, "red", train[0].group)
    fitted = fit_head(
        tiny_model(),
        train,
        val,
        TrainOptions(freeze=3, augmentation=None),
        head="linear",
        device="cpu",
    )
    held = fitted.held_out
    assert list(held.examples) == train
    wrong = np.flatnonzero(held.probs.argmax(axis=1) != held.targets.argmax(axis=1))
    assert wrong.tolist() == [0]
    assert held.labels[held.probs[0].argmax()] == "blue"

    own = validated(fitted.result)
    assert list(own.examples) == val
    assert [own.labels[k] for k in own.targets.argmax(axis=1)] == [e.label for e in val]
    assert np.array_equal(own.probs, fitted.result.val_probs)
