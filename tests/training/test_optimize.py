"""Averages, guards and learning rates, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from train_material import tiny_backbone

from touchline.pipeline.training import optimize
from touchline.pipeline.training.optimize import (
    Anchor,
    Average,
    Best,
    BudgetClock,
    Guard,
    OutOfTimeError,
    carry_over,
    make_optimizer,
    schedule,
    smooth,
)


def fill(module: torch.nn.Module, value: float) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(value)


def test_the_learning_rate_warms_up_and_falls_by_a_cosine() -> None:
    at = [schedule(done, 0.1) for done in (0.05, 0.1, 0.55, 1.0)]
    assert at == pytest.approx([0.5, 1.0, 0.5, 0.0])
    assert schedule(0.0, 0.1) > 0
    assert schedule(0.0, 0.0) == 1.0


def test_what_is_freed_later_warms_up_then() -> None:
    # At 0.55 the others are at half; 0.05 after being freed, half of a warm-up of 0.1.
    assert schedule(0.55, 0.1, freed=0.5) == pytest.approx(0.25)
    assert schedule(0.8, 0.1, freed=0.5) == schedule(0.8, 0.1)


def test_an_anchor_adds_the_gradient_of_its_penalty() -> None:
    backbone = tiny_backbone(2)
    fill(backbone, 3.0)
    anchor = Anchor(backbone, 0.5)
    fill(backbone, 5.0)
    bias = backbone.head.linear.bias
    bias.grad = torch.tensor([0.0, 1.0])
    anchor.add_gradient()
    # Of 0.5 / 2 * (5 - 3)^2 it is 0.5 * (5 - 3); what has no gradient does not train.
    assert bias.grad.tolist() == [1.0, 2.0]
    assert backbone.head.linear.weight.grad is None


def test_an_average_forgets_its_start_at_first() -> None:
    backbone = tiny_backbone(2)
    fill(backbone, 0.0)
    average = Average(backbone, 0.9)
    fill(backbone, 1.0)
    average.update(backbone)  # decay (1 + 1) / (10 + 1)
    assert average.state["head.linear.bias"].tolist() == pytest.approx([9 / 11] * 2)
    with average.applied(backbone):
        assert backbone.head.linear.bias.tolist() == pytest.approx([9 / 11] * 2)
    assert backbone.head.linear.bias.tolist() == [1.0, 1.0]


def test_an_average_reaches_its_decay() -> None:
    backbone = tiny_backbone(2)
    average = Average(backbone, 0.5)
    average.steps = 1000
    fill(backbone, 0.0)
    average.restore({k: torch.full_like(v, 8) for k, v in average.state.items()}, steps=1000)
    average.update(backbone)
    assert average.state["head.linear.bias"].tolist() == [4.0, 4.0]


def test_without_a_decay_there_is_no_average() -> None:
    backbone = tiny_backbone(2)
    average = Average(backbone, 0.0)
    average.update(backbone)
    assert average.state == {}
    with pytest.raises(ValueError, match="ema is 1"):
        Average(backbone, 1.0)


def test_smoothing_looks_back_over_three_validations() -> None:
    rows = np.array([[9.0, 0.0], [3.0, 3.0], [0.0, 6.0], [6.0, 9.0]])
    assert smooth(rows).tolist() == [[9, 0], [6, 1.5], [4, 3], [3, 6]]


def test_the_first_of_equal_epochs_is_the_best() -> None:
    backbone, best = tiny_backbone(2), Best()
    fill(backbone, 1.0)
    assert best.offer(backbone, 0.5, 1)
    fill(backbone, 2.0)
    assert not best.offer(backbone, 0.5, 2)
    assert best.epoch == 1
    assert best.state["head.linear.bias"].tolist() == [1.0, 1.0]


def test_a_step_that_is_not_finite_is_undone_and_counted() -> None:
    backbone = tiny_backbone(2)
    guard = Guard(backbone, max_skipped=1)
    statistics = backbone.stages["first"][1].running_mean
    statistics.fill_(1.0)
    assert guard.allows(torch.tensor(3.0))
    statistics.fill_(torch.nan)
    assert not guard.allows(torch.tensor(torch.nan))
    assert statistics.tolist() == [1.0] * 4
    assert not guard.diverged
    assert guard.allows(torch.tensor(3.0))
    assert guard.in_a_row == 0
    assert not guard.allows(torch.tensor(torch.inf))
    assert not guard.allows(torch.tensor(torch.inf))
    assert guard.diverged
    assert guard.skipped == 3


def test_freed_stages_join_what_has_learnt_already() -> None:
    backbone = tiny_backbone(2)
    backbone.freeze(3)
    old = make_optimizer(backbone, lr=1e-2)
    backbone.head.linear(torch.ones(1, 8)).sum().backward()
    old.step()
    backbone.freeze(2)
    new = make_optimizer(backbone, lr=1e-2)
    carry_over(old, new, done=0.25)
    weight = backbone.head.linear.weight
    assert torch.equal(new.state[weight]["exp_avg"], old.state[weight]["exp_avg"])
    freed = {p: group["freed"] for group in new.param_groups for p in group["params"]}
    assert freed[weight] == 0.0
    assert freed[backbone.stages["third"][0].weight] == 0.25
    assert backbone.stages["third"][0].weight not in new.state


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(optimize, "time", moved)
    return moved


def test_work_that_cannot_end_in_time_is_stopped_as_soon_as_that_shows(clock: Clock) -> None:
    watch = BudgetClock(100.0, elapsed_s=20.0).watch("reading the clips")
    watch(0, 50)
    for done in (1, 2):
        clock.now += 4.0
        watch(done, 50)  # two pieces may have been slow ones
    clock.now += 4.0
    with pytest.raises(OutOfTimeError) as stopped:
        watch(3, 50)  # 12 s for 3 of 50, and 68 s are left
    assert str(stopped.value) == (
        "nothing was trained. The time limit is 100 s, and reading the clips would take about "
        "188 s more (3 of 50 are done). Raise --max-seconds to more than 267, or use fewer clips. "
        "--cache FOLDER keeps what is done for the next run"
    )


def test_work_that_may_end_in_time_goes_on_until_the_budget_is_spent(clock: Clock) -> None:
    watch = BudgetClock(100.0).watch("reading the clips", cache=Path("kept"))
    for done in range(1, 24):
        clock.now += 4.0
        watch(done, 25)  # 100 s in all: nobody can say
    clock.now += 9.0
    with pytest.raises(OutOfTimeError, match="What is done is kept in kept: the next run goes on"):
        watch(24, 25)


def test_work_that_is_done_and_budgets_without_limit_stop_nothing(clock: Clock) -> None:
    watch, free = BudgetClock(1.0).watch("x"), BudgetClock(None).watch("x")
    clock.now += 1e6
    watch(5, 5)
    watch(0, 0)
    free(1, 1000)
    with pytest.raises(OutOfTimeError, match=r"and x has not begun\. Raise --max-seconds, or"):
        watch(0, 5)
