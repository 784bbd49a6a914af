"""Logistic regression against its own optimality conditions and a solution worked out by hand."""

import numpy as np
import pytest
import torch

from touchline.pipeline.heads.logistic import LogisticProblem, balanced_weights, one_thread


def made(n, d, k, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d)).astype(np.float32) + np.eye(k, d)[y] * 2
    return X.astype(np.float32), np.eye(k, dtype=np.float32)[y]


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(("n", "d"), [(60, 5), (12, 40)])
@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
def test_the_gradient_of_the_whole_loss_is_zero_at_the_solution(n, d, strength, multi_label):
    X, targets = made(n, d, 3)
    weights = np.linspace(0.5, 1.5, n)
    found = LogisticProblem(X, targets, weights, multi_label=multi_label).solve(strength)
    W = torch.tensor(found.weight, requires_grad=True)
    b = torch.tensor(found.bias, requires_grad=True)
    logits = torch.from_numpy(X.astype(np.float64)) @ W.T + b
    y = torch.from_numpy(targets.astype(np.float64))
    if multi_label:
        losses = -(y * logits.sigmoid().log() + (1 - y) * (-logits).sigmoid().log()).sum(1)
    else:
        losses = -(y * logits.log_softmax(1)).sum(1)
    # The penalty is on features of mean square length 1 about their centre.
    scale = float(np.sqrt(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()))
    penalty = ((W * scale) ** 2).sum() / 2
    ((losses * torch.from_numpy(weights)).sum() * strength + penalty).backward()
    data = float((losses.detach() * torch.from_numpy(weights)).sum()) * strength
    assert W.grad.abs().max() < 1e-2 * max(1.0, data)
    assert b.grad.abs().max() < 1e-2 * max(1.0, data)


def test_two_points_and_one_dimension_give_the_solution_by_hand():
    # Points -1 and 1 of two classes: weights (-a, a), no bias; 2 C s(-2a) = a at the minimum.
    found = LogisticProblem(
        np.array([[-1.0], [1.0]], np.float32), np.eye(2, dtype=np.float32), np.ones(2)
    ).solve(1.0)
    a = found.weight[1, 0]
    assert found.weight[0, 0] == pytest.approx(-a, abs=1e-3)
    assert 2 / (1 + np.exp(2 * a)) == pytest.approx(a, abs=1e-3)
    assert found.bias == pytest.approx([0, 0], abs=1e-3)


def test_the_solution_does_not_depend_on_the_strengths_tried_before():
    X, targets = made(30, 8, 3)
    one = LogisticProblem(X, targets, np.ones(30))
    for strength in (100.0, 0.01):
        one.solve(strength)
    fresh = LogisticProblem(X, targets, np.ones(30)).solve(1.0)
    assert one.solve(1.0).weight == pytest.approx(fresh.weight, abs=1e-2)


def test_with_fewer_examples_than_dimensions_the_solution_is_the_same():
    # 60 dimensions of which 50 are always 0 are 10 dimensions.
    X, targets = made(12, 10, 3)
    wide = np.concatenate([X, np.zeros((12, 50), np.float32)], axis=1)
    narrow = LogisticProblem(X, targets, np.ones(12)).solve(1.0)
    found = LogisticProblem(wide, targets, np.ones(12)).solve(1.0)
    assert found.weight[:, :10] == pytest.approx(narrow.weight, abs=1e-2)
    assert np.abs(found.weight[:, 10:]).max() < 1e-9


def test_every_class_and_every_clip_counts_the_same():
    # One clip of class 0 with four windows; two clips of class 1 with one window each.
    targets = np.eye(2, dtype=np.float32)[[0, 0, 0, 0, 1, 1]]
    weights = balanced_weights(targets, np.array([0.25] * 4 + [1.0, 1.0]))
    assert weights == pytest.approx([0.375] * 4 + [0.75, 0.75])


def test_fitting_takes_one_thread_and_leaves_their_number_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
