"""Targets, their balance, the loss and the validation figures, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from touchline.pipeline.clips.load import one_per_interval
from touchline.pipeline.scoring.clip_figures import average_precision, val_figures
from touchline.pipeline.training.loss import Loss, make_loss
from touchline.pipeline.training.targets import (
    class_weights,
    draw_chances,
    make_targets,
    positive_weights,
)
from touchline.pipeline.types import Example

LABELS = ("background", "dunk", "three")


def columns(*truth: int, K: int = 3) -> np.ndarray:
    return np.eye(K, dtype=np.float32)[list(truth)]


def label(name: str, start_s: float | None, end_s: float | None, path: str = "a.mp4") -> Example:
    return Example(Path(path), name, "match", start_s, end_s)


def test_targets_are_one_in_the_column_of_the_class() -> None:
    examples = [label("three", 0, 1), label("background", 0, 1)]
    assert make_targets(examples, LABELS).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_independent_classes_share_half_of_the_shorter_interval() -> None:
    dunk = label("dunk", 10, 14)
    others = [
        dunk,
        label("three", 13, 15),  # shares 1 s of its 2
        label("background", 13.5, 15.5),  # shares 0.5 s of its 2
    ]
    assert make_targets([dunk], LABELS, among=others).tolist() == [[0, 1, 1]]
    elsewhere = [dunk, label("three", 10, 14, "b.mp4")]
    assert make_targets([dunk], LABELS, among=elsewhere).tolist() == [[0, 1, 0]]
    whole = [label("dunk", None, None), label("three", None, None)]
    assert make_targets(whole[:1], LABELS, among=whole).tolist() == [[0, 1, 1]]


def test_one_example_per_stretch_of_footage_is_kept() -> None:
    examples = [label("dunk", 0, 1), label("three", 0, 1), label("three", 0, 2)]
    assert one_per_interval(examples) == [examples[0], examples[2]]


def test_class_weights_undo_imbalance() -> None:
    # Three of class 1, one of class 2, none of 0 and 3: both classes weigh 2 in all.
    weights = class_weights(columns(1, 1, 1, 2, K=4))
    assert weights.tolist() == pytest.approx([0.0, 2 / 3, 2.0, 0.0])


def test_drawing_makes_classes_equally_frequent() -> None:
    assert draw_chances(columns(1, 1, 1, 2)).tolist() == pytest.approx([1 / 6] * 3 + [1 / 2])


def test_positives_of_independent_classes_weigh_as_much_as_their_negatives() -> None:
    targets = columns(*([1] * 4 + [2] * 12 + [0] * 0), K=3)
    # 4 of 16, 12 of 16, none of 16: 12 / 4, at least 1, at most 10.
    assert positive_weights(targets).tolist() == [10.0, 3.0, 1.0]


def test_the_loss_is_weighted_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])  # p = 1/4, 3/4 and 1/2, 1/2
    targets = torch.eye(2)[[1, 0]]
    loss = Loss(torch.tensor([3.0, 1.0]))
    assert loss.total(targets) == 4
    assert loss.sum(logits, targets).item() == pytest.approx(math.log(4 / 3) + 3 * math.log(2))


def test_smoothing_moves_a_share_of_the_target_to_all_classes() -> None:
    loss = Loss(torch.ones(2), smoothing=0.2)
    logits = torch.tensor([[0.0, math.log(3.0)]])
    expected = 0.9 * math.log(4 / 3) + 0.1 * math.log(4)
    assert loss.sum(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(expected)


def test_focal_loss_counts_what_is_right_for_less() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    loss = Loss(torch.ones(2), focal_gamma=2.0)
    expected = (1 / 4) ** 2 * math.log(4 / 3)
    assert loss.sum(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(expected)


def test_independent_classes_have_binary_cross_entropy() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # p = 1/2, 3/4
    targets = torch.tensor([[0.0, 1.0]])
    loss = Loss(torch.tensor([1.0, 5.0]), multi_label=True)
    assert loss.total(targets) == 2
    assert loss.sum(logits, targets).item() == pytest.approx(math.log(2) + 5 * math.log(4 / 3))
    focal = Loss(torch.ones(2), multi_label=True, focal_gamma=1.0)
    expected = math.log(2) / 2 + math.log(4 / 3) / 4
    assert focal.sum(logits, targets).item() == pytest.approx(expected)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_leaves_out_a_background_nobody_taught(multi_label: bool) -> None:
    targets, rest = torch.eye(3)[[1, 2]], torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    loss = Loss(torch.ones(3), has_background=False, multi_label=multi_label, smoothing=0.1)
    values = {
        loss.sum(torch.cat([torch.full((2, 1), logit), rest], dim=1), targets).item()
        for logit in (-50.0, 0.0, 50.0)
    }
    without = Loss(torch.ones(2), multi_label=multi_label, smoothing=0.1)
    assert values == {without.sum(rest, targets[:, 1:]).item()}
    assert loss.total(targets) == without.total(targets[:, 1:])


@pytest.mark.parametrize(
    ("balance", "weights"),
    [("weights", [0.0, 2 / 3, 2.0]), ("none", [1.0] * 3), ("sampling", [1.0] * 3)],
)
def test_only_weights_weigh(balance: str, weights: list[float]) -> None:
    loss = make_loss(
        columns(1, 1, 1, 2),
        balance=balance,
        has_background=True,
        multi_label=False,
        smoothing=0.0,
        focal_gamma=0.0,
    )
    assert loss.weights.tolist() == pytest.approx(weights)


def test_validation_figures_by_hand() -> None:
    probs = np.array([[0.1, 0.8, 0.1], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], np.float32)
    # Class 1: both right; class 2: its only clip is wrong.
    figures = val_figures(probs, columns(1, 1, 2))
    assert figures["val_accuracy"] == pytest.approx(2 / 3)
    assert figures["val_balanced_accuracy"] == pytest.approx(0.5)
    # The mean of the classes: that of class 1 is (log 0.8 + log 0.5) / 2, that of class 2 log 0.3.
    expected = -(math.log(0.8 * 0.5) / 2 + math.log(0.3)) / 2
    assert figures["val_loss"] == pytest.approx(expected, rel=1e-6)


def test_one_sure_mistake_costs_no_more_than_a_probability_of_1e_4() -> None:
    probs = np.array([[0.0, 1.0, 0.0], [0.0, 0.5, 0.5]], np.float32)
    figures = val_figures(probs, columns(2, 1))
    assert figures["val_loss"] == pytest.approx((-math.log(1e-4) - math.log(0.5)) / 2, rel=1e-6)


def test_average_precision_by_hand() -> None:
    # Positives at ranks 1 and 3: (1 / 1 + 2 / 3) / 2.
    scores = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx(5 / 6)
    # Equal scores: the negatives are taken to stand first.
    tied = np.full(4, 0.5, np.float32)
    assert average_precision(tied, np.array([True, False, False, False])) == pytest.approx(1 / 4)


def test_validation_figures_of_independent_classes() -> None:
    targets = np.array([[0, 1, 1], [0, 0, 1]], np.float32)
    probs = np.array([[0.2, 0.6, 0.9], [0.2, 0.7, 0.8]], np.float32)
    figures = val_figures(probs, targets, multi_label=True)
    # Class 1 has its positive second: 1/2; class 2 is all positive: 1; class 0 has none.
    assert figures["val_map"] == pytest.approx(0.75)
    right = [0.8, 0.6, 0.9, 0.8, 0.3, 0.8]
    assert figures["val_loss"] == pytest.approx(-np.log(right).mean(), rel=1e-6)
