"""Fit logistic regression to features: a convex problem, solved exactly in well under a second.

The loss is sum_i w_i * loss_i + |W|^2 / (2 C): cross-entropy for exclusive classes, binary
cross-entropy for independent ones (Hastie, Tibshirani & Friedman 2009, section 4.4). The penalty is
on features that are centred and scaled to mean square length 1. The bias is not penalised.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.pipeline.types import Float32, Float64

MAX_STEPS = 100
TOLERANCE = 1e-4
"""The largest gradient at which solving stops, per unit of C: far below what changes an answer."""


@dataclass(frozen=True)
class Linear:
    """A linear layer: features (N, D) -> logits (N, K).

    Attributes:
        weight: (K, D) float64.
        bias: (K,) float64.
    """

    weight: Float64
    bias: Float64

    def __call__(self, features: Float32) -> Float64:
        """Features (N, D) -> logits (N, K)."""
        logits: Float64 = features @ self.weight.T + self.bias
        return logits

    def divided_by(self, temperature: float) -> Linear:
        """Return the layer with its logits divided by a temperature."""
        return Linear(self.weight / temperature, self.bias / temperature)

    def with_column_0(self) -> Linear:
        """Return the layer with one more logit before the others, always 0."""
        weight = np.concatenate([np.zeros_like(self.weight[:1]), self.weight])
        return Linear(weight, np.concatenate([[0.0], self.bias]))


class LogisticProblem:
    """Features and targets of one training set, prepared once for several strengths C.

    The solution lies in the span of the features. With fewer examples than dimensions the problem
    is therefore solved in as many dimensions as there are examples.
    """

    def __init__(
        self, features: Float32, targets: Float32, weights: Float64, *, multi_label: bool = False
    ) -> None:
        """Prepare the problem.

        Args:
            features: (N, D), one row per example.
            targets: (N, K), 1 in the column of each example's class, else 0.
            weights: (N,) how much each example counts, more than 0.
            multi_label: Whether classes are independent of each other.
        """
        X = torch.from_numpy(np.asarray(features, dtype=np.float64))
        # Centred, the problem is better conditioned; the bias takes the centre in.
        self._centre = X.mean(dim=0)
        X = X - self._centre
        # At mean square length 1, the same strengths suit features of any scale.
        self._scale = float(X.pow(2).sum(dim=1).mean().sqrt()) or 1.0
        X = X / self._scale
        self._basis: Tensor | None = None  # (D, R)
        if X.shape[0] < X.shape[1]:
            with one_thread():
                X, self._basis = _to_span(X)
        self._X = X
        self._targets = torch.from_numpy(np.asarray(targets, dtype=np.float64))
        self._weights = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        self._multi_label = multi_label
        K = targets.shape[1]
        self._start = (X.new_zeros(K, X.shape[1]), X.new_zeros(K))

    def solve(self, strength: float) -> Linear:
        """Return the minimum for C = `strength`; a later call starts from the one before."""
        weight, bias = (x.clone().requires_grad_() for x in self._start)
        optimizer = torch.optim.LBFGS(
            [weight, bias],
            max_iter=MAX_STEPS,
            tolerance_grad=TOLERANCE * max(1.0, strength),
            tolerance_change=1e-12,
            history_size=20,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = self._data_loss(self._X @ weight.T + bias) * strength
            value = value + (weight**2).sum() / 2
            value.backward()  # type: ignore[no-untyped-call]
            return value

        with one_thread():
            optimizer.step(loss)  # type: ignore[no-untyped-call]
        solved = weight.detach(), bias.detach()
        self._start = solved
        full = solved[0] if self._basis is None else solved[0] @ self._basis.T
        full = full / self._scale
        return Linear(full.numpy(), (solved[1] - full @ self._centre).numpy())

    def _data_loss(self, logits: Tensor) -> Tensor:
        if self._multi_label:
            losses = F.binary_cross_entropy_with_logits(logits, self._targets, reduction="none")
            return (losses.sum(dim=1) * self._weights).sum()
        return (F.cross_entropy(logits, self._targets, reduction="none") * self._weights).sum()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread.

    Fitting a head takes thousands of small operations. Several threads wait for each other in each
    of them: with another process on the machine, 74 clips took 9 s with two threads and 0.3 s with
    one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _to_span(X: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D), N < D, in an orthonormal basis of their span: (N, R) and the basis (D, R)."""
    # The singular value decomposition by way of X X^T, which is ten times as fast.
    squares, U = torch.linalg.eigh(X @ X.T)
    kept = squares > squares[-1] * 1e-12
    lengths = squares[kept].sqrt()
    return U[:, kept] * lengths, X.T @ U[:, kept] / lengths


def balanced_weights(targets: Float32, counts: Float64) -> Float64:
    """Return (N,) weights with which every class counts the same in all, as does every clip in it.

    Args:
        targets: (N, K), 1 in the column of each example's class, else 0.
        counts: (N,) the share of its clip that each example is; a clip of V examples gives 1 / V.
    """
    per_class = (targets * counts[:, None]).sum(axis=0)
    present = per_class > 0
    factor = np.zeros(len(per_class))
    factor[present] = per_class.sum() / (present.sum() * per_class[present])
    weights: Float64 = (targets * factor).max(axis=1) * counts
    return weights
