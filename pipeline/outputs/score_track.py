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

# The errors of numpy, zipfile and zlib for files that are cut off, damaged or something else.
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
    """Write a score track to one .npz file. Events can be found in it again without the network.

    Example:
        >>> from touchline.pipeline import load_track, save_track
        >>> track = load_track("out/match/scores.npz")
        >>> save_track("copy.npz", track).name
        'copy.npz'
    """
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
    """Load the score track that `save_track` wrote. No code in the file is run.

    Raises:
        TouchlineError: The file is missing, damaged, or not a score track.

    Example:
        >>> from touchline.pipeline import OperatingPoint, find_events, load_track
        >>> track = load_track("out/match/scores.npz")
        >>> events = find_events(track, {"bright": OperatingPoint(threshold=0.9)})
        >>> [round(event.peak_s, 1) for event in events]
        [4.0, 8.8]
    """
    try:
        # Open it here: numpy leaves a file open that is not an archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return ScoreTrack(
                labels=tuple(str(label) for label in arrays["labels"]),
                start_s=arrays["start_s"].astype(np.float64),
                end_s=arrays["end_s"].astype(np.float64),
                probs=arrays["probs"].astype(np.float32),
                damaged=arrays["damaged"].astype(np.bool_),
            )
    except FileNotFoundError:
        raise TouchlineError(path, "no such file. Is the path right?") from None
    except DAMAGED_TRACK as error:
        reason = str(error) or type(error).__name__
        raise TouchlineError(
            path, f"not a score track of Touchline, or damaged ({reason})"
        ) from None
