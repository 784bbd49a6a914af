"""Engines: the same features on every runtime, a graph that is checked, a trial that is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import brightness_model, small_3d_model, write_levels
from typer.testing import CliRunner

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import save_checkpoint
from touchline.models.engines import graph, trial
from touchline.models.engines.engine import PASS_FRAMES, GraphTrunk, engine_folder, open_trunk
from touchline.models.engines.trial import is_worth, try_engines
from touchline.models.heads import HeadSpec
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.tools.cli import app

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def lite0() -> Backbone:
    """The default trunk, small, with BatchNorm statistics that are not 0 and 1."""
    torch.manual_seed(0)
    backbone = build_backbone("cnn_lstm_lite0", 3, ClipSpec(4, 4.0, 64))
    for module in backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return backbone.eval()


@pytest.fixture
def tiny() -> Backbone:
    return brightness_model().backbone


@pytest.mark.slow
@torch.inference_mode()
def test_a_runtime_computes_the_features_that_pytorch_computes(lite0):
    trunk = open_trunk("onnxruntime", lite0)
    for frames in (1, PASS_FRAMES, PASS_FRAMES + 3):
        clips = torch.randn(2, 3, frames, 64, 64)
        torch.testing.assert_close(trunk(clips), lite0.features(clips), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_mirror_images_are_part_of_the_graph():
    plain, mirrored = brightness_model().backbone, brightness_model().backbone
    mirrored.use_head(HeadSpec(kind="frame", mirror=True), 2, width=3)
    clips = torch.randn(1, 3, 4, 32, 32)
    found = open_trunk("onnxruntime", mirrored)(clips)
    assert found.shape[1] == 2 * open_trunk("onnxruntime", plain)(clips).shape[1]
    torch.testing.assert_close(found, mirrored.features(clips), rtol=1e-3, atol=1e-4)


@torch.inference_mode()
def test_windows_of_a_trunk_over_space_and_time_run_too():
    backbone = small_3d_model().backbone.eval()
    spec = backbone.spec
    clips = torch.randn(3, 3, spec.num_frames, spec.size_px, spec.size_px)
    found = open_trunk("onnxruntime", backbone)(clips)
    torch.testing.assert_close(found, backbone.features(clips), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_writing_a_graph_leaves_the_network_in_its_mode(training):
    backbone = brightness_model().backbone.train(training)
    open_trunk("onnxruntime", backbone)
    assert {module.training for module in backbone.modules()} == {training}


def test_a_graph_that_computes_something_else_is_not_kept(tiny, monkeypatch):
    honest = graph.run_once
    monkeypatch.setattr(graph, "run_once", lambda path, x: honest(path, x) * 1.01 + 0.01)
    with pytest.raises(ValueError, match="computes something else than PyTorch"):
        open_trunk("onnxruntime", tiny)
    assert not list(engine_folder(tiny).glob("*.onnx"))
    assert not list(engine_folder(tiny).glob(".*.part*"))


def test_a_missing_package_is_named_with_its_installation(tiny, monkeypatch):
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ValueError, match=r"onnxscript: not installed. Run: pip install"):
        open_trunk("onnxruntime", tiny)


def times(monkeypatch: pytest.MonkeyPatch, ms: dict[str, float]) -> list[int]:
    """Let a trial find these times; the list grows with each trial."""
    trials: list[int] = []

    def timed(*_: object) -> dict[str, float]:
        trials.append(1)
        return ms

    monkeypatch.setattr(trial, "_time_engines", timed)
    return trials


def always() -> bool:
    return True


def test_the_trial_runs_once_per_machine(tiny, monkeypatch):
    trials = times(monkeypatch, {"torch": 10.0, "onnxruntime": 6.0})
    for _ in range(2):
        found = try_engines(tiny, tiny.features, always)
        assert found is not None
        assert found.fastest == "onnxruntime"
    assert len(trials) == 1
    monkeypatch.setattr(trial, "processor", lambda: "another processor")
    try_engines(tiny, tiny.features, always)
    assert len(trials) == 2


def test_another_engine_must_be_clearly_faster(tiny, monkeypatch):
    times(monkeypatch, {"torch": 10.0, "onnxruntime": 9.5})
    found = try_engines(tiny, tiny.features, always)
    assert found is not None
    assert found.fastest == "torch"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": "x", "ms": {"torch": "fast"}}'])
def test_a_damaged_trial_is_made_again(tiny, monkeypatch, text):
    kept = engine_folder(tiny) / "trial.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(text)
    trials = times(monkeypatch, {"torch": 1.0})
    try_engines(tiny, tiny.features, always)
    assert len(trials) == 1
    assert json.loads(kept.read_text())["ms"] == {"torch": 1.0}


def test_little_footage_is_not_worth_a_trial(tiny, monkeypatch):
    trials = times(monkeypatch, {"torch": 1.0})
    assert try_engines(tiny, tiny.features, lambda: False) is None
    assert not trials
    spec = ClipSpec(16, 8.0, 224)
    assert not is_worth(spec, 60.0)
    assert is_worth(spec, 3600.0)


def test_a_real_trial_times_every_engine_that_is_installed(tiny):
    found = try_engines(tiny, tiny.features, always)
    assert found is not None
    assert {"torch", "onnxruntime"} <= set(found.ms)
    assert min(found.ms.values()) > 0


def test_trunks_over_space_and_time_are_not_tried():
    backbone = small_3d_model().backbone
    assert try_engines(backbone, backbone.features, always) is None


def test_auto_runs_on_the_engine_that_the_trial_found_faster(monkeypatch):
    times(monkeypatch, {"torch": 10.0, "onnxruntime": 6.0})
    scorer = Scorer(brightness_model(), device="cpu", precision="float32", engine="auto")
    assert scorer.engine == "onnxruntime"
    assert isinstance(scorer._trunk, GraphTrunk)


@pytest.mark.parametrize("long", [False, True])
def test_detect_tries_engines_only_with_enough_footage(tmp_path, monkeypatch, long):
    path = write_levels(tmp_path / "a.mp4", [20] * 32)
    if long:
        monkeypatch.setattr(trial, "WORTH_PIXELS", 8 * 32**2)
    trials = times(monkeypatch, {"torch": 10.0, "onnxruntime": 6.0})
    detect(path, brightness_model(), DetectOptions(device="cpu", precision="float32"))
    assert len(trials) == long


def test_events_are_the_same_on_every_engine(tmp_path, monkeypatch):
    path = write_levels(tmp_path / "a.mp4", [20] * 64 + [235] * 32 + [20] * 64)
    found = {}
    honest, calls = GraphTrunk.__call__, []

    def counted(self, clips):
        calls.append(len(clips))
        return honest(self, clips)

    monkeypatch.setattr(GraphTrunk, "__call__", counted)
    for engine in ("torch", "onnxruntime"):
        options = DetectOptions(engine=engine, device="cpu", precision="float32")
        found[engine] = detect(path, brightness_model(), options)
        assert bool(calls) == (engine == "onnxruntime")
    one, other = found["torch"], found["onnxruntime"]
    assert len(one.accepted) == 1
    assert [replace(e, score=0.0) for e in one.candidates] == [
        replace(e, score=0.0) for e in other.candidates
    ]
    assert one.track is not None
    assert other.track is not None
    np.testing.assert_allclose(one.track.probs, other.track.probs, atol=1e-4)


def test_an_engine_that_does_not_fit_is_refused_in_a_line():
    with pytest.raises(ValueError, match="engine is 'tensorrt'; it must be one of auto, torch"):
        Scorer(brightness_model(), engine="tensorrt")
    with pytest.raises(ValueError, match="the engine onnxruntime runs in float32"):
        Scorer(brightness_model(), engine="onnxruntime", precision="bf16", device="cpu")
    with pytest.raises(ValueError, match="Use mode 'windows'"):
        Scorer(small_3d_model(), engine="onnxruntime", mode="shared", device="cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_short_memory_halves_what_runs_at_once_and_changes_no_score(tmp_path, error):
    path = write_levels(tmp_path / "a.mp4", [20] * 40 + [235] * 40)

    def score(scorer: Scorer) -> np.ndarray:
        spec = scorer.model.spec
        return scorer.score(decode(path, rate_hz=spec.rate_hz, size_px=spec.size_px)).probs

    for model in (brightness_model(), small_3d_model()):
        whole = score(Scorer(model, device="cpu", precision="float32"))
        scorer = Scorer(model, device="cpu", precision="float32")
        holds = 3 if model.backbone.framewise else 2
        honest, sizes = scorer._trunk, []

        def small(clips, honest=honest, sizes=sizes, holds=holds, model=model):
            sizes.append(clips.shape[2] if model.backbone.framewise else len(clips))
            if sizes[-1] > holds:
                raise error
            return honest(clips)

        scorer._trunk = small
        np.testing.assert_allclose(score(scorer), whole, atol=1e-6)
        assert max(sizes) > holds
        # Once found, the size that fits is used from the start.
        assert max(sizes[sizes.index(max(sizes)) + 8 :]) <= holds


def test_memory_that_holds_not_even_one_is_an_error(tmp_path):
    scorer = Scorer(brightness_model(), device="cpu")

    def full(clips):
        raise torch.OutOfMemoryError("CUDA out of memory")

    scorer._trunk = full
    spec = scorer.model.spec
    clips = np.zeros((2, spec.num_frames, 3, spec.size_px, spec.size_px), np.uint8)
    with pytest.raises(torch.OutOfMemoryError):
        scorer.logits(clips)


@pytest.mark.parametrize("make", [brightness_model, small_3d_model])
def test_an_exported_model_gives_the_probabilities_of_the_checkpoint(tmp_path, monkeypatch, make):
    model = replace(make(), temperature=1.7)
    checkpoint = tmp_path / "m.safetensors"
    if make is small_3d_model:
        save_checkpoint(checkpoint, model)
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(app, ["models", "export", "m.safetensors"])
        assert result.exit_code == 0, result.output
        assert "compared with PyTorch" in result.output
    else:
        graph.write_model(tmp_path / "m.onnx", model)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    spec = model.spec
    rng = np.random.default_rng(0)
    shape = (1, spec.num_frames, 3, spec.size_px, spec.size_px)
    pictures = rng.integers(0, 256, shape).astype(np.uint8)
    (probs,) = session.run(None, {"pictures": pictures})
    scorer = Scorer(model, device="cpu", precision="float32")
    np.testing.assert_allclose(probs, model.probs(scorer.logits(pictures)).numpy(), atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == list(model.labels)
    assert float(facts["rate_hz"]) == spec.rate_hz


def test_export_names_what_it_cannot_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path / "m.safetensors", small_3d_model())
    run = CliRunner().invoke(app, ["models", "export", "m.safetensors", "--to", "tflite"])
    assert run.exit_code != 0
    assert "it must be onnx" in str(run.exception)
    run = CliRunner().invoke(app, ["models", "export", "nothing.safetensors"])
    assert run.exit_code != 0
    assert not list(tmp_path.glob("*.onnx"))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.onnx"):
        graph.write_model(tmp_path / "folder.onnx", brightness_model())
    gone = Path("/proc/nowhere.onnx")
    if gone.parent.is_dir():
        with pytest.raises(OSError, match=r"/proc/nowhere\.onnx"):
            graph.write_model(gone, brightness_model())
