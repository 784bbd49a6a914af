"""Training that begins with what an earlier run left, and what it hands on to the next."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from train_material import write_clips

from touchline.models.checkpoint import load_checkpoint
from touchline.pipeline.calibration.calibrate import refuse_trained
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.runs import prepare, run
from touchline.pipeline.scoring.seen_groups import unseen_examples
from touchline.pipeline.training import finetune
from touchline.pipeline.training.optimize import BudgetClock
from touchline.pipeline.training.snapshot import save_snapshot
from touchline.tools import cli

pytestmark = pytest.mark.usefixtures("one_thread", "tiny")

QUICK = ["--backbone", "tiny", "--epochs", "1", "--batch-size", "4", "-q"]


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_clips(tmp_path, ("blue", "red"))


def train(labels: Path, out: Path, *arguments: object) -> Path:
    """The model that the command leaves in OUT."""
    given = [*map(str, arguments), *QUICK]
    cli.app(["train", str(labels), "-o", str(out), *given], standalone_mode=False)
    return out / "model.safetensors"


def test_what_weights_were_trained_on_is_remembered_from_run_to_run(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(labels, tmp_path / "1", "--val-groups", "match_3")
    only_1 = ["--exclude-groups", "match_2,match_3"]
    second = train(labels, tmp_path / "2", "--weights", first, "--val-groups", "match_0", *only_1)
    shown = capsys.readouterr().err
    assert "weights were trained on match_0, so validation on them is too optimistic" in shown
    third = train(labels, tmp_path / "3", "--weights", second, "--val-groups", "match_3")
    assert "too optimistic" not in capsys.readouterr().err

    for out in ("2", "3"):
        groups = json.loads((tmp_path / out / "metrics.json").read_text())["groups"]
        assert groups["earlier"] == ["match_0", "match_1", "match_2"]
    for path in (second, third):
        model = load_checkpoint(path)
        unseen, left_out = unseen_examples(model, read_labels(labels))
        assert {example.group for example in unseen} == {"match_3"}
        assert left_out == ["match_0", "match_1", "match_2"]
        with pytest.raises(ValueError, match="the model was trained on match_0"):
            refuse_trained(model, ["match_0"])


def test_a_finished_model_is_replaced_only_on_request(labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train(labels, out).read_bytes()
    for more in ([], ["--resume"]):
        with pytest.raises(ValueError, match=r"run holds a trained model already\. .* --overwrite"):
            train(labels, out, "--lr", "0.1", *more)
    assert (out / "model.safetensors").read_bytes() == first
    assert train(labels, out, "--lr", "0.1", "--overwrite").read_bytes() != first


def test_the_budget_counts_what_goes_before_training(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[float] = []

    def compare(*_: object, **__: object) -> list[str]:
        time.sleep(0.2)
        return []

    def run_training(*_: object, already_s: float, **__: object) -> None:
        told.append(already_s)
        raise InterruptedError

    monkeypatch.setattr(prepare, "label_warnings", compare)
    monkeypatch.setattr(run, "run_training", run_training)
    with pytest.raises(InterruptedError):
        train(labels, tmp_path / "run")
    assert told[0] >= 0.2


class KilledError(Exception):
    pass


def test_a_killed_run_is_gone_on_with_on_request(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    arguments = [labels, out, "--val-groups", "match_3"]

    def kept_then_killed(*args: Any, **options: Any) -> None:
        save_snapshot(*args, **options)
        raise KilledError

    with monkeypatch.context() as killing:
        killing.setattr(finetune, "save_snapshot", kept_then_killed)
        killing.setattr(BudgetClock, "due", lambda *_: True)
        with pytest.raises(KilledError):
            train(*arguments)
    assert [p.name for p in out.iterdir()] == ["snapshot.safetensors"]
    with pytest.raises(
        ValueError, match=r"holds an unfinished run\. Continue it with --resume, or delete"
    ):
        train(*arguments)
    train(*arguments, "--resume")
    assert not (out / "snapshot.safetensors").exists()
    assert (out / "model.safetensors").exists()


def test_resuming_where_no_run_is_says_that_a_new_one_starts(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(labels, out, "--resume")
    told = " ".join(capsys.readouterr().err.split())
    assert f"{out} holds no unfinished run, so --resume starts a new one" in told
    assert (out / "model.safetensors").exists()


@pytest.mark.parametrize(("head", "told"), [("linear", True), ("own", False)])
def test_options_of_the_training_loop_are_reported_where_it_does_not_run(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], head: str, told: bool
) -> None:
    frozen = train(labels, tmp_path / "first", "--val-groups", "match_3")
    capsys.readouterr()
    given = ["--weights", frozen, "--freeze", "trunk", "--head", head, "--mixup", "0.2"]
    train(labels, tmp_path / "second", "--val-groups", "match_3", *given)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "no effect: --epochs, --mixup. --head linear is fitted to a frozen trunk" in said
    ) == told
