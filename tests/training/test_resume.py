"""A run that was killed continues as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from train_material import made_examples, tiny_model

from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import CheckpointError
from touchline.pipeline.training import finetune, snapshot
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import FineTuneResult
from touchline.pipeline.training.snapshot import FORMAT, KeepState, read_snapshot, save_snapshot
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

# Everything that has a state or draws random numbers; two steps per epoch.
OPTIONS = TrainOptions(
    freeze=3,
    unfreeze=((2, 1),),
    epochs=4,
    batch_size=2,
    accumulate=3,
    lr=1e-2,
    mixup=0.4,
    ema=0.9,
    balance="sampling",
    cached_views=2,
    val_views=1,
)


class KilledError(Exception):
    pass


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return made_examples(tmp_path, ("blue", "red", "background"), 4)


@pytest.fixture
def train(examples: list[Example]) -> Callable[..., FineTuneResult]:
    val = [e for e in examples if e.group == "match_3"]
    rest = [e for e in examples if e not in val]

    def run(keep: KeepState | None, options: TrainOptions = OPTIONS) -> FineTuneResult:
        return fine_tune(tiny_model(), rest, val, options, keep=keep)

    return run


def die_after(monkeypatch: pytest.MonkeyPatch, saves: int) -> None:
    """Let training be killed right after it has saved its state this many times."""
    done = 0

    def save_then_die(*arguments: Any, **options: Any) -> None:
        nonlocal done
        save_snapshot(*arguments, **options)
        done += 1
        if done == saves:
            raise KilledError

    monkeypatch.setattr(finetune, "save_snapshot", save_then_die)


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, cached_views=0, patience=9)])
@pytest.mark.parametrize("steps", [1, 2, 5, 7])
def test_a_killed_run_ends_with_the_same_weights_bit_for_bit(
    train: Callable[..., FineTuneResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
    options: TrainOptions,
) -> None:
    whole = train(None, options)
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0, resume=True)
    die_after(monkeypatch, steps)
    with pytest.raises(KilledError):
        train(keep, options)
    monkeypatch.undo()
    resumed = train(keep, options)
    expected, got = whole.model.backbone.state_dict(), resumed.model.backbone.state_dict()
    assert [k for k in expected if not torch.equal(expected[k], got[k])] == []
    assert resumed.best_epoch == whole.best_epoch
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history] == timeless
    np.testing.assert_array_equal(resumed.val_probs, whole.val_probs)


def test_a_real_network_goes_on_bit_for_bit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its weights lie channels last in memory, and so must what the optimizer keeps of them.
    examples = made_examples(tmp_path, ("blue", "red"), 3)
    options = TrainOptions(epochs=2, batch_size=2, accumulate=2, val_views=1)

    def train(keep: KeepState | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        spec = build_backbone("cnn_lstm", 3).spec.with_sampling(num_frames=2, size_px=32)
        backbone = build_backbone("cnn_lstm", 3, spec)
        model = TrainedModel(backbone, "cnn_lstm", ("background", "blue", "red"))
        return fine_tune(model, examples, [], options, keep=keep).model.backbone.state_dict()

    whole = train(None)
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0, resume=True)
    die_after(monkeypatch, 2)
    with pytest.raises(KilledError):
        train(keep)
    monkeypatch.undo()
    resumed = train(keep)
    assert [k for k in whole if not torch.equal(whole[k], resumed[k])] == []


def test_the_run_before_the_kill_is_not_repeated(
    train: Callable[..., FineTuneResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0, resume=True)
    die_after(monkeypatch, 7)
    with pytest.raises(KilledError):
        train(keep)
    left = []
    monkeypatch.setattr(finetune, "save_snapshot", lambda *_, **__: left.append(1))
    train(keep)
    # Of the 8 steps 7 are done.
    assert len(left) == 1


def test_a_run_goes_on_in_the_precision_that_was_chosen_where_it_began(
    train: Callable[..., FineTuneResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(None, replace(OPTIONS, precision="bf16"))
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0, resume=True)
    die_after(monkeypatch, 3)
    monkeypatch.setattr(finetune, "pick_dtype", lambda *_: torch.bfloat16)
    with pytest.raises(KilledError):
        train(keep)
    monkeypatch.undo()
    monkeypatch.setattr(finetune, "pick_dtype", lambda *_: torch.float32)
    resumed = train(keep)
    assert resumed.precision == "bf16"
    expected, got = whole.model.backbone.state_dict(), resumed.model.backbone.state_dict()
    assert [k for k in expected if not torch.equal(expected[k], got[k])] == []


def test_a_run_is_not_gone_on_with_under_other_options(
    train: Callable[..., FineTuneResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0, resume=True)
    die_after(monkeypatch, 1)
    with pytest.raises(KilledError):
        train(keep)
    with pytest.raises(CheckpointError, match=r"started with lr = 0\.01, now it is 0\.02"):
        train(keep, replace(OPTIONS, lr=0.02))


@pytest.mark.parametrize(("content", "message"), [(b"", "damaged"), (b"text", "damaged")])
def test_a_damaged_snapshot_is_refused(
    train: Callable[..., FineTuneResult], tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "snapshot.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        train(KeepState(path, resume=True))


def test_a_number_of_another_type_in_a_snapshot_is_named(tmp_path: Path) -> None:
    numbers = {
        "epoch": "3", "step": 1, "losses": [], "history": [], "precision": "float32",
        "elapsed_s": 1.0, "average_steps": 1, "best_loss": None, "best_epoch": 0, "skipped": 0,
        "skipped_in_a_row": 0, "freed": {},
    }  # fmt: skip
    path = tmp_path / "snapshot.safetensors"
    metadata = {"format": FORMAT, "run": "{}", "numbers": json.dumps(numbers)}
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(CheckpointError, match=r"\$\.epoch: a text instead of a whole number"):
        read_snapshot(path, run={})


def test_a_snapshot_that_cannot_be_written_is_one_error_that_names_it(
    tmp_path: Path, train: Callable[..., FineTuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(snapshot, "write_tensors", full)
    with pytest.raises(CheckpointError, match=r"snap: cannot be written \(.*No space left"):
        train(KeepState(tmp_path / "snap", every_s=0.0))
