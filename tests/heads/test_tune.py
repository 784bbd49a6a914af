"""Stages fine-tuned from a fitted head: kept where whole matches say they are better, else not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from train_material import SPEC, TinyBackbone, write_footage

from touchline.models.checkpoint import TrainedModel
from touchline.models.heads import HeadSpec
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.heads.choose import ClipFeatures, Trial
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.heads.tune import (
    Start,
    compare,
    gain_and_error,
    train_epochs,
    tune,
    tuning_options,
)
from touchline.pipeline.training.batches import Material, load_material
from touchline.pipeline.training.finetune import Trainer
from touchline.pipeline.training.optimize import BudgetClock
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TrainOptions(
    freeze=1, augmentation=None, batch_size=4, lr=0.05, trunk_lr_scale=0.1, val_views=1
)


class ColourBlind(TinyBackbone):
    """A last stage that sees how bright a clip is, and its colour a hundred times less."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(SPEC, num_classes)
        self.stages = nn.ModuleDict(
            {"first": nn.Conv3d(3, 3, 1, bias=False), "last": nn.Conv3d(3, 8, 1, bias=False)}
        )
        with torch.no_grad():
            self.stages["first"].weight.copy_(torch.eye(3).view(3, 3, 1, 1, 1))
            tint = torch.linspace(-1e-2, 1e-2, 8)
            colours = torch.stack([1 + tint, torch.zeros(8), 1 - tint], dim=1)
            self.stages["last"].weight.copy_(colours.view(8, 3, 1, 1, 1))


def colour_blind_model(labels=("background", "blue", "red"), **options) -> TrainedModel:
    torch.manual_seed(0)
    return TrainedModel(ColourBlind(len(labels)), "tiny", tuple(labels), **options)


@pytest.fixture
def clips(tmp_path) -> list[Example]:
    """Red and blue clips of any brightness, four of each in each of five matches."""
    rng = np.random.default_rng(0)
    examples = []
    for match in range(5):
        for label, tint in (("red", (20, 0, -20)), ("blue", (-20, 0, 20))):
            for k in range(4):
                path = tmp_path / f"{label}_{match}_{k}.mkv"
                grey = rng.integers(40, 216)
                picture = np.full((16, 16, 3), grey) + tint
                write_footage(path, [picture.astype(np.uint8)] * 4)
                examples.append(Example(path, label, f"match_{match}"))
    return examples


def divided(examples):
    val = [e for e in examples if e.group == "match_4"]
    return [e for e in examples if e not in val], val


@pytest.mark.slow
def test_stages_are_fine_tuned_from_the_head_where_that_is_better_on_other_matches(clips):
    model = colour_blind_model()
    before = {k: v.clone() for k, v in model.backbone.stages.state_dict().items()}
    frozen = fit_head(
        colour_blind_model(), *divided(clips), replace(OPTIONS, freeze=2), head="linear"
    )
    fitted = fit_head(model, *divided(clips), OPTIONS, head="linear", device="cpu")
    tuning, result = fitted.tuning, fitted.result
    assert frozen.tuning is None
    assert 1 <= tuning.epochs <= 10
    assert tuning.log_loss < fitted.trials[0].log_loss - 0.1
    assert tuning.why == (
        f"fine-tuned last stages: log loss {tuning.log_loss:.3f} after epoch {tuning.epochs}, "
        f"better than {fitted.trials[0].log_loss:.3f}: kept"
    )
    stages = result.model.backbone.stages.state_dict()
    assert torch.equal(stages["first.weight"], before["first.weight"])
    assert not torch.equal(stages["last.weight"], before["last.weight"])
    assert result.model.backbone.num_frozen == 1
    # On the match that nobody saw, and on each training match by networks that did not see it.
    assert log_loss(result.val_probs, result.val_truth) < log_loss(
        frozen.result.val_probs, frozen.result.val_truth
    )
    truth = fitted.held_out.targets.argmax(axis=1)
    assert log_loss(fitted.held_out.probs, truth) < log_loss(frozen.held_out.probs, truth) - 0.1


def log_loss(probs, truth):
    return float(-np.log(probs[np.arange(len(truth)), truth]).mean())


def test_independent_classes_are_fine_tuned_too(clips):
    model = colour_blind_model(("background", "blue", "red"), multi_label=True)
    fitted = fit_head(model, *divided(clips), OPTIONS, head="linear", device="cpu")
    assert fitted.tuning.epochs >= 1
    assert fitted.tuning.log_loss < fitted.trials[0].log_loss - 0.05
    right = (fitted.result.val_probs[:, 1:] >= 0.5) == (fitted.result.val_truth[:, 1:] > 0)
    assert right.mean() > 0.8


@pytest.mark.slow
def test_where_it_is_not_better_the_user_gets_the_frozen_trunk(clips):
    # Labels at random: whatever fine-tuning learns is wrong on other matches.
    rng = np.random.default_rng(1)
    mixed = [replace(e, label=str(rng.choice(["red", "blue"]))) for e in clips]
    runs = [
        fit_head(colour_blind_model(), mixed, [], replace(OPTIONS, freeze=freeze), head="linear")
        for freeze in (2, 1)
    ]
    frozen, tuned = (run.result.model.backbone for run in runs)
    tuning = runs[1].tuning
    assert tuning.epochs == 0
    assert tuning.why.startswith(f"fine-tuned last stages: log loss {tuning.log_loss:.3f}, ")
    assert tuning.why.endswith("kept the frozen trunk")
    state = tuned.state_dict()
    assert [k for k, v in frozen.state_dict().items() if not torch.equal(v, state[k])] == []
    assert tuned.num_frozen == 2
    np.testing.assert_array_equal(runs[0].held_out.probs, runs[1].held_out.probs)


@pytest.mark.slow
def test_fine_tuning_must_beat_heads_that_see_mirror_images_but_starts_without_them(clips):
    flips = replace(OPTIONS, augmentation=Augmentation())
    fitted = fit_head(colour_blind_model(), *divided(clips), flips, head="linear", device="cpu")
    assert {trial.spec.mirror for trial in fitted.trials} == {True, False}
    tuning, model = fitted.tuning, fitted.result.model
    assert not tuning.trial.spec.mirror
    plain = [trial for trial in fitted.trials if not trial.spec.mirror]
    assert tuning.trial == plain[0]
    used = tuning.trial if tuning.epochs else fitted.trials[0]
    assert (model.backbone.head_spec, model.backbone.mirrored) == (used.spec, used.spec.mirror)
    assert f" {fitted.trials[0].log_loss:.3f}" in tuning.why
    assert model.backbone.eval()(torch.zeros(2, 3, 4, 16, 16)).shape == (2, 3)


def test_without_time_left_the_frozen_trunk_is_kept_and_that_is_said(clips, tmp_path):
    where = {"head": "linear", "device": "cpu", "cache": tmp_path / "cache"}
    fit_head(colour_blind_model(), clips, [], replace(OPTIONS, freeze=2), **where)
    # The features of the frozen trunk are there, those that fine-tuning starts from are not.
    options = replace(OPTIONS, max_seconds=5.0)
    fitted = fit_head(colour_blind_model(), clips, [], options, already_s=6.0, **where)
    assert fitted.tuning.epochs == 0
    assert fitted.tuning.why == (
        "fine-tuned last stages: no time for an epoch: kept the frozen trunk"
    )
    assert fitted.result.model.backbone.head_spec == fitted.trials[0].spec


def test_a_frame_head_is_not_fine_tuned_and_that_is_said():
    start = replace(started([0.5] * 8), best=Trial(HeadSpec("frame"), 1.0, 0.3, 0.9))
    tuned, tuning = tune(start, Material([], [], *[np.zeros((0, 3), np.float32)] * 2, []), OPTIONS)
    assert tuned is None
    assert (tuning.epochs, tuning.log_loss) == (0, None)
    assert "because a frame head won" in tuning.why


def test_the_anchor_holds_the_weights_near_their_start(clips):
    train, val = divided(clips)
    material = load_material(colour_blind_model(), train, val, OPTIONS)
    distances = []
    for anchor in (0.0, 10.0):
        model = colour_blind_model()
        first = model.backbone.stages["last"].weight.detach().clone()
        trainer = Trainer(model, material, OPTIONS, BudgetClock(None), anchor=anchor)
        assert len(list(train_epochs(trainer, 10))) == 10
        moved = model.backbone.stages["last"].weight.detach() - first
        distances.append(float(moved.norm()))
    assert 0 < distances[1] < distances[0] / 2


def test_fine_tuning_starts_slowly_with_the_loss_of_the_fitted_head():
    options = TrainOptions(freeze=2, lr=1e-3, trunk_lr_scale=0.1, balance="sampling", patience=3)
    tuning = tuning_options(options, views=2, multi_label=False)
    assert (tuning.lr, tuning.trunk_lr_scale) == (pytest.approx(1e-4), 1.0)
    assert (tuning.label_smoothing, tuning.weight_decay, tuning.batchnorm) == (0, 0, "keep")
    assert (tuning.balance, tuning.epochs, tuning.patience) == ("weights", 10, None)
    assert tuning_options(options, views=2, multi_label=True).balance == "none"
    assert tuning_options(replace(options, epochs=4), views=2, multi_label=False).epochs == 4


def started(first_right: list[float]) -> Start:
    """Four clips of class 1 and four of class 2, in two matches; column 0 is never right."""
    truth = np.array([1, 1, 2, 2] * 2)
    targets = np.eye(3, dtype=np.float32)[truth]
    examples = [Example("x.mp4", "ab"[k - 1], f"match {n // 4}") for n, k in enumerate(truth)]
    held_out = HeldOut(
        tuple(examples),
        ("background", "a", "b"),
        answers(first_right),
        targets,
        np.ones(8, dtype=bool),
    )
    features = ClipFeatures([np.zeros((1, 1, 1), np.float32)] * 8, targets, has_background=False)
    trial = Trial(HeadSpec("linear"), 1.0, 0.0, 0.0)
    return Start(None, features, trial, [[0, 1, 2, 3], [4, 5, 6, 7]], held_out, trial)  # type: ignore[arg-type]


def answers(right: list[float]) -> np.ndarray:
    """The right class of each clip has this probability."""
    truth = np.array([1, 1, 2, 2] * 2)
    probs = np.zeros((8, 3))
    probs[np.arange(8), truth] = right
    probs[np.arange(8), 3 - truth] = 1 - np.array(right)
    return probs


def test_one_lucky_epoch_does_not_win():
    half, good, bad = [0.5] * 8, [0.8] * 8, [0.1] * 8
    tuning = compare(started(half), [answers(p) for p in (bad, good, bad, bad)])
    assert tuning.epochs == 0
    # Epoch 2 is best, as the mean of it and epoch 1: later ones have epochs 2 to 4 in them.
    assert tuning.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.1)) / 2)
    assert tuning.why == (
        f"fine-tuned last stages: log loss {tuning.log_loss:.3f}, not better than 0.693: kept the "
        "frozen trunk"
    )
    steady = compare(started(half), [answers(p) for p in (bad, good, good, good, good)])
    assert steady.epochs == 4  # the first of two whose last three epochs are good
    assert steady.log_loss == pytest.approx(-np.log(0.8))
    assert steady.balanced_accuracy == 1.0


def test_a_gain_that_one_match_alone_has_is_not_enough():
    mixed = [0.9] * 4 + [0.45] * 4
    tuning = compare(started([0.5] * 8), [answers(mixed)])
    # Per match, in the mean over all: 4/8 log(0.9/0.5) and 4/8 log(0.45/0.5).
    gains = 0.5 * np.log([1.8, 0.9])
    error = gains.std(ddof=1) * 2**0.5
    assert 0 < gains.sum() < error
    assert tuning.epochs == 0
    assert f"by less than the standard error of {error:.3f}" in tuning.why


def test_gains_add_up_and_their_error_is_that_of_matches():
    gain, error = gain_and_error(np.array([1.0, 2.0, 5.0, -1.0]), ["a", "a", "b", "c"])
    # Matches have 3, 5 and -1.
    assert gain == 7.0
    assert error == pytest.approx(np.std([3, 5, -1], ddof=1) * 3**0.5)
    assert gain_and_error(np.array([1.0, 2.0]), ["a", "a"])[1] == np.inf
