"""Print to the terminal: progress and warnings to stderr, tables and results to stdout."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape as escape_markup
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

if TYPE_CHECKING:
    from rich.table import Table

    from touchline.models.backbone import Backbone
    from touchline.pipeline.training.result import Progress as Phase

# Control characters, what turns the direction of writing, and bytes of names that are not UTF-8.
CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


class PlainConsole(Console):
    """A console that sends no control character of a text to the terminal.

    Names of files and classes may hold escape sequences, which a terminal would run.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as rich does, without the control characters of texts.

        They are replaced before this where it is known that a text may hold some, see `escape`.
        Here the width of the text must stay, and most of them have none.
        """
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(CONTROL.sub(_same_width, segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Go on in silence if nobody reads the messages any more: results may still be written."""
        if not self.stderr:
            super().on_broken_pipe()
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _same_width(match: re.Match[str]) -> str:
    return "\N{REPLACEMENT CHARACTER}" * cell_len(match[0])


def printable(text: str) -> str:
    """Replace control characters, except for line ends and tabs."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


out = PlainConsole()
err = PlainConsole(stderr=True)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    err.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def fail(message: str) -> None:
    """Print an error to stderr, as one line even if the message has several."""
    err.print(f"[red]error:[/] {escape(' '.join(message.split()))}", soft_wrap=True)


def give_up_stdout() -> None:
    """Discard the text that is still buffered, so that printing it does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def escape(text: str) -> str:
    """Text that rich prints literally: brackets are no markup, control characters are replaced."""
    return escape_markup(printable(text))


def say(text: str) -> None:
    """Print a line as it is: no markup, and no breaks, so that paths and commands can be copied."""
    out.print(escape(text), highlight=False, soft_wrap=True)


def keep_inputs(out: Path | None, *inputs: Path) -> None:
    """Check that a command does not write over a file that it reads.

    Raises:
        ValueError: It would.
    """
    for path in inputs:
        if out is not None and out.exists() and path.exists() and out.samefile(path):
            raise ValueError(f"{out} is read by this command. Write to another file with --out.")


def print_json(document: object) -> None:
    """Print one JSON document to stdout."""
    json.dump(document, sys.stdout, indent=1, allow_nan=False)
    print()


def show_written(paths: Sequence[Path], *, quiet: bool, as_json: bool) -> None:
    """Print the paths of the files written.

    Args:
        paths: The files.
        quiet: Print nothing.
        as_json: Print a JSON list instead of one path per line, even if quiet.
    """
    if as_json:
        print_json([str(path) for path in paths])
    elif not quiet:
        for path in paths:
            out.print(escape(str(path)), soft_wrap=True, highlight=False)


class LogLines:
    """Progress for log files: a line every EVERY_S seconds instead of a progress bar."""

    EVERY_S = 60.0

    def __init__(self, *, quiet: bool) -> None:
        self._silent = quiet or err.is_terminal
        self.begin("")

    def begin(self, what: str, share: float = 0.0) -> None:
        """Start to report the progress of `what`, of which a share is done already."""
        self._what, self._before = what, share
        self._told_s = self._began_s = time.monotonic()

    def tell(self, done: float, total: float) -> None:
        """Print how much is done, at most once every EVERY_S seconds."""
        now_s = time.monotonic()
        if self._silent or total <= 0 or done <= 0 or now_s - self._told_s < self.EVERY_S:
            return
        self._told_s = now_s
        share = done / total
        left_s = round((now_s - self._began_s) * (1 - share) / max(share - self._before, 1e-6))
        left = f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d}"
        err.print(escape(f"{self._what}: {share:.0%}, {left} left"), highlight=False)


def stages(backbone: Backbone, title: str, *, say_state: bool = True) -> Table:
    """A table of the stages of a network.

    Args:
        backbone: The network.
        title: The title of the table.
        say_state: Whether to say which stages are frozen and which are trained.
    """
    from rich.table import Table

    from touchline.models.backbone import stage_table

    table = Table(box=None, title=title, title_justify="left")
    table.add_column("stage")
    table.add_column("")
    table.add_column("parameters", justify="right")
    for row in stage_table(backbone):
        state = ("frozen" if row["frozen"] else "trained") if say_state else ""
        table.add_row(str(row["stage"]), state, f"{row['parameters']:,}")
    return table


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A progress display with an estimate of the time left; empty if stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    disable = quiet or not err.is_terminal
    with Progress(*columns, console=err, disable=disable, transient=True) as progress:
        yield progress


class RunProgress:
    """The progress of a run over many files: of the current one, or of all of them together."""

    def __init__(self, bar: Progress, num_files: int, *, one_by_one: bool, quiet: bool) -> None:
        """Begin to show progress.

        Args:
            bar: Where it is shown.
            num_files: How many files there are.
            one_by_one: Whether one file is worked on at a time; the bar is then that of the file.
            quiet: Print no lines to log files.
        """
        self._bar, self._num_files, self._one_by_one = bar, num_files, one_by_one
        self._log = LogLines(quiet=quiet)
        self._log.begin(f"{num_files} files")
        self._task = bar.add_task("", total=1.0 if one_by_one else num_files, note="")
        self._shares: dict[Path, float] = {}
        self._num_ended = 0

    def begin(self, path: Path) -> None:
        """A file is worked on."""
        if self._one_by_one:
            self._log.begin(path.name)
            self._bar.reset(self._task, description=escape(path.name[:30]), total=1.0)

    def tell(self, path: Path, done_s: float, total_s: float) -> None:
        """Show how far a file is.

        Args:
            path: The file.
            done_s: Seconds done.
            total_s: Seconds in all; 0 if that is not known yet.
        """
        if not total_s:
            return
        if self._one_by_one:
            self._bar.update(self._task, completed=done_s, total=max(total_s, done_s))
            self._log.tell(done_s, total_s)
            return
        self._shares[path] = min(1.0, done_s / total_s)
        self._show()

    def end(self, path: Path) -> None:
        """A file has ended, in whatever way."""
        self._num_ended += 1
        self._shares.pop(path, None)
        if not self._one_by_one:
            self._show()

    def _show(self) -> None:
        done = min(self._num_files, self._num_ended + sum(self._shares.values()))
        of_all = f" of {self._num_files}" if self._num_files else ""
        described = f"{self._num_ended}{of_all} files"
        self._bar.update(self._task, completed=done, description=described)
        self._log.tell(done, self._num_files)


@contextmanager
def run_progress(num_files: int, *, one_by_one: bool, quiet: bool) -> Iterator[RunProgress]:
    """Show the progress of a run over many files.

    Args:
        num_files: How many files there are.
        one_by_one: Whether one file is worked on at a time.
        quiet: Show nothing.
    """
    with progress_bar(quiet=quiet) as bar:
        yield RunProgress(bar, num_files, one_by_one=one_by_one, quiet=quiet)


@contextmanager
def phase_bars(*, quiet: bool) -> Iterator[Callable[[Phase], None]]:
    """A function that shows training progress: one bar per phase, or lines for log files."""
    with progress_bar(quiet=quiet) as bar:
        tasks: dict[str, Any] = {}
        log = LogLines(quiet=quiet)
        told: tuple[str, float] = ("", 0.0)

        def on_progress(news: Phase) -> None:
            nonlocal told
            if news.phase not in tasks:
                tasks[news.phase] = bar.add_task(news.phase, total=news.total, note="")
            if news.phase != told[0] or news.done < told[1]:
                log.begin(news.phase, news.done / news.total if news.total else 0.0)
            log.tell(news.done, news.total)
            told = (news.phase, news.done)
            bar.update(tasks[news.phase], completed=news.done, total=news.total, note=news.note)

        yield on_progress
