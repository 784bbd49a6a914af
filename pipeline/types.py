"""The values that stages hand to each other; every time is in seconds.

Time is presentation time minus the container's start time, what a player shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from touchline.models.classes import BACKGROUND

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

Attributes = tuple[tuple[str, str], ...]
"""What else is known of an event: names and values, such as (("team", "home"),)."""

USUAL_ATTRIBUTES = ("team", "player", "jersey", "note")
"""The attributes that most tools know, in the order in which Touchline shows them."""


@dataclass(frozen=True)
class Frames:
    """A chunk of consecutive sampled frames.

    Attributes:
        pixels: (T, 3, H, W) uint8 RGB.
        time_s: (T,) float64. When the frame shown at each sample instant was first presented.
        sample_s: (T,) float64. The sample instants. At least `time_s`, except for the rounding
            of timestamps.
        damaged: (T,) bool. True if the decoder reported damage in the data of a frame, or if the
            frame stands in for lost or missing ones.

    Example:
        >>> from touchline.pipeline import decode
        >>> frames = next(iter(decode("match.mp4", rate_hz=4, size_px=32)))
        >>> len(frames), frames.pixels.shape[1:], frames.sample_s[:3].tolist()
        (32, (3, 32, 32), [0.0, 0.25, 0.5])
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
                raise ValueError(f"{name} has shape {shape}; pixels have {self.pixels.shape}")

    def __len__(self) -> int:
        return int(self.pixels.shape[0])


@dataclass(frozen=True)
class Clip:
    """One window of footage, ready for a backbone after normalisation.

    Attributes:
        pixels: (T, 3, H, W) uint8 RGB.
        start_s: Start of the window in seconds.
        end_s: End of the window in seconds; the window is [start_s, end_s).
        damaged: True if one of its frames is damaged.

    Example:
        >>> from touchline.pipeline import decode, load_model, sliding_windows
        >>> spec = load_model("model.safetensors").spec
        >>> frames = decode("match.mp4", rate_hz=spec.rate_hz, size_px=spec.size_px)
        >>> clip = next(sliding_windows(frames, spec))
        >>> clip.pixels.shape, clip.start_s, clip.end_s
        ((8, 3, 32, 32), 0.0, 1.0)
    """

    pixels: UInt8
    start_s: float
    end_s: float
    damaged: bool = False


@dataclass(frozen=True)
class ScoreTrack:
    """Class probabilities of every window of one file.

    Attributes:
        labels: K class names. The first is `background`.
        start_s: (N,) float64. Starts of the windows in seconds, in time order.
        end_s: (N,) float64. Ends of the windows in seconds.
        probs: (N, K) float32. Rows sum to 1; for multi-label models each value is in [0, 1].
        damaged: (N,) bool. True for windows with damaged frames.

    Raises:
        ValueError: If the first label is not `background`, or shapes do not fit together.

    Example:
        >>> from touchline.pipeline import load_track
        >>> track = load_track("out/match/scores.npz")
        >>> track.labels, track.probs.shape, track.start_s[:2].tolist()
        (('background', 'bright'), (45, 2), [0.0, 0.25])
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
        """(N,) float64: the middle of each window in seconds."""
        return (self.start_s + self.end_s) / 2

    def part(self, rows: slice) -> ScoreTrack:
        """Return these windows only."""
        return replace(
            self,
            start_s=self.start_s[rows],
            end_s=self.end_s[rows],
            probs=self.probs[rows],
            damaged=self.damaged[rows],
        )


@dataclass(frozen=True)
class Event:
    """Something that happened, with its class, times and score.

    An event of the ground truth has score 1. Its `peak_s` is the middle of the interval if nothing
    better is known. An event without length has `start_s == end_s`.

    Attributes:
        label: The class.
        start_s: Start in seconds.
        end_s: End in seconds.
        peak_s: The most certain instant in seconds, between start and end.
        score: How certain the event is, in [0, 1].
        attributes: What else is known: the team, the player, a note, or any other name and value.

    Raises:
        ValueError: If a time is not finite, the peak lies outside the interval, or the score
            outside [0, 1].

    Example:
        >>> from touchline.pipeline import Event
        >>> Event("goal", start_s=754.2, end_s=760.0, peak_s=756.0, score=0.9).label
        'goal'
    """

    label: str
    start_s: float
    end_s: float
    peak_s: float
    score: float = 1.0
    attributes: Attributes = ()

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

    def moved(self, by_s: float) -> Event:
        """Return the event this many seconds later; earlier if negative."""
        start_s, end_s, peak_s = (t + by_s for t in (self.start_s, self.end_s, self.peak_s))
        return replace(self, start_s=start_s, end_s=end_s, peak_s=peak_s)


@dataclass(frozen=True)
class Example:
    """A labelled stretch of footage.

    Attributes:
        path: The footage.
        label: The class.
        group: The match that the example comes from. A split never divides a group.
        start_s: Start in seconds. None, together with `end_s`: the whole file.
        end_s: End in seconds.
        source: Where the label is ("labels.csv line 7"), for messages.
        visible: False if the event happens out of the picture (SoccerNet's `visibility`).
        peak_s: The most certain instant in seconds. None: the middle.
        score: 1 for labels. For detections that are read as labels, the detector's score.
        optional: True if nobody labelled this stretch. Training leaves it out if it cannot be
            read.
        attributes: What else is known: the team, the player, a note, or any other name and value.
            Training ignores them.

    Example:
        >>> from touchline.pipeline import read_labels
        >>> example = read_labels("labels.csv")[0]
        >>> example.label, example.start_s, example.end_s, example.group
        ('bright', 3.0, 5.0, 'A')
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
    attributes: Attributes = ()

    def event(self) -> Event:
        """Return the example as an event of the ground truth.

        Raises:
            ValueError: If the label has no times.
        """
        if self.start_s is None or self.end_s is None:
            raise ValueError(
                f"{self.source or self.path}: the label has no times, so it cannot be placed in a "
                "match. Give labels with start_s and end_s."
            )
        middle_s = (self.start_s + self.end_s) / 2
        peak_s = middle_s if self.peak_s is None else self.peak_s
        return Event(self.label, self.start_s, self.end_s, peak_s, self.score, self.attributes)


@dataclass(frozen=True)
class FootageHealth:
    """What was found about a footage file while it was read. All of it goes to events.json.

    Attributes:
        container: Name of the container format.
        codec: Name of the video codec.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        frame_rate: Frames per second as an exact fraction, "25/1". None if it is not constant or
            not declared.
        variable_rate: True if the frame rate varies.
        duration_s: Length in seconds as declared. If none is declared, the length found.
        start_s: The container's raw start. Every reported time is relative to it.
        start_timecode: The timecode of the first frame. None if the file has none.
        num_frames: Number of frames as declared.
        damaged_s: Spans with damaged or missing pictures.
        warnings: What is unusual about the file, one sentence each.
        actual_duration_s: Length as decoded. None if the file was not read to its end.
        actual_frames: Number of frames as decoded. None if the file was not read to its end.
        gaps_s: Spans without frames, in which the frame before is repeated.
        stream_index: Index of the video stream used. None if that is not known.
        pixel_format: Name of the pixel format.
        pixel_aspect: Width of a pixel over its height, as a fraction.
        turned: True if players show the picture turned or mirrored.
        sideways: True if it is turned by a quarter, so that width and height change places.
        interlaced: True if the picture is interlaced.
        dynamic_range: "SDR", or the kind of high dynamic range.
        first_frame_s: When the first frame is shown, as declared. More than 0 if sound comes
            first.
        size_bytes: Size of the file. None if it is not known.
        pictures_end_s: When the last frame ends, as declared. Less than `duration_s` if sound
            goes on.
        sound: The tracks of sound in a few words, such as "aac 48000 Hz stereo". Empty if there is
            none.

    Example:
        >>> from touchline.pipeline import probe_footage
        >>> health = probe_footage("match.mp4", depth="frames")
        >>> health.verdict, health.codec, health.frame_rate, health.actual_frames
        ('ok', 'h264', '16/1', 192)
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
    sound: str = ""
    sideways: bool = False

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height of the picture as players show it: upright, with square pixels."""
        aspect = Fraction(self.pixel_aspect)
        W, H = self.width * max(aspect, Fraction(1)), self.height / min(aspect, Fraction(1))
        return (round(H), round(W)) if self.sideways else (round(W), round(H))

    @property
    def verdict(self) -> str:
        """One word about the file: "ok", "warnings" or "damaged"."""
        if self.damaged_s:
            return "damaged"
        return "warnings" if self.warnings else "ok"


MICROSECOND_S = 1e-6
"""Times and lengths closer than this are equal: sums of hops leave dust in the last digits."""
