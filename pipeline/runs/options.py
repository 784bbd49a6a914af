"""Options of a training run: which network, on which labels; imports only the standard library."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from touchline.pipeline.training.options import TrainOptions

DEFAULT_BACKBONE, DEFAULT_WEIGHTS = "cnn_lstm_lite0", "efficientnet_lite0-imagenet"
"""The network of `touchline train` without --backbone. Its weights are installed with Touchline."""


@dataclass(frozen=True)
class MatchFeatures:
    """Features of whole matches that may exist, as the studio and `detect --features` keep them.

    Attributes:
        folders: Where they lie.
        rate_hz: At how many frames per second they were made. A fitted head then samples at this
            rate, whether they exist or not. None: training is free to choose.
        size_px: The side of the picture that they were made from; None likewise.
    """

    folders: tuple[Path, ...] = ()
    rate_hz: float | None = None
    size_px: int | None = None


VAL_SHARE = 0.2
"""The share of clips to validate on."""


@dataclass(frozen=True)
class TrainJob:
    """Which network to train on which labels, and how.

    Attributes:
        labels: A label file, or a folder with one folder of clips per class.
        backbone: Name of the network.
        weights: Pretrained weights, a file or a name; None starts from random weights.
        freeze: A number of stages, the name of the last frozen stage, or `trunk` for all stages;
            None is `trunk` with weights and 0 without.
        head: own (the backbone's own, trained by gradient descent), linear (a linear layer over
            features pooled over a window), frame (a linear layer over the features of each frame),
            temporal (small convolutions over time, for hundreds of clips) or auto (frame if there
            are background examples and the backbone works frame by frame, else linear; temporal is
            compared if there are enough clips). These four are fitted in seconds to the frozen
            trunk. Stages that are left to train are then fine-tuned from a
            linear head, where cross-validation says that this is better.
        unfreeze: Pairs (epoch, stage): after this many epochs the stage and all later ones train
            too.
        val_groups: Groups to validate on; None chooses groups by `val_share`.
        val_share: Without val_groups: the share of each class's clips to validate on, in whole
            groups. None is VAL_SHARE, but 0 where a frame head is fitted to clips and background:
            cross-validation judges and calibrates it, so it can learn from all matches.
        exclude_groups: Groups to leave out of training and validation.
        background: Event-free footage; all of it is for training.
        background_label: The class of the labels that means background.
        background_ratio: If labels have times: how many background examples to take per event, from
            unlabelled parts of the video.
        background_margin_s: How many seconds these background examples stay away from every label.
        hard_negatives: An earlier model; half of these background examples are its false alarms.
        dense: Tune the head on features of a trunk that runs once over the footage, too.
        multi_label: Whether classes are independent of each other; labels of one stretch are then
            one clip.
        num_frames: Frames per window; None is the default of the weights, or of the backbone.
        rate_hz: Frames per second; None as for num_frames, or with a fitted head (linear, frame) as
            in `features`, or else so that a window is as long as the labelled clips.
        size_px: Shorter side of the frames; None as for num_frames.
        fit: crop, squash or pad; None as for num_frames.
        features: Features of whole matches that a fitted head is to use instead of decoding clips.
        options: How to train.
    """

    labels: Path
    backbone: str
    weights: str | None = None
    freeze: str | None = None
    head: str = "own"
    unfreeze: tuple[tuple[int, str], ...] = ()
    val_groups: tuple[str, ...] | None = None
    val_share: float | None = None
    exclude_groups: tuple[str, ...] = ()
    background: tuple[Path, ...] = ()
    background_label: str | None = None
    background_ratio: float = 1.0
    background_margin_s: float = 2.0
    hard_negatives: Path | None = None
    dense: bool = False
    multi_label: bool = False
    num_frames: int | None = None
    rate_hz: float | None = None
    size_px: int | None = None
    fit: str | None = None
    features: MatchFeatures = field(default_factory=MatchFeatures)
    options: TrainOptions = field(default_factory=TrainOptions)
