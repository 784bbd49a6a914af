"""Trunks in int8: made on request, close to float32, and honest about what they change."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SPEC, brightness_model, small_3d_model, write_levels
from torch import nn
from typer.testing import CliRunner

from touchline.models.checkpoint import TrainedModel, file_digest, save_checkpoint
from touchline.models.engines import int8
from touchline.models.engines.engine import GraphTrunk, open_trunk, trunk_graph
from touchline.models.engines.int8 import read_facts
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.pipeline.detection.int8 import MOST_FRAMES, calibration_footage, make_int8
from touchline.pipeline.detection.kept_scores import scores_key
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Frames
from touchline.tools.cli import app

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))


def conv_model(seed: int = 0) -> TrainedModel:
    """The brightness model behind two real convolutions: the first channel is the mean."""
    model = brightness_model()
    first, second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 3, 1)
    stem = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU6(), second)
    backbone = CNNLSTM({"stem": stem}, 3, SPEC, 2, hidden=4).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        first.weight.normal_(0, 0.2)
        first.weight[0] = 1 / 27
        first.bias[0] = 1.0
        second.weight.normal_(0, 0.01)
        second.weight[:, 0] = 1.0
        second.bias.fill_(-1.0)
    backbone.head = model.backbone.head
    return replace(model, backbone=backbone)


def footage(tmp_path: Path) -> Path:
    """10 s at 16 Hz: dark but for seconds 4 to 6."""
    return write_levels(tmp_path / "levels.mp4", [20] * 64 + [235] * 32 + [20] * 64)


@torch.inference_mode()
def test_a_trunk_in_int8_is_close_to_float_and_holds_whole_numbers(tmp_path):
    import onnx

    model = conv_model()
    source = footage(tmp_path)
    change = make_int8(tmp_path / "t.onnx", model, calibration_footage(model, [source]))
    graph = onnx.load(tmp_path / "t.onnx")
    kinds = {node.op_type for node in graph.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    whole = [w for w in graph.graph.initializer if w.data_type == onnx.TensorProto.INT8]
    # A scale for each channel of the weights: 8 and 3.
    assert {w.dims[0] for w in whole if len(w.dims) == 4} == {8, 3}
    clip = torch.linspace(-0.8, 0.8, 11)[None, None, :, None, None].expand(1, 3, 11, 32, 32)
    exact = model.backbone.features(clip)
    found = open_trunk("onnxruntime", model.backbone, tmp_path / "t.onnx")(clip)
    difference = float((found - exact).abs().max() / exact.abs().max())
    assert 0 < difference < 0.05
    assert read_facts(tmp_path / "t.onnx", model.backbone).change == change


def test_what_int8_changes_is_counted(tmp_path, monkeypatch):
    model = conv_model()
    frames = calibration_footage(model, [footage(tmp_path)])
    change = make_int8(tmp_path / "t.onnx", model, frames)
    assert (change.kept, change.lost, change.gained) == (1, 0, 0)
    assert change.footage_s == 10.0
    assert change.windows == 37
    assert change.mean <= change.largest < 0.2
    assert "of 1 event, 0 are lost; 0 are new" in change.text()

    honest = GraphTrunk.__call__
    monkeypatch.setattr(GraphTrunk, "__call__", lambda self, clips: -honest(self, clips))
    change = make_int8(tmp_path / "t.onnx", model, frames)
    assert (change.kept, change.lost) == (0, 1)
    assert change.gained == 2
    assert change.largest > 0.9


def test_long_footage_is_used_from_its_start_and_several_files_share(tmp_path):
    model = conv_model()
    long = write_levels(tmp_path / "long.mp4", [20, 235] * 350, rate=8)
    found = calibration_footage(model, [long] * 4)
    assert [len(frames) for frames in found] == [MOST_FRAMES // 4] * 4
    assert found[0].pixels[:, 0, 0, 0].tolist()[:2] == found[1].pixels[:, 0, 0, 0].tolist()[:2]


def test_labelled_clips_are_joined(tmp_path):
    for name, level in (("a", 20), ("b", 235)):
        write_levels(tmp_path / f"{name}.mp4", [level] * 32)
    labels = tmp_path / "labels.csv"
    labels.write_text("video,label,start_s,end_s\na.mp4,background,,\nb.mp4,bright,,\n")
    (frames,) = calibration_footage(conv_model(), [labels])
    assert len(frames) == 32
    assert len(np.unique(frames.pixels.reshape(32, -1)[:, 0])) == 2


def test_the_trunk_of_another_network_and_other_files_are_refused(tmp_path):
    model = conv_model()
    path = tmp_path / "t.onnx"
    make_int8(path, model, calibration_footage(model, [footage(tmp_path)]))
    with pytest.raises(ValueError, match=r"t\.onnx is the trunk of another network. Make one"):
        Scorer(conv_model(seed=1), device="cpu", engine="auto", int8=path)
    for text in (b"", b"not a graph", b"\x08\x01"):
        path.write_bytes(text)
        with pytest.raises(ValueError, match=r"t\.onnx is not a trunk in int8. Make one"):
            Scorer(model, device="cpu", engine="auto", int8=path)
    with pytest.raises(ValueError, match="is not a trunk in int8"):
        Scorer(model, device="cpu", engine="auto", int8=trunk_graph(model.backbone))
    with pytest.raises(ValueError, match=r"none\.onnx is no file"):
        Scorer(model, device="cpu", engine="auto", int8=tmp_path / "none.onnx")


def test_sums_that_overflow_on_this_processor_are_refused(tmp_path, monkeypatch):
    model, frames = conv_model(), calibration_footage(conv_model(), [footage(tmp_path)])
    spread = {}
    for bits, vnni in ((7, False), (8, True)):
        monkeypatch.setattr(int8, "sums_are_exact", lambda vnni=vnni: vnni)
        make_int8(tmp_path / f"{bits}.onnx", model, frames)
        assert read_facts(tmp_path / f"{bits}.onnx", model.backbone).weight_bits == bits
        spread[bits] = largest_weight(tmp_path / f"{bits}.onnx")
    assert spread == {7: 64, 8: 127}
    monkeypatch.setattr(int8, "sums_are_exact", lambda: False)
    read_facts(tmp_path / "7.onnx", model.backbone)
    with pytest.raises(ValueError, match=r"8\.onnx was made on a processor with VNNI"):
        Scorer(model, device="cpu", engine="auto", int8=tmp_path / "8.onnx")


def largest_weight(path: Path) -> int:
    import onnx

    weights = [
        onnx.numpy_helper.to_array(w)
        for w in onnx.load(path).graph.initializer
        if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 4
    ]
    return max(int(np.abs(w.astype(np.int32)).max()) for w in weights)


def test_int8_goes_with_a_runtime_in_its_own_precision(tmp_path):
    model = conv_model()
    with pytest.raises(ValueError, match="Use the engine onnxruntime"):
        Scorer(model, device="cpu", engine="torch", int8=tmp_path / "t.onnx")
    with pytest.raises(ValueError, match="the engine onnxruntime runs in float32"):
        Scorer(model, device="cpu", engine="auto", precision="bf16", int8=tmp_path / "t.onnx")
    with pytest.raises(ValueError, match="features are not kept in int8"):
        DetectOptions(int8=tmp_path / "t.onnx", features=tmp_path)


def test_a_trunk_over_space_and_time_runs_whole_windows_in_int8(tmp_path):
    model = small_3d_model()
    frames = calibration_footage(model, [footage(tmp_path)])
    change = make_int8(tmp_path / "t.onnx", model, frames)
    assert change.largest < 0.05
    scorer = Scorer(model, device="cpu", engine="auto", int8=tmp_path / "t.onnx")
    assert (scorer.engine, scorer.shared) == ("onnxruntime", False)


def test_kept_scores_depend_on_the_file(tmp_path):
    model = conv_model()
    frames = calibration_footage(model, [footage(tmp_path)])
    keys = []
    for k, some in enumerate((frames, [Frames(*(getattr(frames[0], n)[:40] for n in NAMES))])):
        path = tmp_path / f"{k}.onnx"
        make_int8(path, model, some)
        scorer = Scorer(model, device="cpu", engine="auto", int8=path)
        assert scorer.int8 == file_digest(path)
        keys.append(scores_key(scorer, DetectOptions(int8=path), "f", decode_workers=1))
    assert keys[0].difference(keys[1]) == "an option"


NAMES = ("pixels", "time_s", "sample_s", "damaged")


def test_export_makes_it_and_detect_runs_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = footage(tmp_path)
    save_checkpoint(tmp_path / "m.safetensors", small_3d_model())
    runner = CliRunner()
    made = runner.invoke(
        app, ["models", "export", "m.safetensors", "--to", "int8", "--calibrate", str(source)]
    )
    assert made.exit_code == 0, made.output
    assert "m.int8.onnx: for touchline detect --int8" in made.output
    assert "class probabilities differ from float32 by" in made.output
    command = ["detect", str(source), "--model", "m.safetensors", "--device", "cpu"]
    for name, more in (("float", []), ("int8", ["--int8", "m.int8.onnx"])):
        run = runner.invoke(app, [*command, "-o", name, *more])
        assert run.exit_code == 0, run.output
        assert ("The network runs in int8." in run.output) == (name == "int8")
        result = read_events_json(tmp_path / name / "levels" / "events.json")
        assert result.options is not None
        expected = file_digest(tmp_path / "m.int8.onnx") if more else None
        assert result.options.int8 == expected
    document = json.loads((tmp_path / "int8" / "levels" / "events.json").read_text())
    assert document["options"]["int8"]


@pytest.mark.parametrize("more", [["--to", "int8"], ["--calibrate", "a.mp4"]])
def test_int8_needs_clips_and_onnx_takes_none(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "m.safetensors", small_3d_model())
    run = CliRunner().invoke(app, ["models", "export", "m.safetensors", *more])
    assert "--to int8 needs --calibrate LABELS. Other formats do not take --calibrate" in str(
        run.exception
    )


@pytest.mark.parametrize("to", [["--to", "onnx"], ["--to", "int8", "--calibrate", "levels.mp4"]])
def test_export_never_writes_over_its_model(tmp_path, monkeypatch, to):
    monkeypatch.chdir(tmp_path)
    footage(tmp_path)
    save_checkpoint(tmp_path / "m.safetensors", small_3d_model())
    before = (tmp_path / "m.safetensors").read_bytes()
    command = ["models", "export", "m.safetensors", *to, "-o", "m.safetensors"]
    assert CliRunner().invoke(app, command).exit_code != 0
    assert (tmp_path / "m.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["", "missing.onnx"])
def test_a_folder_or_nothing_is_no_trunk_in_int8(tmp_path, name):
    with pytest.raises(ValueError, match=r"is no file. Make one: touchline models export"):
        read_facts(tmp_path / name, small_3d_model().backbone)
