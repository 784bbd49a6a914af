"""One try at one match: what a run hands to a worker, and what comes back."""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from touchline.models.checkpoint import TrainedModel, file_digest
from touchline.models.errors import CheckpointError, TouchlineError
from touchline.models.load import load_model
from touchline.pipeline.detection.batch import Analysis, Match
from touchline.pipeline.detection.detect import Score
from touchline.pipeline.detection.folders import possible_folders
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.sniff import refuse_place
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.season.content import Content, content_of
from touchline.pipeline.season.store import UNSENT_FILE, Store

OnTime = Callable[[float, float], None]


@dataclass(frozen=True)
class Job:
    """What is done with every match of a run. It can be sent to another process.

    Attributes:
        model: A checkpoint, or the name of published weights.
        labels: The classes to look for; empty for all.
        sha256: The digest of the checkpoint; None for published weights.
        options: How to look for events.
        formats: The formats to write.
        report: Whether to write report.html.
        footage: Some files of the run: engines are tried only if there is enough footage for it.
        store: The remote store that takes the results; None if they stay in their folders.
    """

    model: str
    labels: tuple[str, ...] = ()
    sha256: str | None = None
    options: DetectOptions = field(default_factory=DetectOptions)
    formats: tuple[str, ...] = ("csv", "json")
    report: bool = False
    footage: tuple[Path, ...] = ()
    store: Address | None = None

    def analysis(
        self, trained: TrainedModel, device: str | None = None, *, score: Score | None = None
    ) -> Analysis:
        """Return what analyses matches with a model that has been loaded.

        Args:
            trained: The model.
            device: Where the network runs, if not on the device of the options.
            score: What decodes and scores a match, if not `score_whole`.
        """
        return Analysis(
            trained,
            self.options,
            model_path=self.model,
            model_sha256=self.sha256,
            formats=self.formats,
            report=self.report,
            device=device,
            score=score,
        )

    def load(self, device: str | None = None, *, file: Path | None = None) -> Analysis:
        """Load the model and prepare it.

        Args:
            device: Where the network runs, if not on the device of the options.
            file: A copy of the checkpoint, if it lies elsewhere on this machine.

        Raises:
            CheckpointError: The checkpoint was replaced after the run began.
        """
        source = self.model if file is None else file
        if self.sha256 is not None and file_digest(Path(source)) != self.sha256:
            raise CheckpointError(self.model, "was replaced during the run. Start the run again.")
        analysis = self.analysis(load_model(source, labels=self.labels), device)
        analysis.prepare(self.footage)
        return analysis


@dataclass(frozen=True)
class Outcome:
    """How a try ended.

    Attributes:
        result: The result, or the error. It holds no score track; that is on disk.
        content: What was read as footage.
        may_pass: Whether another try may help.
        seconds: How long it took.
        traceback: The traceback, if Touchline itself failed.
        notes: Sentences about scores that an earlier run had kept.
    """

    result: MatchResult
    content: Content | None = None
    may_pass: bool = False
    seconds: float = 0.0
    traceback: str | None = None
    notes: tuple[str, ...] = ()


def attempt(
    analysis: Analysis, match: Match, on_time: OnTime, store: Address | None = None
) -> Outcome:
    """Analyse a match and write its files. It raises nothing: the outcome says what went wrong.

    Args:
        analysis: What is done.
        match: The match.
        on_time: Called with (seconds done, seconds in all), also while the digest is computed.
        store: The remote store that takes the results; None if they stay in their folder.
    """
    began_s = time.monotonic()
    content, trace = None, None
    notes: list[str] = []
    try:
        content = _content(match.path, on_time)
        if store is None:
            digest = None if content is None else content.sha256 or content.version
            result, may_pass = analysis.run(
                match, content=digest, on_time=on_time, tell=notes.append
            )
        else:
            result, may_pass = _run_and_send(
                analysis, match, on_time, Store(store, on_try=lambda: on_time(0.0, 0.0))
            )
        if result.error is None and _has_changed(match.path, content):
            why = "the footage changed while it was analysed. Wait until it is recorded or copied."
            result, may_pass = MatchResult(match.path, error=why, folder=result.folder), True
    except Exception as error:  # a fault of Touchline costs one match too
        trace = traceback.format_exc()
        why = f"Touchline failed ({type(error).__name__}: {error}). Please report this."
        result, may_pass = MatchResult(match.path, error=why), False
    seconds = time.monotonic() - began_s
    return Outcome(
        replace(result, track=None), content, may_pass, round(seconds, 3), trace, tuple(notes)
    )


def _run_and_send(
    analysis: Analysis, match: Match, on_time: OnTime, store: Store
) -> tuple[MatchResult, bool]:
    """Analyse a match in a local folder, send its files, and remove that folder.

    What the store does not take stays there: the next try sends it without analysing again.
    """
    work = match.planned.with_name(f".{match.planned.name}")
    here = replace(match, planned=work / match.planned.name)
    result, may_pass, is_changed = None, True, True
    try:
        if (work / UNSENT_FILE).exists():
            result = analysis.finished(here)
        if result is None:
            work.mkdir(parents=True, exist_ok=True)
            for folder in possible_folders(match.path, here.planned):
                store.fetch(folder)
            before = sorted(work.rglob("*"))
            result, may_pass = analysis.run(here, on_time=on_time)
            # Earlier results that are no longer right were set aside.
            is_changed = result.error is None or sorted(work.rglob("*")) != before
        assert result.folder is not None
        if result.error is None:
            (work / UNSENT_FILE).touch()
        if is_changed:
            store.send(result.folder)
        shutil.rmtree(work)
    except (OSError, TouchlineError) as error:
        if result is None or result.error is None:
            why = error.message if isinstance(error, TouchlineError) else str(error)
            result = MatchResult(match.path, error=f"the results cannot be stored: {why}")
            return result, True
    name = match.planned.name if result.folder is None else result.folder.name
    return replace(result, folder=match.planned.with_name(name)), may_pass


def _content(path: Path, on_time: OnTime) -> Content | None:
    """The content of footage; None if it cannot be read, which the analysis explains."""
    if not isinstance(path, Address) and refuse_place(path) is not None:
        return None
    with suppress(OSError, TouchlineError):
        return content_of(path, lambda: on_time(0.0, 0.0))
    return None


def _has_changed(path: Path, content: Content | None) -> bool:
    """Whether a file was written to after its content was read."""
    if content is None or isinstance(path, Address):
        return False
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) != (content.size, content.changed_ns)
