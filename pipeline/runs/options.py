"""Describe a training run: what to train, on which labels; imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from touchline.pipeline.training.options import TrainOptions


@dataclass(frozen=True)
class TrainJob:
    """What to train on what; None takes the default of the weights, or of the backbone.

    weights: a file or a name; None starts from random weights.
    freeze: a number of stages, the name of the last frozen stage, or `trunk` for all; None is
    `trunk` with weights and 0 without.
    unfreeze: pairs (epoch, stage): after so many epochs this stage and those behind it train too.
    val_groups: None chooses whole groups that hold about `val_share` of each class.
    background: eventless footage; all of it is for training.
    background_ratio: where labels have times, so many stretches of unlabelled time per event
    become background examples, background_margin_s away from every label.
    hard_negatives: an earlier model; half of those stretches are the ones it takes for events.
    multi_label: classes are independent of each other; labels that overlap are one example.
    """

    labels: Path
    backbone: str
    weights: str | None = None
    freeze: str | None = None
    unfreeze: tuple[tuple[int, str], ...] = ()
    val_groups: tuple[str, ...] | None = None
    val_share: float = 0.2
    exclude_groups: tuple[str, ...] = ()
    background: tuple[Path, ...] = ()
    background_label: str | None = None
    background_ratio: float = 1.0
    background_margin_s: float = 2.0
    hard_negatives: Path | None = None
    multi_label: bool = False
    num_frames: int | None = None
    rate_hz: float | None = None
    size_px: int | None = None
    fit: str | None = None
    options: TrainOptions = field(default_factory=TrainOptions)
