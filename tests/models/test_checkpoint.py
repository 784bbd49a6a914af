import json
import os
import pickle
import re
from importlib.resources import files

import pytest
import torch
from safetensors.torch import save_file
from tiny import small_3d_model

from touchline.models import checkpoint
from touchline.models.checkpoint import (
    TrainedModel,
    all_finite,
    class_probs,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    tensors_digest,
)
from touchline.models.errors import CheckpointError, WeightsError
from touchline.models.training_record import (
    BeforeAfter,
    CalibrationEvidence,
    CalibrationTarget,
    PeakWidths,
    ThresholdChoice,
    TrainedGroups,
    TrainingRecord,
    WeightsOrigin,
    read_record,
)
from touchline.models.weights.open import open_weights

RECORD = TrainingRecord(
    groups=TrainedGroups(train=("a",), val=("b",), earlier=("c",)),
    weights=WeightsOrigin("x3d_s-kinetics400", "ab" * 32, licence="Apache-2.0"),
    max_clip_s=4.0,
    seconds=12.5,
    calibration=CalibrationEvidence(
        target=CalibrationTarget("f1"),
        clips=2,
        windows=6,
        groups=("b",),
        thresholds_of="windows",
        stitched_orders=0,
        eventless=("quiet.mp4",),
        temperature=1.5,
        held_out=False,
        nll=BeforeAfter(1.0, 0.5),
        ece=BeforeAfter(0.2, 0.1),
        per_class={
            "class 1": ThresholdChoice(
                0.4, positives=3, recall=1.0, widths=PeakWidths(0.3, 2.0), timing_error_s=0.1
            )
        },
    ),
    job={"options": {"lr": 0.01}},
    figures={"accuracy": 0.75},
)


@pytest.fixture
def saved(tmp_path):
    model = small_3d_model()
    model.backbone.freeze(2)
    full = TrainedModel(
        model.backbone,
        model.architecture,
        model.labels,
        has_background=False,
        temperature=1.5,
        thresholds={"class 1": 0.4, "class 2": 0.6},
        widths={"class 1": PeakWidths(0.3, 2.0)},
        record=RECORD,
    )
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, full)
    return path, full


def test_a_checkpoint_rebuilds_its_model(saved):
    path, model = saved
    loaded = load_checkpoint(path)
    assert loaded.labels == model.labels
    assert loaded.spec == model.spec
    assert loaded.backbone.num_frozen == 2
    assert (loaded.has_background, loaded.temperature) == (False, 1.5)
    assert loaded.thresholds == {"class 1": 0.4, "class 2": 0.6}
    assert loaded.widths == {"class 1": PeakWidths(smooth_s=0.3, nms_s=2.0)}
    assert loaded.record == RECORD
    assert not loaded.backbone.training
    clip = torch.randn(1, 3, 8, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded.backbone(clip), model.backbone.eval()(clip))


def test_saving_leaves_nothing_beside_the_file(saved):
    path, _ = saved
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_a_checkpoint_may_be_read_by_whom_other_new_files_may_be_read(saved):
    path, _ = saved
    other = path.with_name("other.txt")
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_missing_and_foreign_files_are_refused_by_name(tmp_path):
    pickled = tmp_path / "model.pth"
    pickled.write_bytes(pickle.dumps({"a": 1}))
    foreign = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    for path, message in [
        (tmp_path / "gone.safetensors", "no such checkpoint"),
        (pickled, "not a Touchline checkpoint"),
        (foreign, "give it as --weights"),
        (empty, "an empty file"),
        (tmp_path, "a folder, not a Touchline checkpoint. Name the file in it"),
    ]:
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(path)
        assert str(path) in str(caught.value)


def test_a_truncated_checkpoint_is_refused(saved):
    path, model = saved
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    said = f"cut short: {len(whole) - 1000:,} of {len(whole):,} bytes. Copy the file again"
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)
    with pytest.raises(WeightsError, match=said):
        open_weights(path, model.architecture)
    path.write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="cut short"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architecture", "resnet9000"),
        ("labels", json.dumps(["background"])),
        ("labels", "not json"),
        ("labels", '"abc"'),
        ("labels", "[1, 2, 3]"),
        ("labels", '["x", "y", "z"]'),
        ("labels", '["background", "y", "y"]'),
        ("labels", "[[], {}, 3]"),
        ("num_frozen", "77"),
        ("num_frozen", '"x"'),
        ("has_background", "1"),
        ("multi_label", "null"),
        *(
            ("temperature", value)
            for value in ("null", "0", "-1", '"x"', "true", "NaN", "Infinity")
        ),
        *(("thresholds", value) for value in ("[0.5]", '{"gone": 0.5}', '{"class 1": "0.5"}')),
        *(("thresholds", value) for value in ('{"class 1": 0}', '{"class 1": NaN}', "0.5")),
        *(("widths", value) for value in ("[]", '{"gone": {"smooth_s": 1, "nms_s": 1}}')),
        *(("widths", f'{{"class 1": {{"smooth_s": {s}}}}}') for s in ("1", '-1, "nms_s": 1')),
        *(("record", value) for value in ("[]", "null", '"x"', '{"version": 1, "groups": [1]}')),
        *(("record", f'{{"version": 2, {field}}}') for field in ('"new": 1', '"seconds": "x"')),
        ("record", '{"version": 3}'),
        pytest.param("record", "[" * 100_000, id="deep"),
    ],
)
def test_metadata_that_does_not_fit_is_damage(saved, field, value):
    refuse(saved, {field: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"num_frames": None},
        {"num_frames": True},
        {"num_frames": 100_000},
        {"num_frames": 10**9},
        {"size_px": 4096},
        {"num_frames": 4096, "size_px": 2048},
        {"rate_hz": 1e-300},
        {"size_px": 32.5},
        {"size_px": "32"},
        {"rate_hz": "8"},
        {"mean": [0.5, 0.5]},
        {"mean": ["a", "b", "c"]},
        {"mean": 0.5},
        {"std": [0, 0, 0]},
        {"std": [0.2, 0.2, float("nan")]},
        {"fit": ["crop"]},
    ],
)
def test_a_clip_that_cannot_be_is_damage(saved, fields):
    path, _ = saved
    spec = json.loads(read_metadata(path)["spec"]) | fields
    refuse(saved, {"spec": json.dumps(spec)})


def test_a_clip_that_lacks_something_is_damage(saved):
    refuse(saved, {"spec": "{}"})
    refuse(saved, {"spec": "[]"})


def refuse(saved, changes):
    """A checkpoint with these changes to its metadata is an error of one line that names it."""
    path, model = saved
    metadata = read_metadata(path) | changes
    state = {k: v.contiguous() for k, v in model.backbone.state_dict().items()}
    save_file(state, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="damaged Touchline checkpoint") as caught:
        load_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_damage(saved, value):
    path, model = saved
    with torch.no_grad():
        next(model.backbone.parameters())[0].fill_(value)
    save_checkpoint(path, model)
    with pytest.raises(CheckpointError, match="the weights hold values that are not finite"):
        load_checkpoint(path)
    with pytest.raises(WeightsError, match="the weights hold values that are not finite"):
        open_weights(path, model.architecture)


def test_weights_that_changed_since_they_were_saved_are_damage(saved):
    path, model = saved
    raw = bytearray(path.read_bytes())
    # One bit of the last number's mantissa: all weights stay finite.
    raw[-4] ^= 1
    path.write_bytes(raw)
    said = "damaged: the weights are not those that were saved"
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)
    with pytest.raises(WeightsError, match=said):
        open_weights(path, model.architecture)


def test_the_digest_is_of_names_types_shapes_and_numbers():
    given = torch.arange(6.0)
    others = [
        {"b": given},
        {"a": given.half()},
        {"a": given.reshape(2, 3)},
        {"a": given + 1},
        {"a": given, "b": torch.tensor(1)},
    ]
    digests = {tensors_digest(each) for each in ({"a": given}, *others)}
    assert len(digests) == 6
    # The order of the names does not count, nor how the numbers lie in memory.
    two = {"a": torch.ones(2, 3).t(), "b": given}
    assert tensors_digest(two) == tensors_digest({"b": given, "a": torch.ones(3, 2)})


def test_the_error_for_weights_of_another_network_names_what_does_not_fit(saved):
    said = refuse(saved, {"architecture": "cnn_lstm"})
    assert re.search(r"it lacks [\w.]+, which cnn_lstm has", str(said))
    assert "of another version" in str(said)
    assert len(said.message) < 300


def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    pipe = tmp_path / "model.safetensors"
    os.mkfifo(pipe)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_checkpoint(pipe)
    with pytest.raises(WeightsError, match="not a regular file"):
        open_weights(pipe, "cnn_lstm")


def test_a_huge_header_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.safetensors"
    length = 99 << 20
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little") + b"{")
        file.truncate(8 + length)
    with pytest.raises(CheckpointError, match="its header has 103,809,024 bytes"):
        load_checkpoint(path)


def test_more_labels_than_the_weights_have_are_damage(saved, monkeypatch):
    def build(*_):
        raise AssertionError("a network was built for labels that have no weights")

    monkeypatch.setattr(checkpoint, "build_backbone", build)
    labels = ["background", *(f"class {k}" for k in range(100_000))]
    said = refuse(saved, {"labels": json.dumps(labels), "thresholds": "null", "widths": "null"})
    assert "100001 labels, but no weights for as many classes" in str(said)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.float64])
def test_every_number_format_is_checked_for_finite_values(dtype):
    assert all_finite([torch.ones(2).to(dtype), torch.ones(2, dtype=torch.int64)])
    assert not all_finite([torch.tensor([1.0, torch.nan]).to(dtype)])


def test_a_record_of_a_newer_touchline_says_so(saved):
    newer = refuse(saved, {"record": '{"version": 3}'})
    assert "the training record is version 3, and this Touchline reads up to 2" in str(newer)
    unknown = refuse(saved, {"record": '{"version": 2, "groups": {"test": []}}'})
    assert "unknown field `$.groups.test`. A newer Touchline may have written it" in str(unknown)


def test_a_record_of_version_1_keeps_all_it_held():
    text = json.dumps(
        {
            "job": {"lr": 0.01, "options": {"max_clip_s": 4.0}},
            "groups": {"train": ["a"], "val": [], "excluded": [], "earlier": ["b"]},
            "figures": {"accuracy": 0.5},
            "seconds": 3,
            "calibration": {"clips": 2},
        }
    )
    record = read_record(text)
    assert record.groups == TrainedGroups(train=("a",), earlier=("b",))
    assert (record.max_clip_s, record.seconds, record.figures) == (4.0, 3.0, {"accuracy": 0.5})
    assert (record.job["lr"], record.job["calibration"]) == (0.01, {"clips": 2})


def test_the_shipped_weights_say_how_they_were_trained():
    record = load_checkpoint(files("touchline.models") / "pretrained/motion_net.safetensors").record
    assert (record.job["steps"], record.job["seed"], record.seconds) == (1500, 0, 2345.0)


def test_a_background_nobody_taught_has_probability_zero():
    logits = torch.tensor([[9.0, 1.0, 1.0]])
    taught = class_probs(logits, has_background=True)[0]
    untaught = class_probs(logits, has_background=False)[0]
    assert taught[0] > 0.99
    assert untaught.tolist() == [0.0, 0.5, 0.5]


def test_temperature_divides_the_logits():
    model = small_3d_model()
    logits = torch.tensor([[0.0, 2.0, 4.0]])
    warm = TrainedModel(model.backbone, model.architecture, model.labels, temperature=2.0)
    torch.testing.assert_close(warm.probs(logits), model.probs(logits / 2))
