"""Fit the temperature of a model, so that its probabilities match how often it is right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from touchline.models.checkpoint import TrainedModel, class_probs
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.types import Float32, Float64, Int64

TEMPERATURES = (0.05, 20.0)
"""The range searched for the temperature. A result at an end of it is not meaningful."""

MOST_FOLDS = 10
"""With more groups than this, several groups are left out together."""

NUM_BINS = 15
LEAST_PROB = 1e-12


@dataclass(frozen=True)
class Reliability:
    """Windows in 15 bins by the probability of their top class; (15,) each, NaN in empty bins.

    Attributes:
        confidence: Mean probability of the top class.
        accuracy: Share of windows whose top class is right.
        count: Number of windows.
    """

    confidence: Float64
    accuracy: Float64
    count: Float64

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |confidence - accuracy| (Naeini et al. 2015)."""
        full = self.count > 0
        gap = np.abs(self.confidence - self.accuracy)[full]
        return float((gap * self.count[full]).sum() / self.count.sum())


def window_probs(
    model: TrainedModel, logits: npt.NDArray[np.float32], temperature: float
) -> Float64:
    """Turn logits into probabilities.

    Args:
        model: The model; says whether classes exclude each other.
        logits: (N, K) logits.
        temperature: They are divided by it.

    Returns:
        Probabilities (N, K).
    """
    probs = class_probs(
        torch.from_numpy(logits) / temperature,
        has_background=model.has_background,
        multi_label=model.multi_label,
    )
    return probs.numpy().astype(np.float64)


def negative_log_likelihood(model: TrainedModel, probs: Float64, truth: Int64) -> float:
    """Average the negative log-likelihood over N windows.

    Args:
        model: A multi-label model counts all classes, others the true class only.
        probs: (N, K) probabilities.
        truth: (N,) the column of each true class.
    """
    rows = np.arange(len(truth))
    if not model.multi_label:
        return float(-np.log(np.maximum(probs[rows, truth], LEAST_PROB)).mean())
    right = np.zeros(probs.shape, dtype=np.bool_)
    right[rows, truth] = True
    likelihood = np.where(right, probs, 1 - probs)
    return float(-np.log(np.maximum(likelihood, LEAST_PROB)).sum(axis=1).mean())


def fit_temperature(
    model: TrainedModel, logits: Float32, truth: Int64, *, doubt: float = 0.0
) -> float:
    """Fit the temperature with the least negative log-likelihood (Guo et al. 2017).

    The loss is convex in 1 / temperature, so golden-section search finds its only minimum.

    Args:
        model: The model; says whether classes exclude each other.
        logits: (N, K) logits of N windows.
        truth: (N,) the column of each true class.
        doubt: Probability that a label is wrong, as in `fit_model_temperature`.
    """
    golden = (math.sqrt(5) - 1) / 2
    low, high = (math.log(t) for t in TEMPERATURES)
    # A background that was never trained takes no part.
    first = 0 if model.has_background else 1
    scores = torch.from_numpy(logits[:, first:]).double()
    target = _doubtful_target(scores, truth - first, doubt, multi_label=model.multi_label)

    def loss(x: float) -> float:
        scaled = scores / math.exp(x)
        if model.multi_label:
            return float(binary_cross_entropy_with_logits(scaled, target))
        return float(cross_entropy(scaled, target))

    a, b = high - golden * (high - low), low + golden * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    while high - low > 1e-4:
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - golden * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + golden * (high - low)
            loss_b = loss(b)
    return math.exp((low + high) / 2)


def _doubtful_target(scores: Tensor, truth: Int64, doubt: float, *, multi_label: bool) -> Tensor:
    """(N, K) 1 - doubt for the true class; the others share `doubt` as the model does.

    With equal shares, classes with very low logits would dominate the loss.
    """
    true = torch.zeros(scores.shape, dtype=torch.bool)
    true[torch.arange(len(truth)), torch.from_numpy(truth)] = True
    if multi_label:
        rest = torch.full_like(scores, doubt)
    elif scores.shape[1] > 1:
        rest = doubt * scores.masked_fill(true, -torch.inf).softmax(dim=1)
    else:
        return torch.ones_like(scores)
    return torch.where(true, 1 - doubt, rest)


def fit_model_temperature(model: TrainedModel, scores: ClipScores) -> float:
    """Fit the temperature to the windows of these clips.

    Each label counts as right with probability (N + 1) / (N + 2) for N clips (Platt 1999).
    Otherwise a few clips that are all classified correctly would drive the temperature to zero. N
    counts clips, because the windows of one clip are not independent.
    """
    logits, truth = every_window(model, scores)
    return fit_temperature(model, logits, truth, doubt=1 / (len(scores.truth) + 2))


def at_the_end(temperature: float) -> bool:
    """Check whether a fitted temperature is at an end of `TEMPERATURES`."""
    low, high = TEMPERATURES
    return temperature < 1.01 * low or temperature > high / 1.01


def held_out_probs(model: TrainedModel, scores: ClipScores) -> Float64 | None:
    """Compute the probabilities of each window at the temperature fitted on other groups.

    Returns:
        (N V, K) probabilities; None if there is only one group.
    """
    fold_of = {group: g % MOST_FOLDS for g, group in enumerate(sorted(set(scores.groups)))}
    if len(fold_of) < 2:
        return None
    fold = np.array([fold_of[group] for group in scores.groups])
    logits, _ = every_window(model, scores)
    fold_of_window = np.repeat(fold, scores.logits.shape[1])
    probs = np.zeros(logits.shape)
    for out in np.unique(fold):
        temperature = fit_model_temperature(model, scores.take(fold != out))
        left_out = fold_of_window == out
        probs[left_out] = window_probs(model, logits[left_out], temperature)
    return probs


def every_window(model: TrainedModel, scores: ClipScores) -> tuple[npt.NDArray[np.float32], Int64]:
    """List every window separately: logits (N V, K) and true classes (N V,).

    Raises:
        ValueError: There are no clips, or some are background and the model has no background.
    """
    N, V, K = scores.logits.shape
    if N == 0:
        raise ValueError("there are no clips to calibrate on")
    if not model.has_background and (scores.truth == 0).any():
        raise ValueError(
            f"{int((scores.truth == 0).sum())} clips are background, but the model never learnt "
            "background (its probability is 0). Leave these clips out, or train with negatives."
        )
    return scores.logits.reshape(N * V, K), np.repeat(scores.truth, V)


def measure_reliability(probs: Float64, truth: Int64) -> Reliability:
    """Measure how often the top class is right, by its probability."""
    top = probs.max(axis=1)
    right = probs.argmax(axis=1) == truth
    bins = np.minimum((top * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    count = np.bincount(bins, minlength=NUM_BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(bins, top, minlength=NUM_BINS) / count
        accuracy = np.bincount(bins, right, minlength=NUM_BINS) / count
    return Reliability(confidence, accuracy, count)
