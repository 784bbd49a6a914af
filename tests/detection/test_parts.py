"""A match in parts: the joined scores and the log are those of the whole, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from footage_made import write_video
from tiny import small_3d_model

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection import parts
from touchline.pipeline.detection.detect import make_scorer, score_whole
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.detection.parts import join_parts, plan_parts, score_part
from touchline.pipeline.scoring.score import Scorer

RATE, LENGTH_S = 16, 60

OPTIONS = DetectOptions(
    hop_s=0.25, device="cpu", precision="float32", engine="torch", batch_size=2, isolation=False
)


def noise(index: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)


def write(path: Path, **options: str) -> Path:
    steady = [Fraction(k, RATE) for k in range(RATE * LENGTH_S)]
    choose = np.random.default_rng(0)
    varied = [s + Fraction(int(choose.integers(0, 50)), 1000) for s in steady]
    return write_video(
        path, indices=range(len(steady)), rate=RATE, size=(64, 48), picture=noise,
        stamps=varied if options.pop("rate", "") == "variable" else steady,
        time_base=Fraction(1, 16000),
        options={"preset": "veryfast", "g": "40", "threads": "1", **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("long")
    return {
        "b-frames": write(folder / "b.mp4", bf="3"),
        "variable rate": write(folder / "v.mkv", bf="2", rate="variable"),
        "open groups": write(folder / "o.mp4", bf="2", **{"x264-params": "open-gop=1"}),
        "one key frame": write(folder / "k.mp4", g="100000", sc_threshold="0"),
    }


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LONG_FOOTAGE_S", 10.0)


def framewise_model() -> TrainedModel:
    torch.manual_seed(0)
    spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=32)
    labels = ("background", "goal")
    backbone = build_backbone("cnn_lstm", 2, spec).eval()
    return TrainedModel(backbone, "cnn_lstm", labels)


MODELS = {"3-D": small_3d_model, "framewise": framewise_model}


def in_parts(path: Path, scorer: Scorer, options: DetectOptions, num_parts: int):
    declared = probe_footage(path, isolation=False)
    planned = plan_parts(path, scorer, options, declared, num_parts)
    scored = [score_part(part, scorer, options) for part in planned]
    return planned, join_parts(planned, scored, scorer, options)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["b-frames", "variable rate", "open groups"])
@pytest.mark.parametrize("num_parts", [2, 3])
def test_parts_give_what_the_whole_gives(
    footage: dict[str, Path], name: str, model: str, num_parts: int
) -> None:
    path = footage[name]
    scorer = make_scorer(MODELS[model](), OPTIONS)
    assert scorer.shared == (model == "framewise")
    planned, joined = in_parts(path, scorer, OPTIONS, num_parts)
    assert len(planned) == num_parts
    assert joined is not None
    track, log = joined
    whole, whole_log = score_whole(path, scorer, OPTIONS, probe_footage(path, isolation=False))
    for field in ("start_s", "end_s", "probs", "damaged"):
        assert getattr(track, field).tobytes() == getattr(whole, field).tobytes(), field
    for field in ("num_frames", "end_s", "damaged_s", "gaps_s", "warnings", "num_restarts"):
        assert getattr(log, field) == getattr(whole_log, field), field


def test_a_hop_longer_than_the_overlap_of_windows_is_no_obstacle(footage: dict[str, Path]) -> None:
    options = replace(OPTIONS, hop_s=1.0)
    scorer = make_scorer(small_3d_model(), options)
    _, joined = in_parts(footage["b-frames"], scorer, options, 2)
    assert joined is not None
    declared = probe_footage(footage["b-frames"], isolation=False)
    whole, _ = score_whole(footage["b-frames"], scorer, options, declared)
    assert joined[0].probs.tobytes() == whole.probs.tobytes()


def test_what_cannot_be_divided_stays_whole(footage: dict[str, Path]) -> None:
    scorer = make_scorer(small_3d_model(), OPTIONS)
    one = footage["one key frame"]
    assert len(in_parts(one, scorer, OPTIONS, 2)[0]) <= 1
    declared = replace(probe_footage(one, isolation=False), duration_s=9.0)
    assert plan_parts(footage["b-frames"], scorer, OPTIONS, declared, 2) == []
    # A trunk over space and time looks beyond the ends of a part.
    shared = replace(OPTIONS, mode="shared", hop_s=0.5)
    scorer = make_scorer(small_3d_model(), shared)
    assert in_parts(footage["b-frames"], scorer, shared, 2)[0] == []


def test_parts_of_footage_that_ends_early_do_not_make_a_whole(footage: dict[str, Path]) -> None:
    path = footage["b-frames"]
    scorer = make_scorer(small_3d_model(), OPTIONS)
    declared = replace(probe_footage(path, isolation=False), duration_s=2.0 * LENGTH_S)
    planned = plan_parts(path, scorer, OPTIONS, declared, 2)
    scored = [score_part(part, scorer, OPTIONS) for part in planned]
    assert len(planned) == 2
    assert join_parts(planned, scored, scorer, OPTIONS) is None
