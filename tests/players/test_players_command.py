"""`touchline players`: the figures it prints, its answers, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_players import looks, write_photos

from touchline.models.checkpoint import save_checkpoint


@pytest.fixture
def model(trained, tmp_path) -> Path:
    path = tmp_path / "players.safetensors"
    save_checkpoint(path, trained.model)
    return path


def test_train_prints_the_figures_and_writes_the_model(run, photos, tmp_path, capsys):
    out = tmp_path / "players.safetensors"
    assert run("train", photos, "-o", out, "--json", "--crop", "none", "--device", "cpu") == 0
    figures = json.loads(capsys.readouterr().out)
    assert out.is_file()
    assert set(figures["per_player"]) == {f"player {k:02d}" for k in range(1, 5)}
    assert figures["photos"] == figures["sets_of_look_alikes"] == 24
    assert figures["accuracy"]["low"] <= figures["accuracy"]["value"]
    assert figures["named"] <= 24


def test_name_answers_every_photo_and_exits_1_for_a_broken_one(
    run, model, photos, tmp_path, capsys
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    whole = photos / "player 01" / "000.jpg"
    code = run("name", broken, whole, "--model", model, "--json")
    printed = capsys.readouterr()
    assert code == 1
    assert str(broken) in printed.err.replace("\n", "")
    first, second = json.loads(printed.out)
    assert "not a picture" in first["error"]
    assert second["photo"] == str(whole)
    assert second["player"] in ("player 01", None)


def test_name_takes_a_folder_and_prints_a_table(run, model, photos, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert run("name", photos / "player 02", "--model", model) == 0
    printed = capsys.readouterr().out
    assert printed.count(".jpg") == 6
    assert "player 02" in printed


@pytest.mark.parametrize("what", ["one player", "no folder", "text files", "empty"])
def test_bad_folders_exit_with_1_and_keep_the_old_model(run, tmp_path, capsys, what):
    folder = tmp_path / "photos"
    if what == "one player":
        write_photos(folder, looks(1), 2)
    elif what == "text files":
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
            (folder / name / "notes.txt").write_text("x")
    elif what == "empty":
        folder.mkdir()
    out = tmp_path / "players.safetensors"
    out.write_bytes(b"the old model")
    assert run("train", folder, "-o", out, "--crop", "none") == 1
    assert str(folder) in capsys.readouterr().err.replace("\n", "")
    assert out.read_bytes() == b"the old model"


def test_an_empty_folder_to_name_is_an_error(run, model, tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert run("name", tmp_path / "none", "--model", model) == 1
    assert "holds no file" in capsys.readouterr().err


def test_a_missing_model_is_an_error(run, photos, tmp_path, capsys):
    missing = tmp_path / "nothing.safetensors"
    assert run("name", photos / "player 01", "--model", missing) == 1
    assert "no such checkpoint" in capsys.readouterr().err
