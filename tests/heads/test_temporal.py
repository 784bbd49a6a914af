"""A head that sees order in time is right where the mean over time is not, and detects."""

import time

import numpy as np
import pytest
import torch
from example_material import ARCHITECTURE, brightness_backbone
from tiny import write_levels

from touchline.models import catalog
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.heads import HeadSpec
from touchline.pipeline.detection.detect import DetectOptions, detect
from touchline.pipeline.heads.choose import ClipFeatures, Trial, candidates, cross_validate, fit
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.temporal import TemporalProblem, suits_temporal
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")


def ordered(num_clips=80, width=20, num_steps=8, *, seed=0, multi_label=False):
    """Class 1 shows A and then B, class 2 shows B and then A; four matches."""
    rng = np.random.default_rng(seed)
    truth = 1 + np.arange(num_clips) % 2
    late = np.arange(num_steps) >= num_steps // 2
    windows = rng.normal(size=(num_clips, 1, width, num_steps)).astype(np.float32) * 0.5
    for n, k in enumerate(truth):
        windows[n, 0, 0] += 2 * (late if k == 1 else ~late)
        windows[n, 0, 1] += 2 * (~late if k == 1 else late)
    groups = [str(n // 2 % 4) for n in range(num_clips)]
    targets = np.eye(3, dtype=np.float32)[truth]
    features = ClipFeatures(list(windows), targets, has_background=False, multi_label=multi_label)
    return features, match_folds(groups, [str(k) for k in truth])


@pytest.mark.slow
@pytest.mark.parametrize("multi_label", [False, True])
def test_order_in_time_is_seen_by_a_temporal_head_only(multi_label):
    features, folds = ordered(multi_label=multi_label)
    specs = [*candidates("auto", framewise=True), *candidates("temporal", framewise=True)]
    trials = cross_validate(features, specs, folds)
    assert trials[0].spec.kind == "temporal"
    assert trials[0].balanced_accuracy > 0.95
    pooled = [t for t in trials if t.spec.kind != "temporal"]
    assert all(t.balanced_accuracy < 0.75 + 0.1 * multi_label for t in pooled)
    assert all(t.log_loss > 2 * trials[0].log_loss for t in pooled)


def test_labels_at_random_give_chance():
    features, folds = ordered()
    rng = np.random.default_rng(1)
    mixed = features.targets[rng.permutation(len(features.targets))]
    shuffled = ClipFeatures(features.windows, mixed, has_background=False)
    (trial,) = cross_validate(shuffled, [HeadSpec("temporal", "mean", "l2")], folds)
    assert 0.3 < trial.balanced_accuracy < 0.7


def test_training_is_the_same_every_time_and_leaves_random_numbers_alone():
    features, _ = ordered(num_clips=24)
    spec = HeadSpec("temporal")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (fit(features, Trial(spec, 10.0, 0.0, 0.0)).head.state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_features_are_centred_and_scaled_by_the_clips_it_learns_from():
    features, _ = ordered(num_clips=24)
    X, clips = features.inputs(HeadSpec("temporal"))
    head = fit(features, Trial(HeadSpec("temporal"), 10.0, 0.0, 0.0)).head
    assert head.centre[:, 0].numpy() == pytest.approx(X.mean(axis=(0, 2)), abs=1e-5)
    assert float(head.scale) == pytest.approx((X - X.mean(axis=(0, 2))[:, None]).std(), rel=1e-3)
    assert clips.tolist() == list(range(24))


def test_a_time_limit_shortens_training():
    features, _ = ordered(num_clips=400, width=200, num_steps=16)
    X, clips = features.inputs(HeadSpec("temporal"))
    targets = features.targets[clips][:, 1:]
    problem = TemporalProblem(HeadSpec("temporal"), X, targets, np.ones(len(X)), limit_s=0.2)
    began = time.monotonic()
    problem.solve(10.0)
    assert time.monotonic() - began < 2.0


def test_auto_tries_it_from_a_hundred_clips_of_each_class():
    def targets(*counts):
        return np.repeat(np.eye(len(counts), dtype=np.float32), counts, axis=0)

    assert suits_temporal(targets(0, 100, 130), num_steps=8)  # no background at all
    assert not suits_temporal(targets(100, 99, 130), num_steps=8)
    assert not suits_temporal(targets(40, 100, 130), num_steps=8)
    assert not suits_temporal(targets(0, 100, 130), num_steps=2)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(catalog.BACKBONES, ARCHITECTURE, brightness_backbone)


@pytest.mark.slow
@pytest.mark.usefixtures("registered")
def test_a_checkpoint_with_a_temporal_head_detects(tmp_path):
    # Light goes on (rise) or off (fall), 16 frames a second: the same frames in another order.
    rng = np.random.default_rng(0)
    examples = []
    for n in range(24):
        low, high = rng.integers(16, 60), rng.integers(180, 236)
        flat = int(rng.integers(16, 236))
        for label, levels in (
            ("rise", [low] * 8 + [high] * 8),
            ("fall", [high] * 8 + [low] * 8),
            ("background", [flat] * 16),
        ):
            path = write_levels(tmp_path / f"{label}_{n}.mp4", [int(v) for v in levels])
            examples.append(Example(path, label, f"match_{n % 4}"))
    model = TrainedModel(brightness_backbone(3), ARCHITECTURE, ("background", "fall", "rise"))
    options = TrainOptions(freeze=1, augmentation=None)
    fitted = fit_head(model, examples, [], options, head="temporal", device="cpu")
    assert fitted.trials[0].balanced_accuracy > 0.9
    save_checkpoint(tmp_path / "model.safetensors", fitted.result.model)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.backbone.head_spec.kind == "temporal"
    state = fitted.result.model.backbone.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.backbone.state_dict().items())
    # The light goes on at 4 s and off at 8 s.
    match = write_levels(tmp_path / "match.mp4", [30] * 64 + [220] * 64 + [30] * 64)
    track = detect(match, loaded, DetectOptions(device="cpu")).track
    middle = (track.start_s + track.end_s) / 2
    assert middle[track.probs[:, 2].argmax()] == pytest.approx(4.0, abs=0.3)
    assert middle[track.probs[:, 1].argmax()] == pytest.approx(8.0, abs=0.3)
    assert track.probs[:, 1:].max(axis=0).min() > 0.5
    quiet = (middle < 2.5) | (middle > 9.5)
    assert (track.probs[quiet].argmax(axis=1) == 0).mean() > 0.9
