"""The command `touchline train`, from labels to the run folder, on clips made here."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import touchline
from safetensors.torch import save_file
from train_material import coloured, tiny_backbone, write_clips, write_footage

from touchline.models import catalog
from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import load_checkpoint
from touchline.pipeline.labels.split import split_by_group
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import label_warnings, prepare, resolve_freeze, window_rate_hz
from touchline.pipeline.runs.run import SNAPSHOT_FILE
from touchline.pipeline.types import Example
from touchline.tools import cli

pytestmark = pytest.mark.usefixtures("one_thread", "tiny")

QUICK = ["--epochs", "2", "--batch-size", "4", "-q"]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_clips(tmp_path, ("blue", "red"))


@pytest.fixture
def match(tmp_path: Path) -> Path:
    """Two matches of 20 s, a red second at 5 s and a blue one at 12 s, and their labels."""
    rows = ["video,label,start_s,end_s,group"]
    for name in ("A", "B"):
        pictures = coloured("background", 80, seed=ord(name))
        pictures[20:24] = coloured("red", 4, seed=1)
        pictures[48:52] = coloured("blue", 4, seed=2)
        write_footage(tmp_path / f"{name}.mkv", pictures)
        rows += [f"{name}.mkv,red,5,6,{name}", f"{name}.mkv,blue,12,13,{name}"]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def train(*arguments: object) -> None:
    cli.app(["train", *(str(a) for a in arguments)], standalone_mode=False)


def failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> str:
    """The one line that the command ends with, exit code 1."""
    assert touchline(monkeypatch, "train", *arguments) == 1
    lines = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("warning:")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


# Ctrl-C, and what SIGTERM becomes in tools/cli.py.
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=str)
def test_a_run_that_was_stopped_says_how_to_go_on(
    stop: BaseException,
    labels: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stopped(*_: object, **__: object) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / SNAPSHOT_FILE).touch()
        raise stop

    monkeypatch.setattr("touchline.pipeline.runs.run.run_training", stopped)
    words = ["train", labels, "-o", tmp_path / "run", "--backbone", "tiny", *QUICK]
    assert touchline(monkeypatch, *words) == (130 if isinstance(stop, KeyboardInterrupt) else 143)
    assert "repeat the command with --resume" in capsys.readouterr().err


def test_labels_become_a_run_folder(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    crops = ["--min-area", 0.9]
    train(labels, "-o", out, "--backbone", "tiny", "--val-groups", "match_3", *crops, *QUICK[:-1])
    shown = capsys.readouterr()
    assert "starting from random weights (nothing is pretrained)" in shown.out
    assert "train: 12 clips of 3 groups" in shown.out
    assert "no background examples" in shown.err

    model = load_checkpoint(out / "model.safetensors")
    assert model.labels == ("background", "blue", "red")
    assert model.architecture == "tiny"
    assert not model.has_background

    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    assert metrics["groups"] == {
        "train": ["match_0", "match_1", "match_2"],
        "val": ["match_3"],
        "excluded": [],
        "earlier": [],
    }
    figures = metrics["figures"]
    matrix = np.array(figures["confusion_matrix"])
    assert matrix.sum(axis=1).tolist() == [0, 2, 2]  # rows are the truth
    assert figures["accuracy"] == pytest.approx(np.trace(matrix) / 4)
    assert figures["per_class"]["red"]["clips"] == 2
    assert [row["stage"] for row in metrics["stages"]] == ["first", "second", "third", "head"]
    assert [row["epoch"] for row in metrics["history"]] == [1, 2]
    assert metrics["job"]["options"]["augmentation"]["min_area"] == 0.9
    assert metrics["precision"] in ("float32", "bf16")
    assert model.record.figures == figures
    assert {p.name for p in out.iterdir()} == {
        "confusion.png",
        "curves.png",
        "metrics.json",
        "model.safetensors",
        "suspects.csv",
        "suspects.html",
    }


def test_excluded_groups_are_neither_trained_nor_validated_on(labels: Path) -> None:
    job = TrainJob(labels, "tiny", val_groups=("match_3",), exclude_groups=("match_0",))
    _, split, _ = prepare(job)
    assert {e.group for e in split.train} == {"match_1", "match_2"}
    assert {e.group for e in split.excluded} == {"match_0"}


def test_verified_stretches_are_no_class_and_say_where_background_is(match: Path) -> None:
    with match.open("a") as file:
        file.write("A.mkv,verified,0,3,A\n")
    model, split, _ = prepare(TrainJob(match, "tiny", val_groups=("B",), background_ratio=9.0))
    assert model.labels == ("background", "blue", "red")
    negatives = [e for e in (*split.train, *split.val) if e.label == "background"]
    assert negatives
    for e in negatives:
        assert e.group == "A"
        assert e.end_s is not None
        assert e.end_s <= 3


def test_unlabelled_time_of_long_footage_becomes_background(match: Path) -> None:
    model, split, _ = prepare(TrainJob(match, "tiny", val_groups=("B",), background_ratio=2.0))
    assert model.labels == ("background", "blue", "red")
    for part, group in ((split.train, "A"), (split.val, "B")):
        negatives = [e for e in part if e.label == "background"]
        assert len(negatives) == 4
        for e in negatives:
            assert e.group == group
            assert e.start_s is not None
            assert e.end_s is not None
            # 2 s away from 5..6 and 12..13.
            assert e.end_s <= 3 or 8 <= e.start_s < e.end_s <= 10 or e.start_s >= 15


def test_background_ratio_zero_makes_no_negatives(match: Path) -> None:
    _, split, _ = prepare(TrainJob(match, "tiny", val_groups=("B",), background_ratio=0.0))
    assert {e.label for e in (*split.train, *split.val)} == {"blue", "red"}


def test_eventless_footage_is_all_background_and_all_for_training(
    labels: Path, tmp_path: Path
) -> None:
    write_footage(tmp_path / "quiet.mkv", coloured("background", 14, seed=0))
    job = TrainJob(labels, "tiny", val_groups=("match_3",), background=(tmp_path / "quiet.mkv",))
    _, split, _ = prepare(job)
    negatives = [e for e in split.train if e.label == "background"]
    # 3.5 s hold three windows of 1 s, a quarter of a second free at both ends.
    assert [(e.start_s, e.end_s) for e in negatives] == [(0.25, 1.25), (1.25, 2.25), (2.25, 3.25)]
    assert not any(e.label == "background" for e in split.val)


def test_a_class_can_be_named_as_background(labels: Path) -> None:
    model, split, _ = prepare(TrainJob(labels, "tiny", background_label="blue"))
    assert model.labels == ("background", "red")
    assert {e.label for e in split.train} == {"background", "red"}


def test_flips_are_off_where_a_class_names_a_side(tmp_path: Path) -> None:
    labels = write_clips(tmp_path, ("blue", "red"))
    _, _, job = prepare(TrainJob(labels, "tiny"))
    assert job.options.augmentation is not None
    assert job.options.augmentation.flip
    labels.write_text(labels.read_text().replace(",red,", ",shot left,"))
    _, _, job = prepare(TrainJob(labels, "tiny"))
    assert job.options.augmentation is not None
    assert not job.options.augmentation.flip


def test_the_same_clip_on_both_sides_is_warned_about(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["video,label,start_s,end_s,group"]
    blocks = {
        k: rng.integers(0, 255, (8, 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        for k in range(3)
    }
    for name, block, group in (("a", 0, "A"), ("b", 1, "A"), ("c", 0, "B"), ("d", 2, "B")):
        write_footage(tmp_path / f"{name}.mkv", [blocks[block]] * 4)
        rows.append(f"{name}.mkv,{'card' if name == 'b' else 'goal'},,,{group}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    _, split, _ = prepare(TrainJob(tmp_path / "labels.csv", "tiny", val_groups=("B",)))
    (warning,) = label_warnings(split, max_clip_s=None)
    assert "line 2 in training" in warning
    assert "line 4 in validation show almost the same" in warning


def test_clip_lengths_are_warned_about_unless_cut_alike(tmp_path: Path) -> None:
    rows = ["video,label,start_s,end_s,group"]
    for k in range(24):
        label = ("blue", "red")[k % 2]
        write_footage(tmp_path / f"{k}.mkv", coloured(label, 4 + 4 * (k % 2), seed=k))
        rows.append(f"{k}.mkv,{label},,,match_{k % 4 // 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    _, split, _ = prepare(TrainJob(tmp_path / "labels.csv", "tiny", val_groups=("match_0",)))
    lengths = [w for w in label_warnings(split, max_clip_s=None) if "clip length" in w]
    assert len(lengths) == 1
    assert "train with --max-clip SECONDS" in lengths[0]
    assert not [w for w in label_warnings(split, max_clip_s=1.0) if "clip length" in w]


def test_clips_without_matches_are_warned_about(tmp_path: Path) -> None:
    rows = ["video,label,start_s,end_s"]
    for k in range(4):
        label = ("blue", "red")[k % 2]
        write_footage(tmp_path / f"{k}.mkv", coloured(label, 4, seed=k))
        rows.append(f"{k}.mkv,{label},,")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    _, split, _ = prepare(TrainJob(tmp_path / "labels.csv", "tiny", val_groups=("2.mkv", "3.mkv")))
    told = label_warnings(split, max_clip_s=None)
    assert "the labels name no match (group), so each of the 4 files counts as a match" in told[0]


@pytest.mark.parametrize(
    ("freeze", "pretrained", "stages"),
    [
        (None, True, 3),
        (None, False, 0),
        ("trunk", False, 3),
        ("second", True, 2),
        ("0", True, 0),
        ("3", True, 3),
    ],
)
def test_freeze_by_number_name_or_trunk(freeze: str | None, pretrained: bool, stages: int) -> None:
    assert resolve_freeze(freeze, tiny_backbone(2).stage_names, pretrained=pretrained) == stages


def test_a_run_starts_from_weights_and_freezes_them(labels: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    image_net = catalog.build_backbone("cnn_lstm", 2)
    state = {
        "features." + key.split(".", 2)[2]: value.contiguous()
        for key, value in image_net.state_dict().items()
        if key.startswith("stages.")
    }
    save_file(state, tmp_path / "weights.safetensors")
    out = tmp_path / "run"
    arguments = ["--backbone", "cnn_lstm", "--weights", tmp_path / "weights.safetensors"]
    sampling = ["--num-frames", "2", "--rate", "2", "--size", "32", "--val-groups", "match_3"]
    train(labels, "-o", out, *arguments, *sampling, *QUICK)
    model = load_checkpoint(out / "model.safetensors")
    assert model.backbone.num_frozen == 9
    for key, value in image_net.stages.state_dict().items():
        assert torch.equal(model.backbone.stages.state_dict()[key], value), key
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["job"]["weights_sha256"]) == 64


def test_warnings_name_clips_that_were_skipped(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "red_0_0.mkv").write_text("no video")
    train(labels, "-o", tmp_path / "run", "--backbone", "tiny", "--max-bad", "1", *QUICK)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "skipped" in x]
    assert "red_0_0.mkv: a text file, not a video" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.csv"], "gone.csv: no such file"),
        (["no_label.csv"], "no_label.csv"),
        (["backwards.csv"], "backwards.csv: line 2: the end 1 s is before 2 s"),
        (["labels.csv", "--val-groups", "match_9"], "'match_9', which no example has"),
        (["labels.csv", "--background-label", "bleu"], "'bleu' is no class. Did you mean 'blue'?"),
        (["labels.csv", "--background", "gone.mp4"], "gone.mp4: no such file"),
        (["labels.csv", "--freeze", "secnd"], "Did you mean 'second'?"),
        (["labels.csv", "--freeze", "4"], "freeze is '4'; it must be 0 to 3"),
        (["labels.csv", "--unfreeze-at", "third"], "--unfreeze-at is 'third'; it must be EPOCH:"),
        (["labels.csv", "--freeze", "3", "--unfreeze-at", "1:thrid"], "Did you mean 'third'?"),
        (["labels.csv", "--unfreeze-at", "1:third"], "must free more stages each time"),
        (["labels.csv", "--hard-negatives", "other.safetensors"], "not a Touchline checkpoint"),
        (["labels.csv", "--balance", "weigths"], "balance is 'weigths'"),
        (["labels.csv", "--min-area", "0"], "--min-area is 0.0; it must be in (0, 1]"),
        (["labels.csv", "--backbone", "tinny"], "Did you mean 'tiny'?"),
        (["labels.csv", "--size", "8"], "16 to 2048 px"),
        (["bad_clip.csv"], "text.mp4: a text file, not a video"),
        (["one_match.csv"], "all 16 examples are of one match"),
        (["one_class.csv"], "every training example is 'red', but training needs two classes"),
        (["labels.csv", "--max-clip", "0"], "--max-clip is 0.0; it must be more than 0"),
        (["labels.csv", "--backbone", "cnn_lstm", "--weights", "gone.pt"], "no such weights file"),
        (
            ["labels.csv", "--backbone", "cnn_lstm", "--weights", "other.safetensors"],
            "other.safetensors: not weights for cnn_lstm",
        ),
        (
            ["labels.csv", "--backbone", "cnn_lstm", "--weights", "text.safetensors"],
            "text.safetensors: a damaged safetensors file",
        ),
    ],
)
def test_a_bad_input_is_one_line_that_names_it(
    labels: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(labels.parent)
    files = {
        "no_label.csv": "video,start_s,end_s\nred_0_0.mkv,,\n",
        "backwards.csv": "video,label,start_s,end_s\nred_0_0.mkv,red,2,1\n",
        "bad_clip.csv": labels.read_text() + "text.mp4,red,,,match_0\n",
        "one_match.csv": re.sub("match_.", "A", labels.read_text()),
        "one_class.csv": re.sub("blue_.*\n", "", labels.read_text()),
        "text.mp4": "no video",
        "text.safetensors": "no weights",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    save_file({"encoder.weight": torch.ones(1)}, "other.safetensors")
    backbone = [] if "--backbone" in arguments else ["--backbone", "tiny"]
    line = failed(capsys, monkeypatch, *arguments, "-o", "run", *backbone, *QUICK)
    assert message in line
    assert not Path("run").exists()


def test_events_out_of_the_picture_are_neither_examples_nor_background(match: Path) -> None:
    halves = {
        "UrlLocal": "A",
        "annotations": [
            {"gameTime": "1 - 00:05", "label": "red", "position": "5500", "visibility": "visible"},
            {
                "gameTime": "1 - 00:12",
                "label": "red",
                "position": "12500",
                "visibility": "not shown",
            },
        ],
    }
    folder = match.parent / "game"
    folder.mkdir()
    (match.parent / "A.mkv").rename(folder / "1_224p.mkv")
    (folder / "Labels-v2.json").write_text(json.dumps(halves))
    _, split, _ = prepare(TrainJob(folder / "Labels-v2.json", "tiny", val_share=0.0))
    assert [e.start_s for e in split.train if e.label == "red"] == [5.5]
    for e in split.train:
        if e.label == "background":
            assert e.start_s is not None
            assert not 9.5 < e.start_s < 14.5


def test_stages_are_freed_by_name(labels: Path) -> None:
    job = TrainJob(labels, "tiny", freeze="trunk", unfreeze=((2, "third"), (4, "first")))
    _, _, resolved = prepare(job)
    assert resolved.options.freeze == 3
    assert resolved.options.unfreeze == ((2, 2), (4, 0))


def test_overlapping_labels_are_true_together_when_asked(
    match: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with match.open("a") as file:
        file.write("A.mkv,any,5,6,A\nB.mkv,any,5,6,B\nA.mkv,any,12,13,A\n")
    out = tmp_path / "run"
    train(match, "-o", out, "--backbone", "tiny", "--multi-label", "--val-groups", "B", *QUICK[:-1])
    assert "mean AP" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    # In B: red and any at 5 s, blue at 12 s, and one background stretch per event, three.
    clips = {label: row["clips"] for label, row in metrics["figures"]["per_class"].items()}
    assert clips == {"background": 3, "any": 1, "blue": 1, "red": 1}
    assert load_checkpoint(out / "model.safetensors").multi_label
    assert not (out / "confusion.png").exists()


def test_what_is_cached_changes_nothing(labels: Path, tmp_path: Path) -> None:
    states = []
    for k in range(3):
        cache = [] if k == 0 else ["--cache", tmp_path / "cache"]
        out = tmp_path / f"run{k}"
        train(labels, "-o", out, "--backbone", "tiny", "--freeze", "2", *cache, *QUICK)
        states.append(load_checkpoint(out / "model.safetensors").backbone.state_dict())
    for other in states[1:]:
        assert all(torch.equal(v, other[k]) for k, v in states[0].items())


def test_figures_go_to_tensorboard_where_it_is_there(labels: Path, tmp_path: Path) -> None:
    name = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(name, reason="extra tensorboard")
    out = tmp_path / "run"
    train(labels, "-o", out, "--backbone", "tiny", "--tensorboard", *QUICK)
    log = reader.EventAccumulator(str(out / "tensorboard")).Reload()
    history = json.loads((out / "metrics.json").read_text())["history"]
    assert [e.step for e in log.Scalars("loss")] == [1, 2]
    assert [e.value for e in log.Scalars("loss")] == pytest.approx([r["loss"] for r in history])


def test_how_pictures_become_square_goes_into_the_model(labels: Path, tmp_path: Path) -> None:
    for fit in ("crop", "squash", "pad"):
        train(labels, "-o", tmp_path / fit, "--backbone", "tiny", "--fit", fit, *QUICK)
        assert load_checkpoint(tmp_path / fit / "model.safetensors").spec.fit == fit


def test_a_split_never_divides_a_match(labels: Path) -> None:
    _, split, _ = prepare(TrainJob(labels, "tiny", val_share=0.5))
    assert not {e.group for e in split.train} & {e.group for e in split.val}
    with pytest.raises(ValueError, match="is in --val-groups and in --exclude-groups"):
        split_by_group(split.train, val_groups=["match_0"], exclude_groups=["match_0"])


@pytest.mark.parametrize(
    ("options", "held_out"),
    [
        ({"head": "auto"}, False),
        ({"head": "frame"}, False),
        ({"head": "frame", "val_share": 0.2}, True),
        ({"head": "frame", "val_groups": ("match_0",)}, True),
        ({"head": "frame", "background": ()}, True),
        ({"head": "frame", "multi_label": True}, True),
        ({"head": "linear"}, True),
        ({"head": "own"}, True),
    ],
)
def test_a_frame_head_learns_from_all_matches_unless_validation_is_asked_for(
    labels: Path, tmp_path: Path, options: dict[str, Any], held_out: bool
) -> None:
    write_footage(tmp_path / "quiet.mkv", coloured("background", 14, seed=0))
    job = TrainJob(labels, "cnn_lstm", freeze="trunk", background=(tmp_path / "quiet.mkv",))
    _, split, _ = prepare(replace(job, **options))
    assert bool(split.val) == held_out
    assert len({e.group for e in split.train} - {"quiet"}) == (3 if held_out else 4)


def test_a_fitted_head_leaves_its_comparison_and_a_model_that_loads(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(labels, "-o", out, "--backbone", "tiny", "--freeze", "trunk", "--head", "auto")
    printed = " ".join(capsys.readouterr().out.split())
    assert "heads, by cross-validation over matches" in printed
    metrics = json.loads((out / "metrics.json").read_text())
    for name, clips in (("cross-validation", 12), ("validation", 4)):
        row = metrics["summary"]["accuracy"][name]
        assert row["clips"] == clips
        assert re.search(rf"{name} {row['value']:.2f} \S.* {clips} {row['matches']}\b", printed)
    assert metrics["summary"]["label_next"]["sentence"] in printed
    assert f"next: touchline calibrate {out}/model.safetensors {labels} --groups val" in printed
    assert [point["share"] for point in metrics["summary"]["learning_curve"]] == [0.25, 0.5, 1.0]
    assert metrics["figures"]["accuracy"] >= 0.75  # features of a random trunk; chance is 0.5
    assert metrics["stopped"] == "solved"
    with (out / "heads.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pooling"] for row in rows] == [row["pooling"] for row in metrics["heads"]]
    losses = [float(row["log_loss"]) for row in rows]
    assert losses == sorted(losses)
    model = load_checkpoint(out / "model.safetensors")
    assert model.backbone.head_spec.pooling == rows[0]["pooling"]
    assert model.record.groups.train


def test_a_wrong_label_is_the_first_suspect(labels: Path, tmp_path: Path) -> None:
    text = labels.read_text()
    labels.write_text(text.replace("blue_1_0.mkv,blue", "blue_1_0.mkv,red"))
    run = (labels, "-o", tmp_path / "run", "--backbone", "tiny", "--freeze", "trunk", "-q")
    train(*run, "--head", "linear", "--val-groups", "match_3")
    with (tmp_path / "run" / "suspects.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["video"], first["label"], first["group"]) == ("../blue_1_0.mkv", "red", "match_1")
    assert first["predicted"] == "blue"
    assert float(first["predicted_prob"]) > 0.5 > float(first["label_prob"])
    page = (tmp_path / "run" / "suspects.html").read_text(encoding="utf-8")
    assert page.index("blue_1_0.mkv") < page.index("</li>")
    # Nothing answers clips without their match any more, so there is nothing to list.
    train(*run, "--head", "own", "--val-share", 0, "--epochs", 1, "--overwrite")
    assert not list((tmp_path / "run").glob("suspects.*"))


def test_only_where_nothing_is_measured_is_it_warned_of(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = (labels, "--backbone", "tiny", "--freeze", "trunk", "--val-share", 0, "-q")
    for head, warned in (("own", True), ("linear", False)):
        train(*run, "-o", tmp_path / head, "--head", head, "--epochs", 1)
        assert ("no validation groups" in capsys.readouterr().err) == warned


def test_the_learning_curve_is_left_out_if_time_is_up(labels: Path, tmp_path: Path) -> None:
    run = (labels, "--backbone", "tiny", "--freeze", "trunk", "--head", "linear", "-q")
    run = (*run, "--cache", tmp_path / "cache", "--val-share", 0)
    train(*run, "-o", tmp_path / "first")
    train(*run, "-o", tmp_path / "run", "--max-seconds", 0.001)
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())["summary"]
    assert summary["learning_curve"] == []
    assert summary["label_next"]["recall_with_half"] is None
    assert summary["accuracy"]["cross-validation"]["clips"] == 16


@pytest.mark.parametrize("head", ["own", "linear"])
@pytest.mark.parametrize("val_share", [0, 0.25])
def test_a_time_limit_that_ends_before_training_is_an_error(
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    head: str,
    val_share: float,
) -> None:
    run = (labels, "-o", tmp_path / "run", "--backbone", "tiny", "--freeze", "trunk", "-q")
    limit = ("--max-seconds", 0.001, "--val-share", val_share)
    told = failed(capsys, monkeypatch, *run, "--head", head, *limit)
    assert told.startswith("error: nothing was trained. The time limit is 0.001 s, and ")
    assert "Raise --max-seconds" in told
    assert "--cache FOLDER keeps what is done" in told
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_fine_tuning_from_a_fitted_head_has_a_row_that_says_why(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(labels, "-o", out, "--backbone", "tiny", "--freeze", "2", "--head", "auto")
    metrics = json.loads((out / "metrics.json").read_text())
    tuned = [row for row in metrics["heads"] if row["trunk"] == "fine-tuned"]
    assert len(tuned) == 1
    assert tuned[0]["note"].startswith("fine-tuned last stages: log loss ")
    printed = " ".join(capsys.readouterr().out.split())
    assert tuned[0]["note"] in printed
    with (out / "heads.csv").open() as file:
        rows = list(csv.DictReader(file))
    kept = tuned[0]["note"].endswith(": kept")
    assert [row["trunk"] for row in rows[:2]] == (
        ["fine-tuned", "frozen"] if kept else ["frozen", "fine-tuned"]
    )
    stages = {row["stage"]: row["frozen"] for row in metrics["stages"]}
    assert stages == {"first": True, "second": True, "third": not kept, "head": False}
    assert load_checkpoint(out / "model.safetensors").backbone.num_frozen == (2 if kept else 3)


def test_heads_that_cannot_be_fine_tuned_refuse_trained_stages(
    labels: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = (labels, "-o", tmp_path / "run", "--backbone", "tiny", "-q")
    told = failed(capsys, monkeypatch, *run, "--freeze", "1", "--head", "frame")
    assert "--head frame is fitted to a trunk that stays frozen" in told
    assert "Use --freeze trunk, or --head linear" in told
    told = failed(capsys, monkeypatch, *run, "--freeze", "0", "--head", "linear")
    assert "no stage is frozen and the weights are random" in told
    told = failed(capsys, monkeypatch, *run, "--freeze", "trunk", "--head", "forest")
    assert "head is 'forest'. Use one of own, linear, frame, temporal, auto" in told


def test_windows_of_a_fitted_head_are_as_long_as_the_clips() -> None:
    spec = ClipSpec(num_frames=16, rate_hz=8.0, size_px=32)

    def rate_hz(*lengths_s: float, max_clip_s: float | None = None) -> float:
        examples = [Example(Path("m.mp4"), "goal", "A", 5.0, 5.0 + s) for s in lengths_s]
        return window_rate_hz(examples, spec, max_clip_s=max_clip_s)

    assert rate_hz(4.0, 4.0, 60.0) == 4.0
    assert rate_hz(60.0, max_clip_s=4.0) == 4.0
    assert rate_hz(1.0) == 8.0  # never more than the network's own rate
    assert rate_hz(60.0) == 2.0  # never fewer than two frames per second
    assert rate_hz(0.0) == 8.0  # instants say nothing about lengths
