"""Find the footage that a command is given: files, folders, patterns, lists and addresses."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from touchline.models.errors import FootageError
from touchline.pipeline.files import files_below
from touchline.pipeline.footage.address import (
    FOOTAGE_SUFFIXES,
    Address,
    footage_path,
    remote_files,
)
from touchline.pipeline.footage.sniff import is_footage


@dataclass(frozen=True)
class Inputs:
    """The footage of a run, in the order in which it was given.

    Attributes:
        files: Files and addresses, each once.
        duplicates: Each file that was given again, with the name under which it came first.
    """

    files: tuple[Path, ...]
    duplicates: tuple[tuple[Path, Path], ...] = ()


def find_inputs(
    arguments: Iterable[str],
    *,
    leave_out: Path | None = None,
    standard_input: TextIO | None = None,
) -> Inputs:
    """Replace folders, patterns, lists and remote prefixes by the footage they stand for.

    What stands for no footage stays as it is; opening it says what is wrong.

    Args:
        arguments: Files, folders, patterns such as `season/**/*.mp4`, `@list.txt` (one input per
            line), `-` (a list from standard input), addresses, and addresses that end with `/` or
            hold a `*`.
        leave_out: Do not look in this folder; what is there was written by Touchline.
        standard_input: Where the list for `-` is read.

    Raises:
        FootageError: A list or a remote prefix cannot be read.
    """
    found = [
        file
        for text in _lines(arguments, standard_input)
        for path in _matching(text)
        for file in footage_files([path], leave_out=leave_out)
    ]
    first: dict[str, Path] = {}
    duplicates = []
    for path in found:
        place = str(path) if isinstance(path, Address) else os.path.realpath(path)
        if place in first:
            duplicates.append((path, first[place]))
        else:
            first[place] = path
    return Inputs(tuple(first.values()), tuple(duplicates))


def footage_files(paths: Iterable[Path], *, leave_out: Path | None = None) -> list[Path]:
    """Replace folders by the footage files below them, in the order of their names.

    A file counts if its content is that of a video container, under any name. It also counts if
    only its name is that of a video: the file may be damaged, and opening it says so. A folder
    without footage stays; opening it says what is wrong.

    Args:
        paths: Files, addresses and folders.
        leave_out: Do not look in this folder; what is there was written by Touchline.
    """
    found: list[Path] = []
    for path in paths:
        if isinstance(path, Address) or not path.is_dir():
            found.append(path)
            continue
        inside = [
            file
            for file in files_below(path)
            if (leave_out is None or leave_out.resolve() not in file.resolve().parents)
            and (file.suffix.lower() in FOOTAGE_SUFFIXES or is_footage(file))
        ]
        found += inside or [path]
    return found


def _lines(arguments: Iterable[str], standard_input: TextIO | None) -> Iterator[str]:
    """The arguments, with lists replaced by their lines. `#` begins a comment line."""
    for text in arguments:
        if text == "-" and standard_input is not None:
            content = standard_input.read()
        elif text.startswith("@"):
            try:
                content = Path(text[1:]).read_text(encoding="utf-8-sig", errors="surrogateescape")
            except OSError as error:
                reason = error.strerror or error
                raise FootageError(text[1:], f"the list cannot be read ({reason})") from None
        else:
            yield text
            continue
        lines = (line.strip() for line in content.splitlines())
        yield from (line for line in lines if line and not line.startswith("#"))


def _matching(text: str) -> list[Path]:
    """The paths that an argument stands for; the argument itself if nothing matches."""
    path = footage_path(text)
    if isinstance(path, Address):
        place = urlsplit(text).path
        listed = remote_files(path) if place.endswith("/") or "*" in place else []
        return listed or [path]
    # A file may have brackets in its name.
    if not glob.has_magic(text) or path.exists():
        return [path]
    # `Path.glob` takes no absolute pattern.
    return [Path(name) for name in sorted(glob.glob(text, recursive=True))] or [path]  # noqa: PTH207
