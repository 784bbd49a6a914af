"""What training takes from a project besides its labels: features, and how they were sampled."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from touchline.pipeline.labels.read import JOURNAL_FILE
from touchline.pipeline.runs.options import MatchFeatures, TrainJob
from touchline.pipeline.teaching.entries import SettingsEntry, read_entry
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.teaching.output import frame_sampling
from touchline.pipeline.teaching.project import FEATURES_FOLDER


def with_features(job: TrainJob, cache: Path | None = None) -> TrainJob:
    """Return the job with the features of whole matches that it may use.

    They may lie in the project whose labels it takes, or in the cache folder, which may itself be a
    project or the features of one. If the job takes the network of the project, a fitted head also
    samples as the project does. So the model is the same whether the features exist or not.

    Args:
        job: The job.
        cache: Folder of decoded clips and features.
    """
    places = [job.labels, job.labels.parent]
    folders = []
    if cache is not None:
        places += [cache, cache.parent]
        folders += [cache / FEATURES_FOLDER, cache]
    project = next((place for place in places if (place / JOURNAL_FILE).is_file()), None)
    if project is None:
        return replace(job, features=MatchFeatures(tuple(folders)))
    own = project / FEATURES_FOLDER
    folders = [own, *(folder for folder in folders if folder != own)]
    settings = read_settings(project)
    if settings is None or (settings.backbone, settings.weights) != (job.backbone, job.weights):
        return replace(job, features=MatchFeatures(tuple(folders)))
    return replace(job, features=MatchFeatures(tuple(folders), *frame_sampling(settings)))


def read_settings(project: Path) -> StudioOptions | None:
    """Return the options that a project was made with; None if its journal does not say.

    A studio may have the project open.

    Args:
        project: The folder of the project.
    """
    with suppress(OSError, ValueError, RecursionError), (project / JOURNAL_FILE).open("rb") as file:
        for line in file:
            found = json.loads(line)
            if "settings" in found:
                entry = read_entry(found)
                return entry.settings if isinstance(entry, SettingsEntry) else None
    return None
