"""Start a project from labels, or from what `touchline detect` found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from touchline.models.classes import BACKGROUND
from touchline.models.errors import TouchlineError
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.outputs.events_json import EVENTS_FILE
from touchline.pipeline.outputs.read_results import read_results
from touchline.pipeline.teaching.actions import clean_name
from touchline.pipeline.teaching.entries import SuggestedRow
from touchline.pipeline.teaching.project import Project


def add_labels(project: Project, path: Path) -> int:
    """Add the labels of the project's matches as marks; those it has already are left out.

    Args:
        project: The project.
        path: A label file or folder of any format.

    Returns:
        How many marks were added.

    Raises:
        LabelsError: The labels cannot be read.
        TouchlineError: None of them has times and lies in a match of the project.
    """
    ids = {match.path.resolve(): match.id for match in project.matches.values()}
    examples = [
        example
        for example in read_labels(path)
        if example.path.resolve() in ids and example.start_s is not None
        if example.label != BACKGROUND and example.end_s is not None
    ]
    if not examples:
        raise TouchlineError(path, "has no label with times for a match of this project")
    known = {(m.match, m.label, m.start_s, m.end_s) for m in project.state.marks.values()}
    added = 0
    for example in examples:
        match_id, label = ids[example.path.resolve()], class_id(project, example.label)
        start_s, end_s = max(0.0, example.start_s or 0.0), example.end_s or 0.0
        if (match_id, label, start_s, end_s) in known:
            continue
        action: dict[str, Any] = {
            "do": "mark", "match": match_id, "class": label, "start": start_s, "end": end_s,
            "note": dict(example.attributes).get("note", ""), "source": "labels",
        }  # fmt: skip
        project.do(action)
        added += 1
    return added


def add_events(project: Project, path: Path) -> int:
    """Add the candidates of a detection as proposals, until the project has learnt its own.

    Args:
        project: The project.
        path: An events.json, an output folder of `touchline detect`, or labels of any format.

    Returns:
        How many proposals were added.

    Raises:
        LabelsError: The results cannot be read.
        TouchlineError: None of them is of a match of the project.
    """
    ids = {match.path.resolve(): match.id for match in project.matches.values()}
    files = sorted(path.rglob(EVENTS_FILE)) if path.is_dir() else []
    found = [result for file in files or [path] for result in read_results(file)]
    results = [result for result in found if result.path.resolve() in ids]
    if not results:
        raise TouchlineError(path, "has no result for a match of this project")
    added = 0
    for result in results:
        accepted = set(result.accepted)
        rows: list[SuggestedRow] = [
            {
                "class": class_id(project, event.label),
                "start": event.start_s, "end": event.end_s, "peak": event.peak_s,
                "score": event.score, "accepted": event in accepted,
            }
            for event in result.candidates
        ]  # fmt: skip
        project.suggest(ids[result.path.resolve()], rows)
        added += len(accepted)
    return added


def class_id(project: Project, name: str) -> str:
    """Return the id of a class by its name; a new one is added."""
    name = clean_name(name)
    for one in project.state.classes:
        if one.name == name:
            return one.id
    return project.do({"do": "add_class", "name": name})[1]
