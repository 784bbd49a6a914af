"""The record of how a model came to be, and its versioned JSON form in a checkpoint."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from touchline.models.json_values import from_json, to_json

RECORD_VERSION = 2

CROPS = ("face", "none")


@dataclass(frozen=True)
class TrainedGroups:
    """The match groups of a training, by the part they had in it.

    Attributes:
        train: Groups the weights were trained on.
        val: Groups the training was validated on.
        excluded: Groups that were left out of both.
        earlier: Groups that the initial weights were trained on.
    """

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @property
    def seen(self) -> frozenset[str]:
        """Every group that the model or its initial weights were trained on."""
        return frozenset({*self.train, *self.earlier})


@dataclass(frozen=True)
class WeightsOrigin:
    """The pretrained weights that a model began with.

    Attributes:
        source: A name of `touchline models`, or a path.
        sha256: SHA-256 of the file, 64 hex digits.
        trained_on: The data, for published weights.
        address: Where they are published.
        licence: The licence they are published under.
        accuracy: The accuracy that their publisher states.
    """

    source: str
    sha256: str
    trained_on: str | None = None
    address: str | None = None
    licence: str | None = None
    accuracy: str | None = None


@dataclass(frozen=True)
class BeforeAfter:
    """A figure at the temperature before calibration and at the one after it."""

    before: float
    after: float


@dataclass(frozen=True)
class CalibrationTarget:
    """What thresholds were to achieve: its kind ("f1", "precision", ...) and its value."""

    kind: str
    value: float | None = None


@dataclass(frozen=True)
class PeakWidths:
    """How wide the score of one class is smoothed, and how far apart its spots are.

    Attributes:
        smooth_s: Standard deviation of the Gaussian that smooths the scores, in seconds.
        nms_s: Of two spots that are at most this many seconds apart, the lower one is dropped.

    Example:
        >>> from touchline.pipeline import EventOptions, PeakWidths
        >>> own = {"goal": PeakWidths(smooth_s=0.3, nms_s=4.0)}
        >>> EventOptions(spots=True, widths=own).widths["goal"].nms_s
        4.0
    """

    smooth_s: float
    nms_s: float

    def __post_init__(self) -> None:
        for name in ("smooth_s", "nms_s"):
            seconds = getattr(self, name)
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name} is {seconds}; it must be 0 or more seconds")


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold, and its effect on the clips and footage it was chosen on.

    Attributes:
        threshold: The threshold.
        reached: False if no threshold reaches the target; this one is then the closest.
        positives: How many windows or events of the class there are in the clips.
        precision: Precision on the clips; None if nothing is found.
        recall: Recall on the clips; None without clips of the class.
        f1: F1 on the clips, likewise.
        false_events: Events found in eventless footage; None without such footage.
        hours: Length of the eventless footage in hours; None without such footage.
        false_per_hour: False events per hour of eventless footage.
        false_per_hour_at_most: Upper 95 % confidence bound of that rate.
        widths: The smoothing and suppression that the threshold goes with; None if it was chosen
            on windows, or for intervals.
        timing_error_s: Median distance of the right events' peaks from the labelled moments.
    """

    threshold: float
    reached: bool = True
    positives: int = 0
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_events: int | None = None
    hours: float | None = None
    false_per_hour: float | None = None
    false_per_hour_at_most: float | None = None
    widths: PeakWidths | None = None
    timing_error_s: float | None = None


@dataclass(frozen=True)
class CalibrationEvidence:
    """What the temperature and the thresholds of a model rest on.

    Attributes:
        target: What the thresholds were to achieve.
        clips: How many clips were used.
        windows: How many windows of these clips were used.
        groups: The match groups of the clips.
        thresholds_of: What precision and recall count: "events" or "windows".
        stitched_orders: Orders in which the clips were stitched; 0 for thresholds of windows.
        eventless: File names of the eventless footage, with the times of stretches.
        temperature: The temperature that was fitted.
        held_out: Whether the figures after calibration are of windows held out from the fit.
        nll: Mean negative log-likelihood of the windows.
        ece: Expected calibration error of the windows.
        per_class: The evidence for each threshold.
        cross_validated: Whether training did it: clips that it learnt from were answered by heads
            that were fitted without their match.
    """

    target: CalibrationTarget
    clips: int
    windows: int
    groups: tuple[str, ...]
    thresholds_of: str
    stitched_orders: int
    eventless: tuple[str, ...]
    temperature: float
    held_out: bool
    nll: BeforeAfter
    ece: BeforeAfter
    per_class: Mapping[str, ThresholdChoice]
    cross_validated: bool = False


@dataclass(frozen=True)
class PhotoRules:
    """Which photos a model of players answers.

    Attributes:
        min_size_px: The shorter side of a photo, or of the face in it, must be at least this long.
        min_sharpness: Least sharpness of what is looked at, see `sharpness`; that of a face is
            relative to its contrast.
        crop: What is looked at, one of `CROPS`: the largest face of a photo, or the whole photo.

    Raises:
        ValueError: `crop` is none of `CROPS`.
    """

    min_size_px: int
    min_sharpness: float
    crop: str = "none"

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise ValueError(f"crop is {self.crop!r}; it must be one of {', '.join(CROPS)}")


@dataclass(frozen=True)
class SharedAgreement:
    """How well a trunk that runs once over the footage agrees with whole windows.

    Attributes:
        mean_ap: The events of one way as labels, those of the other as predictions: mAP at 1 s, the
            lower one of both directions, in [0, 1]. None if neither way finds an event.
        largest_difference: Largest difference of a class probability of a window, in [0, 1].
        events: How many events whole windows find.
        windows: How many windows were compared.
        footage_s: How long the footage was, in seconds.
        stride: Frames per feature of the trunk. A hop must be a multiple of it.
        tuned: Whether the head was tuned on features that are shared.
    """

    mean_ap: float | None
    largest_difference: float
    events: int
    windows: int
    footage_s: float
    stride: int
    tuned: bool = False

    def __post_init__(self) -> None:
        for name in ("mean_ap", "largest_difference"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must be in [0, 1]")
        for name, least in (("events", 0), ("windows", 1), ("stride", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.footage_s < math.inf:
            raise ValueError(f"footage_s is {self.footage_s}; it must be more than 0 and finite")


@dataclass(frozen=True)
class TrainingRecord:
    """How a model came to be. Everything is optional: a model may be made by hand.

    Attributes:
        groups: The match groups it has seen.
        weights: The pretrained weights it began with.
        max_clip_s: How much of a clip the training used at most, in seconds. None: all of it.
        seconds: How long the training took.
        calibration: What its temperature and thresholds rest on.
        shared: How well a shared trunk agrees with whole windows; None if it was not measured.
        job: The settings of the training, JSON values: to be read by people, not by code.
        figures: Its figures on the validation clips, likewise.
        photos: Which photos it answers; None for a model of footage.
    """

    groups: TrainedGroups = field(default_factory=TrainedGroups)
    weights: WeightsOrigin | None = None
    max_clip_s: float | None = None
    seconds: float | None = None
    calibration: CalibrationEvidence | None = None
    shared: SharedAgreement | None = None
    job: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] | None = None
    photos: PhotoRules | None = None


def record_text(record: TrainingRecord) -> str:
    """Return the JSON text of a record."""
    return json.dumps({"version": RECORD_VERSION, **to_json(record)})


def read_record(text: str) -> TrainingRecord:
    """Read a record from its JSON text; version 1 too, which had no fixed fields.

    Raises:
        ValueError: The text is no record, is damaged, or is of a newer version.
        RecursionError: The text is nested too deeply.
    """
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("the training record is no object")
    version = value.pop("version", 1)
    if version == 1:
        value = _from_version_1(value)
    elif version != RECORD_VERSION:
        raise ValueError(
            f"the training record is version {version!r}, and this Touchline reads up to "
            f"{RECORD_VERSION}"
        )
    return from_json(value, TrainingRecord)


def _from_version_1(old: dict[str, Any]) -> dict[str, Any]:
    """Find the fields that code reads where version 1 had them; all the rest becomes `job`."""
    fields: dict[str, Any] = {
        name: old.pop(name) for name in ("groups", "seconds", "figures") if name in old
    }
    job = old.pop("job", {})
    options = job.get("options", {}) if isinstance(job, dict) else {}
    if isinstance(options, dict):
        fields["max_clip_s"] = options.get("max_clip_s")
    return fields | {"job": {**old, **job} if isinstance(job, dict) else job}
