"""How many events the open proposals still hide, from the answers given so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from touchline.pipeline.teaching.actions import State
from touchline.pipeline.types import Float64

LEAST_ANSWERS = 8
"""Fewer answers than this give no estimate; nor do answers that are all yes or all no."""

# Before any answer a score is a probability. Answers may show that all of them are too high or too
# low; that high scores mean no more than low ones, only many answers can show.
PRIOR_MEAN, PRIOR_SD = (0.0, 1.0), (2.0, 0.3)
DRAWS = 2000
LEVEL = 0.9


@dataclass(frozen=True)
class Missed:
    """How many open proposals are events: an estimate with its 90 % interval."""

    estimate: float
    low: int
    high: int

    def __str__(self) -> str:
        return (
            f"about {self.estimate:.0f} ({self.low} to {self.high}) of the open proposals are "
            "events; moments that are not proposed are not counted"
        )


def estimate_missed(state: State, open_scores: Sequence[float]) -> Missed | None:
    """Estimate how many of the open proposals are events.

    A logistic regression from score to answer (Platt 1999) is fitted to the proposals that were
    accepted or rejected. Its uncertainty (Laplace's approximation) and that of each open proposal
    give the interval.

    Args:
        state: The marks and rejections.
        open_scores: The scores of the proposals without an answer.

    Returns:
        None with too few answers.
    """
    answers = [(m.score, 1.0) for m in state.marks.values() if m.score is not None]
    answers += [(r.score, 0.0) for r in state.rejected.values() if r.score is not None]
    said_yes = sum(yes for _, yes in answers)
    if len(answers) < LEAST_ANSWERS or said_yes in (0, len(answers)):
        return None
    x = _inputs([score for score, _ in answers])
    y = np.array([yes for _, yes in answers])
    at, spread = _posterior(x, y)
    rng = np.random.default_rng(0)
    weights = rng.multivariate_normal(at, spread, size=DRAWS)
    p = _sigmoid(_inputs(open_scores) @ weights.T)  # (N, DRAWS)
    totals = (rng.random(p.shape) < p).sum(axis=0)
    low, high = np.quantile(totals, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Missed(round(float(p.mean(axis=1).sum()), 1), int(low), int(high))


def _inputs(scores: Sequence[float]) -> Float64:
    """(N, 2): 1 and the logit of each score."""
    p = np.clip(np.asarray(scores, dtype=np.float64), 1e-4, 1 - 1e-4)
    return np.stack([np.ones_like(p), np.log(p / (1 - p))], axis=1)


def _sigmoid(z: Float64) -> Float64:
    p: Float64 = 1.0 / (1.0 + np.exp(-z))
    return p


def _posterior(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Mode and covariance of the weights."""
    prior, precision = np.array(PRIOR_MEAN), np.diag(np.array(PRIOR_SD) ** -2.0)
    weights = prior.copy()
    for _ in range(50):
        p = _sigmoid(x @ weights)
        gradient = x.T @ (p - y) + precision @ (weights - prior)
        curvature = (x * (p * (1 - p))[:, None]).T @ x + precision
        weights = weights - np.linalg.solve(curvature, gradient)
    return weights, np.asarray(np.linalg.inv(curvature), dtype=np.float64)
