"""Tune a head so that it scores shared features as it scored whole windows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.models.checkpoint import TrainedModel, mask_background
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import batched, frames_of, slide
from touchline.pipeline.runs.agreement import join_clips, whole_hop
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Frames

NUM_ORDERS = 2
"""The clips are joined in this many orders, each with other neighbours."""

STEPS = 400
LR = 3e-3


def tune_on_shared(
    model: TrainedModel,
    clips: Sequence[LabelledClip],
    *,
    device: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> TrainedModel:
    """Return a copy of the model whose head fits features that are computed once over the footage.

    Training clips are joined. What the head says of each whole window is what it learns to say of
    the same window of shared features; of whole windows it must go on to say it. So one head serves
    both ways, and labels are not needed.

    Args:
        model: The trained model; its trunk is one that `can_share`. It stays as it is.
        clips: Training clips, one or more.
        device: Where the trunk runs: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, float32 or bf16.
        seed: Random seed of the orders.
        on_step: Called with how much of the work is done, and how much there is.

    Raises:
        ValueError: The trunk cannot be shared for windows of this length.
    """
    fast = Scorer(model, device=device, precision=precision, mode="shared")
    plain = Scorer(model, device=device, precision=precision, mode="windows")
    hop = whole_hop(model, fast.stride)
    footage = [join_clips(model, clips, seed=seed + k) for k in range(NUM_ORDERS)]
    on_step(0, STEPS)
    whole = torch.cat([_window_features(plain, frames, hop) for frames in footage])
    shared = torch.cat([_shared_features(fast, frames, hop) for frames in footage])
    tuned = replace(model, backbone=copy.deepcopy(model.backbone).cpu())
    head = tuned.backbone.head.eval().requires_grad_(True)
    with torch.no_grad():
        target = _log_probs(model, head(whole)).exp()
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=0.0)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LR * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model, head(shared), target) + _loss(model, head(whole), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        on_step(step + 1, STEPS)
    return tuned


def _log_probs(model: TrainedModel, logits: Tensor) -> Tensor:
    logits = mask_background(logits / model.temperature, has_background=model.has_background)
    return F.logsigmoid(logits) if model.multi_label else F.log_softmax(logits, dim=1)


def _loss(model: TrainedModel, logits: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy to target probabilities (N, K)."""
    logits = logits / model.temperature
    first = 0 if model.has_background else 1
    logits, target = logits[:, first:], target[:, first:]
    if model.multi_label:
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()
    return F.cross_entropy(logits, target)


def _window_features(scorer: Scorer, frames: Frames, hop: int) -> Tensor:
    """Features (N, D, T') of whole windows, each by itself, on the CPU."""
    spec = scorer.model.spec
    windows = slide(frames_of([frames], spec), length=spec.num_frames, hop=hop)
    found = []
    for batch in batched(windows, scorer.batch_size):
        clips = np.stack([np.stack([frame.item for frame in window]) for window, _ in batch])
        found.append(scorer.features(clips).float().cpu())
    return torch.cat(found).clone()


def _shared_features(scorer: Scorer, frames: Frames, hop: int) -> Tensor:
    """The features (N, D, T') of the same windows, computed once over the footage."""
    spec, stride = scorer.model.spec, scorer.stride
    track = scorer.feature_track(frames_of([frames], spec))
    windows = slide(track, length=spec.num_frames // stride, hop=hop // stride)
    found = [torch.stack([row.item for row in window], dim=-1) for window, _ in windows]
    return torch.stack(found).float().cpu().clone()
