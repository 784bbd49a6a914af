"""The result of one match: its events, its health, and what it was made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from touchline.models.backbone import ClipSpec
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.timecode import MatchClock
from touchline.pipeline.types import Event, FootageHealth, ScoreTrack


@dataclass(frozen=True)
class AppliedOptions:
    """The options of `touchline detect` as they shaped a result; see `DetectOptions`.

    None means that the option was off, or that the file does not say.

    Attributes:
        hop_s: Seconds between windows, rounded to whole samples.
        threshold: The one threshold that was asked for all classes.
        point: How runs of high scores became events.
        events: How scores were smoothed and overlapping events dropped.
        floor: The least score of a candidate.
        decoder: The library that decoded the footage.
        device: Where the network ran, as asked for ("auto", "cpu", ...).
        precision: The number format, as asked for ("auto", "float32", "bf16").
        batch_size: Windows that ran through the network together.
        mode: "windows", "shared" or "auto".
        engine: What the trunk ran on, as asked for ("auto", "torch", ...).
        int8: SHA-256 of the trunk in int8; None without one.
        compiled: Whether the trunk was to run through torch.compile.
        stream: Index of the video stream that was asked for.
        thresholds: The threshold of each class, background excepted.
    """

    hop_s: float | None = None
    threshold: float | None = None
    point: OperatingPoint | None = None
    events: EventOptions | None = None
    floor: float | None = None
    decoder: str | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    mode: str | None = None
    engine: str | None = None
    int8: str | None = None
    compiled: bool = False
    stream: int | None = None
    thresholds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ModelSummary:
    """The model that made a result. None means that the file does not say.

    Attributes:
        architecture: The backbone, a name of `touchline models`.
        labels: Its K classes, `background` first.
        spec: The clip that it takes.
        calibrated: Whether it has thresholds of its own.
        has_background: Whether it has learnt what background is.
        path: The checkpoint's path, or the name of published weights.
        sha256: The checkpoint's SHA-256, 64 hex digits.
    """

    architecture: str | None = None
    labels: tuple[str, ...] | None = None
    spec: ClipSpec | None = None
    calibrated: bool | None = None
    has_background: bool | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class MatchResult:
    """The result of one footage file: events and health, or the error. Every input has one.

    Attributes:
        path: The footage.
        candidates: Every event down to the lowest score that was kept, in time order.
        accepted: The candidates that reach the threshold of their class.
        health: What was found about the file. None if it could not be read.
        track: The scores of every window. None if they are not at hand.
        options: The options that shaped the result. None if they are not known.
        model: The model that made the result. None if it is not known.
        clock: Where the periods of the match kick off. None if that is not known.
        error: Why there is no result. None if there is one.
        unwritten: Why a format could not be written, by its name; the result itself is there.
        folder: Where `detect_all` wrote the result, or would have.

    Example:
        >>> from touchline.pipeline import read_events_json
        >>> result = read_events_json("out/match/events.json")
        >>> (result.path.name, len(result.accepted), result.options.hop_s)
        ('match.mp4', 2, 0.25)
        >>> (result.health.verdict, result.model.labels, result.error)
        ('ok', ('background', 'bright'), None)
    """

    path: Path
    candidates: tuple[Event, ...] = ()
    accepted: tuple[Event, ...] = ()
    health: FootageHealth | None = None
    track: ScoreTrack | None = None
    options: AppliedOptions | None = None
    model: ModelSummary | None = None
    clock: MatchClock | None = None
    error: str | None = None
    unwritten: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
