"""The bench of detection: as much footage as there is, and a line where that is too little."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from footage_made import write_video

from touchline.models import inference
from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.errors import FootageError
from touchline.models.inference import fast_copy
from touchline.pipeline.benchmarks.detect import LOOP, bench_detect, count_flops


@pytest.mark.slow
def test_footage_shorter_than_asked_for_is_used_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(85))
    speed = bench_detect(path, footage_s=60.0, rounds=1, device="cpu")
    assert speed.footage_s == pytest.approx(3.4, abs=0.01)
    # They begin at 0 and 0.64 s.
    assert speed.num_windows == 2
    assert [row.name for row in speed.rows] == [LOOP, "windows", "trunk once (shared)"]
    assert all(row.score_difference < 0.1 for row in speed.rows)


def test_every_stage_is_measured_in_every_round(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(85))
    speed = bench_detect(path, network="motion_net", footage_s=3.0, rounds=2, device="cpu")
    loop, windows, _ = speed.rows
    for row in speed.rows:
        assert row.least_s <= row.together_s <= row.most_s
        assert 0 < row.waiting_s < row.together_s
        assert row.decoding_s > 0
        assert row.network_s > 0
        assert row.times_real_time == pytest.approx(3.0 / row.together_s)
        assert row.share_of_limit is not None
        assert row.share_of_limit > 0
    # The same pictures up to how they are scaled, the same operations.
    assert windows.score_difference < 0.01
    assert windows.windows_per_s * windows.together_s == pytest.approx(speed.num_windows, abs=1)
    operations = [row.share_of_limit * row.network_s for row in (loop, windows)]
    assert operations[0] == pytest.approx(operations[1], rel=0.2)
    assert speed.limits.convolution_gflops > 0.1


def test_less_than_a_window_is_refused_in_a_line(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(50))
    with pytest.raises(FootageError, match=r"a\.mp4: lasts 2\.00 s, less than one window"):
        bench_detect(path, footage_s=60.0)
    for seconds in (2.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"seconds is .*; it must be at least 2\.56"):
            bench_detect(path, footage_s=seconds)


@pytest.mark.slow
def test_int8_is_a_row_of_framewise_networks(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    path = write_video(tmp_path / "a.mp4", indices=range(60))
    speed = bench_detect(path, network="cnn_lstm_lite0", footage_s=2.1, rounds=1, device="cpu")
    names = [row.name for row in speed.rows]
    assert names[1] == "each frame once"
    assert names[-1] == "each frame once, onnxruntime int8"


def test_operations_are_counted_alike_in_one_pass_and_in_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = ClipSpec(num_frames=4, rate_hz=8.0, size_px=64)
    backbone = build_backbone("cnn_lstm", 2, spec)
    clip = torch.randn(1, 3, 4, 64, 64)
    one_pass = fast_copy(backbone, torch.device("cpu"), torch.float32)
    monkeypatch.setattr(inference, "can_fuse_activations", lambda: False)
    two_passes = fast_copy(backbone, torch.device("cpu"), torch.float32)
    counted = count_flops(lambda: one_pass.features(clip))
    assert counted == count_flops(lambda: two_passes.features(clip)) > 1e8
