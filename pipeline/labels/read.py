"""Read labels of any format into examples, and turn examples into label files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.labels.formats import BY_NAME, WRITABLE, recognise
from touchline.pipeline.labels.source import LabelledVideo, LabelSource
from touchline.pipeline.labels.target import LabelTarget
from touchline.pipeline.types import Example, FootageHealth

# The files of a project of the studio.
JOURNAL_FILE, LABELS_FILE = "journal.jsonl", "labels.csv"


def read_labels(
    path: str | os.PathLike[str],
    *,
    footage_folder: str | os.PathLike[str] | None = None,
    rate_hz: float | None = None,
    allow_empty: bool = False,
    verified: bool = False,
    head: str = "",
) -> list[Example]:
    """Read a label file or folder of any known format; the examples keep its order.

    Args:
        path: The file or folder. Its content decides the format. It may be a project of
            `touchline studio`.
        footage_folder: Footage is named relative to it; None: the folder of the labels. The
            footage need not exist. For formats that name no footage it may be the one video.
        rate_hz: Frames per second, for formats that count frames without naming a rate.
        allow_empty: Accept a file without labels.
        verified: Also return the stretches labelled `verified`, in which every event is labelled.
        head: The head to read, if the format has several (OSL). Empty: the only one.

    Raises:
        LabelsError: The labels cannot be used. The message names the line or the JSON path.
        ValueError: `rate_hz` is not in (0, 1000].

    Example:
        >>> from touchline.pipeline import read_labels
        >>> examples = read_labels("labels.csv")
        >>> len(examples)
        5
        >>> first = examples[0]
        >>> str(first.path), first.label, first.start_s, first.end_s, first.group
        ('match.mp4', 'bright', 3.0, 5.0, 'A')
    """
    if rate_hz is not None and not 0 < rate_hz <= 1000:
        raise ValueError(f"rate_hz is {rate_hz}; it must be in (0, 1000]")
    path = labels_in(Path(path))
    source = replace(_source(path, footage_folder, rate_hz), head=head)
    form = recognise(source)
    if head and not form.heads:
        raise LabelsError(path, f"{form.name} has no heads. Leave out --head.")
    examples = form.read(source)
    if not verified:
        examples = split_verified(examples)[0]
    if not examples and not allow_empty:
        raise LabelsError(path, f"there are no labels in it. {form.if_empty}".rstrip())
    return examples


def labels_in(path: Path) -> Path:
    """Return the labels.csv of a project of the studio; any other path stays."""
    return path / LABELS_FILE if (path / JOURNAL_FILE).is_file() else path


def _source(
    path: Path, footage_folder: str | os.PathLike[str] | None, rate_hz: float | None
) -> LabelSource:
    beside = path if path.is_dir() else path.parent
    given = beside if footage_folder is None else Path(footage_folder)
    if given.is_file():
        return LabelSource(path, given.parent, rate_hz, given.name)
    return LabelSource(path, given, rate_hz)


def labelled_videos(path: str | os.PathLike[str]) -> list[LabelledVideo]:
    """List the videos of formats that can label a video without giving it events.

    A video of ActivityNet may have an empty list of annotations, and a half of SoccerNet none. For
    formats in which every video has a label, the list is empty.

    Raises:
        LabelsError: The file cannot be used.
    """
    source = _source(labels_in(Path(path)), None, None)
    form = recognise(source)
    return [] if form.videos is None else form.videos(source)


def split_verified(examples: Iterable[Example]) -> tuple[list[Example], list[Example]]:
    """Return the labels, and the stretches in which every event is labelled (`verified`)."""
    labels: list[Example] = []
    verified: list[Example] = []
    for example in examples:
        (verified if example.label == VERIFIED else labels).append(example)
    return labels, verified


def label_texts(
    examples: Sequence[Example],
    path: Path,
    *,
    format_name: str,
    rate_hz: float | None = None,
    healths: Mapping[Path, FootageHealth] | None = None,
) -> dict[Path, str]:
    """Turn examples into label files of a format: the text of each file by its path.

    Args:
        examples: The labels.
        path: The file to write. For several videos, and a format that holds one video per file, it
            is the folder to write them in; so is a folder that exists.
        format_name: A name from `WRITABLE`.
        rate_hz: Frames per second, for formats that count frames.
        healths: What is known of the footage, for formats that count its frames.

    Raises:
        ValueError: The format cannot be written, or cannot hold these labels.
    """
    form = BY_NAME.get(format_name)
    if form is None or form.write is None:
        raise ValueError(f"{format_name!r} cannot be written. Choose one of {', '.join(WRITABLE)}.")
    for example in examples:
        if form.needs_times and example.start_s is None:
            raise ValueError(f"{example.source}: no times, but {form.name} needs them")
    videos = sorted({example.path for example in examples})
    if (not form.one_video or len(videos) < 2) and not path.is_dir():
        return {path: form.write(examples, LabelTarget(path.parent, rate_hz, healths or {}))}
    if not form.one_video:
        raise ValueError(f"{path} is a folder. Name the file to write in it.")
    texts = {}
    for video in videos:
        file = path / f"{video.stem}{form.suffix}"
        if file in texts:
            raise ValueError(
                f"two videos are called {video.stem}. Convert their labels separately."
            )
        mine = [example for example in examples if example.path == video]
        texts[file] = form.write(mine, LabelTarget(path, rate_hz, healths or {}))
    return texts


def with_times(examples: Iterable[Example], durations: Mapping[Path, float]) -> list[Example]:
    """Give examples of whole files the times of the file, if `durations` (seconds) has it."""
    return [
        replace(example, start_s=0.0, end_s=durations[example.path])
        if example.start_s is None and example.path in durations
        else example
        for example in examples
    ]


def class_names(examples: Iterable[Example]) -> tuple[str, ...]:
    """List the classes of a model for these examples: `background` first, the others sorted."""
    return (BACKGROUND, *sorted({example.label for example in examples} - {BACKGROUND}))


def check_labels(examples: Iterable[Example], known: Iterable[str]) -> None:
    """Raise LabelsError at the first label whose class is not `known`; it suggests a known one."""
    names = list(known)
    for example in examples:
        if example.label in names or example.label == BACKGROUND:
            continue
        hint = did_you_mean(example.label, names) or f"The classes are {', '.join(names)}."
        raise LabelsError(
            example.source or example.path, f"the class {example.label!r} is unknown. {hint}"
        )
