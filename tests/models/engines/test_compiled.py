"""Compiled trunks: one shape, the same scores; if compiling fails, the run goes on without."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import brightness_model, small_3d_model, write_levels

from touchline.models.engines import compiled
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.detection.detect import detect
from touchline.pipeline.detection.kept_scores import scores_key
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import ScoreTrack

MODELS = [brightness_model, small_3d_model]


def footage(tmp_path: Path) -> Path:
    """5 s and a bit, so that neither windows nor frames fill up the last batch."""
    return write_levels(tmp_path / "a.mp4", np.random.default_rng(0).integers(0, 255, 83).tolist())


def score(scorer: Scorer, path: Path) -> ScoreTrack:
    spec = scorer.model.spec
    return scorer.score(decode(path, rate_hz=spec.rate_hz, size_px=spec.size_px))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler warns of PyTorch
@pytest.mark.parametrize("make", MODELS)
def test_a_compiled_network_gives_the_same_scores(tmp_path, make):
    path = footage(tmp_path)
    plain = score(Scorer(make(), device="cpu", precision="float32", mode="windows"), path)
    scorer = Scorer(make(), device="cpu", precision="float32", mode="windows", compiled=True)
    assert scorer.compiled, scorer.warm_up
    assert "PyTorch compiled the network in" in scorer.warm_up
    np.testing.assert_allclose(score(scorer, path).probs, plain.probs, atol=1e-5)


def recorded(monkeypatch: pytest.MonkeyPatch, change: float = 1.0) -> list[tuple[object, ...]]:
    """Replace torch.compile by the function itself; the list gets each clip's shape and strides."""
    seen: list[tuple[object, ...]] = []

    def fake(run, *, dynamic, mode):
        assert not dynamic
        assert mode == "default"

        def called(clips):
            seen.append((clips.shape, clips.stride(), clips.dtype, clips.data_ptr()))
            return run(clips) * change

        return called

    monkeypatch.setattr(torch, "compile", fake)
    return seen


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("make", MODELS)
def test_the_compiled_function_sees_one_shape_in_one_place(tmp_path, monkeypatch, make, precision):
    path = footage(tmp_path)
    plain = score(Scorer(make(), device="cpu", precision=precision, mode="windows"), path)
    seen = recorded(monkeypatch)
    scorer = Scorer(make(), device="cpu", precision=precision, mode="windows", compiled=True)
    found = score(scorer, path)
    assert len(seen) > 5
    assert len(set(seen)) == 1
    tolerance = 1e-5 if precision == "float32" else 0.02
    np.testing.assert_allclose(found.probs, plain.probs, atol=tolerance)


def test_a_network_that_does_not_compile_runs_without(tmp_path, monkeypatch):
    path = footage(tmp_path)
    plain = score(Scorer(small_3d_model(), device="cpu"), path)

    def broken(run, **_):
        def called(clips):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nmore")

        return called

    monkeypatch.setattr(torch, "compile", broken)
    scorer = Scorer(small_3d_model(), device="cpu", compiled=True)
    assert not scorer.compiled
    assert scorer.warm_up == (
        "PyTorch cannot compile this network here (InvalidCxxCompiler: No working C++ compiler "
        "found). It runs without."
    )
    np.testing.assert_array_equal(score(scorer, path).probs, plain.probs)


def test_a_compiled_network_that_computes_something_else_is_not_used(monkeypatch):
    recorded(monkeypatch, change=1.01)
    scorer = Scorer(small_3d_model(), device="cpu", precision="float32", compiled=True)
    assert not scorer.compiled
    assert "computes something else: the difference is" in scorer.warm_up


def test_what_a_gpu_writes_over_is_copied():
    clips = torch.zeros(1, 3, 4, 2, 2)
    place = torch.zeros(1, 3, 4)

    def run(x):
        place.copy_(x.mean(dim=(3, 4)))
        return place

    trunk = compiled.GraphTrunk(run, clips, framewise=False, reuses_result=True)
    found = trunk(torch.arange(2.0)[:, None, None, None, None].expand(2, 3, 4, 2, 2))
    assert found[:, 0, 0].tolist() == [0, 1]


def test_compiling_goes_with_pytorch_and_whole_windows(tmp_path, monkeypatch):
    for more in ({"engine": "onnxruntime"}, {"int8": tmp_path / "t.onnx"}):
        with pytest.raises(ValueError, match="only PyTorch compiles"):
            Scorer(brightness_model(), device="cpu", compiled=True, **more)
    with pytest.raises(ValueError, match="Use mode 'windows'"):
        Scorer(small_3d_model(), device="cpu", compiled=True, mode="shared")
    recorded(monkeypatch)
    scorer = Scorer(brightness_model(), device="cpu", compiled=True, engine="auto")
    assert (scorer.engine, scorer.trial) == ("torch", None)


def test_kept_scores_and_results_tell_a_compiled_network(tmp_path, monkeypatch):
    recorded(monkeypatch)
    model, path = brightness_model(), footage(tmp_path)
    plain, other = (Scorer(model, device="cpu", compiled=c) for c in (False, True))
    keys = [scores_key(s, DetectOptions(), "f", decode_workers=1) for s in (plain, other)]
    assert keys[0].difference(keys[1]) == "an option"
    result = detect(path, model, DetectOptions(device="cpu", compiled=True))
    assert result.options is not None
    assert result.options.compiled
