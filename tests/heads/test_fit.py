"""A head fitted to clips: right on other matches, kept by the checkpoint, the trunk untouched."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from example_material import ARCHITECTURE, brightness_backbone
from tiny import write_levels
from train_material import made_examples, parts, tiny_model

from touchline.models import catalog
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.inference import fast_copy
from touchline.pipeline.clips.load import load_clip
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.detection.detect import DetectOptions, detect
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.training import batches, optimize
from touchline.pipeline.training import cache as cache_module
from touchline.pipeline.training.optimize import OutOfTimeError
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.types import Example

OPTIONS = TrainOptions(freeze=3, augmentation=None)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(catalog.BACKBONES, ARCHITECTURE, brightness_backbone)


@pytest.mark.usefixtures("tiny")
def test_a_linear_head_is_right_on_a_match_it_never_saw_and_leaves_the_trunk_alone(tmp_path):
    train, val = parts(made_examples(tmp_path, ("blue", "red", "background"), 4))
    model = tiny_model()
    before = {k: v.clone() for k, v in model.backbone.stages.state_dict().items()}
    fitted = fit_head(model, train, val, OPTIONS, head="linear", device="cpu")
    result = fitted.result
    assert (result.val_probs.argmax(axis=1) == result.val_truth).all()
    after = result.model.backbone.stages.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert fitted.num_folds == 3
    assert [t.log_loss for t in fitted.trials] == sorted(t.log_loss for t in fitted.trials)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, result.model)
    loaded = load_checkpoint(path)
    assert loaded.backbone.head_spec == fitted.trials[0].spec
    clips = torch.randn(2, 3, 4, 16, 16)
    assert torch.equal(loaded.backbone(clips), result.model.backbone.eval()(clips))


@pytest.mark.usefixtures("tiny")
def test_without_background_its_probability_is_zero(tmp_path):
    train, val = parts(made_examples(tmp_path, ("blue", "red"), 4))
    result = fit_head(tiny_model(), train, val, OPTIONS, head="linear", device="cpu").result
    assert not result.model.has_background
    assert (result.val_probs[:, 0] == 0).all()


@pytest.mark.usefixtures("registered")
def test_a_frame_head_scores_every_frame_and_finds_short_events_where_they_are(tmp_path):
    examples = []
    for group in "AB":
        for label, level in (("bright", 235), ("background", 20)):
            path = write_levels(tmp_path / f"{label}{group}.mp4", [level] * 32)
            examples.append(Example(path, label, group))
    model = TrainedModel(brightness_backbone(2), ARCHITECTURE, ("background", "bright"))
    fitted = fit_head(model, examples, [], OPTIONS, head="frame", device="cpu").result.model
    save_checkpoint(tmp_path / "model.safetensors", fitted)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert (loaded.spec.num_frames, loaded.backbone.head_spec.kind) == (1, "frame")
    # Bright from 3 to 3.5 s: half of a window of eight frames, four frames of their own.
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 8 + [20] * 48)
    result = detect(match, loaded, DetectOptions(device="cpu"))
    assert np.diff(result.track.start_s) == pytest.approx(1 / 8)
    bright = result.track.start_s[result.track.probs[:, 1] > 0.5]
    assert bright == pytest.approx([3.0, 3.125, 3.25, 3.375])


@pytest.mark.usefixtures("tiny")
def test_a_linear_head_sees_mirror_images_unless_flips_are_off(tmp_path):
    train, val = parts(made_examples(tmp_path, ("blue", "red", "background"), 4))
    clips = torch.randn(2, 3, 4, 16, 16)
    for augmentation, mirrored in ((Augmentation(), True), (Augmentation(flip=False), False)):
        options = replace(OPTIONS, augmentation=augmentation)
        # One cache for both: features with and without mirror images are not mixed up.
        fitted = fit_head(
            tiny_model(), train, val, options, head="linear", device="cpu", cache=tmp_path / "cache"
        )
        path = tmp_path / "model.safetensors"
        save_checkpoint(path, fitted.result.model)
        loaded = load_checkpoint(path).backbone
        assert loaded.head_spec.mirror == mirrored
        same = torch.allclose(loaded(clips), loaded(clips.flip(-1)), atol=1e-5)
        assert same == mirrored
        # The fast copy that detection uses answers the same.
        fast = fast_copy(loaded, torch.device("cpu"), torch.float32)
        assert torch.allclose(fast(clips), loaded(clips), atol=1e-4)


class Clock:
    """A clock that work moves."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.usefixtures("tiny")
def test_features_that_take_too_long_stop_early_and_what_is_done_is_kept(tmp_path, monkeypatch):
    examples = made_examples(tmp_path, ("blue", "red"), 4)
    clock, run_frozen, computed = Clock(), SplitNetwork.run_frozen, 0

    def slow(self, views):
        nonlocal computed
        clock.now += 20.0 * len(views)
        computed += len(views)
        return run_frozen(self, views)

    monkeypatch.setattr(optimize, "time", clock)
    monkeypatch.setattr(SplitNetwork, "run_frozen", slow)
    options = replace(OPTIONS, batch_size=1, val_views=1, max_seconds=100.0)
    where = {"head": "linear", "device": "cpu", "cache": tmp_path / "cache"}
    with pytest.raises(OutOfTimeError, match=r"computing frozen features would take about 100 s"):
        fit_head(tiny_model(), examples, [], options, **where)
    assert computed == 3
    # The next run computes the other five: 100 s, which now fits.
    clock.now = 0.0
    later = replace(options, max_seconds=120.0)
    fitted = fit_head(tiny_model(), examples, [], later, **where)
    assert computed == 8
    # With everything in the cache, no limit is too short.
    again = fit_head(tiny_model(), examples, [], options, already_s=500.0, **where)
    assert computed == 8
    weights = [run.result.model.backbone.head.linear.weight for run in (fitted, again)]
    assert torch.equal(*weights)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("cached", [True, False])
def test_clips_that_take_too_long_to_read_stop_early(tmp_path, monkeypatch, cached):
    examples = made_examples(tmp_path, ("blue", "red"), 8)
    clock = Clock()

    def slow(example, spec, *, max_clip_s=None):
        clock.now += 10.0
        return load_clip(example, spec, max_clip_s=max_clip_s)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)  # clips that are read ahead
    monkeypatch.setattr(optimize, "time", clock)
    for module in (batches, cache_module):
        monkeypatch.setattr(module, "load_clip", slow)
    options = replace(OPTIONS, max_seconds=100.0)
    where = {"head": "linear", "device": "cpu", "cache": tmp_path / "cache" if cached else None}
    with pytest.raises(OutOfTimeError, match="reading the clips would take about"):
        fit_head(tiny_model(), examples, [], options, **where)
    assert clock.now < 100
    if cached:
        kept = len(list((tmp_path / "cache" / "clips").glob("*.npy")))
        assert kept >= 3
        clock.now = 0.0
        fit_head(tiny_model(), examples, [], replace(options, max_seconds=None), **where)
        assert clock.now == 10.0 * (16 - kept)
