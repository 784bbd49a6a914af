"""A head fitted to clips: right on other matches, kept by the checkpoint, the trunk untouched."""

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
from touchline.pipeline.clips.options import Augmentation
from touchline.pipeline.detection.detect import DetectOptions, detect
from touchline.pipeline.heads.fit import fit_head
from touchline.pipeline.training.options import TrainOptions
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
