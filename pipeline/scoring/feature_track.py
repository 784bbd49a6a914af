"""The features of a whole match on disk: written as the frozen trunk computes them, read as learnt.

A track is a folder with three files that grow together, one row per sampled frame:

    features.f16    (N, D) float16
    times.f64       (N, 2) float64: the start and the end of the frame in seconds
    damaged.u8      (N,) 1 where the frame is damaged

and `track.json`, which says what they were made from and whether they are complete. A kill may cut
the files at different places; what all of them have is kept, and the rest is computed again. So is
everything if `track.json` is damaged or a field of it has another type.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from touchline.models.atomic_files import write_atomic
from touchline.models.backbone import Backbone, trunk_digest
from touchline.models.errors import TouchlineError
from touchline.models.json_values import from_json, to_json
from touchline.pipeline.clips.windows import Sampled, frames_of
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Bool, Float64, Frames

FORMAT = "touchline-features-1"

FLOAT16_MAX = float(np.finfo(np.float16).max)

READ_ROWS = 4096

FLUSH_ROWS = 32
"""Rows are flushed in groups of this number, so that others can read the track while it grows."""


@dataclass(frozen=True)
class TrackRows:
    """The rows of a track that are on disk.

    Attributes:
        features: (N, D) float16, mapped from the file and not in memory.
        start_s: (N,) float64. Start of each frame in seconds.
        end_s: (N,) float64. One sampling period later.
        damaged: (N,) bool.
    """

    features: npt.NDArray[np.float16]
    start_s: Float64
    end_s: Float64
    damaged: Bool

    def __len__(self) -> int:
        return len(self.start_s)

    def sampled(self, device: torch.device) -> Iterator[Sampled[Tensor]]:
        """Yield the rows one by one, as `Scorer.feature_track` does.

        Args:
            device: Where the features are to lie.
        """
        for first in range(0, len(self), READ_ROWS):
            part = np.array(self.features[first : first + READ_ROWS], dtype=np.float32)
            for k, row in enumerate(torch.from_numpy(part).to(device), start=first):
                times = float(self.start_s[k]), float(self.end_s[k])
                yield Sampled(row, *times, damaged=bool(self.damaged[k]))

    def damaged_s(self) -> tuple[tuple[float, float], ...]:
        """Return the stretches of damaged footage in seconds."""
        edges = np.flatnonzero(np.diff(self.damaged.astype(np.int8), prepend=0, append=0))
        return tuple(
            (float(self.start_s[a]), float(self.end_s[b - 1])) for a, b in edges.reshape(-1, 2)
        )


@dataclass(frozen=True)
class _Facts:
    """The fields of track.json.

    Attributes:
        format: The version of the format.
        key: What the features were made from.
        width: D.
        rows: N if they are complete, else None.
    """

    format: str
    key: str
    width: int
    rows: int | None


class FeatureTrack:
    """The features of one file under one trunk and sampling, in a folder.

    Attributes:
        folder: The folder of this track.
        key: What the features were made from.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Open a track, or begin one.

        Args:
            folder: The folder of all tracks; the track gets a folder in it.
            key: What the features were made from; see `track_key`.
        """
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:32]
        self.key = key
        self._known: _Facts | None = None

    @property
    def complete(self) -> bool:
        """Whether the features reach the end of the footage."""
        facts = self._facts()
        return facts is not None and facts.rows == self._num_rows()

    @property
    def width(self) -> int:
        """D, or 0 before the first row."""
        facts = self._facts()
        return 0 if facts is None else facts.width

    @property
    def rate_hz(self) -> float:
        """Rows per second, or 0 before the first row."""
        rows = self.rows()
        return 0.0 if not len(rows) else float(1 / (rows.end_s[0] - rows.start_s[0]))

    def rows(self) -> TrackRows:
        """Return what is on disk now."""
        D, N, paths = self.width, self._num_rows(), self._paths()
        if N == 0:
            empty = np.zeros(0)
            return TrackRows(np.zeros((0, D), np.float16), empty, empty, empty.astype(bool))
        features = np.memmap(paths[0], np.float16, mode="r", shape=(N, D))
        times = np.fromfile(paths[1], np.float64, count=2 * N).reshape(N, 2)
        damaged = np.fromfile(paths[2], np.uint8, count=N).astype(bool)
        return TrackRows(features, times[:, 0].copy(), times[:, 1].copy(), damaged)

    def compute(
        self,
        footage: Path,
        scorer: Scorer,
        *,
        stream: int | None = None,
        on_frames: Callable[[Frames], None] = lambda _: None,
        on_row: Callable[[float], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Compute the rows that are missing. Memory does not grow with the footage.

        Args:
            footage: The file.
            scorer: The network, in mode "shared".
            stream: Index of the video stream; None takes the default one.
            on_frames: Called with each chunk of decoded frames.
            on_row: Called with the end in seconds of the last row that readers can see.
            stop: Asked after each row; true ends the work early.

        Returns:
            Whether the track is complete.

        Raises:
            FootageError: The footage cannot be read.
            TouchlineError: The track cannot be written, or another program is computing it.
        """
        if self.complete:
            return True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock", timeout=0):
                # Another program may have gone on with it since this one looked.
                self._known = None
                return self._compute(footage, scorer, stream, on_frames, on_row, stop)
        except Timeout:
            raise TouchlineError(
                self.folder,
                "another program is computing these features. Try again later",
            ) from None
        except OSError as error:
            raise TouchlineError(self.folder, f"cannot be written: {error.strerror}") from None

    def _compute(
        self,
        footage: Path,
        scorer: Scorer,
        stream: int | None,
        on_frames: Callable[[Frames], None],
        on_row: Callable[[float], None],
        stop: Callable[[], bool],
    ) -> bool:
        if self.complete:
            return True
        spec = scorer.model.spec
        # A trunk that looks beyond a row runs over pieces. Whole pieces are kept, and the last one
        # is computed again for the frames before the next.
        piece = scorer.piece_frames // scorer.stride if scorer.margin else 1
        done = self._keep_whole_rows(piece)
        again = min(len(done), piece) if scorer.margin else 0
        start_s = 0.0
        if len(done) > again:
            start_s = float(done.end_s[len(done) - again - 1]) - 0.5 / spec.rate_hz
        frames = decode(
            footage, rate_hz=spec.rate_hz, size_px=spec.size_px, start_s=start_s, stream=stream
        )
        with ExitStack() as stack:
            stack.enter_context(frames)
            files = [stack.enter_context(path.open("ab")) for path in self._paths()]
            seen = _watched(frames, on_frames)
            track = islice(scorer.feature_track(frames_of(seen, spec)), again, None)
            for n, row in enumerate(track, start=1):
                self._write_row(files, row)
                if n % FLUSH_ROWS == 0:
                    _flush(files)
                    on_row(row.end_s)
                if stop():
                    return False
            _flush(files)
        self._save_facts(width=self.width, rows=self._num_rows())
        return True

    def _write_row(self, files: Sequence[BinaryIO], row: Sampled[Tensor]) -> None:
        values = row.item.float().cpu().numpy().clip(-FLOAT16_MAX, FLOAT16_MAX).astype(np.float16)
        if self._facts() is None:
            self._save_facts(width=len(values), rows=None)
        files[0].write(values.tobytes())
        files[1].write(np.array([row.start_s, row.end_s]).tobytes())
        files[2].write(bytes([row.damaged]))

    def _keep_whole_rows(self, piece: int) -> TrackRows:
        """Cut what a kill left behind the last whole piece of rows; return the rows."""
        D, N = self.width, self._num_rows() // piece * piece
        for path, row_bytes in zip(self._paths(), (2 * D, 16, 1), strict=True):
            path.touch()
            os.truncate(path, N * row_bytes)
        return self.rows()

    def _num_rows(self) -> int:
        if self.width == 0:
            return 0
        sizes = [path.stat().st_size if path.exists() else 0 for path in self._paths()]
        return min(size // n for size, n in zip(sizes, (2 * self.width, 16, 1), strict=True))

    def _paths(self) -> list[Path]:
        return [self.folder / name for name in ("features.f16", "times.f64", "damaged.u8")]

    def _facts(self) -> _Facts | None:
        """What track.json says; None if there is none that can be used."""
        if self._known is None:
            facts = _read_facts(self.folder)
            if facts is not None and facts.key == self.key and facts.width > 0:
                self._known = facts
        return self._known

    def _save_facts(self, *, width: int, rows: int | None) -> None:
        """Write what the features were made from; rows is None until they are complete."""
        facts = _Facts(FORMAT, self.key, width, rows)
        write_atomic(self.folder / "track.json", json.dumps(to_json(facts), indent=1))
        self._known = facts


def _read_facts(folder: Path) -> _Facts | None:
    """What track.json of a track says; None if it cannot be read."""
    try:
        text = (folder / "track.json").read_text(encoding="utf-8")
        return from_json(json.loads(text), _Facts)
    except (OSError, ValueError, RecursionError):
        return None


def tracks_in(folder: Path) -> list[FeatureTrack]:
    """Return the tracks in a folder, whatever they were made from; none if there is no folder."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []
    tracks = []
    for path in inside:
        facts = _read_facts(path)
        if facts is not None and FeatureTrack(folder, facts.key).folder == path:
            tracks.append(FeatureTrack(folder, facts.key))
    return tracks


def track_key(content: str, scorer: Scorer, *, stream: int | None) -> str:
    """Name what the features of a track depend on.

    Args:
        content: SHA-256 of the footage.
        scorer: The network with its sampling and its number format.
        stream: Index of the video stream, as `probe_footage` finds it.
    """
    return key_of(content, stream, whole_trunk_digest(scorer.model.backbone, scorer.dtype))


def key_of(content: str, stream: int | None, trunk: str) -> str:
    """Name what the features of a track depend on.

    Args:
        content: SHA-256 of the footage.
        stream: Index of the video stream, as `probe_footage` finds it.
        trunk: From `whole_trunk_digest`.
    """
    return f"{FORMAT} {content} {stream} {trunk}"


def whole_trunk_digest(backbone: Backbone, dtype: torch.dtype) -> str:
    """Return a hash of all that the features of whole footage depend on, but the footage.

    Args:
        backbone: The network with its sampling.
        dtype: The number format that its trunk computes in.
    """
    spec = backbone.spec
    if backbone.framewise:
        # The features of a frame do not depend on the frames around it.
        spec = spec.with_sampling(num_frames=1)
    return trunk_digest(backbone, len(backbone.stages), dtype, spec=spec)


def _flush(files: Sequence[BinaryIO]) -> None:
    for file in files:
        file.flush()


def _watched(frames: Iterator[Frames], on_frames: Callable[[Frames], None]) -> Iterator[Frames]:
    for chunk in frames:
        on_frames(chunk)
        yield chunk
