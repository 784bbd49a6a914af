"""Keep decoded clips and features of frozen stages on disk, for later runs.

Runs and processes may share a cache folder: a file appears whole or not at all, and is never
changed. You can delete files while no training runs.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from touchline.models.atomic_files import atomic_path, write_atomic
from touchline.models.backbone import ClipSpec, trunk_digest
from touchline.models.checkpoint import file_digest, write_tensors
from touchline.models.errors import FootageError, TouchlineError
from touchline.pipeline.clips.load import LabelledClip, load_clip
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.types import Example

CLIP_FORMAT = 2
"""Part of each file's name, so that files of another version are not read."""


class ClipStore:
    """Decoded clips in a folder; a name is the hash of the footage's content and the sampling."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "clips"
        self._digests: dict[Path, str] = {}
        self._lock = threading.Lock()

    def load(
        self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip:
        """Load an example like `load_clip`, but leave its frames in their file, without memory.

        Args:
            example: The label.
            spec: The network's input.
            max_clip_s: Use at most this many seconds of the example; None uses all of it.

        Raises:
            FootageError: The footage cannot be read.
            TouchlineError: The cache cannot be written.
        """
        path = self._folder / f"{self._key(example, spec, max_clip_s)}.npy"
        starts = path.with_suffix(".txt")
        if not path.exists():
            clip = load_clip(example, spec, max_clip_s=max_clip_s)
            write_atomic(starts, f"{clip.first} {clip.last} {clip.begin} {clip.end}")
            with _written(path) as part:
                np.save(part, clip.pixels)
        first, last, begin, end = map(int, starts.read_text(encoding="utf-8").split())
        return LabelledClip(example, path, first, last, begin, end)

    def has(self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None) -> bool:
        """Return whether `load` needs to decode nothing."""
        try:
            name = self._key(example, spec, max_clip_s)
        except FootageError:
            return False
        return (self._folder / f"{name}.npy").exists()

    def _key(self, example: Example, spec: ClipSpec, max_clip_s: float | None) -> str:
        sampling = (CLIP_FORMAT, spec.num_frames, spec.rate_hz, spec.size_px, spec.fit, max_clip_s)
        return _short_digest(self.content(example.path), sampling, example.start_s, example.end_s)

    def content(self, path: Path) -> str:
        """Return the SHA-256 of a file, which is read only once.

        Raises:
            FootageError: The file cannot be read.
        """
        if not path.is_file():
            raise FootageError(path, "no such file")
        with self._lock:
            if path not in self._digests:
                try:
                    self._digests[path] = file_digest(path)
                except OSError as error:
                    raise FootageError(path, f"cannot be read: {error.strerror}") from None
            return self._digests[path]


class FeatureStore:
    """Features of views of clips in a folder; a name is the hash of all that they depend on."""

    def __init__(self, folder: Path, network: SplitNetwork) -> None:
        self._folder = folder / "features"
        self._clips = ClipStore(folder)
        self._trunk = trunk_digest(network.backbone, network.split_at, network.dtype)

    def _path(self, footage: Path, view: object) -> Path:
        name = _short_digest(self._trunk, self._clips.content(footage), view)
        return self._folder / f"{name}.safetensors"

    def read(self, views: Sequence[tuple[Path, object]]) -> Tensor | None:
        """Return the features (B, ...) of B views, or None unless the cache has all of them.

        The missing ones alone would make a smaller batch, whose results may be rounded differently.

        Args:
            views: For each view its footage, and what names it among the views of that footage.
        """
        paths = [self._path(*view) for view in views]
        if not all(path.exists() for path in paths):
            return None
        return torch.stack([load_file(path)["features"] for path in paths])

    def write(self, views: Sequence[tuple[Path, object]], features: Tensor) -> None:
        """Save the features (B, ...) of B views, each given as in `read`."""
        for view, row in zip(views, features, strict=True):
            with _written(self._path(*view)) as part:
                write_tensors(part, {"features": row.contiguous()})


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Like `atomic_path`, but raise TouchlineError if the file cannot be written."""
    try:
        with atomic_path(path) as part:
            yield part
    except (OSError, SafetensorError) as error:
        raise TouchlineError(path, f"cannot be written ({error})") from None


def _short_digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
