"""When a training run is validated, which epoch of it is kept, and when it gives up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from train_material import made_examples, parts, tiny_model

from touchline.models.backbone import Backbone
from touchline.pipeline.training import finetune
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.optimize import Average
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TrainOptions(epochs=3, batch_size=4, cached_views=2, val_views=1)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return made_examples(tmp_path, ("blue", "red", "background"), 4)


def test_validation_comes_every_few_epochs_and_last_and_changes_nothing(
    examples: list[Example],
) -> None:
    losses, sizes = [], []
    for every in (1, 2):
        seen: list[int] = []
        result = fine_tune(
            tiny_model(),
            *parts(examples),
            replace(QUICK, epochs=5, validate_every=every),
            on_epoch=lambda row, probs, seen=seen: seen.append(len(probs)),  # type: ignore[misc]
        )
        sizes.append(seen)
        validated = [row["epoch"] for row in result.history if "val_accuracy" in row]
        assert validated == ([1, 2, 3, 4, 5] if every == 1 else [2, 4, 5])
        assert result.best_epoch in validated
        losses.append([row["loss"] for row in result.history])
    assert sizes == [[3, 3, 3, 3, 3], [0, 3, 0, 3, 3]]
    assert losses[0] == losses[1]


def test_the_epoch_of_the_best_validation_is_kept(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 0.2, 0.9, 0.4, 0.8])
    weights = []
    model = tiny_model()

    def judged(*_: object, **__: object) -> dict[str, float]:
        weights.append(model.backbone.head.linear.weight.detach().clone())  # type: ignore[union-attr]
        return {"val_accuracy": 0.0, "val_loss": next(losses)}

    monkeypatch.setattr(finetune, "val_figures", judged)
    options = replace(QUICK, freeze=3, unfreeze=((1, 2), (4, 0)), epochs=5)
    result = fine_tune(model, *parts(examples), options)
    smoothed = [row["val_loss_smoothed"] for row in result.history]
    assert smoothed == pytest.approx([1.0, 0.6, 0.7, 0.5, 0.7])
    # Epoch 2 has the lowest loss by one validation, epoch 4 by the mean of its last three.
    kept = result.model.backbone
    head = kept.head.linear.weight  # type: ignore[union-attr]
    assert result.best_epoch == 4
    assert torch.equal(head, weights[3])
    assert not torch.equal(head, weights[1])
    assert kept.num_frozen == 2  # as in epoch 4


def test_without_validation_the_last_epoch_is_kept(examples: list[Example]) -> None:
    result = fine_tune(tiny_model(), examples, [], QUICK)
    assert len(result.history) == QUICK.epochs
    assert result.val_probs.shape == (0, 3)
    assert "val_accuracy" not in result.history[-1]


def test_training_stops_when_nothing_gets_better(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.9, 0.1, 0.6, 0.9, 0.1])  # smoothed: 0.9, 0.5, 0.53, 0.53
    monkeypatch.setattr(finetune, "val_figures", lambda *_, **__: {"val_loss": next(losses)})
    result = fine_tune(tiny_model(), *parts(examples), replace(QUICK, epochs=9, patience=2))
    assert result.stopped == "patience"
    assert len(result.history) == 4
    assert result.best_epoch == 2


def test_patience_ends_training_at_a_validation_only(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.9, 0.1, 0.6])  # smoothed: 0.9, 0.5, 0.53
    monkeypatch.setattr(finetune, "val_figures", lambda *_, **__: {"val_loss": next(losses)})
    options = replace(QUICK, epochs=20, validate_every=3, patience=2)
    result = fine_tune(tiny_model(), *parts(examples), options)
    # Validated after 3, 6 and 9: not given up in epoch 5, before the better sixth was seen.
    assert result.stopped == "patience"
    assert len(result.history) == 9
    assert result.best_epoch == 6


@pytest.mark.parametrize("val", [True, False])
def test_what_is_kept_is_the_average_where_there_is_one(
    examples: list[Example], val: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    averages = []
    applied = Average.applied

    def watched(self: Average, backbone: Backbone) -> object:
        averages.append({k: v.clone() for k, v in self.state.items()})
        return applied(self, backbone)

    monkeypatch.setattr(Average, "applied", watched)
    train, held_out = parts(examples)
    options = replace(QUICK, ema=0.5, lr=1e-2, epochs=1)
    result = fine_tune(tiny_model(), train, held_out if val else [], options)
    if val:
        assert all(
            torch.equal(v, averages[0][k]) for k, v in result.model.backbone.state_dict().items()
        )
    plain = fine_tune(tiny_model(), train, [], replace(options, ema=0.0)).model.backbone
    kept = result.model.backbone.head.linear.weight  # type: ignore[union-attr]
    assert not torch.equal(kept, plain.head.linear.weight)  # type: ignore[union-attr]
