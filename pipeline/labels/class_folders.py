"""Read labels from a folder that has one subfolder of clips per class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from touchline.models.errors import LabelsError
from touchline.pipeline.files import files_below
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES, footage_reference
from touchline.pipeline.labels.source import LabelSource, make_example
from touchline.pipeline.types import Example

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test"})


def read_class_folders(source: LabelSource) -> list[Example]:
    """Read each footage file as one clip whose class is the subfolder.

    A folder between class and file (goal/match_A/1.mp4) is the group. Hidden files and files that
    are not footage are skipped.

    Raises:
        LabelsError: There are no such subfolders, or the folder is probably meant differently.
    """
    root = source.path
    if (root / "labels.csv").is_file():
        raise LabelsError(
            root,
            "there is a labels.csv in this folder. Give that file, or move it elsewhere to use "
            "each subfolder as a class.",
        )
    folders = [f for f in sorted(root.iterdir()) if f.is_dir() and not f.name.startswith(".")]
    if not folders:
        raise LabelsError(
            root, "no subfolders. Give a label file, or a folder with one subfolder per class."
        )
    if {f.name.casefold() for f in folders} <= SPLIT_FOLDERS:
        raise LabelsError(
            root, f"its subfolders are parts of a split, not classes. Give {folders[0]} instead."
        )
    return [example for folder in folders for example in _class_folder(source, folder)]


def _class_folder(source: LabelSource, folder: Path) -> Iterator[Example]:
    files = sorted(f for f in files_below(folder) if f.suffix.lower() in FOOTAGE_SUFFIXES)
    if not files:
        raise LabelsError(
            source.path, f"{folder.name}: no footage in this class. Add some, or remove the folder."
        )
    for path in files:
        between = path.parent.relative_to(folder).as_posix()
        name = path.relative_to(source.path).as_posix()
        yield make_example(
            source,
            name,
            video=footage_reference(path, source.footage_folder),
            label=folder.name,
            group="" if between == "." else between,
        )
