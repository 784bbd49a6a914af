"""Options of training on photos of players; quick to import, so that `--help` is."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.models.errors import check_seed
from touchline.models.training_record import CROPS
from touchline.pipeline.runs.options import DEFAULT_BACKBONE, DEFAULT_WEIGHTS

UNKNOWN = "unknown"
"""A folder of this name holds people who are none of the players."""

HEADS = ("linear", "dense")

MIN_SIZE_PX = {"face": 32, "none": 96}
"""Of a face, and of a whole photo: of head and chest, whose face then has about 32 pixels."""

MIN_SHARPNESS = 30.0

LEAST_PROB = 0.5
"""No name is given below this probability, whatever the held-out photos say."""


@dataclass(frozen=True)
class PlayersOptions:
    """How `train_players` learns players from photos.

    Attributes:
        backbone: A network that sees pictures one by one, a name of `touchline models`.
        weights: Its pretrained weights: a name or a file.
        head: linear (logistic regression, solved exactly), or dense (flatten, 512 units, softmax,
            trained by gradient descent).
        freeze: A number of stages, the name of the last frozen stage, or `trunk` for all stages.
            Stages behind it are trained from the linear head, where cross-validation gains.
        epochs: Most passes over the photos where something is trained by gradient descent.
        min_right: The share of names that should be right; sets the least probability of a name.
        max_strangers: The share of strangers' photos that may get a name; raises the least
            probability of a name, where it can be measured.
        crop: What is looked at. face: the largest face of a photo; photos without a face are left
            out, and not named later. none: the whole photo.
        min_size_px: Faces, or photos, whose shorter side is shorter are left out, and not named
            later. None: 32 for faces, 96 for whole photos.
        min_sharpness: Those that are softer are left out, and not named later; see `sharpness`.
        max_bad: How many files that are no pictures may be skipped.
        seed: Seed of all random numbers.

    Raises:
        ValueError: An option is outside its range.

    Example:
        >>> from touchline.pipeline import PlayersOptions
        >>> PlayersOptions(min_right=0.99).head
        'linear'
    """

    backbone: str = DEFAULT_BACKBONE
    weights: str = DEFAULT_WEIGHTS
    head: str = "linear"
    freeze: str = "trunk"
    epochs: int = 10
    min_right: float = 0.95
    max_strangers: float = 0.1
    crop: str = "face"
    min_size_px: int | None = None
    min_sharpness: float = MIN_SHARPNESS
    max_bad: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head is {self.head!r}. Use one of {', '.join(HEADS)}")
        if self.head == "dense" and self.freeze != "trunk":
            raise ValueError("head is dense, which needs a frozen trunk. Use --freeze trunk")
        if not 0.5 <= self.min_right <= 1:
            raise ValueError(f"min_right is {self.min_right}; it must be in [0.5, 1]")
        if not 0 <= self.max_strangers <= 1:
            raise ValueError(f"max_strangers is {self.max_strangers}; it must be in [0, 1]")
        if self.crop not in CROPS:
            raise ValueError(f"crop is {self.crop!r}. Use one of {', '.join(CROPS)}")
        if not 16 <= self.least_size_px <= 4096:
            raise ValueError(f"min_size_px is {self.min_size_px}; it must be in [16, 4096]")
        if not 0 <= self.min_sharpness < float("inf"):
            raise ValueError(f"min_sharpness is {self.min_sharpness}; it must be 0 or more")
        if self.epochs < 1 or self.max_bad < 0:
            raise ValueError(
                f"epochs is {self.epochs} and max_bad is {self.max_bad}; they must be at least 1 "
                "and 0"
            )
        check_seed(self.seed)

    @property
    def least_size_px(self) -> int:
        """How long the shorter side of a face, or of a photo, must be."""
        return MIN_SIZE_PX[self.crop] if self.min_size_px is None else self.min_size_px


@dataclass(frozen=True)
class WhoOptions:
    """Where players are looked for after an event, and how much evidence names one.

    Attributes:
        after_s: Seconds after the event that are looked at, in (0, 120].
        rate_hz: Pictures per second, in (0, 10].
        size_px: Larger pictures are scaled down until their shorter side has this many pixels.
        min_reading: Least probability of a digit.
        min_pictures: In how many pictures the number must be read, or the face be recognised.
        min_share: The share of the votes that one player must have, in [0.5, 1]: of all numbers of
            the line-up, or of all faces that are large and sharp enough, also those without a name.

    Raises:
        ValueError: An option is outside its range.
    """

    after_s: float = 12.0
    rate_hz: float = 2.0
    size_px: int = 720
    min_reading: float = 0.7
    min_pictures: int = 3
    min_share: float = 0.6

    def __post_init__(self) -> None:
        if not 0 < self.after_s <= 120:
            raise ValueError(f"after_s is {self.after_s}; it must be in (0, 120]")
        if not 0 < self.rate_hz <= 10:
            raise ValueError(f"rate_hz is {self.rate_hz}; it must be in (0, 10]")
        if not 0.5 <= self.min_share <= 1:
            raise ValueError(f"min_share is {self.min_share}; it must be in [0.5, 1]")
        if self.min_pictures < 1 or not 0 < self.min_reading <= 1:
            raise ValueError(
                f"min_pictures is {self.min_pictures} and min_reading is {self.min_reading}; they "
                "must be at least 1, and in (0, 1]"
            )
