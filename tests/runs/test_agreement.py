"""A trunk that runs once over the footage against whole windows: measured, stored and followed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from tiny import brightness_model, small_3d_model
from typer.testing import CliRunner

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.errors import CheckpointError
from touchline.models.json_values import to_json
from touchline.models.training_record import SharedAgreement
from touchline.pipeline.clips.load import load_clips
from touchline.pipeline.runs.agreement import join_clips, measure_agreement
from touchline.pipeline.runs.dense import tune_on_shared
from touchline.pipeline.runs.run import METRICS_FILE, MODEL_FILE
from touchline.pipeline.scoring.events import find_events, operating_points
from touchline.pipeline.scoring.mode import choose_mode
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Example, Frames, ScoreTrack
from touchline.tools.cli import app

pytestmark = pytest.mark.usefixtures("one_thread")

# What motion_net does to 8 frames: two features, four frames each.
STRIDE, LENGTH, PIECE, MARGIN = 4, 8, 64, 4

COLUMNS = "video,label,start_s,end_s,group"


def write_squares(path: Path, step_px: int, *, seed: int, num_frames: int = 16) -> None:
    """A bright square on noise that moves `step_px` to the right per frame, at 8 Hz."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 30, 2)
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width = stream.height = 40
        stream.pix_fmt = "bgr0"
        for k in range(num_frames):
            picture = rng.integers(0, 60, (40, 40, 3)).astype(np.uint8)
            left = (x + k * step_px) % 30
            picture[y : y + 10, left : left + 10] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of a square that runs, of one that stands still, and of one that jumps back."""
    folder = tmp_path_factory.mktemp("squares")
    rows = [COLUMNS]
    for match in range(4):
        for label, step_px in (("run", 4), ("background", 0), ("back", -4)):
            for k in range(5):
                name = f"{label}_{match}_{k}.mkv"
                write_squares(folder / name, step_px, seed=len(rows))
                rows.append(f"{name},{label},,,match_{match}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def trained(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Run folders of `train` on the clips, with and without --dense."""
    out = tmp_path_factory.mktemp("runs")
    options = (
        "--backbone motion_net --num-frames 8 --size 32 --rate 8 --epochs 12 --val-groups match_3 "
        "--device cpu --precision float32 --no-augment --lr 0.003"
    )
    command = ["train", str(labels), *options.split()]
    folders = {}
    for name, more in (("plain", []), ("dense", ["--dense"])):
        folders[name] = out / name
        done = CliRunner().invoke(app, [*command, "-o", str(folders[name]), *more])
        assert done.exit_code == 0, done.output
        (out / f"{name}.txt").write_text(done.output)
    return folders


def all_examples(labels: Path) -> list[Example]:
    rows = [line.split(",") for line in labels.read_text().splitlines()[1:]]
    return [Example(labels.parent / name, label, group) for name, label, _, _, group in rows]


def val_examples(labels: Path) -> list[Example]:
    return [example for example in all_examples(labels) if example.group == "match_3"]


def val_footage(model: TrainedModel, labels: Path) -> Frames:
    return join_clips(model, load_clips(val_examples(labels), model.spec).clips)


@torch.no_grad()
def by_hand(model: TrainedModel, frames: Frames) -> tuple[ScoreTrack, ScoreTrack]:
    """The scores of whole windows, and of a trunk that ran over pieces, without a `Scorer`."""
    pixels, network = torch.from_numpy(frames.pixels), model.backbone.eval()

    def features(clip: torch.Tensor) -> torch.Tensor:
        return network.features(normalise(clip.transpose(0, 1)[None], model.spec))[0]

    T = len(pixels)
    starts = [*range(0, T - LENGTH + 1, STRIDE)]
    rows = []
    for first in range(0, T, PIECE):
        low, high = max(0, first - MARGIN), min(T, first + PIECE + MARGIN)
        piece = pixels[low:high]
        short = -len(piece) % STRIDE
        found = features(torch.cat([piece, piece[-1:].expand(short, -1, -1, -1)]))
        rows.append(
            found[:, (first - low) // STRIDE :][:, : -(-(min(T, first + PIECE) - first) // STRIDE)]
        )
    track = torch.cat(rows, dim=1)
    assert T % STRIDE == 0
    ways = (
        torch.stack([features(pixels[k : k + LENGTH]) for k in starts]),
        torch.stack([track[:, k // STRIDE : (k + LENGTH) // STRIDE] for k in starts]),
    )
    start_s = np.array(starts) / 8
    whole, shared = (
        ScoreTrack(
            model.labels,
            start_s,
            start_s + 1,
            network.head(x).softmax(1).numpy(),
            np.zeros(len(starts), bool),
        )
        for x in ways
    )
    return whole, shared


def average_precision(truth: Sequence[Event], found: Sequence[Event]) -> float:
    """Interpolated AP at 1 s of one class, from its definition."""
    free, hits = list(truth), []
    for event in sorted(found, key=lambda e: -e.score):
        near = [t for t in free if abs(t.peak_s - event.peak_s) <= 1.0 + 1e-6]
        if near:
            free.remove(min(near, key=lambda t: abs(t.peak_s - event.peak_s)))
        hits.append(bool(near))
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return sum(precision[k:].max() for k, hit in enumerate(hits) if hit) / len(truth)


def agreement_by_hand(model: TrainedModel, whole: ScoreTrack, shared: ScoreTrack) -> float:
    points = operating_points(model.labels)
    one, other = find_events(whole, points), find_events(shared, points)

    def mean_ap(truth: Sequence[Event], found: Sequence[Event]) -> float:
        of = {e.label for e in truth}
        return float(
            np.mean(
                [
                    average_precision(
                        [e for e in truth if e.label == k], [e for e in found if e.label == k]
                    )
                    for k in of
                ]
            )
        )

    return min(mean_ap(one, other), mean_ap(other, one))


@pytest.mark.parametrize("name", ["plain", "dense"])
def test_the_stored_agreement_is_that_of_scores_made_by_hand(
    trained: dict[str, Path], labels: Path, name: str
) -> None:
    model = load_checkpoint(trained[name] / MODEL_FILE)
    stored = model.record.shared
    assert stored is not None
    frames = val_footage(model, labels)
    whole, shared = by_hand(model, frames)
    assert stored.mean_ap == pytest.approx(agreement_by_hand(model, whole, shared), abs=1e-9)
    apart = float(np.abs(whole.probs - shared.probs).max())
    assert stored.largest_difference == pytest.approx(apart, abs=1e-5)
    assert (stored.windows, stored.stride) == (len(whole.start_s), STRIDE)
    assert stored.footage_s == len(frames) / 8
    assert stored.events == len(find_events(whole, operating_points(model.labels))) > 1
    written = json.loads((trained[name] / METRICS_FILE).read_text())
    assert written["shared"]["mean_ap"] == stored.mean_ap
    text = (trained[name].parent / f"{name}.txt").read_text()
    [line] = [x for x in text.splitlines() if x.startswith("trunk once over the footage")]
    assert f"mAP {int(stored.mean_ap * 1000) / 1000:.3f} at 1 s" in line


def test_the_head_that_agrees_better_is_kept(trained: dict[str, Path]) -> None:
    plain = load_checkpoint(trained["plain"] / MODEL_FILE)
    dense = load_checkpoint(trained["dense"] / MODEL_FILE)
    before, kept = plain.record.shared, dense.record.shared
    assert before is not None
    assert kept is not None
    written = json.loads((trained["dense"] / METRICS_FILE).read_text())
    # The same seed trains the same network, and the trunk is not touched.
    assert written["shared_before_tuning"] == to_json(before)
    for key, value in plain.backbone.stages.state_dict().items():
        torch.testing.assert_close(dense.backbone.stages.state_dict()[key], value, rtol=0, atol=0)
    same = torch.equal(plain.backbone.head.linear.weight, dense.backbone.head.linear.weight)
    assert (before.tuned, same) == (False, not kept.tuned)
    assert kept.mean_ap >= before.mean_ap


def test_tuning_brings_shared_scores_nearer_to_those_of_whole_windows(
    trained: dict[str, Path], labels: Path
) -> None:
    model = load_checkpoint(trained["plain"] / MODEL_FILE)
    train = [e for e in all_examples(labels) if e.group != "match_3"]
    clips = load_clips(train, model.spec).clips
    tuned = tune_on_shared(model, clips, device="cpu", precision="float32")
    frames = join_clips(model, clips, seed=5)

    before, untuned = by_hand(model, frames)
    _, after = by_hand(tuned, frames)

    def distance(shared: ScoreTrack) -> float:
        return float(np.abs(shared.probs - before.probs).mean())

    assert distance(after) < 0.95 * distance(untuned)


def test_the_figures_of_a_tuned_head_are_its_own(trained: dict[str, Path], labels: Path) -> None:
    model = load_checkpoint(trained["dense"] / MODEL_FILE)
    clips = load_clips(val_examples(labels), model.spec).clips
    right = []
    for clip in clips:
        starts = [round(s) for s in np.linspace(clip.first, clip.last, 3)]
        windows = np.stack([clip.window(s, LENGTH) for s in starts])
        x = normalise(torch.from_numpy(windows).transpose(1, 2), model.spec)
        with torch.no_grad():
            probs = model.probs(model.backbone(x)).mean(0)
        right.append(model.labels[int(probs.argmax())] == clip.example.label)
    assert model.record.figures["accuracy"] == pytest.approx(np.mean(right))


def agreeing(mean_ap: float | None, model: TrainedModel | None = None) -> TrainedModel:
    model = model or small_3d_model()
    shared = SharedAgreement(mean_ap, 0.1, 5, 20, 10.0, STRIDE)
    return replace(model, record=replace(model.record, shared=shared))


@pytest.mark.parametrize(
    ("mean_ap", "hop_s", "engine", "shared", "why"),
    [
        (0.98, 0.5, "auto", True, "agrees with whole windows at mAP 0.980 at 1 s"),
        (1.0, 0.5, "torch", True, "mAP 1.000"),
        (0.9799, 0.5, "auto", False, "mAP 0.979 at 1 s (at least 0.98)"),
        (None, 0.5, "auto", False, "no events were found"),
        (1.0, None, "auto", False, "a hop of 0.25 s is not a multiple of 0.5 s"),
        (1.0, 0.5, "onnxruntime", False, "onnxruntime runs nothing else"),
    ],
)
def test_auto_follows_the_stored_agreement(
    mean_ap: float | None, hop_s: float | None, engine: str, shared: bool, why: str
) -> None:
    model = agreeing(mean_ap)
    chosen = choose_mode(model, "auto", hop_s=hop_s, engine=engine)
    assert chosen.shared == shared
    assert why in chosen.why
    for mode in ("windows", "shared"):
        asked = choose_mode(model, mode, hop_s=hop_s, engine=engine)
        assert (asked.shared, asked.why) == (mode == "shared", "")
    if engine != "onnxruntime":
        scorer = Scorer(model, device="cpu", hop_s=hop_s, engine=engine)
        assert (scorer.shared, scorer.why) == (shared, chosen.why)


def test_auto_without_a_figure_scores_whole_windows_and_single_frames_are_shared() -> None:
    assert "was not measured" in choose_mode(small_3d_model(), "auto", hop_s=0.5).why
    frames = choose_mode(brightness_model(), "auto")
    assert (frames.shared, frames.why) == (True, "")


@pytest.mark.parametrize(("mean_ap", "way"), [(0.981, "shared"), (0.979, "windows")])
def test_detect_says_which_way_it_takes_and_scores_in_that_way(
    labels: Path, tmp_path: Path, mean_ap: float, way: str
) -> None:
    path, footage = tmp_path / "model.safetensors", labels.parent / "run_0_0.mkv"
    save_checkpoint(path, agreeing(mean_ap))
    scores = {}
    for mode in ("auto", way):
        out = tmp_path / mode
        done = CliRunner().invoke(
            app,
            ["detect", str(footage), "--model", str(path), "--hop", "0.5", "--mode", mode,
             "-o", str(out), "--device", "cpu", "--no-report"],
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        said = [x for x in done.output.splitlines() if x.startswith("auto ")]
        assert len(said) == (mode == "auto")
        if said:
            assert f"mAP {mean_ap:.3f}" in said[0]
            assert ("whole windows:" in said[0]) == (way == "windows")
        scores[mode] = (out / "run_0_0" / "scores.npz").read_bytes()
    assert scores["auto"] == scores[way]


@pytest.mark.parametrize(
    ("field", "value"),
    [("mean_ap", 1.5), ("mean_ap", "high"), ("largest_difference", -0.1), ("stride", 0),
     ("footage_s", 0.0), ("windows", 2.5)],
)  # fmt: skip
def test_a_stored_agreement_is_checked_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, value: Any
) -> None:
    from touchline.models import checkpoint

    def spoilt(record: Any) -> str:
        found = json.loads(written(record))
        found["shared"][field] = value
        return json.dumps(found)

    written = checkpoint.record_text
    monkeypatch.setattr(checkpoint, "record_text", spoilt)
    save_checkpoint(tmp_path / "model.safetensors", agreeing(1.0))
    with pytest.raises(CheckpointError, match=rf"damaged Touchline checkpoint \(.*{field}"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_a_network_without_background_is_tuned_too(labels: Path) -> None:
    model = replace(small_3d_model(2), has_background=False)
    model.backbone.head.linear.weight.data *= 100
    clips = [
        replace(clip, example=replace(clip.example, label="class 1"))
        for clip in load_clips(val_examples(labels), model.spec).clips
    ]
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    tuned = tune_on_shared(model, clips, device="cpu", precision="float32")
    for key, value in model.backbone.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    found = measure_agreement(tuned, join_clips(tuned, clips), device="cpu", precision="float32")
    assert np.isfinite(found.largest_difference)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--backbone", "cnn_lstm_lite0"], "windows share its features exactly"),
        (["--backbone", "x3d_s"], "slides in time"),
        (["--backbone", "motion_net", "--val-share", "0"], "validation clips"),
        (["--backbone", "motion_net", "--sampling", "uniform"], "--sampling dense"),
    ],
)
def test_dense_is_refused_where_it_can_do_nothing(
    labels: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = CliRunner().invoke(
        app, ["train", str(labels), "-o", str(tmp_path / "run"), "--dense", *arguments]
    )
    assert done.exit_code != 0
    assert told in (done.output + str(done.exception))
    assert not (tmp_path / "run").exists()
