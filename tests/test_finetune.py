"""Fine-tuning on clips made here, with networks small enough to see through."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from train_material import TinyBackbone, made_examples, tiny_model

from touchline.models.errors import FootageError
from touchline.pipeline import finetune
from touchline.pipeline.finetune import (
    Progress,
    TrainOptions,
    fine_tune,
    score_examples,
)
from touchline.pipeline.optimize import make_optimizer, schedule
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TrainOptions(epochs=3, batch_size=4, cached_views=2, val_views=1)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return made_examples(tmp_path, ("blue", "red", "background"), 4)


def parts(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """The last group of each class for validation."""
    val = [e for e in examples if e.group == "match_3"]
    return [e for e in examples if e not in val], val


@pytest.mark.parametrize("stages", [0, 1, 2, 3])
@pytest.mark.parametrize("cached_views", [0, 2])
def test_frozen_stages_do_not_move_and_the_others_do(
    examples: list[Example], stages: int, cached_views: int
) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.backbone.stages.state_dict())
    options = replace(QUICK, freeze=stages, cached_views=cached_views)
    after = fine_tune(model, *parts(examples), options).model.backbone
    assert after.num_frozen == stages
    for name, stage in after.stages.items():
        # Parameters and BatchNorm's running statistics, bit for bit.
        same = [torch.equal(v, before[f"{name}.{k}"]) for k, v in stage.state_dict().items()]
        frozen = name in after.stage_names[:stages]
        assert all(same) if frozen else not any(same), name


def test_stages_of_a_network_of_several_paths_stay_frozen_too(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its frozen stages run beside the trained ones in every step, for nothing can be cached.
    monkeypatch.setattr(TinyBackbone, "single_path", False)
    model = tiny_model()
    before = copy.deepcopy(model.backbone.stages["second"].state_dict())
    after = fine_tune(model, *parts(examples), replace(QUICK, freeze=2)).model.backbone
    for key, value in after.stages["second"].state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_optimizer_holds_nothing_of_what_is_frozen() -> None:
    backbone = tiny_model().backbone
    backbone.freeze(2)
    optimizer = make_optimizer(backbone, lr=1e-3)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    trained = [*backbone.stages["third"].parameters(), *backbone.head.parameters()]
    assert held == {id(p) for p in trained}


def test_earlier_stages_learn_slower_and_biases_do_not_decay() -> None:
    backbone = tiny_model().backbone
    optimizer = make_optimizer(
        backbone, lr=1e-2, trunk_lr_scale=0.1, stage_lr_decay=0.5, weight_decay=0.5
    )
    names = {p: name for name, p in backbone.named_parameters()}
    seen = {
        names[p]: (group["peak_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert seen == {
        "head.linear.weight": (1e-2, 0.5),
        "head.linear.bias": (1e-2, 0.0),
        "stages.third.0.weight": (pytest.approx(1e-3), 0.5),
        "stages.third.1.weight": (pytest.approx(1e-3), 0.0),
        "stages.third.1.bias": (pytest.approx(1e-3), 0.0),
        "stages.second.0.weight": (pytest.approx(5e-4), 0.5),
        "stages.second.1.weight": (pytest.approx(5e-4), 0.0),
        "stages.second.1.bias": (pytest.approx(5e-4), 0.0),
        "stages.first.0.weight": (pytest.approx(2.5e-4), 0.5),
        "stages.first.1.weight": (pytest.approx(2.5e-4), 0.0),
        "stages.first.1.bias": (pytest.approx(2.5e-4), 0.0),
    }


def test_colours_are_learnt(examples: list[Example]) -> None:
    options = replace(QUICK, freeze=1, epochs=30, lr=3e-2)
    result = fine_tune(tiny_model(), *parts(examples), options)
    assert max(row["val_accuracy"] for row in result.history) == 1.0
    assert result.val_probs.shape == (3, 3)
    assert result.val_truth.tolist() == [1, 2, 0]  # blue, red, background


def test_the_epoch_of_the_best_validation_is_kept(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.5, 0.9, 0.9, 0.7])
    losses = iter([1.0, 0.8, 0.6, 0.1])
    weights = []
    model = tiny_model()

    def judged(*_: object, **__: object) -> dict[str, float]:
        weights.append(model.backbone.head.linear.weight.detach().clone())  # type: ignore[union-attr]
        return {
            "val_accuracy": 0.0,
            "val_score": next(figures),
            "val_loss": next(losses),
        }

    monkeypatch.setattr(finetune, "val_figures", judged)
    kept = fine_tune(model, *parts(examples), replace(QUICK, epochs=4)).model.backbone
    # Epochs 2 and 3 tie; 3 has the lower loss.
    head = kept.head.linear.weight  # type: ignore[union-attr]
    assert torch.equal(head, weights[2])
    assert not torch.equal(head, weights[3])


def test_without_validation_the_last_epoch_is_kept(examples: list[Example]) -> None:
    result = fine_tune(tiny_model(), examples, [], QUICK)
    assert len(result.history) == QUICK.epochs
    assert result.val_probs.shape == (0, 3)
    assert "val_accuracy" not in result.history[-1]


def test_a_budget_ends_training_and_its_schedule(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every look at the clock is 0.1 s after the one before.
    now = iter(np.arange(0, 1000, 0.1))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    result = fine_tune(tiny_model(), *parts(examples), replace(QUICK, epochs=500, max_seconds=3.0))
    assert 1 <= len(result.history) < 20
    assert result.history[-1]["seconds"] >= 2.5


def test_the_same_seed_gives_the_same_model(examples: list[Example]) -> None:
    def head(seed: int) -> torch.Tensor:
        model = tiny_model()
        torch.seed()  # what was drawn before does not matter
        result = fine_tune(model, *parts(examples), replace(QUICK, seed=seed))
        weight = result.model.backbone.head.linear.weight  # type: ignore[union-attr]
        assert isinstance(weight, torch.Tensor)
        return weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_background_nobody_taught_has_probability_zero(examples: list[Example]) -> None:
    taught = fine_tune(tiny_model(), *parts(examples), QUICK)
    assert taught.model.has_background
    assert (taught.val_probs[:, 0] > 0).all()
    events = [e for e in examples if e.label != "background"]
    untaught = fine_tune(tiny_model(), *parts(events), QUICK)
    assert not untaught.model.has_background
    assert (untaught.val_probs[:, 0] == 0).all()
    assert untaught.val_probs.sum(axis=1) == pytest.approx(1.0)


def test_the_learning_rate_warms_up_and_falls_by_a_cosine() -> None:
    at = [schedule(done, 0.1) for done in (0.05, 0.1, 0.55, 1.0)]
    assert at == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert schedule(0.0, 0.1) > 0


def test_unreadable_clips_are_reported_or_stop_the_run(
    examples: list[Example], tmp_path: Path
) -> None:
    bad = Example(tmp_path / "gone.mp4", "red", "match_0", source="labels.csv line 9")
    train, val = parts(examples)
    result = fine_tune(tiny_model(), [bad, *train], val, replace(QUICK, max_bad=1))
    assert len(result.problems) == 1
    assert "gone.mp4: no such file" in result.problems[0]
    with pytest.raises(FootageError, match=r"gone\.mp4: no such file \(1 of 13 .*--max-bad"):
        fine_tune(tiny_model(), [bad, *train], val, QUICK)


def test_scoring_again_gives_the_validation_scores(examples: list[Example]) -> None:
    train, val = parts(examples)
    options = replace(QUICK, freeze=2, val_views=3)
    result = fine_tune(tiny_model(), train, val, options)
    probs, labels, problems = score_examples(result.model, val, options)
    assert labels == [e.label for e in val]
    assert problems == []
    np.testing.assert_allclose(probs, result.val_probs, atol=1e-6)


def test_progress_goes_through_its_phases(examples: list[Example]) -> None:
    seen: list[Progress] = []
    fine_tune(tiny_model(), *parts(examples), replace(QUICK, freeze=1), on_progress=seen.append)
    phases = list(dict.fromkeys(news.phase for news in seen))
    assert phases == ["reading clips", "frozen features", "training"]
    assert [n.done for n in seen if n.phase == "training"] == [1, 2, 3]
    assert all(news.done <= news.total for news in seen)
