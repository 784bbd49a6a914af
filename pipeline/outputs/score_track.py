"""Save a score track as one `.npz` file and load it again."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.models.errors import TouchlineError
from touchline.pipeline.types import ScoreTrack

SCORES_FILE = "scores.npz"
"""The name of the score track in a result folder."""

# What numpy, zipfile and zlib raise for archives that are cut, changed or of something else.
DAMAGED_TRACK = (
    OSError,
    KeyError,
    ValueError,
    AttributeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_track(path: str | os.PathLike[str], track: ScoreTrack) -> Path:
    """A score track as one .npz, from which events are cut again without the network."""
    content = io.BytesIO()
    np.savez_compressed(
        content,
        labels=np.array(track.labels, dtype=np.str_),
        start_s=track.start_s,
        end_s=track.end_s,
        probs=track.probs,
        damaged=track.damaged,
    )
    return write_atomic(path, content.getvalue())


def load_track(path: str | os.PathLike[str]) -> ScoreTrack:
    """The score track that `save_track` wrote; nothing in the file is run."""
    try:
        # Opened here, as numpy leaves a file open that turns out to be no archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return ScoreTrack(
                labels=tuple(str(label) for label in arrays["labels"]),
                start_s=arrays["start_s"].astype(np.float64),
                end_s=arrays["end_s"].astype(np.float64),
                probs=arrays["probs"].astype(np.float32),
                damaged=arrays["damaged"].astype(np.bool_),
            )
    except FileNotFoundError:
        raise TouchlineError(path, "no such file") from None
    except DAMAGED_TRACK as error:
        told = str(error) or type(error).__name__
        raise TouchlineError(
            path, f"is not a score track of touchline, or damaged ({told})"
        ) from None
