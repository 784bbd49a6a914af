"""A frame head calibrated on its own training clips: no clip is answered by a head that saw it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_material import ARCHITECTURE, brightness_backbone
from tiny import write_levels

from touchline.models import catalog
from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.heads import HeadSpec
from touchline.pipeline.calibration.stitched_clips import stitch_logits
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.calibration import FrameClips, calibrate_frames
from touchline.pipeline.heads.choose import ClipFeatures, Trial
from touchline.pipeline.heads.fit import fit_head, with_head
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

LABELS = ("background", "goal", "card")
SPEC = ClipSpec(num_frames=8, rate_hz=4.0, size_px=32)
TRIAL = Trial(HeadSpec("frame"), 100.0, 0.0, 0.0)
NOTHING = FrameClips([], [], SPEC)


def clip(label, group, *, num_frames=8):
    """A clip of a whole file; its window is centred if the clip is shorter."""
    spare = num_frames - 8
    first, last = (0, spare) if spare >= 0 else (spare // 2, spare // 2)
    pixels = np.zeros((num_frames, 3, 1, 1), dtype=np.uint8)
    return LabelledClip(Example(Path(f"{group}.mp4"), label, group), pixels, first, last, 0, 1)


def untrained_model():
    return TrainedModel(brightness_backbone(3, SPEC), ARCHITECTURE, LABELS)


def material(features_of, *, groups="ABCDEF", num_background=2):
    """Two clips of each class in each match; `features_of(k, n)` gives the (8, D) frames."""
    clips, windows, truth = [], [], []
    for n, group in enumerate(groups):
        for k, label in enumerate(LABELS):
            for _ in range(2 if k else num_background):
                clips.append(clip(label, group))
                windows.append(features_of(k, n).T[None].astype(np.float32))
                truth.append(k)
    targets = np.eye(3, dtype=np.float32)[truth]
    features = ClipFeatures(windows, targets)
    folds = match_folds([c.example.group for c in clips], [c.example.label for c in clips])
    return clips, features, folds


def calibrated(clips, features, folds, val=NOTHING):
    model = with_head(untrained_model(), features, TRIAL)
    return calibrate_frames(
        model, FrameClips(clips, features.windows, SPEC), val, features, TRIAL, folds
    )


def test_every_frame_has_its_features_or_those_of_the_nearest():
    # Two views of three frames of a clip of eight: frames 0, 1, 2 and 5, 6, 7.
    long = replace(clip("goal", "A"), first=0, last=5)
    views = np.array([[[0, 1, 2]], [[5, 6, 7]]], dtype=np.float32)
    spec = ClipSpec(num_frames=3, rate_hz=4.0, size_px=32)
    frames = FrameClips([long], [views], spec).frames(0)[:, 0]
    assert frames.tolist() == [0, 1, 2, 2, 5, 5, 6, 7]
    # A clip of two frames in the middle of a window of eight, whose ends repeat them.
    short = clip("goal", "A", num_frames=2)
    view = np.array([[[0, 0, 0, 0, 1, 1, 1, 1]]], dtype=np.float32)
    assert FrameClips([short], [view], SPEC).frames(0)[:, 0].tolist() == [0, 1]


def test_stitched_scores_lie_where_the_events_are():
    clips = [clip("goal", "A", num_frames=8), clip("card", "B", num_frames=2)]
    clips.append(clip("background", "C", num_frames=4))
    sure = [np.eye(3, dtype=np.float32)[[k]] * 4 for k in (1, 2, 0)]
    logits = [np.repeat(one, len(c.pixels), axis=0) for one, c in zip(sure, clips, strict=True)]
    found = stitch_logits(untrained_model(), clips, logits, SPEC, seed=2)
    assert len(found.track.start_s) == 14
    assert {event.label: event.end_s - event.start_s for event in found.truth} == {
        "goal": 2.0,
        "card": 0.5,
    }
    for event in found.truth:
        inside = (found.track.start_s >= event.start_s) & (found.track.end_s <= event.end_s)
        probs = found.track.probs[:, LABELS.index(event.label)]
        assert (probs[inside] > 0.9).all()
        assert (probs[~inside] < 0.1).all()


def test_noise_that_a_head_can_learn_by_heart_is_not_mistaken_for_skill():
    # 36 clips in 400 dimensions: the head is right on every clip it has seen, and on no other.
    rng = np.random.default_rng(0)
    clips, features, folds = material(lambda k, n: rng.normal(size=(8, 400)))
    honest = calibrated(clips, features, folds).record.calibration
    # Answered by the model that was fitted to them, as validation clips are, they all look right.
    seen = FrameClips(clips, features.windows, SPEC)
    hopeful = calibrated([], features, [], seen).record.calibration
    assert honest.cross_validated
    for label in ("goal", "card"):
        # A third of the time is of each class: calling everything a goal has F1 of 0.5.
        assert honest.per_class[label].f1 < 0.7
        assert hopeful.per_class[label].f1 > 0.95


def test_thresholds_fall_below_the_default_only_with_as_much_background_as_events():
    def thresholds(num_background):
        rng = np.random.default_rng(0)
        clips, features, folds = material(
            lambda k, n: rng.normal(size=(8, 400)), num_background=num_background
        )
        return calibrated(clips, features, folds).thresholds

    # Noise has its best F1 where nearly everything is an event.
    assert min(thresholds(4).values()) < 0.5
    assert min(thresholds(3).values()) >= 0.5


def test_skill_that_carries_over_is_found():
    rng = np.random.default_rng(0)
    clips, features, folds = material(
        lambda k, n: 4 * np.eye(6)[k] + rng.normal(size=(8, 6)) + 0.1 * n
    )
    model = calibrated(clips, features, folds)
    evidence = model.record.calibration
    assert set(model.thresholds) == set(model.widths) == {"goal", "card"}
    assert (evidence.clips, evidence.groups) == (36, ("A", "B", "C", "D", "E", "F"))
    assert (evidence.thresholds_of, evidence.stitched_orders) == ("events", 3)
    for choice in evidence.per_class.values():
        assert choice.positives == 3 * 12
        assert choice.f1 > 0.9
        assert choice.timing_error_s < 1.0


def test_a_class_of_one_match_is_left_out_unless_validation_has_it():
    rng = np.random.default_rng(0)
    clips, features, folds = material(lambda k, n: 4 * np.eye(6)[k] + rng.normal(size=(8, 6)))
    kept = [i for i, c in enumerate(clips) if c.example.label != "card" or c.example.group == "A"]
    few = [clips[i] for i in kept]
    features = ClipFeatures([features.windows[i] for i in kept], features.targets[kept])
    folds = match_folds([c.example.group for c in few], [c.example.label for c in few])
    model = calibrated(few, features, folds)
    assert set(model.thresholds) == {"goal"}
    assert model.record.calibration.clips == len(few) - 2
    val = FrameClips([clip("card", "V")], [4 * np.eye(6)[2][None, :, None].repeat(8, 2)], SPEC)
    val = replace(val, features=[val.features[0].astype(np.float32)])
    seen = calibrated(few, features, folds, val)
    assert set(seen.thresholds) == {"goal", "card"}
    assert "V" in seen.record.calibration.groups


def test_clips_of_several_classes_leave_the_model_as_it_is():
    rng = np.random.default_rng(0)
    clips, features, folds = material(lambda k, n: rng.normal(size=(8, 6)))
    features.targets[0] = [0, 1, 1]
    assert calibrated(clips, features, folds).thresholds is None


@pytest.mark.slow
def test_training_a_frame_head_calibrates_it(tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.BACKBONES, ARCHITECTURE, brightness_backbone)
    examples = []
    for group in "ABC":
        for label, level in (("bright", 235), ("background", 20)):
            path = write_levels(tmp_path / f"{label}{group}.mp4", [level] * 32)
            examples.append(Example(path, label, group))
    model = TrainedModel(brightness_backbone(2), ARCHITECTURE, ("background", "bright"))
    options = TrainOptions(augmentation=None)
    fitted = fit_head(model, examples, [], options, head="frame", device="cpu").result.model
    save_checkpoint(tmp_path / "model.safetensors", fitted)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert set(loaded.thresholds) == {"bright"}
    assert loaded.record.calibration.groups == ("A", "B", "C")
    assert loaded.record.calibration.per_class["bright"].f1 == 1.0
    linear = fit_head(
        TrainedModel(brightness_backbone(2), ARCHITECTURE, ("background", "bright")),
        examples,
        [],
        options,
        head="linear",
        device="cpu",
    ).result.model
    assert linear.thresholds is None
