"""Learn from a few marks: a linear head on features of a whole match, and what it proposes.

Time that nobody marked is mostly background, but not all of it: the events that are still to be
found lie there. So part of it is not learnt from (Elkan & Noto 2008 on positive and unlabelled
examples): the frames that a first head, fitted to some of the marks, takes for events as surely as
the marks it has not seen. Rejected proposals are background for certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from touchline.pipeline.heads.logistic import Linear, LogisticProblem
from touchline.pipeline.scoring.events import (
    SMOOTHING_REACH,
    find_candidates,
    operating_points,
    smooth_scores,
)
from touchline.pipeline.scoring.feature_track import TrackRows
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.types import Bool, Event, Float32, Float64, Int64, ScoreTrack

# Everything here was chosen on matches stitched together from clips that the teaching curve of
# docs/benchmarks.md does not contain.
WINDOW_S = 1.25
"""Features are averaged over about this long."""

STRENGTH = 20.0
"""C of the logistic regression."""

BACKGROUND_SHARE = 2.0
"""How much background counts, compared with all marks together."""

HARD_WEIGHT = 4.0
"""How much a frame of a rejected proposal counts, compared with one of unmarked time."""

MARGIN_S = 1.0
"""Unmarked time this close to a mark is not learnt from."""

MAX_BACKGROUND_ROWS = 2000

THRESHOLD = 0.4
SMOOTH_S, NMS_S, FLOOR = 0.6, 2.0, 0.02
EVENTS = EventOptions(spots=True, smooth_s=SMOOTH_S, nms_s=NMS_S)

CHUNK_ROWS = 8192


class NothingToLearnError(ValueError):
    """There is nothing to learn from yet. The message names what is missing."""


@dataclass(frozen=True)
class Span:
    """A stretch of one match that shows a class; a spot has equal ends."""

    match: str
    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Proposal:
    """A moment that the head takes for an event.

    Attributes:
        event: Its class, its interval, its peak and its score.
        accepted: Whether the score reaches the threshold.
        teaches: How much an answer would teach, in [0, 1]: high for an uncertain score, low next
            to a more uncertain one that looks alike.
    """

    event: Event
    accepted: bool
    teaches: float


@dataclass(frozen=True)
class TrainingRows:
    """The rows that are learnt from, of all matches.

    Attributes:
        X: (M, D) averaged features.
        column: (M,) the class of each row; 0 is background.
        weight: (M,) how much each counts; the frames of a mark count 1 together.
        fold: (M,) the part that a row of unmarked time belongs to, -1 where it is certain.
        answer: (M,) the number of the mark or rejection, -1 for unmarked time.
        match: (M,) the number of the match.
    """

    X: Float32
    column: Int64
    weight: Float64
    fold: Int64
    answer: Int64
    match: Int64


@dataclass(frozen=True)
class Learned:
    """What was learnt, and what it finds.

    Attributes:
        labels: The classes in column order; the first is background.
        tracks: The scores of each match, every frame scored by a head that did not take it for
            background.
        thresholds: The threshold of each class, chosen on answers that the heads asked had not
            seen; THRESHOLD with few answers.
        rows: What was learnt from.
        kept: Which of the rows.
        row_s: Seconds from one feature to the next.
    """

    labels: tuple[str, ...]
    tracks: Mapping[str, ScoreTrack]
    thresholds: Mapping[str, float]
    rows: TrainingRows
    kept: Bool
    row_s: float

    @property
    def window_rows(self) -> int:
        """How many features in a row are averaged."""
        return window_rows(self.row_s)

    def head(self) -> Linear:
        """Fit one head over averaged features to everything that is learnt from."""
        return _fit(self.rows, self.kept, len(self.labels))


NUM_FOLDS = 3
BLOCK_S = 8.0
"""Unmarked time is divided into blocks; block n belongs to fold n modulo NUM_FOLDS."""

LOOK_ALIKE = 0.25
"""Unmarked frames are not learnt from if a head takes them for events more surely than it takes
this share of the marked frames that it has not seen."""

LEAST_ANSWERS = 5
"""A class gets its own threshold when it has this number of marks, and of other answers."""

LEAST_THRESHOLD = 0.05

NEVER = -1e4
"""The bias of a class that has no features yet: its probability is 0, and a checkpoint holds it."""


def learn(
    matches: Mapping[str, TrackRows],
    marks: Sequence[Span],
    rejected: Sequence[Span],
    *,
    seed: int = 0,
) -> Learned:
    """Fit a head to marks and rejections, and score every frame of every match.

    Args:
        matches: The features of each match.
        marks: The confirmed events, at least one in time that has features.
        rejected: Stretches that do not show the class they name.
        seed: Chooses the unmarked frames to learn from.

    Raises:
        NothingToLearnError: No mark lies where there are features; the message names what is
            missing.
    """
    matches = {name: rows for name, rows in matches.items() if len(rows)}
    labels = ("background", *sorted({mark.label for mark in marks}))
    if not matches:
        raise NothingToLearnError("the first features")
    row_s = float(np.median([np.median(m.end_s - m.start_s) for m in matches.values()]))
    reach = window_rows(row_s) // 2
    rows, asked = _training_rows(
        matches, marks, rejected, labels, reach, np.random.default_rng(seed)
    )
    K = len(labels)
    if not (rows.column > 0).any():
        raise NothingToLearnError("features of the part of the match that has marks")
    kept = _without_look_alikes(rows, K)
    heads = [_fit(rows, kept & (rows.fold != fold), K) for fold in range(NUM_FOLDS)]
    tracks = {name: _score(track, heads, labels, reach) for name, track in matches.items()}
    thresholds = _thresholds(rows, kept, labels, [(matches[s.match], s) for s in asked], reach)
    return Learned(labels, tracks, thresholds, rows, kept, row_s)


def propose(
    track: ScoreTrack,
    *,
    marks: Sequence[Span] = (),
    rejected: Sequence[Span] = (),
    lengths_s: Mapping[str, float] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> list[Proposal]:
    """Return the moments that may be events, without those that were answered, in time order.

    Args:
        track: The scores of one match.
        marks: The marks of this match. A moment that has one is not proposed for another class.
        rejected: Its rejections; such a moment may still be proposed for another class.
        lengths_s: The usual length of each class's marks; a proposal is at most twice as long. 0,
            or a class that is missing: proposals are spots.
        thresholds: From this score on a proposal counts as found; None takes THRESHOLD.
    """
    points = operating_points(
        track.labels, thresholds=thresholds, default=OperatingPoint(threshold=THRESHOLD)
    )
    found = find_candidates(track, points, EVENTS, floor=FLOOR)
    spans = [
        _with_length(track, event, (lengths_s or {}).get(event.label, 0.0))
        for event in found
        if not is_answered(event, marks, rejected)
    ]
    teaches = _teaching(spans, {label: point.threshold for label, point in points.items()})
    return [
        Proposal(event, event.score >= points[event.label].threshold, worth)
        for event, worth in zip(spans, teaches, strict=True)
    ]


def is_answered(event: Event, marks: Sequence[Span], rejected: Sequence[Span]) -> bool:
    """Tell whether a candidate has been answered: by a mark, or by a rejection of its class.

    Args:
        event: The candidate.
        marks: The marks of its match.
        rejected: The rejections of its match.
    """
    spans = [*marks, *(span for span in rejected if span.label == event.label)]
    near_s = NMS_S / 2
    return any(span.start_s - near_s <= event.peak_s <= span.end_s + near_s for span in spans)


def _with_length(track: ScoreTrack, event: Event, usual_s: float) -> Event:
    """Give a peak the stretch around it where the score is at least half, up to twice as usual."""
    if usual_s <= 0:
        return event
    column = track.labels.index(event.label)
    centre_s, values = track.centre_s, track.probs[:, column]
    peak = int(np.abs(centre_s - event.peak_s).argmin())
    high = values >= 0.5 * values[max(0, peak - 1) : peak + 2].max()
    first = last = peak
    while first > 0 and high[first - 1] and event.peak_s - centre_s[first - 1] <= usual_s:
        first -= 1
    while last + 1 < len(high) and high[last + 1] and centre_s[last + 1] - event.peak_s <= usual_s:
        last += 1
    half_s = np.median(np.diff(centre_s)) / 2 if len(centre_s) > 1 else 0.0
    start_s = min(float(centre_s[first] - half_s), event.peak_s)
    end_s = max(float(centre_s[last] + half_s), event.peak_s)
    return Event(event.label, max(0.0, start_s), end_s, peak_s=event.peak_s, score=event.score)


def _teaching(events: Sequence[Event], thresholds: Mapping[str, float]) -> list[float]:
    """Return how much an answer to each would teach; the best first, each next one away from it."""
    doubt = [
        max(0.0, 1.0 - abs(event.score - (at := thresholds[event.label])) / max(at, 1.0 - at))
        for event in events
    ]
    worth = [0.0] * len(events)
    taken: dict[str, list[float]] = {}
    for k in sorted(range(len(events)), key=lambda k: -doubt[k]):
        near = taken.setdefault(events[k].label, [])
        # Two moments within half a minute are mostly the same scene or its replay.
        alone = min((abs(events[k].peak_s - other) for other in near), default=np.inf) >= 30.0
        worth[k] = doubt[k] * (1.0 if alone else 0.5)
        near.append(events[k].peak_s)
    return worth


def _training_rows(
    matches: Mapping[str, TrackRows],
    marks: Sequence[Span],
    rejected: Sequence[Span],
    labels: Sequence[str],
    reach: int,
    rng: np.random.Generator,
) -> tuple[TrainingRows, list[Span]]:
    """Return what is learnt from, and the answers by their numbers."""
    parts: list[TrainingRows] = []
    num_rows = sum(len(rows) for rows in matches.values())
    asked: list[Span] = []
    for number, (name, track) in enumerate(matches.items()):
        centre_s = (track.start_s + track.end_s) / 2
        column = np.zeros(len(track), np.int64)
        weight = np.ones(len(track))
        answer = np.full(len(track), -1, np.int64)
        near = np.zeros(len(track), np.bool_)
        # Marks come last: they count where a rejection of another class overlaps them.
        for span, is_mark in [*((r, False) for r in rejected), *((m, True) for m in marks)]:
            if span.match != name:
                continue
            frames = _frames_of(span, track)
            if not len(frames):
                continue
            answer[frames] = len(asked)
            column[frames] = labels.index(span.label) if is_mark else 0
            weight[frames] = 1.0 / len(frames) if is_mark else HARD_WEIGHT
            near |= _in(span, centre_s, MARGIN_S) if is_mark else False
            asked.append(span)
        usable = ~track.damaged
        free = np.flatnonzero(usable & ~near & (answer < 0))
        most = max(1, round(MAX_BACKGROUND_ROWS * len(track) / num_rows))
        if len(free) > most:
            free = rng.choice(free, most, replace=False)
        used = np.sort(np.concatenate([free, np.flatnonzero(usable & (answer >= 0))]))
        fold = (centre_s // BLOCK_S).astype(np.int64) % NUM_FOLDS
        fold[answer >= 0] = -1
        parts.append(
            TrainingRows(
                averaged(track.features, used, reach),
                column[used],
                weight[used],
                fold[used],
                answer[used],
                np.full(len(used), number),
            )
        )
    joined = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(TrainingRows)]
    return TrainingRows(*joined), asked


def _in(span: Span, centre_s: Float64, margin_s: float = 0.0) -> Bool:
    return (centre_s >= span.start_s - margin_s) & (centre_s <= span.end_s + margin_s)


def _frames_of(span: Span, track: TrackRows) -> Int64:
    """Return the frames inside a span, or the one that shows its middle.

    There are none if the features have not come that far.
    """
    inside = np.flatnonzero(_in(span, (track.start_s + track.end_s) / 2))
    if len(inside):
        return inside
    middle_s = (span.start_s + span.end_s) / 2
    shown = (track.start_s <= middle_s) & (middle_s <= track.end_s)
    return np.flatnonzero(shown)[:1]


def window_rows(row_s: float) -> int:
    """Return how many features make a window: an odd number, so that one is its middle.

    Args:
        row_s: Seconds from one feature to the next.
    """
    return 2 * round((WINDOW_S / row_s - 1) / 2) + 1 if row_s < WINDOW_S else 1


def averaged(features: np.ndarray, rows: Int64, reach: int) -> Float32:
    """Return features scaled to length 1 and averaged over the rows around each row.

    The window of a row goes from `reach` rows before it to as many after it.

    Args:
        features: (N, D), every feature of a match.
        rows: (M,) indices into them.
        reach: How many rows before and after each one.
    """
    around = (rows[:, None] + np.arange(-reach, reach + 1)).clip(0, len(features) - 1)
    needed, where = np.unique(around, return_inverse=True)
    unit = _unit(features[needed])
    mean: Float32 = unit[where.reshape(around.shape)].mean(axis=1)
    return mean


def _unit(features: np.ndarray) -> Float32:
    rows = np.asarray(features, dtype=np.float32)
    scaled: Float32 = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _without_look_alikes(rows: TrainingRows, num_classes: int) -> Bool:
    """Return which rows to learn from: all but unmarked ones that look like events."""
    marked, unsure = rows.column > 0, rows.fold >= 0
    held = np.zeros(len(rows.column))
    for fold in range(NUM_FOLDS):
        learnt = np.where(marked, rows.answer % NUM_FOLDS != fold, rows.fold != fold)
        if not (learnt & marked).any():
            learnt |= marked
        head = _fit(rows, learnt, num_classes)
        asked = (marked & (rows.answer % NUM_FOLDS == fold)) | (rows.fold == fold)
        held[asked] = 1.0 - _probs(head(rows.X[asked]))[:, 0]
    limit = float(np.quantile(held[marked], LOOK_ALIKE))
    return ~unsure | (held < limit)


def _thresholds(
    rows: TrainingRows,
    kept: Bool,
    labels: tuple[str, ...],
    spans: Sequence[tuple[TrackRows, Span]],
    reach: int,
) -> dict[str, float]:
    """Choose thresholds on marks and rejections, each scored by a head that has not learnt it.

    With answers in two matches or more, whole matches are held out.
    """
    asked = np.flatnonzero(rows.answer >= 0)
    shown = {
        int(answer): int(rows.column[rows.answer == answer].max())
        for answer in np.unique(rows.answer[asked])
    }
    counts = np.bincount(list(shown.values()), minlength=len(labels))
    chosen = [
        k
        for k in range(1, len(labels))
        if min(counts[k], counts.sum() - counts[k]) >= LEAST_ANSWERS
    ]
    thresholds = dict.fromkeys(labels[1:], THRESHOLD)
    if not chosen:
        return thresholds
    by_match = len(np.unique(rows.match[asked])) > 1
    part = (rows.match if by_match else rows.answer) % NUM_FOLDS
    best = {answer: np.zeros(len(labels)) for answer in shown}
    for fold in np.unique(part[asked]):
        out = (rows.answer >= 0) & (part == fold)
        if (kept & ~out & (rows.column > 0)).any():
            head = _fit(rows, kept & ~out, len(labels))
            for answer in np.unique(rows.answer[out]).tolist():
                track, span = spans[answer]
                best[answer] = _score_of(track, span, head, labels, reach)
    for k in chosen:
        yes = [float(best[answer][k]) for answer, column in shown.items() if column == k]
        no = [float(best[answer][k]) for answer, column in shown.items() if column != k]
        thresholds[labels[k]] = _best_threshold(np.array(yes), np.array(no))
    return thresholds


def _score_of(
    track: TrackRows, span: Span, head: Linear, labels: tuple[str, ...], reach: int
) -> Float64:
    """Score an answer as a proposal is scored: by the peak of the smoothed probabilities."""
    centre_s = (track.start_s + track.end_s) / 2
    frames = _frames_of(span, track)
    around = np.flatnonzero(_in(span, centre_s, SMOOTHING_REACH * SMOOTH_S))
    probs = _probs(head(averaged(track.features, around, reach))).astype(np.float32)
    part = ScoreTrack(
        labels, track.start_s[around], track.end_s[around], probs, track.damaged[around]
    )
    smooth = smooth_scores(part, smooth_s=SMOOTH_S)
    best: Float64 = smooth[np.isin(around, frames)].max(axis=0)
    return best


def _best_threshold(yes: Float64, no: Float64) -> float:
    """Return the threshold of the best F1, in the middle between two scores."""
    scores = np.unique(np.concatenate([yes, no]))
    tried = np.clip((scores[1:] + scores[:-1]) / 2, LEAST_THRESHOLD, 1 - LEAST_THRESHOLD)
    found = (yes[:, None] >= tried).sum(axis=0)
    false = (no[:, None] >= tried).sum(axis=0)
    return round(float(tried[np.argmax(2 * found / (len(yes) + found + false))]), 3)


def _fit(rows: TrainingRows, used: Bool, num_classes: int) -> Linear:
    """Fit a head to some rows: all classes count alike, background as much as BACKGROUND_SHARE."""
    column = rows.column[used]
    targets = np.eye(num_classes, dtype=np.float32)[column]
    per_class = (targets * rows.weight[used][:, None]).sum(axis=0)
    present = np.flatnonzero(per_class[1:]) + 1
    total = per_class[1:].sum()
    factor = np.zeros(num_classes)
    factor[present] = total / len(present) / per_class[present]
    if per_class[0]:
        factor[0] = BACKGROUND_SHARE * total / per_class[0]
    weights = rows.weight[used] * factor[column]
    linear = LogisticProblem(rows.X[used], targets, weights).solve(STRENGTH)
    absent = np.setdiff1d(np.arange(1, num_classes), present)
    linear.bias[absent] = NEVER
    return linear


def _probs(logits: Float64) -> Float64:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs: Float64 = odds / odds.sum(axis=1, keepdims=True)
    return probs


def _score(
    track: TrackRows, heads: Sequence[Linear], labels: tuple[str, ...], reach: int
) -> ScoreTrack:
    """Score every frame by the head that did not learn from its block of unmarked time."""
    N, window = len(track), 2 * reach + 1
    centre_s = (track.start_s + track.end_s) / 2
    fold = (centre_s // BLOCK_S).astype(np.int64) % NUM_FOLDS
    probs = np.zeros((N, len(labels)), np.float32)
    for first in range(0, N, CHUNK_ROWS):
        rows = np.arange(first, min(N, first + CHUNK_ROWS))
        around = np.arange(rows[0] - reach, rows[-1] + reach + 1).clip(0, N - 1)
        unit = _unit(track.features[around])
        for number, head in enumerate(heads):
            here = fold[rows] == number
            # A linear layer of an average is the average of what it says of each row.
            logits = unit @ head.weight.T.astype(np.float32)
            mean = sum(logits[k : k + len(rows)] for k in range(window)) / window
            probs[rows[here]] = _probs((mean + head.bias)[here])
    return ScoreTrack(labels, track.start_s, track.end_s, probs, track.damaged)
