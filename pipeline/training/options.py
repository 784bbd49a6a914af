"""Options of fine-tuning, with their defaults and limits; imports only the standard library."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from touchline.pipeline.clips.options import SAMPLINGS, Augmentation

BALANCES = ("weights", "sampling", "none")
"""How rare classes are balanced.

weights: they count more in the loss. sampling: their clips are drawn more often. none: not at all.
"""

BATCHNORMS = ("train", "keep")
"""What BatchNorm of trained stages uses.

train: the statistics of each batch. keep: the statistics from before training.
"""

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
"""Numbers are at least the first value and less than the second."""

POSITIVE = ("lr", "max_clip_s", "max_seconds")


@dataclass(frozen=True)
class TrainOptions:
    """How to fine-tune; the defaults suit a few dozen clips.

    Attributes:
        freeze: How many stages stay fixed, counted from the input.
        unfreeze: Pairs (epoch, stages): after this many epochs only the first `stages` stay frozen.
        epochs: The most passes over the clips.
        batch_size: Clips per batch and process.
        accumulate: How many batches make one optimizer step.
        lr: Peak learning rate of the head.
        trunk_lr_scale: Learning rate of the last stage as a fraction of `lr`.
        stage_lr_decay: Learning rate of each stage as a fraction of the next stage's.
        weight_decay: Of AdamW; biases and norms do not decay.
        warmup: Fraction of training in which the learning rate rises, in [0, 1).
        label_smoothing: How much of each target is spread over all classes, in [0, 1).
        clip_grad: The largest norm of a gradient; longer ones are scaled down to it.
        batchnorm: One of BATCHNORMS.
        balance: One of BALANCES.
        focal_gamma: Gamma of the focal loss: above 0, clips already classified well count less.
        mixup: Alpha of mixup: above 0, pairs of clips are blended.
        ema: Decay of the moving average of the weights, which is validated and kept; 0: no average.
        patience: Stop after this many epochs without a lower smoothed validation loss; None never
            stops early.
        max_seconds: Time limit of the whole call. If decoding or frozen features alone would take
            longer, the call ends early with an error. The learning rate falls with the time or with
            the epochs, whichever ends first.
        max_skipped: Training ends if more steps in a row have a gradient that is not finite.
        augmentation: How training clips are varied; None leaves them as they are.
        sampling: One of SAMPLINGS: consecutive frames (dense) or spread over the clip (uniform).
        cached_views: With frozen stages, how many random views of each clip are computed once and
            reused; 0 computes new views in every epoch.
        val_views: Windows per validation clip; their probabilities are averaged.
        validate_every: Epochs between validations; the last epoch is always validated.
        max_clip_s: Use at most this many seconds of each clip; None uses all of it.
        max_bad: How many unreadable clips may be skipped.
        precision: auto (bf16 where it is faster), float32 or bf16.
        seed: Seed of all random numbers; the same seed gives the same model on one machine.

    Raises:
        ValueError: An option is out of its range.

    Example:
        Two stages are frozen, and the second one is freed after ten epochs:

        >>> from touchline.pipeline import TrainOptions
        >>> options = TrainOptions(freeze=2, unfreeze=((10, 1),), epochs=20)
        >>> options.frozen_at(0), options.frozen_at(10)
        (2, 1)
        >>> TrainOptions(epochs=0)
        Traceback (most recent call last):
        ValueError: epochs is 0; it must be at least 1, finite
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
                "--unfreeze-at must free more stages each time; the frozen counts are "
                f"{', '.join(map(str, frozen))}"
            )
        last = max((epoch for epoch, _ in self.unfreeze), default=0)
        if self.unfreeze and last >= self.epochs:
            raise ValueError(
                f"--unfreeze-at frees a stage after epoch {last}, but training ends after epoch "
                f"{self.epochs}"
            )

    def frozen_at(self, epoch: int) -> int:
        """Return how many stages are frozen in an epoch, counted from 0."""
        return min([self.freeze, *(stages for at, stages in self.unfreeze if at <= epoch)])

    def views(self) -> ViewPlan:
        """Return the options that say which views of a clip there are."""
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
    """Which views of a clip the network sees.

    Attributes:
        augmentation: How training views are varied; None leaves them as they are.
        sampling: One of SAMPLINGS.
        cached: How many random views of each clip are computed once and reused; 0 computes new
            views in every epoch.
        val: Windows per validation clip.
        seed: Seed of the random views.
        max_clip_s: How many seconds of each clip were loaded at most; None for all.
    """

    augmentation: Augmentation | None
    sampling: str
    cached: int
    val: int
    seed: int
    max_clip_s: float | None = None
