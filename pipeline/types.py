"""The values that stages hand to each other; every time is in seconds.

Time is presentation time minus the container's start time, what a player shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from touchline.models.classes import BACKGROUND

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Frames:
    """A chunk of consecutive sampled frames.

    pixels:   (T, 3, H, W) uint8 RGB.
    time_s:   (T,) float64, presentation time of the frame shown at each sample instant.
    sample_s: (T,) float64, the sample instants; sample_s >= time_s but for timestamp rounding.
    damaged:  (T,) bool, True where the decoder reported damage in what the frame was made from, or
              where the frame stands in for ones that are lost or missing.
    """

    pixels: UInt8
    time_s: Float64
    sample_s: Float64
    damaged: Bool

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[1] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels is {self.pixels.dtype} {self.pixels.shape}; it must be uint8 (T, 3, H, W)"
            )
        for name in ("time_s", "sample_s", "damaged"):
            shape = getattr(self, name).shape
            if shape != self.pixels.shape[:1]:
                raise ValueError(f"{name} has shape {shape} beside pixels {self.pixels.shape}")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Clip:
    """One window of footage, ready for a backbone after normalisation.

    pixels: (T, 3, H, W) uint8 RGB. The window is [start_s, end_s).
    """

    pixels: UInt8
    start_s: float
    end_s: float
    damaged: bool = False


@dataclass(frozen=True)
class ScoreTrack:
    """Class probabilities of every window of one file.

    labels:  K names, the first is `background`.
    start_s, end_s: (N,) float64, the windows, in time order.
    probs:   (N, K) float32, rows sum to 1 (each in [0, 1] for multi-label models).
    damaged: (N,) bool, windows that hold damaged frames.
    """

    labels: tuple[str, ...]
    start_s: Float64
    end_s: Float64
    probs: Float32
    damaged: Bool

    def __post_init__(self) -> None:
        if not self.labels or self.labels[0] != BACKGROUND:
            raise ValueError(f"labels are {self.labels}; the first must be {BACKGROUND!r}")
        N, K = len(self.start_s), len(self.labels)
        if self.probs.shape != (N, K):
            raise ValueError(f"probs has shape {self.probs.shape}; it must be {(N, K)}")
        for name in ("end_s", "damaged"):
            if getattr(self, name).shape != (N,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}; must be {(N,)}")

    @property
    def centre_s(self) -> Float64:
        """(N,) the middle of each window."""
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True)
class Event:
    """Something that happened: a class, an interval, its most certain instant, a score in [0, 1].

    Ground truth is an event of score 1 whose `peak_s` is the middle of its interval where nothing
    better is known. A point event has start_s == end_s.
    """

    label: str
    start_s: float
    end_s: float
    peak_s: float
    score: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s)):
            raise ValueError(f"event {self.label!r} has times {self.start_s}, {self.end_s}")
        if not self.start_s <= self.peak_s <= self.end_s:
            raise ValueError(
                f"event {self.label!r} has peak_s {self.peak_s} outside "
                f"[{self.start_s}, {self.end_s}]"
            )
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"event {self.label!r} has score {self.score}; it must be in [0, 1]")


@dataclass(frozen=True)
class Example:
    """A labelled stretch of footage.

    start_s, end_s: None means the whole file is `label`'s (its length is not known before it is
                    opened).
    group:   the match it comes from; a split never divides a group.
    source:  where the label stands ("labels.csv line 7"), for messages.
    visible: False where the event happens out of the picture (SoccerNet's `visibility`).
    peak_s:  its most certain instant, where better known than as the middle.
    score:   1 for labels; how sure a detector was where detections are read as labels.
    optional: nobody labelled it, so that training does without it where it cannot be read.
    """

    path: Path
    label: str
    group: str
    start_s: float | None = None
    end_s: float | None = None
    source: str = ""
    visible: bool = True
    peak_s: float | None = None
    score: float = 1.0
    optional: bool = False

    def event(self) -> Event:
        """The example as ground truth; only where both times are known."""
        if self.start_s is None or self.end_s is None:
            raise ValueError(f"{self.source or self.path}: the label has no times")
        middle_s = (self.start_s + self.end_s) / 2
        peak_s = middle_s if self.peak_s is None else self.peak_s
        return Event(self.label, self.start_s, self.end_s, peak_s, self.score)


@dataclass(frozen=True)
class FootageHealth:
    """What was learnt about a file while it was read; all of it goes to events.json.

    frame_rate: frames per second as an exact fraction "25/1", None where it is not constant or
    not declared. start_s: the container's raw start, which every reported time is relative to.
    first_frame_s: when the first frame is shown, as declared; more than 0 where sound comes first.
    duration_s, num_frames: as declared, the duration as found where none is declared;
    actual_duration_s, actual_frames: as decoded, None where the file was not read to its end.
    damaged_s: spans with damaged or missing pictures. gaps_s: spans without frames, in which the
    frame before stands. stream_index: the video stream used, None where that is not known.
    size_bytes: of the file. pictures_end_s: when the last frame ends, as declared; less than
    duration_s where sound goes on.
    """

    container: str
    codec: str
    width: int
    height: int
    frame_rate: str | None
    variable_rate: bool
    duration_s: float
    start_s: float
    start_timecode: str | None = None
    num_frames: int = 0
    damaged_s: tuple[tuple[float, float], ...] = ()
    warnings: tuple[str, ...] = ()
    actual_duration_s: float | None = None
    actual_frames: int | None = None
    gaps_s: tuple[tuple[float, float], ...] = ()
    stream_index: int | None = None
    pixel_format: str = ""
    pixel_aspect: str = "1/1"
    turned: bool = False
    interlaced: bool = False
    dynamic_range: str = "SDR"
    first_frame_s: float = 0.0
    size_bytes: int | None = None
    pictures_end_s: float | None = None

    @property
    def verdict(self) -> str:
        """ok, warnings or damaged."""
        if self.damaged_s:
            return "damaged"
        return "warnings" if self.warnings else "ok"


MICROSECOND_S = 1e-6
"""Times and lengths closer than this are equal: sums of hops leave dust in the last digits."""
