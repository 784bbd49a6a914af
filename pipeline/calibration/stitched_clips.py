"""Stitch labelled clips into footage, to test thresholds on what detection will see.

The event of a clip fills its windows. In a match, other windows see half of the event, and a short
event fills only part of each window. So windows of clips score higher than windows of a match, and
thresholds set on them miss short events. Stitched clips have such borders, too:

    clips     [goal][==card==][pen][==goal==] ...    neighbours of different classes
    gaps          ..        ..    ..                 eventless footage, if there is some
    windows   |-----|
                 |-----|
                    |-----|                          as detection slides them
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.pipeline.calibration.thresholds import (
    LEAST_THRESHOLD,
    ThresholdCurve,
    halfway_down,
    hours_of,
    one_class,
)
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.scoring.events import find_candidates, find_events
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Float32, Float64, Frames, ScoreTrack, UInt8

GAP_WINDOWS = (1.0, 3.0)
"""Shortest and longest gap in windows: long enough for windows that see only the gap."""

LEAST_WINDOW_S = 2.0
"""For gaps, a window counts as at least this long: scores of single frames are smoothed, too."""

LEAST_REACH_S = 1.0
"""A spot may be at least this far outside an event: smoothing moves the peaks of short events."""

MOST_THRESHOLDS = 200
"""At most this many thresholds of a class are tried."""


@dataclass(frozen=True)
class StitchedClips:
    """The scores of stitched clips, and where their events are."""

    track: ScoreTrack
    truth: tuple[Event, ...]


def score_stitched_clips(
    scorer: Scorer, clips: Sequence[LabelledClip], *, eventless: Sequence[UInt8] = (), seed: int = 0
) -> StitchedClips:
    """Stitch the clips in a random order and score them.

    Args:
        scorer: The model.
        clips: The labelled clips.
        eventless: As in `stitch`.
        seed: Random seed of the order and the gaps.
    """
    frames, truth = stitch(clips, scorer.model.spec, eventless=eventless, seed=seed)
    return StitchedClips(scorer.score([frames]), truth)


def stitch(
    clips: Sequence[LabelledClip],
    spec: ClipSpec,
    *,
    eventless: Sequence[UInt8] = (),
    seed: int = 0,
) -> tuple[Frames, tuple[Event, ...]]:
    """Join the frames of clips; return them and the events in them. Background has no event.

    Args:
        clips: The labelled clips.
        spec: The model's clip: frames, rate and size.
        eventless: Frames (N, 3, H, W) at the model's rate, one array per file. Parts of them are
            put between the clips; without any, clips follow each other directly.
        seed: Random seed of the order and the gaps.
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


def stitch_logits(
    model: TrainedModel,
    clips: Sequence[LabelledClip],
    logits: Sequence[Float32],
    spec: ClipSpec,
    *,
    seed: int = 0,
) -> StitchedClips:
    """Join the scores of single frames of clips, as if the clips had been joined and then scored.

    Args:
        model: The model; says how logits become probabilities.
        clips: The labelled clips, background ones between the others.
        logits: Per clip, (N, K) logits of its N frames.
        spec: The clip that the clips were loaded for.
        seed: Random seed of the order.
    """
    order = mixed_order([clip.example.label for clip in clips], np.random.default_rng(seed))
    starts = np.cumsum([0, *(len(logits[k]) for k in order)])
    truth = [
        _event(clips[k], spec, start / spec.rate_hz)
        for k, start in zip(order, starts.tolist(), strict=False)
        if clips[k].example.label != BACKGROUND
    ]
    joined = torch.from_numpy(np.concatenate([logits[k] for k in order]))
    start_s = np.arange(len(joined)) / spec.rate_hz
    track = ScoreTrack(
        model.labels,
        start_s,
        start_s + 1 / spec.rate_hz,
        model.probs(joined).numpy(),
        np.zeros(len(joined), dtype=np.bool_),
    )
    return StitchedClips(track, tuple(truth))


def mixed_order(labels: Sequence[str], rng: np.random.Generator) -> list[int]:
    """Draw a random order in which neighbours differ in class as long as that is possible."""
    waiting: dict[str, list[int]] = {}
    for k in rng.permutation(len(labels)):
        waiting.setdefault(labels[k], []).append(int(k))
    order: list[int] = []
    last = None
    while waiting:
        # A class with more than half of the clips left must come now, or it will follow itself.
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
    """A gap from a random place in one of the files; all of a shorter file."""
    sizes = np.array([len(pixels) for pixels in eventless])
    pixels = eventless[int(rng.choice(len(eventless), p=sizes / sizes.sum()))]
    window = max(spec.num_frames, LEAST_WINDOW_S * spec.rate_hz)
    length = min(round(float(rng.uniform(*GAP_WINDOWS)) * window), len(pixels))
    start = int(rng.integers(len(pixels) - length + 1))
    return pixels[start : start + length]


def _event(clip: LabelledClip, spec: ClipSpec, start_s: float) -> Event:
    """The event of a clip that starts at start_s: the whole clip, or its labelled part."""
    label, whole_s = clip.example.label, clip.num_frames / spec.rate_hz
    if clip.example.start_s is None or clip.example.end_s is None:
        return Event(label, start_s, start_s + whole_s, start_s + whole_s / 2)
    # The windows of a clip are centred on its event.
    middle_s = (clip.first + clip.last + spec.num_frames) / 2 / spec.rate_hz
    most_s = max(spec.num_frames + clip.last - clip.first, 0) / spec.rate_hz
    half_s = min(clip.example.end_s - clip.example.start_s, most_s) / 2
    first_s, last_s = np.clip([middle_s - half_s, middle_s + half_s], 0.0, whole_s).tolist()
    middle_s = (first_s + last_s) / 2
    if clip.example.peak_s is not None:
        middle_s = min(first_s + clip.example.peak_s - clip.example.start_s, last_s)
    return Event(label, start_s + first_s, start_s + last_s, start_s + middle_s)


def event_curve(
    stitched: Sequence[StitchedClips],
    eventless: Sequence[ScoreTrack],
    label: str,
    options: EventOptions,
) -> ThresholdCurve:
    """Find what every threshold of a class does to the events that `detect` would find.

    Args:
        stitched: The scored stitched clips.
        eventless: Score tracks of eventless footage; all events found there are false.
        label: The class.
        options: How scores become events.

    Raises:
        ValueError: No clip is of this class.
    """
    truths = [[e for e in one.truth if e.label == label] for one in stitched]
    num_positive = sum(map(len, truths))
    if num_positive == 0:
        raise ValueError(f"no clip is of class {label!r}, so no threshold can be chosen")
    tracks = [one_class(one.track, label) for one in stitched]
    quiet = [one_class(track, label) for track in eventless]
    count = _count_spots if options.spots and not options.refractory_s else _count_intervals
    score, hits, kept = count(tracks, truths, quiet, label, options)
    return ThresholdCurve(score, hits, kept, num_positive)


def _count_spots(
    tracks: Sequence[ScoreTrack],
    truths: Sequence[Sequence[Event]],
    quiet: Sequence[ScoreTrack],
    label: str,
    options: EventOptions,
) -> tuple[Float64, Float64, Float64]:
    """Scores, and how many spots are right and how many there are from each score up.

    A higher threshold drops spots and changes no other. So one search counts for all thresholds.
    """
    point = {label: OperatingPoint(threshold=LEAST_THRESHOLD)}
    found = [find_events(track, point, options) for track in (*tracks, *quiet)]
    right = [
        event.score
        for events, truth, track in zip(found, truths, tracks, strict=False)
        for event, _ in match_events(events, truth, reach_s=reach_of(track, options))
    ]
    every = [event.score for events in found for event in events]
    score = _selection(every)
    at = halfway_down(score)
    return score, _count_from(right, at), _count_from(every, at)


def _count_from(scores: Sequence[float], thresholds: Float64) -> Float64:
    """(C,) how many scores reach each threshold."""
    reached: Float64 = (np.array(scores)[:, None] >= thresholds).sum(axis=0).astype(np.float64)
    return reached


def _count_intervals(
    tracks: Sequence[ScoreTrack],
    truths: Sequence[Sequence[Event]],
    quiet: Sequence[ScoreTrack],
    label: str,
    options: EventOptions,
) -> tuple[Float64, Float64, Float64]:
    """The same for intervals. They merge at low thresholds, so each threshold is searched alone."""
    score = _peaks([*tracks, *quiet], label, options)
    hits, kept = np.zeros(len(score)), np.zeros(len(score))
    for c, threshold in enumerate(halfway_down(score)):
        point = {label: OperatingPoint(threshold=float(threshold))}
        for track, truth in zip(tracks, truths, strict=True):
            found = find_events(track, point, options)
            kept[c] += len(found)
            hits[c] += len(match_events(found, truth, reach_s=reach_of(track, options)))
        kept[c] += sum(len(find_events(track, point, options)) for track in quiet)
    return score, hits, kept


def has_enough_eventless(
    stitched: Sequence[StitchedClips], eventless: Sequence[ScoreTrack]
) -> bool:
    """Tell whether there is at least as much time without events as with events.

    Args:
        stitched: The scored stitched clips.
        eventless: Score tracks of eventless footage.
    """
    events_s = sum(event.end_s - event.start_s for one in stitched for event in one.truth)
    stitched_s = 3600 * hours_of([one.track for one in stitched])
    return stitched_s - events_s + 3600 * hours_of(eventless) * len(stitched) >= events_s


def timing_error_s(
    stitched: Sequence[StitchedClips], label: str, threshold: float, options: EventOptions
) -> float | None:
    """Measure how far peaks of right events are from the labelled moments; None without any.

    Args:
        stitched: The scored stitched clips.
        label: The class.
        threshold: Its threshold.
        options: How scores become events.

    Returns:
        The median distance in seconds.
    """
    point = {label: OperatingPoint(threshold=threshold)}
    apart_s = [
        abs(event.peak_s - actual.peak_s)
        for one in stitched
        for event, actual in match_events(
            find_events(one_class(one.track, label), point, options),
            [event for event in one.truth if event.label == label],
            reach_s=reach_of(one.track, options),
        )
    ]
    return float(np.median(apart_s)) if apart_s else None


def reach_of(track: ScoreTrack, options: EventOptions) -> float:
    """Return how far outside an event a peak may be: half a window, which then still sees it."""
    half_s = float(np.median(track.end_s - track.start_s)) / 2
    return max(half_s, LEAST_REACH_S) if options.spots else half_s


def _peaks(tracks: Sequence[ScoreTrack], label: str, options: EventOptions) -> Float64:
    """The distinct peak scores, highest first; an even selection if there are many."""
    point = {label: OperatingPoint(threshold=1.0)}
    scores = {
        event.score
        for track in tracks
        for event in find_candidates(track, point, options, floor=LEAST_THRESHOLD)
    }
    return _selection(scores)


def _selection(scores: Iterable[float]) -> Float64:
    """The distinct scores, highest first; an even selection if there are many."""
    peaks = np.array(sorted(set(scores), reverse=True) or [1.0])
    if len(peaks) <= MOST_THRESHOLDS:
        return peaks
    return peaks[np.linspace(0, len(peaks) - 1, MOST_THRESHOLDS).round().astype(np.int64)]


def match_events(
    found: Sequence[Event], truth: Sequence[Event], *, reach_s: float
) -> list[tuple[Event, Event]]:
    """Match events of one class: best first, each takes the nearest free event around its peak.

    Args:
        found: The events found.
        truth: The labelled events.
        reach_s: How far outside the labelled event a peak may be, in seconds.

    Returns:
        Pairs of an event found and the labelled event that it took.
    """
    free = list(truth)
    pairs = []
    for event in sorted(found, key=lambda event: -event.score):
        around = [
            actual
            for actual in free
            if actual.start_s - reach_s <= event.peak_s <= actual.end_s + reach_s
        ]
        if around:
            nearest = min(around, key=lambda actual: abs(actual.peak_s - event.peak_s))
            free.remove(nearest)
            pairs.append((event, nearest))
    return pairs
