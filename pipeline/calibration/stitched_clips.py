"""Labelled clips stitched into footage, to try thresholds on what detection will see.

A clip fills its windows; in a match the same event is met by windows that see half of it, or have
much else beside it when it is shorter than they are. So windows of clips score higher than a
match's do, and thresholds set on them are missed by short events. Stitched clips have the
borders back:

    clips     [goal][==card==][pen][==goal==] ...    neighbours of different classes
    gaps          ..        ..    ..                 eventless footage, where there is some
    windows   |-----|
                 |-----|
                    |-----|                          as detection slides them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from touchline.models.backbone import ClipSpec
from touchline.models.classes import BACKGROUND
from touchline.pipeline.calibration.thresholds import (
    LEAST_THRESHOLD,
    ThresholdCurve,
    curve_from_counts,
    halfway_down,
    one_class,
)
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.scoring.events import find_candidates, find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Float64, Frames, ScoreTrack, UInt8

GAP_WINDOWS = (1.0, 3.0)
"""Gaps last from one to three windows: long enough for windows that see nothing else."""

MOST_THRESHOLDS = 200
"""So many thresholds of a class are tried at most."""


@dataclass(frozen=True)
class StitchedClips:
    """What the network says of stitched clips, and where their events are."""

    track: ScoreTrack
    truth: tuple[Event, ...]


def score_stitched_clips(
    scorer: Scorer, clips: Sequence[LabelledClip], *, eventless: Sequence[UInt8] = (), seed: int = 0
) -> StitchedClips:
    """The clips in an order drawn by `seed`; `eventless` as in `stitch`."""
    frames, truth = stitch(clips, scorer.model.spec, eventless=eventless, seed=seed)
    return StitchedClips(scorer.score([frames]), truth)


def stitch(
    clips: Sequence[LabelledClip],
    spec: ClipSpec,
    *,
    eventless: Sequence[UInt8] = (),
    seed: int = 0,
) -> tuple[Frames, tuple[Event, ...]]:
    """Clips one after another as frames, and their events; background clips hold none.

    eventless: frames (N, 3, H, W) at the network's rate, one array per file; stretches of them
    lie between the clips. Without any, clip follows on clip.
    """
    rng = np.random.default_rng(seed)
    pieces: list[UInt8] = []
    truth: list[Event] = []
    num_frames = 0

    def append(pixels: UInt8) -> None:
        nonlocal num_frames
        pieces.append(squared(pixels, spec))
        num_frames += len(pixels)

    for k in mixed_order([clip.example.label for clip in clips], rng):
        if eventless:
            append(_stretch(eventless, spec, rng))
        clip = clips[k]
        if clip.example.label != BACKGROUND:
            truth.append(_event(clip, spec, num_frames / spec.rate_hz))
        append(clip.pixels)
    if eventless:
        append(_stretch(eventless, spec, rng))
    time_s = np.arange(num_frames) / spec.rate_hz
    damaged = np.zeros(num_frames, dtype=np.bool_)
    return Frames(np.concatenate(pieces), time_s, time_s, damaged), tuple(truth)


def mixed_order(labels: Sequence[str], rng: np.random.Generator) -> list[int]:
    """A random order in which neighbours differ in class for as long as that is possible."""
    waiting: dict[str, list[int]] = {}
    for k in rng.permutation(len(labels)):
        waiting.setdefault(labels[k], []).append(int(k))
    order: list[int] = []
    last = None
    while waiting:
        # A class that has more than half of what is left must come now, else it meets itself.
        left = Counter({label: len(rest) for label, rest in waiting.items()})
        most, count = left.most_common(1)[0]
        others = [label for label in waiting if label != last] or [most]
        urgent = 2 * count > left.total() and most in others
        last = most if urgent else others[int(rng.integers(len(others)))]
        order.append(waiting[last].pop())
        if not waiting[last]:
            del waiting[last]
    return order


def _stretch(eventless: Sequence[UInt8], spec: ClipSpec, rng: np.random.Generator) -> UInt8:
    """One to three windows from anywhere in one of the files; all of a shorter one."""
    sizes = np.array([len(pixels) for pixels in eventless])
    pixels = eventless[int(rng.choice(len(eventless), p=sizes / sizes.sum()))]
    length = min(round(float(rng.uniform(*GAP_WINDOWS)) * spec.num_frames), len(pixels))
    start = int(rng.integers(len(pixels) - length + 1))
    return pixels[start : start + length]


def _event(clip: LabelledClip, spec: ClipSpec, start_s: float) -> Event:
    """The clip's event where the clip starts at start_s: all of it, or the labelled part."""
    label, whole_s = clip.example.label, len(clip.pixels) / spec.rate_hz
    if clip.example.start_s is None or clip.example.end_s is None:
        return Event(label, start_s, start_s + whole_s, start_s + whole_s / 2)
    # Windows of a clip lie evenly about its event.
    middle_s = (clip.first + clip.last + spec.num_frames) / 2 / spec.rate_hz
    most_s = max(spec.num_frames + clip.last - clip.first, 0) / spec.rate_hz
    half_s = min(clip.example.end_s - clip.example.start_s, most_s) / 2
    first_s, last_s = np.clip([middle_s - half_s, middle_s + half_s], 0.0, whole_s).tolist()
    return Event(label, start_s + first_s, start_s + last_s, start_s + (first_s + last_s) / 2)


def event_curve(
    stitched: Sequence[StitchedClips],
    eventless: Sequence[ScoreTrack],
    label: str,
    options: EventOptions,
) -> ThresholdCurve:
    """The curve of the events that `detect` finds in stitched clips; all on `eventless` are false.

    ValueError where the clips hold no event of the class.
    """
    truths = [[e for e in one.truth if e.label == label] for one in stitched]
    num_positive = sum(map(len, truths))
    if num_positive == 0:
        raise ValueError(f"no clip is of {label!r}: no threshold can be chosen")
    tracks = [one_class(one.track, label) for one in stitched]
    quiet = [one_class(track, label) for track in eventless]
    score = _peaks([*tracks, *quiet], label, options)
    hits, kept = np.zeros(len(score)), np.zeros(len(score))
    for c, threshold in enumerate(halfway_down(score)):
        point = {label: OperatingPoint(threshold=float(threshold))}
        for track, truth in zip(tracks, truths, strict=True):
            found = find_events(track, point, options)
            kept[c] += len(found)
            # Half a window: a peak that far out still sees the event.
            reach_s = float(np.median(track.end_s - track.start_s)) / 2
            hits[c] += count_hits(found, truth, reach_s=reach_s)
        kept[c] += sum(len(find_events(track, point, options)) for track in quiet)
    return curve_from_counts(score, hits, kept, num_positive=num_positive)


def _peaks(tracks: Sequence[ScoreTrack], label: str, options: EventOptions) -> Float64:
    """The distinct scores that events can peak at, highest first; of many an even choice."""
    point = {label: OperatingPoint(threshold=1.0)}
    scores = {
        event.score
        for track in tracks
        for event in find_candidates(track, point, options, floor=LEAST_THRESHOLD)
    }
    peaks = np.array(sorted(scores, reverse=True) or [1.0])
    if len(peaks) <= MOST_THRESHOLDS:
        return peaks
    return peaks[np.linspace(0, len(peaks) - 1, MOST_THRESHOLDS).round().astype(np.int64)]


def count_hits(found: Sequence[Event], truth: Sequence[Event], *, reach_s: float) -> int:
    """How many events of one class hit: best first, each takes a free truth that holds its peak.

    A peak may lie `reach_s` outside.
    """
    free = list(truth)
    for event in sorted(found, key=lambda event: -event.score):
        for k, actual in enumerate(free):
            if actual.start_s - reach_s <= event.peak_s <= actual.end_s + reach_s:
                del free[k]
                break
    return len(truth) - len(free)
