"""Analyse matches on a Ray cluster: an actor per device holds the model, matches are its tasks.

Ray places the actors, and restarts them on another node if one is lost. The match that was lost
with an actor is tried once more, as with local workers, so that the journal has a line about it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.batch import Match
from touchline.pipeline.footage.address import StoredFolder
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.season.attempt import Job, Outcome, attempt
from touchline.pipeline.season.options import RunOptions

TICK_S = 1.0

# An actor that does not answer for this long is given up: its node was lost, and no other node has
# room for it.
LOST_S = 120.0


class RayRunner:
    """Gives each free actor the next match; no match waits inside Ray."""

    def __init__(
        self, job: Job, options: RunOptions, on_time: Callable[[Path, float, float], None]
    ) -> None:
        """Connect to a cluster, or start one on this machine, and start the actors.

        Args:
            job: What is done with each match.
            options: The address of the cluster, and how many actors there are.
            on_time: Called with the match, the seconds done and the seconds in all.

        Raises:
            TouchlineError: The extra `ray` is not installed, or no cluster answers.
        """
        try:
            import ray
        except ImportError:
            raise TouchlineError(
                "ray", "is not installed. Run: pip install 'touchline[ray]'"
            ) from None
        self._ray = ray
        self._on_time = on_time
        self._hang_s = options.hang_s
        self._started = not ray.is_initialized()
        if self._started:
            try:
                ray.init(address=options.ray_address, log_to_driver=False, logging_level="ERROR")
            except ConnectionError as error:
                raise TouchlineError(options.ray_address or "ray", str(error)) from None
        resources = ray.cluster_resources()
        num_gpus = int(resources.get("GPU", 0))
        num_actors = options.workers or num_gpus or int(resources.get("CPU", 1))
        # Actors that are restarted need it again, so it must not go out of scope.
        self._model = ray.put(Path(job.model).read_bytes() if job.sha256 is not None else b"")
        actor = ray.remote(_Analyst).options(
            num_cpus=1,
            num_gpus=1 if num_gpus else 0,
            max_restarts=-1,
            max_concurrency=2,
        )
        actors = [actor.remote(job, self._model) for _ in range(num_actors)]
        # Actors for which there is no room yet join when they have started.
        self._starting: dict[Any, tuple[Any, float]] = {}
        self._has_worked = False
        for each in actors:
            self._join(each)
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Match, Any]] = {}
        self._questions: dict[Any, tuple[Match, Any, float]] = {}
        self._silent: dict[Path, tuple[int, float]] = {}

    @property
    def num_free(self) -> int:
        """How many actors have nothing to do."""
        self._take_in_started(0.0)
        return len(self._idle)

    @property
    def num_busy(self) -> int:
        """How many matches are worked on."""
        return len(self._busy)

    def submit(self, match: Match) -> None:
        """Give a match to an actor that has nothing to do."""
        actor = self._idle.pop()
        self._busy[actor.run.remote(match)] = match, actor

    def wait(self) -> list[tuple[Match, Outcome]]:
        """Wait for a match to end, ask the others how far they are, and return what has ended."""
        ray = self._ray
        if not self._busy:
            self._take_in_started(TICK_S)
            return []
        ready, _ = ray.wait(list(self._busy), num_returns=len(self._busy), timeout=TICK_S)
        ended = []
        for task in ready:
            match, actor = self._busy.pop(task)
            try:
                outcome = ray.get(task)
                self._idle.append(actor)
            except ray.exceptions.RayActorError as error:
                # Ray restarts the actor, on another node if need be. It joins when it has started.
                self._join(actor)
                why = f"the Ray actor was lost ({type(error).__name__})"
                outcome = Outcome(MatchResult(match.path, error=why), may_pass=True)
            ended.append((match, outcome))
        return ended + self._follow()

    def close(self) -> None:
        """Stop the actors, and leave the cluster."""
        busy = [actor for _, actor in self._busy.values()]
        starting = [actor for actor, _ in self._starting.values()]
        for actor in (*self._idle, *busy, *starting):
            self._ray.kill(actor)
        if self._started:
            self._ray.shutdown()

    def _join(self, actor: Any) -> None:
        """Let an actor join as soon as it answers."""
        self._starting[actor.progress.remote()] = actor, time.monotonic()

    def _take_in_started(self, timeout_s: float) -> None:
        """Take in actors that have started.

        Args:
            timeout_s: How long to wait for one of them.

        Raises:
            TouchlineError: No actor is left, or none can load the model.
        """
        ray, why = self._ray, "the cluster has no room for one"
        if self._starting:
            ray.wait(list(self._starting), timeout=timeout_s)
        for task, (actor, asked_s) in list(self._starting.items()):
            if ray.wait([task], timeout=0.0)[0]:
                del self._starting[task]
                try:
                    ray.get(task)
                    self._idle.append(actor)
                except ray.exceptions.ActorUnavailableError:
                    self._join(actor)
                except ray.exceptions.RayError as error:
                    why = " ".join(str(error).split())
            elif self._has_worked and time.monotonic() - asked_s >= LOST_S:
                del self._starting[task]
                ray.kill(actor)
        self._has_worked |= bool(self._idle)
        if not (self._idle or self._busy or self._starting):
            raise TouchlineError("ray", f"no actor is left: {why}")

    def _follow(self) -> list[tuple[Match, Outcome]]:
        """Read how far the matches are, and ask again; return those whose actor is lost."""
        ray, lost = self._ray, []
        for question, (match, actor, asked_s) in list(self._questions.items()):
            task = next((t for t, (each, _) in self._busy.items() if each is match), None)
            if task is None:  # it has ended meanwhile
                del self._questions[question]
            elif ray.wait([question], timeout=0.0)[0]:
                del self._questions[question]
                with suppress(ray.exceptions.RayError):  # Ray restarts the actor
                    self._heard(match, actor, *ray.get(question))
            elif time.monotonic() - asked_s >= LOST_S:
                del self._questions[question]
                del self._busy[task]
                ray.kill(actor)
                why = "the Ray actor was lost, and the cluster has no room for another one"
                lost.append((match, Outcome(MatchResult(match.path, error=why), may_pass=True)))
        asked = {match.path for match, _, _ in self._questions.values()}
        for match, actor in self._busy.values():
            if match.path not in asked:
                self._questions[actor.progress.remote()] = match, actor, time.monotonic()
        return lost

    def _heard(self, match: Match, actor: Any, count: int, done_s: float, total_s: float) -> None:
        """Pass progress on; restart an actor that makes none."""
        self._on_time(match.path, done_s, total_s)
        before, silent_s = self._silent.get(match.path, (count, 0.0))
        silent_s = silent_s + TICK_S if count == before else 0.0
        self._silent[match.path] = count, silent_s
        if silent_s >= self._hang_s:
            del self._silent[match.path]
            self._ray.kill(actor, no_restart=False)


class _Analyst:
    """An actor: the model on its device."""

    def __init__(self, job: Job, model: bytes) -> None:
        """Load the model.

        Args:
            job: What is done with each match.
            model: The content of the checkpoint, because its file may be on another machine.
        """
        self._progress = 0, 0.0, 0.0
        self._store = job.store
        self._folder = tempfile.TemporaryDirectory(prefix="touchline-")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            path.write_bytes(model)
            self._analysis = job.load(file=path if model else None)

    def run(self, match: Match) -> Outcome:
        """Analyse a match."""

        def on_time(done_s: float, total_s: float) -> None:
            self._progress = self._progress[0] + 1, done_s, total_s

        if self._store is not None:  # the folder of the driver may be on another machine
            folder = StoredFolder(self._folder.name)
            match = replace(match, planned=folder / match.planned.name)
        return attempt(self._analysis, match, on_time, self._store)

    def progress(self) -> tuple[int, float, float]:
        """Return how often there was progress, the seconds done and the seconds in all."""
        return self._progress
