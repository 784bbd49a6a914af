"""Detect events in many files: one result per input, and a bad file does not stop the run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from touchline.models.atomic_files import FULL, remove_leftovers, write_atomic
from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import DecoderError, TouchlineError
from touchline.pipeline.decoding.decode import check_decoder
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection.detect import (
    Score,
    applied_options,
    detect,
    make_scorer,
    model_summary,
)
from touchline.pipeline.detection.finished import finished_result, is_stale
from touchline.pipeline.detection.folders import ASIDE, output_folders, result_folder
from touchline.pipeline.detection.kept_scores import KEPT_FILE, KeepScores
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.isolation import AVAILABLE
from touchline.pipeline.outputs.events_json import EVENTS_FILE
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.score_track import SCORES_FILE, save_track
from touchline.pipeline.outputs.writers import WRITERS, check_formats, unwritable, write_result
from touchline.pipeline.report.match_page import REPORT_FILE, write_report
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.timecode import MatchClock

TRIAL_FILE = ".writable"

# The files of a long match take less.
LEAST_FREE_BYTES = 16 << 20

# Another try does not help against these.
LASTING = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)

# The format that is always written: later runs and other commands read it.
RECORD = "json"

# Formats that can hold every result.
TABLES = ("csv", RECORD)

# Files of a run. When the new ones are written, the old ones are removed.
RESULTS = (EVENTS_FILE, WRITERS["csv"].file_name, SCORES_FILE, REPORT_FILE)

# All files that an earlier run may have left. Its events.json comes first: it stands for the rest.
LEFT = tuple(dict.fromkeys((*RESULTS, *(writer.file_name for writer in WRITERS.values()))))


def detect_all(
    paths: Sequence[Path],
    model: TrainedModel,
    out: Path,
    options: DetectOptions,
    *,
    model_path: str | None = None,
    model_sha256: str | None = None,
    skip_done: bool = False,
    formats: Sequence[str] = ("csv", "json"),
    report: bool = False,
    clocks: Mapping[Path, MatchClock] | None = None,
    on_ready: Callable[[Scorer], None] = lambda _: None,
    on_start: Callable[[Path], None] = lambda _: None,
    on_unwritable: Callable[[Path, str, str], None] = lambda *_: None,
    on_time: Callable[[float, float], None] | None = None,
) -> Iterator[MatchResult]:
    """Find the events of many files, write a result folder for each, yield each result.

    There is one result per input, in order. A file that fails gives a result with `error` and does
    not stop the others. Each folder gets events.json, scores.npz and the files of `formats`.

    Results of an earlier run stay until this run has analysed the match. Exports in formats that
    this run does not write are then renamed to `*.old`. If a match fails, its results are renamed
    to `*.old` if they were made with another model, other options or other footage, and the error
    says so. They stay if an option does not fit the footage.

    A format that cannot hold results of a file is left out and named in `unwritten`.

    Args:
        paths: Footage files.
        model: The model.
        out: The folder for the result folders, made if it is missing.
        options: How to look for events.
        model_path: Where the model lies, for events.json.
        model_sha256: The model's digest, for events.json.
        skip_done: Pass over inputs whose results are complete, younger than the footage, of
            footage of the same size, and made with the same model and options. For an address the
            server must say when the footage was changed.
        formats: Names of the formats to write.
        on_unwritable: Called with each path whose results a format cannot hold, the format and the
            reason, before the file is analysed.
        report: Also write report.html, a page to look at.
        clocks: The match clock of each file that has one.
        on_ready: Called once with the network, when it is prepared.
        on_start: Called with each path before it is analysed.
        on_time: Called with (seconds done, seconds in all) of the current file.

    Raises:
        ValueError: If options fit no file, before anything is decoded.
        OSError: If nothing can be written to `out`, before anything is decoded.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import DetectOptions, detect_all, load_model
        >>> model = load_model("model.safetensors")
        >>> paths = [Path("match.mp4"), Path("missing.mp4")]
        >>> for result in detect_all(paths, model, Path("results"), DetectOptions(hop_s=0.25)):
        ...     print(result.path, len(result.accepted), result.error)
        match.mp4 2 None
        missing.mp4 0 no such file
    """
    analysis = Analysis(
        model,
        options,
        model_path=model_path,
        model_sha256=model_sha256,
        formats=formats,
        report=report,
    )
    make_folder(out)
    on_ready(analysis.prepare(paths))
    for path, planned in zip(paths, output_folders(paths, out), strict=True):
        match = analysis.examined(Match(path, planned, (clocks or {}).get(path)))
        for name, reason in match.unwritable.items():
            on_unwritable(path, name, reason)
        done = analysis.finished(match) if skip_done else None
        if done is None:
            on_start(path)
            done, _ = analysis.run(match, on_time=on_time)
        yield done


@dataclass(frozen=True)
class Match:
    """A footage file of a run.

    Attributes:
        path: The footage.
        planned: Its result folder, from `output_folders`.
        clock: Its match clock, if it has one.
        unwritable: Formats that cannot hold its results, each with the reason.
    """

    path: Path
    planned: Path
    clock: MatchClock | None = None
    unwritable: Mapping[str, str] = field(default_factory=dict)


class Analysis:
    """What a run does with each match: one model, one set of options, the same output files."""

    def __init__(
        self,
        model: TrainedModel,
        options: DetectOptions,
        *,
        model_path: str | None = None,
        model_sha256: str | None = None,
        formats: Sequence[str] = TABLES,
        report: bool = False,
        device: str | None = None,
        score: Score | None = None,
    ) -> None:
        """Check the options.

        Args:
            model: The model.
            options: How to look for events.
            model_path: Where the model lies, for events.json.
            model_sha256: The model's digest, for events.json.
            formats: Names of the formats to write; events.json is always written.
            report: Also write report.html.
            device: Where the network runs, if not on `options.device`, which events.json names.
            score: What decodes and scores a match, if not `score_whole`.

        Raises:
            ValueError: The options fit no file.
        """
        self._formats = list(dict.fromkeys((*formats, RECORD)))
        check_formats(self._formats)
        check_decoder(options.decoder)
        self._model = model
        self._options = options
        self._report = report
        self._score = score
        self._device = device or options.device
        # Find options that no file can be analysed with before the first file.
        self._applied = applied_options(model, options)
        self._summary = model_summary(model, path=model_path, sha256=model_sha256)
        self._scorer: Scorer | None = None

    def prepare(self, footage: Sequence[Path]) -> Scorer:
        """Prepare the network and return it.

        Args:
            footage: Files of the run, see `make_scorer`.

        Raises:
            ValueError: It cannot run on this device.
        """
        options = replace(self._options, device=self._device)
        self._scorer = make_scorer(self._model, options, footage)
        return self._scorer

    @property
    def scorer(self) -> Scorer:
        """The network; `prepare` must have been called."""
        assert self._scorer is not None
        return self._scorer

    def examined(self, match: Match) -> Match:
        """Return a match with `unwritable`, judged by what the headers of its file declare."""
        made_with = self._made_with(match)
        return replace(match, unwritable=_unwritable(made_with, self._formats, self._options))

    def finished(
        self,
        match: Match,
        *,
        is_same: Callable[[], bool | None] = lambda: None,
    ) -> MatchResult | None:
        """Return the result of an earlier run if it is what this run would make.

        Args:
            match: The match, examined.
            is_same: Asked whether the footage has the content of that time. None: the age and the
                size of the file decide.
        """
        folder = result_folder(match.path, match.planned)
        outputs = [SCORES_FILE, *(WRITERS[name].file_name for name in self._possible(match))]
        done = finished_result(
            self._made_with(match), folder, outputs + [REPORT_FILE] * self._report, is_same=is_same
        )
        if done is None:
            return None
        (folder / KEPT_FILE).unlink(missing_ok=True)
        return replace(done, folder=folder, unwritten=match.unwritable)

    def forget(self, match: Match) -> None:
        """Remove the scores that a run which was stopped has kept of a match.

        Args:
            match: The match.

        Raises:
            OSError: They cannot be removed.
        """
        (result_folder(match.path, match.planned) / KEPT_FILE).unlink(missing_ok=True)

    def run(
        self,
        match: Match,
        *,
        content: str | None = None,
        on_time: Callable[[float, float], None] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> tuple[MatchResult, bool]:
        """Analyse a match and write its files; `prepare` must have been called.

        Args:
            match: The match, examined.
            content: What tells the content of the footage from any other, such as its digest.
                Scores are then kept as they come, and the next run goes on where this one was
                stopped. None keeps none.
            on_time: Called with (seconds done, seconds in all).
            tell: Called with a sentence if an earlier run has kept scores.

        Returns:
            The result, and whether another try may help if it failed.
        """
        assert self._scorer is not None
        folder = result_folder(match.path, match.planned)
        wrong_option = may_pass = False
        try:
            check_writable(folder)
            kept = folder / KEPT_FILE
            keep = None if content is None else KeepScores(kept, content, tell)
            try:
                result = detect(
                    match.path,
                    self._scorer,
                    self._options,
                    keep=keep,
                    on_time=on_time,
                    score=self._score,
                )
            except ValueError:
                wrong_option = True
                raise
            result = replace(result, model=self._summary, clock=match.clock)
            # Hours may have passed, and another run may have written there.
            folder = result_folder(match.path, match.planned, result.health)
            # Even if this run is cut short, old and new files must not be mixed.
            _set_aside(folder)
            refused = _write(result, folder, self._possible(match), report=self._report)
            result = replace(result, unwritten={**match.unwritable, **refused})
            kept.unlink(missing_ok=True)
        except TouchlineError as error:
            result = MatchResult(path=match.path, error=error.message)
            may_pass = isinstance(error, DecoderError) or isinstance(match.path, Address)
        except (OSError, ValueError) as error:
            result = MatchResult(path=match.path, error=str(error))
            may_pass = isinstance(error, OSError) and error.errno not in LASTING
        except (RuntimeError, MemoryError) as error:
            result = MatchResult(path=match.path, error=f"{type(error).__name__}: {error}")
            may_pass = True
        # If files cannot be renamed either, the first error is the one to report.
        with suppress(OSError):
            failed = result.error is not None and not wrong_option
            if failed and is_stale(self._made_with(match), folder) and _set_aside(folder):
                message = f"{result.error}. Earlier results in {folder} are now called *{ASIDE}"
                result = replace(result, error=message)
        return replace(result, folder=folder), may_pass

    def _made_with(self, match: Match) -> MatchResult:
        return MatchResult(
            match.path, options=self._applied, model=self._summary, clock=match.clock
        )

    def _possible(self, match: Match) -> list[str]:
        return [name for name in self._formats if name not in match.unwritable]


def _write(
    result: MatchResult, folder: Path, formats: Sequence[str], *, report: bool
) -> dict[str, str]:
    """Write the files of a result; return the formats that refused it, each with the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    if result.track is not None:
        save_track(folder / SCORES_FILE, result.track)
    # Write what can always be written first, because a format may refuse this footage.
    write_result(result, folder, formats=[name for name in formats if name in TABLES])
    if report:
        write_report(result, folder)
    _remove_old(folder, RESULTS)
    refused = {}
    for name in formats:
        if name in TABLES:
            continue
        try:
            exported = write_result(result, folder, formats=[name])
        except ValueError as error:
            refused[name] = str(error)
        else:
            _remove_old(folder, [path.name for path in exported])
    return refused


def _remove_old(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / f"{name}{ASIDE}").unlink(missing_ok=True)


def _set_aside(folder: Path) -> bool:
    """Rename the files of an earlier run, so that they are not taken for results of this one.

    Return whether there were any.
    """
    found = False
    for name in LEFT:
        with suppress(FileNotFoundError):
            (folder / name).replace(folder / f"{name}{ASIDE}")
            found = True
    return found


def _unwritable(
    made_with: MatchResult, formats: Sequence[str], options: DetectOptions
) -> dict[str, str]:
    """Return the formats that cannot hold results of a file, judged by what its headers declare."""
    counting = [name for name in formats if WRITERS[name].counts]
    if not counting:
        return {}
    try:
        health = probe_footage(
            made_with.path, stream=options.stream, isolation=options.isolation and AVAILABLE
        )
    except (TouchlineError, ValueError, OSError):
        return {}  # `detect` says why the file cannot be read
    return unwritable(replace(made_with, health=health), counting)


def make_folder(out: Path) -> None:
    """Make OUT if it is missing.

    Raises:
        OSError: It cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        message = os.strerror(errno.ENOTDIR)
        raise NotADirectoryError(errno.ENOTDIR, message, str(out)) from None
    check_writable(out)


def check_writable(folder: Path) -> None:
    """Write a small file to a folder, or to the folder above it if it is missing.

    Raises:
        OSError: Nothing can be written there, or the disk is nearly full.
    """
    place = folder if folder.exists() else folder.parent
    write_atomic(place / TRIAL_FILE, "\n").unlink(missing_ok=True)
    if shutil.disk_usage(place).free < LEAST_FREE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
