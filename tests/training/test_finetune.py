"""Fine-tuning on clips made here, with networks small enough to see through."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from train_material import TinyBackbone, TinyHead, made_examples, parts, tiny_model

from touchline.models.backbone import Backbone
from touchline.models.errors import FootageError
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score_clips import clip_probs, score_clips
from touchline.pipeline.training.finetune import fine_tune
from touchline.pipeline.training.optimize import BudgetClock, Guard, OutOfTimeError, make_optimizer
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.training.snapshot import KeepState
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.types import Example

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = TrainOptions(epochs=3, batch_size=4, cached_views=2, val_views=1)


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    return made_examples(tmp_path, ("blue", "red", "background"), 4)


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
    # Its frozen stages run with the trained ones in every step, because nothing can be cached.
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


def test_a_budget_ends_training_and_its_schedule(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every look of the budget's clock is 0.1 s after the one before. Decoders look at their own.
    now = iter(np.arange(0, 1000, 0.1))
    clock = SimpleNamespace(monotonic=lambda: float(next(now)))
    monkeypatch.setattr("touchline.pipeline.training.optimize.time", clock)
    result = fine_tune(tiny_model(), *parts(examples), replace(QUICK, epochs=500, max_seconds=3.0))
    assert 1 <= len(result.history) < 20
    assert result.history[-1]["seconds"] >= 2.5


def test_a_budget_ends_training_within_an_epoch_too(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = 0

    def late(self: BudgetClock) -> float:
        return 1.0 if taken >= 2 else 0.0

    def count(self: Guard, norm: torch.Tensor) -> bool:
        nonlocal taken
        taken += 1
        return True

    monkeypatch.setattr(BudgetClock, "spent", late)
    monkeypatch.setattr(Guard, "allows", count)
    result = fine_tune(tiny_model(), *parts(examples), replace(QUICK, epochs=5))
    assert (result.stopped, taken, len(result.history)) == ("budget", 2, 1)
    assert "val_loss" in result.history[0]


def test_a_budget_gone_before_the_first_step_trains_nothing(examples: list[Example]) -> None:
    with pytest.raises(OutOfTimeError, match=r"nothing was trained.* limit is 1e-06 s"):
        fine_tune(tiny_model(), *parts(examples), replace(QUICK, max_seconds=1e-6))
    late = replace(QUICK, max_seconds=900)
    with pytest.raises(OutOfTimeError, match=r"reading the clips has not begun\. Raise"):
        fine_tune(tiny_model(), *parts(examples), late, already_s=901.0)


def test_clips_that_took_all_the_time_are_not_read_again(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = replace(QUICK, freeze=3, max_seconds=900)
    cache = tmp_path / "cache"
    fine_tune(tiny_model(), *parts(examples), replace(spent, max_seconds=None), cache=cache)
    # Nothing must be read or computed, so only the first step finds no time.
    monkeypatch.setattr(SplitNetwork, "run_frozen", None)
    with pytest.raises(OutOfTimeError, match=r"nothing was trained.* all of the 900 s"):
        fine_tune(tiny_model(), *parts(examples), spent, cache=cache, already_s=901.0)


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


def test_background_of_which_nothing_can_be_read_is_not_taught(examples: list[Example]) -> None:
    train, val = parts([e for e in examples if e.label != "background"])
    past = replace(train[0], label="background", start_s=90.0, end_s=91.0, optional=True)
    result = fine_tune(tiny_model(), [*train, past], val, QUICK)
    assert not result.model.has_background
    assert "1 of 1 background examples" in result.problems[0]


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
    result = fine_tune(
        tiny_model(), train, val, replace(QUICK, freeze=2, val_views=3, precision="float32")
    )
    scores = score_clips(result.model, val, ClipOptions(views=3, precision="float32"))
    np.testing.assert_array_equal(scores.truth, result.val_truth)
    np.testing.assert_allclose(clip_probs(result.model, scores), result.val_probs, atol=1e-6)


def test_progress_goes_through_its_phases(examples: list[Example]) -> None:
    seen: list[Progress] = []
    fine_tune(tiny_model(), *parts(examples), replace(QUICK, freeze=1), on_progress=seen.append)
    phases = list(dict.fromkeys(news.phase for news in seen))
    assert phases == ["reading clips", "frozen features", "training"]
    assert [n.done for n in seen if n.phase == "training"] == [1, 2, 3]
    assert all(news.done <= news.total for news in seen)


def moved(after: Backbone, before: dict[str, torch.Tensor]) -> list[str]:
    return [
        name
        for name, stage in after.stages.items()
        if any(not torch.equal(v, before[f"{name}.{k}"]) for k, v in stage.state_dict().items())
    ]


def test_stages_move_from_the_epoch_on_in_which_they_are_freed(examples: list[Example]) -> None:
    model = tiny_model()
    before = copy.deepcopy(model.backbone.stages.state_dict())
    seen = []
    options = replace(QUICK, freeze=3, unfreeze=((1, 2), (2, 1)), epochs=3)
    fine_tune(
        model,
        examples,
        [],
        options,
        on_epoch=lambda row, probs: seen.append(
            (moved(model.backbone, before), model.backbone.num_frozen)
        ),
    )
    assert seen == [([], 3), (["third"], 2), (["second", "third"], 1)]


@pytest.mark.parametrize("unfreeze", [((1, 3),), ((1, 1), (2, 2)), ((1, 1), (2, 1))])
def test_unfreezing_must_free_something(unfreeze: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match=r"must free more stages each time; .* are 3, "):
        replace(QUICK, freeze=3, unfreeze=unfreeze)


def test_unfreezing_must_come_before_the_end() -> None:
    assert replace(QUICK, freeze=3, unfreeze=((2, 2),)).frozen_at(2) == 2
    with pytest.raises(ValueError, match="after epoch 3, but training ends after epoch 3"):
        replace(QUICK, freeze=3, unfreeze=((3, 2),))


def test_accumulated_batches_are_one_large_batch(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dropout is drawn per batch and BatchNorm's statistics are; without them nothing differs.
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, x: x)
    options = replace(QUICK, freeze=3, epochs=4, lr=1e-2)
    states = [
        fine_tune(tiny_model(), *parts(examples), replace(options, **split)).model.backbone
        for split in (
            {"batch_size": 6, "accumulate": 1},
            {"batch_size": 2, "accumulate": 3},
            {"batch_size": 3, "accumulate": 1},
        )
    ]
    large, accumulated, small = (s.head.linear.weight for s in states)  # type: ignore[union-attr]
    torch.testing.assert_close(accumulated, large)
    assert not torch.allclose(small, large, rtol=1e-3)


def test_steps_that_are_not_finite_are_skipped(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {1, 2})
    result = fine_tune(tiny_model(), *parts(examples), QUICK)
    assert result.skipped_steps == 2
    assert result.stopped == "epochs"
    state = result.model.backbone.state_dict()
    assert all(bool(torch.isfinite(v.float()).all()) for v in state.values())


def test_too_many_of_them_end_training_with_the_last_good_epoch(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three steps per epoch: all is well in epochs 1 and 2, and never again.
    poison(monkeypatch, set(range(6, 1000)))
    result = fine_tune(tiny_model(), *parts(examples), replace(QUICK, epochs=50, max_skipped=4))
    assert result.stopped == "diverged"
    assert result.skipped_steps == 5
    assert result.best_epoch <= 2
    assert all(math.isfinite(row.get("loss", 0.0)) for row in result.history)
    assert all(bool(torch.isfinite(p).all()) for p in result.model.backbone.parameters())
    assert np.isfinite(result.val_probs).all()


def test_what_gives_no_numbers_is_never_the_best_epoch(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, set(range(6, 1000)), weights=True)
    options = replace(QUICK, epochs=50, max_skipped=4)
    result = fine_tune(tiny_model(), *parts(examples), options)
    assert result.stopped == "diverged"
    assert result.best_epoch <= 2
    assert np.isfinite([value for row in result.history for value in row.values()]).all()
    monkeypatch.undo()
    poison(monkeypatch, set(range(1000)), weights=True)
    keep = KeepState(tmp_path / "snapshot.safetensors", every_s=0.0)
    with pytest.raises(ValueError, match="diverged before any epoch was worth keeping"):
        fine_tune(tiny_model(), *parts(examples), options, keep=keep)
    assert not keep.path.exists()


def test_a_network_that_gives_no_numbers_is_not_kept_without_validation_either(
    examples: list[Example],
) -> None:
    # The first step throws finite weights so far that nothing is a number any more.
    options = replace(QUICK, lr=1e30, trunk_lr_scale=1.0)
    with pytest.raises(ValueError, match="diverged before any epoch was worth keeping"):
        fine_tune(tiny_model(), examples, [], options)


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int], *, weights: bool = False) -> None:
    """Make what the third stage gives infinite in these steps, counted from 0.

    weights: and a weight with it, so that nothing is a number any more in validation either.
    """
    taken = 0
    forward = TinyHead.forward

    def poisoned(self: TinyHead, features: torch.Tensor) -> torch.Tensor:
        nonlocal taken
        if not self.training:
            return forward(self, features)
        taken += 1
        if taken - 1 not in steps:
            return forward(self, features)
        if weights:
            self.linear.bias.data.fill_(torch.nan)
        return forward(self, features * torch.inf)

    monkeypatch.setattr(TinyHead, "forward", poisoned)


def test_independent_classes_can_be_true_together(tmp_path: Path) -> None:
    # Every clip is "clip"; the red ones are "red" as well.
    examples = made_examples(tmp_path, ("blue", "red"), 4)
    both = [replace(e, label="clip") for e in examples] + [e for e in examples if e.label == "red"]
    val = [e for e in both if e.group == "match_3"]
    model = replace(tiny_model(("background", "clip", "red")), multi_label=True)
    options = replace(QUICK, epochs=60, lr=3e-2, batch_size=6)
    result = fine_tune(model, [e for e in both if e not in val], val, options)
    assert result.val_truth.tolist() == [[0, 1, 0], [0, 1, 1]]
    assert result.history[result.best_epoch - 1]["val_map"] == 1.0
    assert (result.val_probs[:, 1] > 0.5).all()
    assert result.val_probs[1, 2] > result.val_probs[0, 2]
    assert (result.val_probs[:, 0] == 0).all()


@pytest.mark.parametrize("batchnorm", ["train", "keep"])
def test_statistics_of_trained_stages_follow_the_batches_or_stay(
    examples: list[Example], batchnorm: str
) -> None:
    model = tiny_model()
    options = replace(QUICK, batchnorm=batchnorm, lr=1e-2)
    after = fine_tune(model, *parts(examples), options).model.backbone
    for stage in after.stages.values():
        assert isinstance(stage[1], nn.BatchNorm3d)
        assert torch.equal(stage[1].running_var, torch.ones_like(stage[1].running_var)) == (
            batchnorm == "keep"
        )
        assert not torch.equal(stage[1].weight, torch.ones_like(stage[1].weight))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"sampling": "sparse"}, "sampling is 'sparse'; it must be one of dense, uniform"),
        ({"balance": "weight"}, "balance is 'weight'"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"lr": -1.0}, "lr is -1.0; it must be more than 0"),
        ({"label_smoothing": 5.0}, "label_smoothing is 5.0; it must be at least 0, below 1"),
        ({"focal_gamma": -1.0}, "focal_gamma is -1.0"),
        ({"warmup": -3.0}, "warmup is -3.0"),
        ({"mixup": math.nan}, "mixup is nan"),
        ({"patience": 0}, "patience is 0; it must be at least 1, finite"),
        ({"seed": -1}, "seed is -1"),
        ({"max_clip_s": 0.0}, "max_clip_s is 0.0"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0"),
        ({"max_seconds": math.inf}, "max_seconds is inf"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    examples: list[Example], change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fine_tune(tiny_model(), examples, [], replace(QUICK, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_clip_s": -5.0}, "max_clip_s is -5.0; it must be more than 0"),
        ({"max_clip_s": math.nan}, "max_clip_s is nan"),
        ({"views": 0}, "views is 0; it must be at least 1"),
        ({"max_bad": -1}, "max_bad is -1; it must be at least 0"),
    ],
)
def test_ways_to_look_at_clips_that_make_no_sense_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClipOptions(**change)  # type: ignore[arg-type]
