"""touchline detect --live: follow one stream; events as JSON lines, results at the end."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import typer

from touchline.tools import console

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel
    from touchline.pipeline.live.detect import LiveRun
    from touchline.pipeline.live.options import LiveOptions
    from touchline.pipeline.live.source import LiveSource
    from touchline.pipeline.season.attempt import Job
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.types import Event


def follow(
    source: LiveSource,
    trained: TrainedModel,
    job: Job,
    live: LiveOptions,
    out: Path,
    clock: MatchClock | None,
    *,
    quiet: bool,
) -> None:
    """Print the events of a stream as JSON lines, then write the results.

    Args:
        source: The stream.
        trained: The model.
        job: What is done with the stream, as with a match of a run.
        live: How the stream is followed.
        out: The folder that gets the folder of this run.
        clock: The match clock, if there is one.
        quiet: Print only events, warnings and errors.

    Raises:
        typer.Exit: The stream could not be followed to its end, or a format was not written.
    """
    from touchline.models.spelling import counted
    from touchline.pipeline.detection.detect import make_scorer, model_summary
    from touchline.pipeline.live.detect import LiveRun
    from touchline.pipeline.live.results import live_folder, write_live
    from touchline.pipeline.live.webhook import Webhook
    from touchline.pipeline.outputs.events_json import event_row
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.outputs.writers import check_formats, result_sheet

    check_formats(job.formats)
    # Windows that wait for a full batch would make events late.
    options = replace(job.options, batch_size=1)
    if options.mode == "auto" and not trained.backbone.framewise:
        # A trunk over space and time is shared piece by piece, and events wait for whole pieces.
        options = replace(options, mode="windows")
    folder = live_folder(source, out, datetime.now())
    folder.mkdir(parents=True)
    sheet = result_sheet(MatchResult(source.path, clock=clock), folder)
    webhook = None if live.post is None else Webhook(live.post, console.warn)

    lines = _Lines()

    def on_event(event: Event) -> None:
        row = {"video": sheet.video, **event_row(sheet, event, accepted=True)}
        lines.write(json.dumps(row, allow_nan=False) + "\n")
        if webhook is not None:
            webhook.post(row)

    run = LiveRun(
        source, make_scorer(trained, options), options, live, on_event=on_event, tell=console.warn
    )
    if not quiet:
        console.err.print(
            f"live: each event is printed about {run.latency_s():.1f} s after it ends. Stop with "
            f"Ctrl+C: the results are then written to {console.escape(str(folder))}",
            soft_wrap=True,
            highlight=False,
        )
    # Results are being written when a signal comes late: it must not cost them.
    with _stops(run) as stopped:
        try:
            result = run.run()
        except BaseException:
            if not any(folder.iterdir()):
                folder.rmdir()
            raise
        for name in stopped:
            console.warn(f"stopped by {name}. The results hold what was seen until then.")
        summary = model_summary(trained, path=job.model, sha256=job.sha256)
        result = replace(result, model=summary, clock=clock)
        written = folder
        try:
            refused = write_live(result, folder, job.formats, report=job.report)
        except OSError as error:
            # What was seen cannot be seen again.
            written = Path(tempfile.mkdtemp(prefix="touchline-"))
            console.warn(
                f"{error.filename or folder}: {error.strerror or error}. The results are written "
                f"to {written} instead."
            )
            refused = write_live(result, written, job.formats, report=job.report)
    if webhook is not None:
        webhook.end()
    for name, why in refused.items():
        console.warn(f"{name} was not written. {why}")
    for warning in result.health.warnings if result.health else ():
        console.warn(warning)
    if not quiet:
        seen_s = result.health.duration_s if result.health else 0.0
        console.err.print(
            f"{counted(len(result.accepted), 'event')} in {seen_s:.1f} s, results in "
            f"{console.escape(str(written))}",
            soft_wrap=True,
            highlight=False,
        )
    if run.error is not None:
        console.fail(f"{source.path}: {run.error.message}")
    if run.error is not None or refused or written != folder or not lines.is_open:
        raise typer.Exit(1)


class _Lines:
    """Standard output. Whoever reads it may end before the stream does."""

    def __init__(self) -> None:
        self.is_open = True

    def write(self, line: str) -> None:
        if not self.is_open:
            return
        try:
            sys.stdout.write(line)
            sys.stdout.flush()
        except OSError as error:
            self.is_open = False
            console.give_up_stdout()
            console.warn(
                f"standard output takes no more events ({error.strerror}). The run goes on, and "
                "they are in the results."
            )


@contextmanager
def _stops(run: LiveRun) -> Iterator[list[str]]:
    """Let the first Ctrl+C (or SIGTERM) end the run with its results, the second one at once.

    The list that it gives gets the name of the signal.
    """
    came: list[str] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number).name)
        run.stop()
        for name in before:
            signal.signal(name, before[name])

    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    for name in before:
        signal.signal(name, stop)
    try:
        yield came
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
