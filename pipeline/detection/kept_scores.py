"""The scores of a match on disk as they come, so that a run that was killed goes on in mid-file.

A file has a line of JSON that names what the scores depend on, and then one record for each part of
the track (see `Scorer.score_parts`): the number of windows and a checksum, then a row per window.
Where several processes decode, records between them say which segments of the file are done. A kill
leaves half a record at most. What is behind the last whole part is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import torch

from touchline.models.checkpoint import TrainedModel, tensors_digest
from touchline.models.engines.machine import processor
from touchline.models.json_values import from_json, to_json
from touchline.pipeline.clips.windows import hop_samples
from touchline.pipeline.decoding.decode import FrameStream
from touchline.pipeline.decoding.parallel import Passed
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.scoring.score import Scorer, joined
from touchline.pipeline.timecode import timecode
from touchline.pipeline.types import Frames, ScoreTrack

KEPT_FILE = "scores.part"
"""The name of the file in a result folder. It is removed when the results are written."""

FORMAT = "touchline-scores-1"

SYNC_S = 5.0
"""The file is forced to the disk this often. After a kill the system writes it anyway."""

RECORD = struct.Struct("<III")
"""Windows of the record (0: how far the file is decoded), its bytes, and their CRC-32."""

MAX_KEY_BYTES = 4096
MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class ScoresKey:
    """What scores depend on, to the last bit on a CPU.

    Attributes:
        footage: What tells the footage from other footage.
        weights: Digest of the network, and of what turns its output into probabilities.
        options: The options that change scores.
        machine: Processor, threads and version of torch.
        format: The version of the file.
    """

    footage: str
    weights: str
    options: str
    machine: str
    format: str = FORMAT

    def difference(self, other: ScoresKey) -> str | None:
        """Return in words what differs; None for nothing."""
        words = {
            "footage": "the footage",
            "weights": "the model",
            "options": "an option",
            "machine": "the machine, its threads or torch",
            "format": "Touchline",
        }
        changed = [
            word for name, word in words.items() if getattr(self, name) != getattr(other, name)
        ]
        return changed[0] if changed else None


@dataclass(frozen=True)
class KeepScores:
    """Where the scores of a match are kept while it is analysed.

    Attributes:
        path: The file.
        footage: What tells the footage from other footage, such as its digest.
        tell: Called with a sentence if there are scores of an earlier run.

    Example:
        The file that is left after a kill is what the next call goes on with:

        >>> from pathlib import Path
        >>> from touchline.pipeline import DetectOptions, KeepScores, detect, load_model
        >>> keep = KeepScores(Path("match.part"), footage="match.mp4 of 3 May", tell=print)
        >>> model = load_model("model.safetensors")
        >>> match = detect("match.mp4", model, DetectOptions(hop_s=0.25), keep=keep)
        >>> keep.path.exists(), len(match.accepted)
        (True, 2)
        >>> keep.path.unlink()
    """

    path: Path
    footage: str
    tell: Callable[[str], None] = lambda _: None


class Read(Protocol):
    """Begins to decode a file; see `decode`."""

    def __call__(
        self, *, passed: Passed | None, on_passed: Callable[[Passed], None]
    ) -> FrameStream: ...


def scores_key(
    scorer: Scorer, options: DetectOptions, footage: str, *, decode_workers: int
) -> ScoresKey:
    """Name what the scores of a match depend on.

    Args:
        scorer: The network.
        options: How to look for events.
        footage: What tells the footage from other footage.
        decode_workers: How many processes decode it: next to damage they may mark other frames.
    """
    hop = hop_samples(scorer.model.spec, options.hop_s)
    numbers = (scorer.engine, str(scorer.dtype), scorer.int8, scorer.compiled)
    shaping = (hop, scorer.shared, *numbers, scorer.batch_size)
    reading = (options.decoder, options.stream, decode_workers)
    threads = (torch.get_num_threads(), os.cpu_count())
    machine = (str(scorer.device), processor(), threads, torch.__version__)
    return ScoresKey(footage, _weights(scorer.model), f"{shaping} {reading}", f"{machine}")


def _weights(model: TrainedModel) -> str:
    tensors = {k: v.detach().cpu() for k, v in model.backbone.state_dict().items()}
    output = (model.labels, model.has_background, model.multi_label, model.temperature)
    network = (model.architecture, model.spec, model.backbone.head_spec, model.backbone.mirrored)
    made = f"{tensors_digest(tensors)} {output} {network}"
    return hashlib.sha256(made.encode()).hexdigest()


def score_and_keep(
    keep: KeepScores,
    key: ScoresKey,
    scorer: Scorer,
    read: Read,
    *,
    hop_s: float | None = None,
    on_window: Callable[[float], None] | None = None,
) -> tuple[ScoreTrack, FrameStream]:
    """Score the frames of one file; go on with what an earlier run has kept, if it fits.

    Segments of the file that are done are not decoded again. Other frames whose windows have scores
    are, but the network does not see them. So the result is that of a run that was not stopped, and
    so is what is known about the footage.

    Args:
        keep: Where the scores are kept.
        key: What they depend on.
        scorer: The network.
        read: Begins to decode the file, behind the segments that are done.
        hop_s: Seconds between windows; None: a quarter of the window.
        on_window: Called with the end of the last window scored, or passed over, in seconds.

    Returns:
        The scores, and the frames with what was found out about the file.

    Raises:
        OSError: The file cannot be written.
    """
    tell_s = on_window or (lambda _: None)
    labels = scorer.model.labels
    after, until_s = _whole_parts(keep, key, labels, scorer.windows_per_part)
    passed = _passed(keep, labels, scorer.first_frame(after, hop_s=hop_s)) if after else None
    waiting: list[Passed] = []
    frames = read(passed=passed, on_passed=waiting.append)
    parts = scorer.score_parts(
        _passing(frames, until_s, tell_s),
        hop_s=hop_s,
        after=after,
        first=0 if passed is None else passed.samples,
    )
    first = next(parts, None)
    if first is None and not after:
        return joined([], labels), frames
    keep.path.parent.mkdir(parents=True, exist_ok=True)
    synced_s = time.monotonic()
    with keep.path.open("ab") as file:
        if not after:
            file.write(json.dumps(asdict(key)).encode() + b"\n")
        for part in () if first is None else chain([first], parts):
            while waiting:
                _write(file, 0, json.dumps(to_json(waiting.pop(0))).encode())
            _write_part(file, part)
            if time.monotonic() - synced_s >= SYNC_S:
                os.fsync(file.fileno())
                synced_s = time.monotonic()
            tell_s(float(part.end_s[-1]))
    with keep.path.open("rb") as file:
        file.readline()
        kept = (record for record, _ in _records(file, labels))
        return joined((part for part in kept if isinstance(part, ScoreTrack)), labels), frames


def _passing(
    frames: Iterable[Frames], until_s: float, tell_s: Callable[[float], None]
) -> Iterator[Frames]:
    """The frames. Up to `until_s`, where windows have scores already, it reports progress."""
    for chunk in frames:
        if (end_s := float(chunk.sample_s[-1])) < until_s:
            tell_s(end_s)
        yield chunk


def _whole_parts(
    keep: KeepScores, key: ScoresKey, labels: tuple[str, ...], size: int
) -> tuple[int, float]:
    """Cut the file behind its last whole part; return how many windows it has and their end.

    A file with scores that cannot be used is removed.
    """
    try:
        file = keep.path.open("r+b")
    except FileNotFoundError:
        return 0, 0.0
    num_windows, until_s = 0, 0.0
    with file:
        why = _unusable(file.readline(MAX_KEY_BYTES), key)
        if why is None:
            end = file.tell()
            for record, record_end in _records(file, labels):
                if isinstance(record, ScoreTrack):
                    if len(record.start_s) != size:
                        break
                    num_windows, until_s, end = (
                        num_windows + size, float(record.end_s[-1]), record_end
                    )  # fmt: skip
            file.truncate(end)
    if why is not None:
        keep.tell(f"scores of a run that was stopped are not used, because {why}")
    elif num_windows:
        keep.tell(f"goes on at {timecode(until_s)}, where an earlier run was stopped")
    if not num_windows:
        keep.path.unlink()
    return num_windows, until_s


def _unusable(line: bytes, key: ScoresKey) -> str | None:
    """Say why scores behind this first line cannot be used; None if they can."""
    try:
        changed = from_json(json.loads(line), ScoresKey).difference(key)
    except (ValueError, RecursionError):
        return "they are damaged"
    return None if changed is None else f"{changed} changed"


def _passed(keep: KeepScores, labels: tuple[str, ...], before: int) -> Passed | None:
    """The most of the file that is decoded and ends at or before this frame; None for nothing."""
    with keep.path.open("rb") as file:
        file.readline()
        found = [record for record, _ in _records(file, labels) if isinstance(record, Passed)]
    fits = [passed for passed in found if passed.samples <= before]
    return max(fits, key=lambda passed: passed.samples, default=None)


def _row(labels: tuple[str, ...]) -> np.dtype[Any]:
    fields = [("start_s", "<f8"), ("end_s", "<f8"), ("damaged", "u1")]
    return np.dtype([*fields, ("probs", "<f4", (len(labels),))])


def _write_part(file: BinaryIO, part: ScoreTrack) -> None:
    rows = np.empty(len(part.start_s), _row(part.labels))
    for name in rows.dtype.names or ():
        rows[name] = getattr(part, name)
    _write(file, len(rows), rows.tobytes())


def _write(file: BinaryIO, count: int, content: bytes) -> None:
    file.write(RECORD.pack(count, len(content), zlib.crc32(content)) + content)
    file.flush()


def _records(file: BinaryIO, labels: tuple[str, ...]) -> Iterator[tuple[ScoreTrack | Passed, int]]:
    """The records that are whole, each with the place in the file where it ends."""
    row = _row(labels)
    while len(head := file.read(RECORD.size)) == RECORD.size:
        count, length, checksum = RECORD.unpack(head)
        # A damaged length must not ask for all of the memory.
        content = file.read(min(length, MAX_RECORD_BYTES))
        if len(content) != length or zlib.crc32(content) != checksum:
            return
        if not count:
            yield from_json(json.loads(content), Passed), file.tell()
            continue
        rows = np.frombuffer(content, row)
        part = ScoreTrack(
            labels=labels,
            start_s=rows["start_s"].astype(np.float64),
            end_s=rows["end_s"].astype(np.float64),
            probs=rows["probs"].astype(np.float32),
            damaged=rows["damaged"].astype(np.bool_),
        )
        yield part, file.tell()
