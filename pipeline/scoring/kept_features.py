"""Read the features of labelled clips from tracks of whole matches, so that nothing is decoded.

A track and a clip of the same rate have the same grid: instants counted from the first frame of the
footage. So the features of a clip are the rows of its instants, and no time is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.checkpoint import file_digest
from touchline.models.errors import FootageError
from touchline.pipeline.clips.load import LabelledClip, place_clip
from touchline.pipeline.decoding.contract import Instants
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.distributed import current_world
from touchline.pipeline.footage.address import Address
from touchline.pipeline.scoring.feature_track import (
    FeatureTrack,
    TrackRows,
    key_of,
    tracks_in,
    whole_trunk_digest,
)
from touchline.pipeline.types import Example

ROUNDING_S = 1e-9
"""Times of frames are exact up to rounding of float64."""

Features = npt.NDArray[np.float16]


class KeptFeatures:
    """The tracks that fit one network, as they are on disk now. They may go on growing.

    Attributes:
        missing: Why footage has no track that fits, by file.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        footage: Sequence[Path],
        backbone: Backbone,
        dtype: torch.dtype,
    ) -> None:
        """Look for the tracks of some footage. Files are read to compute their SHA-256.

        Args:
            folders: The folders of tracks.
            footage: The files.
            backbone: The network with its sampling; its trunk sees single frames.
            dtype: The number format that its trunk computes in.
        """
        self.missing: dict[Path, str] = {}
        self._spec = backbone.spec
        self._found: dict[Path, _Found] = {}
        trunk = whole_trunk_digest(backbone, dtype)
        kept = {folder: tracks_in(folder) for folder in folders}
        for path in dict.fromkeys(footage):
            # Footage that cannot be read is reported when its clips are decoded.
            with suppress(FootageError, OSError, ValueError):
                self._look_for(path, trunk, kept)
        self._found = _in_all_processes(self._found)

    def _look_for(
        self, path: Path, trunk: str, kept: Mapping[Path, Sequence[FeatureTrack]]
    ) -> None:
        if isinstance(path, Address):
            self.missing[path] = f"{path.name} is an address"
            return
        content, stream = file_digest(path), probe_footage(path).stream_index
        key = key_of(content, stream, trunk)
        for folder in kept:
            track = FeatureTrack(folder, key)
            # Asked before the rows are read, as they may be completed in between.
            complete = track.complete
            rows = track.rows()
            if len(rows):
                self._found[path] = _Found(rows, complete)
                return
        prefix = key_of(content, stream, "")
        others = [
            track for tracks in kept.values() for track in tracks if track.key.startswith(prefix)
        ]
        self.missing[path] = self._why_not(path, others)

    def _why_not(self, path: Path, others: Sequence[FeatureTrack]) -> str:
        """Say why no track of a file fits.

        Args:
            path: The file.
            others: The tracks of its content, by another trunk or sampling.
        """
        rates = {round(track.rate_hz, 6) for track in others} - {0.0}
        if not others:
            return f"they have none of {path.name} as it is now"
        if rates and round(self._spec.rate_hz, 6) not in rates:
            there = " and ".join(f"{rate:g}" for rate in sorted(rates))
            return (
                f"those of {path.name} are at {there} Hz, and training samples at "
                f"{self._spec.rate_hz:g} Hz"
            )
        return f"those of {path.name} are of another trunk, picture size or number format"

    def clip(
        self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip | None:
        """Return an example with the features of its frames, as `load_clip` does with the frames.

        Args:
            example: The label.
            spec: The network's input, sampled as the backbone that was given.
            max_clip_s: Use at most this many seconds of the example; None uses all of it.

        Returns:
            The clip; None if no track has all of it.
        """
        found = self._found.get(example.path)
        if found is None:
            return None
        take = partial(found.take, rate_hz=spec.rate_hz)
        try:
            features, places = place_clip(example, spec, take, max_clip_s=max_clip_s)
        except _NotThereError:
            return None
        return LabelledClip(example, None, *places, features=features)


class _NotThereError(Exception):
    """A track does not have all frames of a stretch."""


@dataclass(frozen=True)
class _Found:
    """A track as it was when it was opened."""

    rows: TrackRows
    complete: bool

    def take(
        self, start_s: float, end_s: float | None, *, rate_hz: float
    ) -> tuple[Features, float]:
        """Return the features (N, D) of the frames in [start_s, end_s), and when they begin."""
        rows, asked = self.rows, Instants.of(rate_hz, start_s, end_s)
        first, last = int(np.searchsorted(rows.start_s, float(asked.start_s))), len(rows)
        if asked.end_s is not None:
            last = int(np.searchsorted(rows.start_s, float(asked.end_s)))
        reaches = asked.end_s is not None and rows.end_s[-1] >= float(asked.end_s) - ROUNDING_S
        times_s = rows.start_s[first:last]
        has_gaps = np.any(np.abs(np.diff(times_s) - 1 / rate_hz) > ROUNDING_S)
        if not (self.complete or reaches) or first >= last or has_gaps:
            raise _NotThereError
        return np.array(rows.features[first:last]), float(times_s[0])


def _in_all_processes(found: dict[Path, _Found]) -> dict[Path, _Found]:
    """Cut tracks to what all processes see: they must agree on which clips are decoded."""
    world = current_world()
    sizes = {path: (len(one.rows), one.complete) for path, one in found.items()}
    seen = list(world.merged({world.rank: sizes}).values())
    if all(others == sizes for others in seen):
        return found
    return {
        path: one for path, one in found.items() if all(s.get(path) == sizes[path] for s in seen)
    }
