"""How much a few marks teach: the studio's learning, with a simulated person who knows the labels.

The person marks the first n events of each class, then answers ten proposals at a time. A proposal
is right if its peak is at most TOLERANCE_S from the middle of an event that has no mark yet: it is
accepted, with the right class if that was wrong. All others are rejected. Nothing is corrected
otherwise, and no answer looks at anything but the labels of the moment asked about.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from touchline.models.checkpoint import file_digest
from touchline.pipeline.evaluation.spotting import pair_events
from touchline.pipeline.plots import new_canvas, save_canvas
from touchline.pipeline.scoring.feature_track import FeatureTrack, TrackRows, track_key
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.teaching.learning import Proposal, Span, learn, propose
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.teaching.output import open_trunk
from touchline.pipeline.types import Event

TOLERANCE_S = 2.0
MARKS = (1, 2, 4, 8)
ANSWERS, ROUNDS = 10, 2
MATCH = "match"

# For the cold start: where the two marks are, and how much there must be after them.
COLD_MARKS_S, LEAST_UNMARKED_S = (3.0, 8.0), 10.0

# The person begins at the start, in the middle, or at the end and goes backwards.
ORDERS = ("from the start", "from the middle", "from the end")


@dataclass(frozen=True)
class Lesson:
    """What the person has after some marks and answers.

    Attributes:
        order: Where the person began.
        marks: Marks per class, at most.
        answers: Proposals answered.
        rest: Events that the person did not mark by hand.
        found: How many of them are accepted, or proposed above the threshold.
        false: Proposals above the threshold that are no event.
        seconds: How long the last learning took.
    """

    order: str
    marks: int
    answers: int
    rest: int
    found: int
    false: int
    seconds: float

    @property
    def f1(self) -> float:
        """F1 of accepted and proposed events against those not marked by hand."""
        counted = self.found + self.false + self.rest
        return 2 * self.found / counted if counted else 0.0


@dataclass(frozen=True)
class _Answers:
    """Marks by hand, accepted proposals as the true events they show, and rejected proposals."""

    marks: tuple[Event, ...]
    accepted: tuple[Event, ...] = ()
    rejected: tuple[Event, ...] = ()

    def proposals(self, rows: TrackRows) -> tuple[list[Proposal], float]:
        """Learn from the answers; return what is proposed, and how long it took."""
        began = time.monotonic()
        marks = [_span(event) for event in (*self.marks, *self.accepted)]
        rejected = [_span(event) for event in self.rejected]
        learned = learn({MATCH: rows}, marks, rejected)
        lengths_s = {
            label: float(np.median([m.end_s - m.start_s for m in marks if m.label == label]))
            for label in learned.labels[1:]
        }
        found = propose(
            learned.tracks[MATCH],
            marks=marks,
            rejected=rejected,
            lengths_s=lengths_s,
            thresholds=learned.thresholds,
        )
        return found, time.monotonic() - began


def bench_teach(
    rows: TrackRows,
    truth: Sequence[Event],
    *,
    marks: Sequence[int] = MARKS,
    answers: int = ANSWERS,
    rounds: int = ROUNDS,
    on_lesson: Callable[[Lesson], None] = lambda _: None,
) -> list[Lesson]:
    """Teach with 1, 2, 4, ... marks per class in three orders, then by answers.

    Args:
        rows: The features of the footage.
        truth: Its events.
        marks: Numbers of marks per class.
        answers: How many proposals are answered in a round, the highest scores first.
        rounds: How many rounds.
        on_lesson: Called with each result.
    """
    lessons = []
    for order in ORDERS:
        for number in marks:
            by_hand = _first_of_each(_in_order(truth, order), number)
            rest = [event for event in truth if event not in by_hand]
            said = _Answers(tuple(by_hand))
            proposals: list[Proposal] = []
            for done in range(0, (rounds + 1) * answers, answers):
                if done:
                    said = _answered(said, proposals[:answers], rest)
                proposals, seconds = said.proposals(rows)
                proposals.sort(key=lambda one: -one.event.score)
                lesson = _lesson(order, number, done, said, proposals, rest, seconds)
                lessons.append(lesson)
                on_lesson(lesson)
    return lessons


def _lesson(
    order: str,
    marks: int,
    answers: int,
    said: _Answers,
    proposals: Sequence[Proposal],
    rest: Sequence[Event],
    seconds: float,
) -> Lesson:
    still_open = [event for event in rest if event not in said.accepted]
    shown = [one.event for one in proposals if one.accepted]
    pairs = pair_events(still_open, shown, tolerance_s=TOLERANCE_S)
    found = sum(event is not None and other is not None for event, other in pairs)
    false = sum(event is None for event, _ in pairs)
    return Lesson(order, marks, answers, len(rest), len(said.accepted) + found, false, seconds)


def _answered(said: _Answers, proposals: Sequence[Proposal], rest: Sequence[Event]) -> _Answers:
    accepted, rejected = list(said.accepted), list(said.rejected)
    for one in proposals:
        near = [
            event
            for event in rest
            if event not in accepted and abs(event.peak_s - one.event.peak_s) <= TOLERANCE_S
        ]
        if near:
            # The right class if there is one; else the person corrects it.
            accepted.append(min(near, key=lambda event: event.label != one.event.label))
        else:
            rejected.append(one.event)
    return replace(said, accepted=tuple(accepted), rejected=tuple(rejected))


def _in_order(truth: Sequence[Event], order: str) -> list[Event]:
    events = sorted(truth, key=lambda event: event.peak_s)
    if order == ORDERS[2]:
        return events[::-1]
    first = len(events) // 2 if order == ORDERS[1] else 0
    return events[first:] + events[:first]


def _first_of_each(events: Sequence[Event], number: int) -> list[Event]:
    taken: list[Event] = []
    for event in events:
        if sum(other.label == event.label for other in taken) < number:
            taken.append(event)
    return taken


def _span(event: Event) -> Span:
    return Span(MATCH, event.label, event.start_s, event.end_s)


def match_features(footage: Path, options: StudioOptions, cache: Path) -> TrackRows:
    """Return the features of a whole match, from the cache or computed.

    Args:
        footage: The file.
        options: How to sample it.
        cache: Folder of features.

    Raises:
        FootageError: The footage cannot be read.
    """
    track, scorer = _open_track(footage, options, cache)
    track.compute(footage, scorer)
    return track.rows()


def _open_track(footage: Path, options: StudioOptions, cache: Path) -> tuple[FeatureTrack, Scorer]:
    trunk = open_trunk(options)
    scorer = Scorer(trunk, device=options.device, precision=options.precision, mode="shared")
    return FeatureTrack(cache, track_key(file_digest(footage), scorer, stream=None)), scorer


@dataclass(frozen=True)
class ColdStart:
    """How long a person waits with a new match; seconds since the start.

    Attributes:
        footage_s: Length of the footage in seconds.
        proposals_s: Until the first proposals, after two marks in the first COLD_MARKS_S seconds.
        features_s: Until all features are computed.
    """

    footage_s: float
    proposals_s: float
    features_s: float


def cold_start(footage: Path, options: StudioOptions, folder: Path) -> ColdStart:
    """Time a match that was never seen before, from loading the network on.

    Args:
        footage: The file.
        options: How to sample it.
        folder: An empty folder for the features.

    Raises:
        FootageError: The footage cannot be read.
    """
    began = time.monotonic()
    track, scorer = _open_track(footage, options, folder)
    marks = tuple(Event("event", at_s, at_s + 1, peak_s=at_s + 0.5) for at_s in COLD_MARKS_S)
    proposed: list[float] = []

    def on_row(end_s: float) -> None:
        if not proposed and end_s > COLD_MARKS_S[-1] + LEAST_UNMARKED_S:
            _Answers(marks).proposals(track.rows())
            proposed.append(time.monotonic() - began)

    track.compute(footage, scorer, on_row=on_row)
    features_s = time.monotonic() - began
    return ColdStart(float(track.rows().end_s[-1]), (*proposed, features_s)[0], features_s)


def learning_seconds(
    rows: TrackRows, truth: Sequence[Event], *, duration_s: float, num_marks: int
) -> float:
    """Return how long learning and proposing takes on a longer match.

    The match is the footage, repeated until it is long enough.

    Args:
        rows: The features of the footage.
        truth: Its events.
        duration_s: Length of the longer match in seconds.
        num_marks: How many marks it has, evenly spread.
    """
    period_s = float(rows.end_s[-1])
    times = max(1, round(duration_s / period_s))
    later_s = np.repeat(np.arange(times) * period_s, len(rows))
    long = TrackRows(
        np.tile(rows.features, (times, 1)),
        np.tile(rows.start_s, times) + later_s,
        np.tile(rows.end_s, times) + later_s,
        np.tile(rows.damaged, times),
    )
    events = [
        event.moved(by_s) for by_s in (np.arange(times) * period_s).tolist() for event in truth
    ]
    chosen = np.linspace(0, len(events) - 1, num_marks).round().astype(int)
    marks = tuple(events[k] for k in chosen)
    return _Answers(marks).proposals(long)[1]


def plot_lessons(lessons: Sequence[Lesson], path: Path) -> Path:
    """Draw F1 over the marks per class, one line per number of answers. Return the path.

    Args:
        lessons: From `bench_teach`.
        path: The PNG file to write.

    Raises:
        ValueError: matplotlib is not installed.
    """
    canvas, (panel,) = new_canvas(1)
    marks = sorted({one.marks for one in lessons})
    for answers in sorted({one.answers for one in lessons}):
        found = [
            [one.f1 for one in lessons if (one.marks, one.answers) == (m, answers)] for m in marks
        ]
        means = np.array([np.mean(f1) for f1 in found])
        away = np.abs(np.array([[min(f1), max(f1)] for f1 in found]).T - means)
        name = f"{answers} answers" if answers else "marks only"
        panel.errorbar([str(m) for m in marks], means, yerr=away, marker="o", capsize=3, label=name)
    panel.set(xlabel="marks per class, at most", ylabel="F1 at 2 s of what was not marked")
    panel.set(title="mean and range of three orders", ylim=(0, 1))
    panel.legend()
    return save_canvas(canvas, path)
