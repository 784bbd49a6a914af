"""The studio's background work: features of every match, learning after every answer, and copies.

Each kind of work has a thread of its own. Torch computes outside the interpreter's lock, so the
server goes on answering.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from touchline.models.checkpoint import TrainedModel, file_digest
from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline.scoring.feature_track import FeatureTrack, TrackRows, track_key
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.studio.pictures import StoredPictures
from touchline.pipeline.teaching.actions import Mark, Rejection, State
from touchline.pipeline.teaching.learning import (
    Learned,
    NothingToLearnError,
    Proposal,
    Span,
    is_answered,
    learn,
    propose,
)
from touchline.pipeline.teaching.project import FEATURES_FOLDER, Match, Project

PICTURES_FOLDER = "pictures"

LEAST_MARKS = 2
"""Learning begins when one class has this number of marks."""

LEAST_GROWTH_S, GROWTH_SHARE = 10.0, 0.2
"""While features come, learning runs again each time their length has grown by these seconds and by
this share."""


@dataclass(frozen=True)
class FeatureProgress:
    """How far the features of a match are: state is waiting, running, done or failed."""

    state: str = "waiting"
    done_s: float = 0.0
    eta_s: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Learning:
    """How far learning is.

    Attributes:
        state: idle, running or failed.
        version: Grows with every result.
        seconds: How long the last one took.
        problem: Why the last one failed.
        waits_for: What is missing before anything can be learnt.
    """

    state: str = "idle"
    version: int = 0
    seconds: float = 0.0
    problem: str | None = None
    waits_for: str | None = None


class Engine:
    """The work of one open project. `start` begins it, `stop` ends it."""

    def __init__(self, project: Project, load: Callable[[], TrainedModel]) -> None:
        """Prepare the work.

        Args:
            project: The project.
            load: Loads the network with its pretrained trunk; called once, in the background.
        """
        self._project = project
        self._load = load
        self._mutex = threading.RLock()
        self._wake = threading.Condition(self._mutex)
        self._stopped = False
        self._model: TrainedModel | None = None
        self._features = {name: FeatureProgress() for name in project.matches}
        self._tracks: dict[str, FeatureTrack] = {}
        self._learning = Learning()
        self._learned: Learned | None = None
        self._learnt_at: tuple[int, float] = (-1, 0.0)
        self._threads: list[threading.Thread] = []
        self.changes = 0

    def start(self) -> None:
        """Begin to compute features and to learn."""
        for work in (self._compute_features, self._keep_learning):
            thread = threading.Thread(target=work, name=work.__name__, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End all work, and wait for it."""
        with self._wake:
            self._stopped = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=30)

    def wake(self) -> None:
        """Say that there was an action."""
        with self._wake:
            self.changes += 1
            self._wake.notify_all()

    @property
    def features(self) -> Mapping[str, FeatureProgress]:
        """How far the features of each match are."""
        with self._mutex:
            return dict(self._features)

    @property
    def learning(self) -> Learning:
        """How far learning is."""
        with self._mutex:
            return self._learning

    @property
    def learned(self) -> Learned | None:
        """The newest result; its labels are ids of classes."""
        with self._mutex:
            return self._learned

    def wait_until_learnt(self, timeout_s: float) -> bool:
        """Wait until every action so far has been learnt from; return whether it has."""
        with self._wake:
            return self._wake.wait_for(
                lambda: (
                    self._learnt_at[0] == self._project.revision
                    and self._learning.state != "running"
                ),
                timeout_s,
            )

    @property
    def model(self) -> TrainedModel | None:
        """The network, once it is loaded."""
        with self._mutex:
            return self._model

    def pictures(self, match_id: str) -> StoredPictures | None:
        """Return the small pictures of a match that were kept while its features came."""
        with self._mutex:
            track = self._tracks.get(match_id)
        return None if track is None else StoredPictures(track.folder / PICTURES_FOLDER)

    def rows(self) -> dict[str, TrackRows]:
        """Return the features of every match that has some."""
        with self._mutex:
            tracks = dict(self._tracks)
        return {name: rows for name, track in tracks.items() if len(rows := track.rows())}

    def proposals(self, match_id: str) -> list[Proposal]:
        """Return what the newest head proposes for a match, without what was answered since."""
        learned, state = self.learned, self._project.state
        marks = spans_of(m for m in state.marks.values() if m.match == match_id)
        rejected = spans_of(r for r in state.rejected.values() if r.match == match_id)
        learnt: set[str] = set()
        found: list[Proposal] = []
        if learned is not None and match_id in learned.tracks:
            learnt = set(learned.labels)
            found = propose(
                learned.tracks[match_id],
                marks=marks,
                rejected=rejected,
                lengths_s=usual_lengths(state),
                thresholds=learned.thresholds,
            )
        # What a detection found is shown until the project has learnt the class itself.
        found += [
            one
            for one in self._project.suggested(match_id)
            if one.event.label not in learnt and not is_answered(one.event, marks, rejected)
        ]
        ids = {one.id for one in state.classes}
        return [one for one in found if one.event.label in ids]

    def _set_features(self, match_id: str, **values: object) -> None:
        with self._wake:
            old = self._features[match_id]
            self._features[match_id] = replace(old, **values)  # type: ignore[arg-type]
            self.changes += 1
            self._wake.notify_all()

    def _compute_features(self) -> None:
        try:
            # Not under the mutex: the page is answered while the network loads.
            model = self._load()
            options = self._project.options
            scorer = Scorer(
                model, device=options.device, precision=options.precision, mode="shared"
            )
        except (TouchlineError, ValueError, RuntimeError, OSError) as error:
            for match_id in self._features:
                self._set_features(match_id, state="failed", problem=str(error))
            return
        with self._mutex:
            self._model = model
        for match in self._project.matches.values():
            try:
                self._features_of(match, scorer)
            except (TouchlineError, ValueError, RuntimeError, OSError) as error:
                self._set_features(match.id, state="failed", problem=str(error), eta_s=None)
                if isinstance(error, FootageError):
                    self._project.set_problem(match.id, str(error))
            if self._stopped:
                return

    def _features_of(self, match: Match, scorer: Scorer) -> None:
        self._set_features(match.id, state="running")
        health = self._project.health_of(match.id)
        if not self._project.is_unchanged(match.id):
            self._project.remember_content(match.id, file_digest(match.path))
        content = self._project.matches[match.id].content
        assert content is not None
        key = track_key(content, scorer, stream=health.stream_index)
        track = FeatureTrack(self._project.folder / FEATURES_FOLDER, key)
        with self._mutex:
            self._tracks[match.id] = track
        pictures = StoredPictures(track.folder / PICTURES_FOLDER)
        began, first_s = time.monotonic(), None

        def on_row(end_s: float) -> None:
            nonlocal first_s
            first_s = end_s if first_s is None else first_s
            done_s, spent_s = end_s - first_s, time.monotonic() - began
            left_s = max(0.0, health.duration_s - end_s)
            eta_s = spent_s / done_s * left_s if done_s > 0 else None
            self._set_features(match.id, done_s=end_s, eta_s=eta_s)

        complete = track.compute(
            match.path,
            scorer,
            stream=health.stream_index,
            on_frames=pictures.keep,
            on_row=on_row,
            stop=lambda: self._stopped,
        )
        if complete:
            end_s = float(track.rows().end_s[-1]) if len(track.rows()) else 0.0
            self._set_features(match.id, state="done", done_s=end_s, eta_s=0.0)

    def _keep_learning(self) -> None:
        while True:
            with self._wake:
                while not (self._stopped or self._is_behind()):
                    self._wake.wait()
                if self._stopped:
                    return
                at = (self._project.revision, self._done_s())
                self._learnt_at = at
                self._learning = replace(self._learning, state="running")
                self.changes += 1
            self._learn_once()
            try:
                self._project.write_labels()
            except OSError as error:
                problem = f"labels.csv cannot be written: {error.strerror}. Your marks are kept"
                with self._wake:
                    self._learning = replace(self._learning, problem=problem)
                    self.changes += 1

    def _is_behind(self) -> bool:
        revision, done_s = self._learnt_at
        if self._project.revision != revision:
            return True
        all_done = all(one.state in ("done", "failed") for one in self._features.values())
        grown_s = self._done_s() - done_s
        return grown_s >= max(LEAST_GROWTH_S, GROWTH_SHARE * done_s) or (all_done and grown_s > 0)

    def _done_s(self) -> float:
        return sum(one.done_s for one in self._features.values())

    def _learn_once(self) -> None:
        state, began = self._project.state, time.monotonic()
        waits_for = missing_for_learning(state)
        new = replace(self.learning, state="idle", waits_for=waits_for, problem=None)
        learned = None
        if waits_for is None:
            try:
                learned = learn(
                    self.rows(), spans_of(state.marks.values()), spans_of(state.rejected.values())
                )
                seconds = time.monotonic() - began
                new = replace(new, version=new.version + 1, seconds=round(seconds, 3))
            except NothingToLearnError as error:
                new = replace(new, waits_for=str(error))
            except Exception as error:
                # Whatever it is, the next answer is learnt from again.
                new = replace(new, state="failed", problem=str(error) or type(error).__name__)
        with self._wake:
            self._learned = learned if learned is not None or waits_for else self._learned
            self._learning = new
            self.changes += 1
            self._wake.notify_all()


def missing_for_learning(state: State) -> str | None:
    """Say what is missing before a head can be learnt; None: nothing."""
    if not state.classes:
        return "a class: name what you look for"
    counts = [sum(m.label == one.id for m in state.marks.values()) for one in state.classes]
    if max(counts) < LEAST_MARKS:
        return "two marks of one class"
    return None


def spans_of(answers: Iterable[Mark | Rejection]) -> list[Span]:
    """Return marks or rejections as what is learnt from."""
    return [Span(a.match, a.label, a.start_s, a.end_s) for a in answers]


def usual_lengths(state: State) -> dict[str, float]:
    """Return the median length of each class's marks in seconds."""
    lengths: dict[str, list[float]] = {}
    for mark in state.marks.values():
        lengths.setdefault(mark.label, []).append(mark.end_s - mark.start_s)
    return {label: float(np.median(found)) for label, found in lengths.items()}
