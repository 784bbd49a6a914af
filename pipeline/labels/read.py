"""Read labels of any format into examples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from touchline.models.classes import BACKGROUND
from touchline.models.errors import LabelsError
from touchline.models.spelling import did_you_mean
from touchline.pipeline.labels.formats import BY_NAME, WRITABLE, recognise
from touchline.pipeline.labels.source import LabelSource, LabelTarget
from touchline.pipeline.types import Example, FootageHealth


def read_labels(
    path: str | os.PathLike[str],
    *,
    footage_folder: str | os.PathLike[str] | None = None,
    rate_hz: float | None = None,
    allow_empty: bool = False,
) -> list[Example]:
    """The examples of a label file or folder of any format in the table, in its order.

    There is at least one unless `allow_empty`. Footage is named relative to `footage_folder`, by
    default where the labels lie; it need not exist. rate_hz is the frames per second of formats
    that count frames and do not say it. Raises LabelsError naming the line or the JSON path.
    """
    if rate_hz is not None and not 0 < rate_hz <= 1000:
        raise ValueError(f"rate_hz is {rate_hz}; it must be in (0, 1000]")
    path = Path(path)
    beside = path if path.is_dir() else path.parent
    folder = beside if footage_folder is None else Path(footage_folder)
    source = LabelSource(path, folder, rate_hz)
    examples = recognise(source).read(source)
    if not examples and not allow_empty:
        raise LabelsError(path, "there are no labels in it")
    return examples


def label_texts(
    examples: Sequence[Example],
    path: Path,
    *,
    format_name: str,
    rate_hz: float | None = None,
    healths: Mapping[Path, FootageHealth] | None = None,
) -> dict[Path, str]:
    """The examples as label files of another format: what to write where.

    One file, `path`; or, for a format of one video per file and several videos, or a folder that
    is there, one per video in the folder `path`. healths: what is known of the footage, for
    formats that count its frames. ValueError names what the format cannot hold.
    """
    form = BY_NAME.get(format_name)
    if form is None or form.write is None:
        raise ValueError(f"{format_name!r} cannot be written; choose one of {', '.join(WRITABLE)}")
    for example in examples:
        if form.needs_times and example.start_s is None:
            raise ValueError(f"{example.source}: no times, and {form.name} cannot do without")
    videos = sorted({example.path for example in examples})
    if (not form.one_video or len(videos) < 2) and not path.is_dir():
        return {path: form.write(examples, LabelTarget(path.parent, rate_hz, healths or {}))}
    if not form.one_video:
        raise ValueError(f"{path} is a folder; name the file to write in it")
    texts = {}
    for video in videos:
        file = path / f"{video.stem}{form.suffix}"
        if file in texts:
            raise ValueError(f"two videos are called {video.stem}; write them apart")
        mine = [example for example in examples if example.path == video]
        texts[file] = form.write(mine, LabelTarget(path, rate_hz, healths or {}))
    return texts


def with_times(examples: Iterable[Example], durations: Mapping[Path, float]) -> list[Example]:
    """The examples, those of whole files with the times of the file where `durations` has it."""
    return [
        replace(example, start_s=0.0, end_s=durations[example.path])
        if example.start_s is None and example.path in durations
        else example
        for example in examples
    ]


def class_names(examples: Iterable[Example]) -> tuple[str, ...]:
    """The classes a model of these examples has: `background` first, always; the rest sorted."""
    return (BACKGROUND, *sorted({example.label for example in examples} - {BACKGROUND}))


def check_labels(examples: Iterable[Example], known: Iterable[str]) -> None:
    """LabelsError naming the line of the first label that is not `known`, with the nearest."""
    names = list(known)
    for example in examples:
        if example.label in names or example.label == BACKGROUND:
            continue
        hint = did_you_mean(example.label, names) or f"The classes are {', '.join(names)}."
        raise LabelsError(
            example.source or example.path, f"the class {example.label!r} is unknown. {hint}"
        )
