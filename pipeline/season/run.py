"""Go through many matches: each ends as done, skipped or failed, and nothing is done twice."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from touchline.models.atomic_files import remove_leftovers
from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import TouchlineError
from touchline.pipeline.detection.batch import Analysis, Match
from touchline.pipeline.detection.folders import named_footage, output_folders
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.season.attempt import Job, Outcome, attempt
from touchline.pipeline.season.content import Content
from touchline.pipeline.season.divide import Divider, is_divisible
from touchline.pipeline.season.on_ray import RayRunner
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.out_folder import OutFolder, open_out_folder
from touchline.pipeline.season.workers import WorkerPool
from touchline.pipeline.timecode import MatchClock

TRIES = 2

# How often a run that waits for footage looks for it.
POLL_S = 1.0

# A season has enough footage for a trial of the engines if its first files have.
SOME_FILES = 20

State = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class Record:
    """How an input ended.

    Attributes:
        result: Its result, or the error.
        state: "done", "skipped" or "failed".
        reason: Why it was skipped or failed.
        seconds: How long the last try took.
        is_duplicate: Whether another input is the same file.
    """

    result: MatchResult
    state: State
    reason: str | None = None
    seconds: float = 0.0
    is_duplicate: bool = False


@dataclass(frozen=True)
class News:
    """What is called during a run, and when.

    Attributes:
        on_ready: Called with the network when it is prepared in this process.
        on_start: Called with each match that is analysed.
        on_time: Called with the match, the seconds done and the seconds in all.
        on_retry: Called with a match that is tried again, and why.
        on_unwritable: Called with each match whose results a format cannot hold, the format and
            the reason, before the match is analysed.
        on_note: Called with a match and a sentence about scores that an earlier run had kept.
        on_takeover: Called with who held the folder's lock and is gone.
    """

    on_ready: Callable[[Scorer], None] = lambda _: None
    on_start: Callable[[Path], None] = lambda _: None
    on_time: Callable[[Path, float, float], None] = lambda *_: None
    on_retry: Callable[[Path, str], None] = lambda *_: None
    on_unwritable: Callable[[Path, str, str], None] = lambda *_: None
    on_note: Callable[[Path, str], None] = lambda *_: None
    on_takeover: Callable[[str], None] = lambda _: None


class Runner(Protocol):
    """Where matches are analysed."""

    @property
    def num_free(self) -> int:
        """How many matches it can take now."""

    @property
    def num_busy(self) -> int:
        """How many matches it is working on."""

    def submit(self, match: Match) -> None:
        """Take a match."""

    def wait(self) -> list[tuple[Match, Outcome]]:
        """Wait until something has happened; return the matches that have ended."""

    def close(self) -> None:
        """Stop all work at once."""


class HereRunner:
    """Analyses matches in this process, one at a time."""

    def __init__(
        self, analysis: Analysis, job: Job, news: News, *, close: Callable[[], None] = lambda: None
    ) -> None:
        """Prepare the network.

        Args:
            analysis: What is done with each match.
            job: The same, with files of the run.
            news: What is called, and when.
            close: Stops what helps with it.
        """
        self.close = close
        news.on_ready(analysis.prepare(job.footage))
        self._analysis = analysis
        self._store = job.store
        self._on_time = news.on_time
        self._match: Match | None = None

    @property
    def num_free(self) -> int:
        """1 until a match is taken."""
        return 1 - self.num_busy

    @property
    def num_busy(self) -> int:
        """1 while a match is here."""
        return int(self._match is not None)

    def submit(self, match: Match) -> None:
        """Take a match; `wait` analyses it."""
        self._match = match

    def wait(self) -> list[tuple[Match, Outcome]]:
        """Analyse the match."""
        match, self._match = self._match, None
        assert match is not None

        def on_time(done_s: float, total_s: float) -> None:
            self._on_time(match.path, done_s, total_s)

        return [(match, attempt(self._analysis, match, on_time, self._store))]


def run_matches(
    inputs: Inputs,
    job: Job,
    trained: TrainedModel,
    out: Path,
    options: RunOptions,
    *,
    clocks: Mapping[Path, MatchClock] | None = None,
    news: News | None = None,
    arrivals: Callable[[], Sequence[Path]] | None = None,
) -> Generator[Record, None, None]:
    """Analyse matches and yield how each ended, as it ends.

    A match is skipped if its result folder is complete and was made with the same model, the same
    options and the same footage. One that fails is tried once more at the end where that may help.
    OUT/run.jsonl holds a line for every state of every input, across all runs.

    Args:
        inputs: The footage.
        job: What is done with it.
        trained: The model of the job.
        out: The folder for the result folders, or its address in a remote store.
        options: Workers, and whether to analyse again what is done.
        clocks: The match clock of each file that has one.
        news: What is called, and when.
        arrivals: Asked again and again for more footage; the run then never ends by itself.

    Raises:
        ValueError: The options fit no file, before anything is decoded.
        OSError: Nothing can be written to `out`.
        TouchlineError: Another run writes to `out`, its store takes nothing, or no worker can load
            the model.
    """
    news = news or News()
    if options.devices:
        # events.json names the kind of device: which worker takes a match is chance.
        kind = options.devices[0].partition(":")[0]
        job = replace(job, options=replace(job.options, device=kind))
    job = replace(job, footage=inputs.files[:SOME_FILES])
    analysis = job.analysis(trained)
    with open_out_folder(out) as place:
        if place.lost_holder is not None:
            news.on_takeover(place.lost_holder)
            _clean(place.folder)
        run = _Run(inputs, analysis, place, options, clocks or {}, news, arrivals)
        yield from run.duplicates(inputs)
        job = replace(job, store=place.address)
        alone = inputs.files[0] if len(inputs.files) == 1 and arrivals is None else None
        runner = _runner(analysis, job, trained, options, news, alone)
        try:
            yield from run.matches(runner)
        finally:
            runner.close()
            if runner.num_busy or run.has_failures:
                _clean(place.folder)
            # A journal that is gone has been told, or matters less than what ended the run.
            with suppress(TouchlineError):
                place.journal.write("end", **run.counts)


class _Run:
    """The state of one run: which matches wait, how often each failed, how many ended how."""

    def __init__(
        self,
        inputs: Inputs,
        analysis: Analysis,
        place: OutFolder,
        options: RunOptions,
        clocks: Mapping[Path, MatchClock],
        news: News,
        arrivals: Callable[[], Sequence[Path]] | None,
    ) -> None:
        self._waiting: deque[Match] = deque()
        self._folders: dict[Path, Path] = {}
        self._working: set[Path] = set()
        self._clocks = clocks
        self._arrivals = arrivals
        self._analysis = analysis
        self._place = place
        self._out = place.folder
        self._again = options.again
        self._news = news
        self._journal = place.journal
        self._failures: Counter[Path] = Counter()
        self.counts: Counter[str] = Counter()
        num_inputs = len(inputs.files) + len(inputs.duplicates)
        self._journal.write("run", inputs=num_inputs, workers=options.num_workers)
        self._add(inputs.files)

    @property
    def has_failures(self) -> bool:
        """Whether a try has failed."""
        return bool(self._failures)

    def duplicates(self, inputs: Inputs) -> Iterator[Record]:
        for path, first in inputs.duplicates:
            reason = f"the same file as {first}"
            self._journal.write("skipped", input=self._name(path), reason=reason)
            self.counts["skipped"] += 1
            yield Record(MatchResult(path), "skipped", reason, is_duplicate=True)

    def matches(self, runner: Runner) -> Iterator[Record]:
        while True:
            if self._arrivals is not None:
                self._add(self._arrivals())
            while self._waiting and runner.num_free:
                match = self._waiting.popleft()
                if not self._failures[match.path]:
                    match = self._analysis.examined(match)
                    for name, reason in match.unwritable.items():
                        self._news.on_unwritable(match.path, name, reason)
                    skipped = self._finished(match)
                    if skipped is not None:
                        yield skipped
                        continue
                self._journal.write("started", input=self._name(match.path))
                self._news.on_start(match.path)
                self._working.add(match.path)
                runner.submit(match)
            if not (runner.num_busy or self._waiting):
                if self._arrivals is None:
                    return
                time.sleep(POLL_S)
                continue
            for match, outcome in runner.wait():
                record = self._ended(match, outcome)
                if record is not None:
                    yield record

    def _add(self, paths: Sequence[Path]) -> None:
        """Let matches wait. One that waits already, or is worked on, is not added again."""
        known = self._working | {match.path for match in self._waiting}
        self._folders |= dict.fromkeys(paths, self._out)
        planned = output_folders(list(self._folders), self._out)
        self._folders = dict(zip(self._folders, planned, strict=True))
        for path in paths:
            if path not in known:
                del self._failures[path]
                self._waiting.append(Match(path, self._folders[path], self._clocks.get(path)))

    def _finished(self, match: Match) -> Record | None:
        """The record of a match that an earlier run has done."""
        if self._again:
            with suppress(OSError):  # what cannot be removed fails when the match is analysed
                self._analysis.forget(match)
            return None
        name = self._name(match.path)
        last = self._journal.last.get(name, {})
        if last.get("state") == "failed":
            return None
        known = last.get("footage")
        content = Content(**known) if isinstance(known, dict) else Content()

        def is_same() -> bool | None:
            with suppress(OSError, TouchlineError):
                return content.is_same_as(match.path)
            return None

        self._place.outline(match)
        result = self._analysis.finished(match, is_same=is_same)
        if result is None:
            return None
        reason = "done by an earlier run"
        self._journal.write("skipped", input=name, reason=reason, footage=content.as_json())
        self.counts["skipped"] += 1
        return Record(result, "skipped", reason)

    def _ended(self, match: Match, outcome: Outcome) -> Record | None:
        """Write to the journal how a try ended; None if the match is tried again."""
        result, name = outcome.result, self._name(match.path)
        for note in outcome.notes:
            self._news.on_note(match.path, note)
        self._working.discard(match.path)
        facts = {"input": name, "seconds": outcome.seconds}
        if result.folder is not None:
            facts["folder"] = result.folder.name
        if result.error is None:
            footage = outcome.content.as_json() if outcome.content else None
            facts |= {"events": len(result.accepted), "footage": footage}
            self._journal.write("done", **facts)
            self.counts["done"] += 1
            return Record(result, "done", seconds=outcome.seconds)
        self._failures[match.path] += 1
        facts["reason"] = result.error
        if outcome.traceback is not None:
            facts["traceback"] = outcome.traceback
        if outcome.may_pass and self._failures[match.path] < TRIES:
            self._journal.write("retried", **facts)
            self._news.on_retry(match.path, result.error)
            self._waiting.append(match)
            return None
        self._journal.write("failed", **facts, tries=self._failures[match.path])
        self.counts["failed"] += 1
        return Record(result, "failed", result.error, outcome.seconds)

    def _name(self, path: Path) -> str:
        """The name of an input in the journal: its path from the output folder."""
        return named_footage(path, self._out)


def _runner(
    analysis: Analysis,
    job: Job,
    trained: TrainedModel,
    options: RunOptions,
    news: News,
    alone: Path | None,
) -> Runner:
    """Where matches are analysed; `alone` is the only one."""
    if options.on == "ray":
        return RayRunner(job, options, news.on_time)
    if options.num_workers > 1 and alone is not None and is_divisible(alone, job):
        divider = Divider(job, options)
        divided = job.analysis(trained, score=divider.score)
        return HereRunner(divided, job, news, close=divider.close)
    if options.num_workers:
        return WorkerPool(job, options, news.on_time)
    return HereRunner(analysis, job, news)


def _clean(out: Path) -> None:
    """Remove what a process that was killed had begun to write. Nobody else writes here now."""
    for folder in (out, *(path for path in out.iterdir() if path.is_dir())):
        remove_leftovers(folder, age_s=0.0)
