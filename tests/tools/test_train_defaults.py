"""Training without --backbone: a network whose weights pip has installed, and a fitted head."""

import csv
import json

import pytest
from tiny import write_levels
from typer.testing import CliRunner

from touchline.models.checkpoint import load_checkpoint
from touchline.tools.cli import app


def labels_of_two_classes(folder):
    rows = []
    for n in range(4):
        for label, level in (("bright", 220), ("dark", 30)):
            path = write_levels(folder / f"{label}{n}.mp4", [level + 2 * n] * 16)
            rows.append(
                {
                    "video": path.name,
                    "label": label,
                    "start_s": "",
                    "end_s": "",
                    "group": f"match {n}",
                }
            )
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["video", "label", "start_s", "end_s", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "labels.csv"


def test_train_with_labels_alone_fits_a_head_to_installed_weights(tmp_path):
    labels = labels_of_two_classes(tmp_path)
    run = tmp_path / "run"
    result = CliRunner().invoke(
        app, ["train", str(labels), "-o", str(run), "--size", "64", "--num-frames", "4"]
    )
    assert result.exit_code == 0, result.output
    assert "efficientnet_lite0-imagenet" in result.output
    model = load_checkpoint(run / "model.safetensors")
    assert model.architecture == "cnn_lstm_lite0"
    assert (model.backbone.head_spec.kind, model.backbone.head_spec.mirror) == ("linear", True)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["heads"][0]["balanced_accuracy"] == 1.0


def test_weights_need_the_network_that_they_are_made_for(tmp_path):
    labels = labels_of_two_classes(tmp_path)
    with pytest.raises(ValueError, match="--weights needs --backbone"):
        CliRunner().invoke(
            app,
            ["train", str(labels), "-o", str(tmp_path / "run"), "--weights", "some.safetensors"],
            catch_exceptions=False,
        )
