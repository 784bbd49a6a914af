"""What the terminal shows: progress on stderr, tables and results on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

out = Console()
err = Console(stderr=True)


def warn(message: str) -> None:
    err.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)


def fail(message: str) -> None:
    """One line, whatever the message holds."""
    err.print(f"[red]error:[/] {escape(' '.join(message.split()))}", soft_wrap=True)


def escape(text: str) -> str:
    """Text as rich prints it literally: names in brackets are no markup, controls no escapes."""

    printable = "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
    return escape_markup(printable)


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Progress]:
    """A progress display with an estimate of the time left; nothing where stderr is a file."""
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
