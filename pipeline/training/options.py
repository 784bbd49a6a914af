"""Options of fine-tuning, with their defaults and limits; imports the standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from touchline.pipeline.clips.options import SAMPLINGS, Augmentation

BALANCES = ("weights", "sampling", "none")

BATCHNORMS = ("train", "keep")

LIMITS: dict[tuple[float, float], tuple[str, ...]] = {
    (1, math.inf): (
        "epochs",
        "batch_size",
        "accumulate",
        "val_views",
        "validate_every",
        "patience",
    ),
    (0, math.inf): (
        "trunk_lr_scale",
        "stage_lr_decay",
        "weight_decay",
        "focal_gamma",
        "mixup",
        "max_skipped",
        "cached_views",
        "max_bad",
        "seed",
    ),
    (0, 1): ("warmup", "label_smoothing", "ema"),
}
"""From the first number up to below the second."""

POSITIVE = ("lr", "max_clip_s", "max_seconds")


@dataclass(frozen=True)
class TrainOptions:
    """How to fine-tune; the defaults suit a few dozen clips.

    freeze: how many stages stay as they are, from the first on.
    unfreeze: pairs (epoch, stages): after so many epochs only the first `stages` stay frozen.
    batch_size: clips per step and process; accumulate: so many such batches make one step.
    trunk_lr_scale: learning rate of the last stage as a share of `lr`, the head's;
    stage_lr_decay: each stage before another learns at this share of its rate.
    warmup: share of the training in which the learning rate rises.
    batchnorm: trained stages normalise by their batches (train) or by the statistics that they
        came with (keep).
    balance: rare classes weigh more (weights), are drawn more often (sampling), or neither (none).
    focal_gamma: more than 0 counts examples already right for less.
    mixup: more than 0 blends pairs of clips with shares from Beta(mixup, mixup).
    ema: decay of the average of the weights that is validated and kept; 0 keeps the weights.
    patience: so many epochs without a better one end training.
    max_seconds: wall-clock budget, decoding and feature extraction counted in; the schedule
        follows whichever of epochs and budget runs out first, in the middle of an epoch too.
    max_skipped: more steps in a row whose gradient is not finite end training.
    sampling: windows of consecutive frames (dense), or frames spread over the clip (uniform).
    cached_views: with frozen stages, so many augmented views of each clip are carried through
        them once and reused; 0 carries fresh views through every epoch.
    val_views: windows per validation clip, probabilities averaged.
    validate_every: epochs from one validation to the next; the last epoch is always validated.
    """

    freeze: int = 0
    unfreeze: tuple[tuple[int, int], ...] = ()
    epochs: int = 40
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 1e-3
    trunk_lr_scale: float = 0.1
    stage_lr_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip_grad: float = 1.0
    batchnorm: str = "train"
    balance: str = "weights"
    focal_gamma: float = 0.0
    mixup: float = 0.0
    ema: float = 0.0
    patience: int | None = None
    max_seconds: float | None = None
    max_skipped: int = 20
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    sampling: str = "dense"
    cached_views: int = 4
    val_views: int = 3
    validate_every: int = 1
    max_clip_s: float | None = None
    max_bad: int = 0
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for (least, below), names in LIMITS.items():
            for name in names:
                value = getattr(self, name)
                if value is not None and not least <= value < below:
                    upper = "finite" if below == math.inf else f"below {below:g}"
                    raise ValueError(f"{name} is {value}; it must be at least {least:g}, {upper}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; it must be more than 0, finite")
        if not self.clip_grad > 0:
            raise ValueError(f"clip_grad is {self.clip_grad}; it must be more than 0")
        for name, choices in (
            ("sampling", SAMPLINGS),
            ("balance", BALANCES),
            ("batchnorm", BATCHNORMS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}"
                )
        frozen = [self.freeze, *(stages for _, stages in sorted(self.unfreeze))]
        if any(later >= earlier for earlier, later in pairwise(frozen)):
            raise ValueError(
                f"unfreeze leaves {frozen[1:]} stages frozen one after the other, from {frozen[0]} "
                "on; each must leave fewer"
            )
        if self.unfreeze and max(epoch for epoch, _ in self.unfreeze) >= self.epochs:
            raise ValueError(
                f"unfreeze frees a stage after {max(epoch for epoch, _ in self.unfreeze)} epochs, "
                f"which never comes in {self.epochs}"
            )

    def frozen_at(self, epoch: int) -> int:
        """How many stages are frozen in the epoch of this number, from 0."""
        return min([self.freeze, *(stages for at, stages in self.unfreeze if at <= epoch)])

    def views(self) -> ViewPlan:
        return ViewPlan(
            augmentation=self.augmentation,
            sampling=self.sampling,
            cached=self.cached_views,
            val=self.val_views,
            seed=self.seed,
            max_clip_s=self.max_clip_s,
        )


@dataclass(frozen=True)
class ViewPlan:
    """Which views there are of a clip.

    cached: so many random views of each are carried through the frozen stages and reused; 0 makes
    fresh ones in every epoch. val: windows per validation clip. max_clip_s: how much of each clip
    was loaded.
    """

    augmentation: Augmentation | None
    sampling: str
    cached: int
    val: int
    seed: int
    max_clip_s: float | None = None
