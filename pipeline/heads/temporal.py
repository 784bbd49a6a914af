"""Train a temporal head on features of a frozen trunk: seconds for hundreds of clips."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from touchline.models.heads import HeadSpec, TemporalHead, normalise_features
from touchline.pipeline.heads.logistic import one_thread
from touchline.pipeline.types import Float32, Float64

EPOCHS = 40
MAX_STEPS = 400
"""Training ends after EPOCHS or after MAX_STEPS, whichever comes first."""

BATCH_SIZE = 32
LR = 2e-3

TEMPORAL_STRENGTHS = (10.0,)
"""The strengths that are tried; the weight decay of AdamW is the inverse."""

MIN_CLIPS_PER_CLASS = 100
"""With fewer training clips in any class, `auto` does not try a temporal head."""

MIN_STEPS_IN_TIME = 4
"""With fewer features per window, `auto` does not try it either: there is hardly an order."""


@dataclass(frozen=True)
class FittedTemporal:
    """A trained head: features (N, D, T) -> logits (N, K)."""

    head: TemporalHead

    @torch.no_grad()
    def __call__(self, features: Float32) -> Float64:
        """Features (N, D, T) -> logits (N, K)."""
        logits: Float64 = self.head(torch.from_numpy(features)).double().numpy()
        return logits

    def with_column_0(self) -> FittedTemporal:
        """Return the head with one more logit before the others, always 0."""
        head = copy.deepcopy(self.head)
        layer = head.linear
        layer.out_features += 1
        for name in ("weight", "bias"):
            old = getattr(layer, name).detach()
            setattr(layer, name, nn.Parameter(torch.cat([torch.zeros_like(old[:1]), old])))
        return FittedTemporal(head)


class TemporalProblem:
    """Features and targets of one training set; solved as `LogisticProblem` is, but by AdamW."""

    def __init__(
        self,
        spec: HeadSpec,
        features: Float32,
        targets: Float32,
        weights: Float64,
        *,
        multi_label: bool = False,
        limit_s: float | None = None,
    ) -> None:
        """Prepare the problem.

        Args:
            spec: The head.
            features: (N, D, T), one row per window.
            targets: (N, K), 1 in the columns of the classes of each window, else 0.
            weights: (N,) how much each window counts.
            multi_label: Whether classes are independent of each other.
            limit_s: The most seconds of a training; the learning rate falls with the time.
        """
        self._spec = spec
        self._X = torch.from_numpy(features)
        self._targets = torch.from_numpy(targets)
        self._weights = torch.from_numpy((weights / weights.mean()).astype(np.float32))
        self._multi_label = multi_label
        self._limit_s = limit_s

    def solve(self, strength: float) -> FittedTemporal:
        """Return a head trained with weight decay 1 / `strength`; the same one in every call."""
        # Weights and dropout have their own random numbers.
        with torch.random.fork_rng(devices=[]), one_thread():
            torch.manual_seed(0)
            return FittedTemporal(self._train(1 / strength))

    def _train(self, weight_decay: float) -> TemporalHead:
        X, began, done = self._X, time.monotonic(), 0.0
        head = TemporalHead(self._spec, X.shape[1], self._targets.shape[1])
        _standardise(head, X)
        optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=weight_decay)
        steps_per_epoch = math.ceil(len(X) / BATCH_SIZE)
        num_steps = min(EPOCHS * steps_per_epoch, MAX_STEPS)
        step = 0
        while done < 1:
            if step % steps_per_epoch == 0:
                batches = torch.randperm(len(X)).tensor_split(steps_per_epoch)
            batch = batches[step % steps_per_epoch]
            for group in optimizer.param_groups:
                group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * done))
            optimizer.zero_grad(set_to_none=True)
            self._loss(head(X[batch]), batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            done = step / num_steps
            if self._limit_s is not None:
                done = max(done, (time.monotonic() - began) / self._limit_s)
        return head.eval()

    def _loss(self, logits: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        targets = self._targets[batch]
        if self._multi_label:
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        else:
            losses = F.cross_entropy(logits, targets, reduction="none")
        return (losses * self._weights[batch]).mean()


def _standardise(head: TemporalHead, X: torch.Tensor) -> None:
    """Centre the features (N, D, T), and scale them to mean square 1."""
    normalised = normalise_features(X, head.spec)
    centre = normalised.mean(dim=(0, 2))[:, None]
    head.centre.copy_(centre)
    head.scale.copy_((normalised - centre).pow(2).mean().sqrt().clamp_min(1e-12))


def suits_temporal(targets: Float32, num_steps: int) -> bool:
    """Return whether `auto` tries a temporal head: enough clips of each class, and an order.

    Args:
        targets: (N, K) of the training clips.
        num_steps: T, features per window.
    """
    counts = targets.sum(axis=0)
    return num_steps >= MIN_STEPS_IN_TIME and bool(counts[counts > 0].min() >= MIN_CLIPS_PER_CLASS)
