"""Load labelled examples as decoded clips; short ones keep the footage around them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from touchline.models.backbone import ClipSpec
from touchline.models.errors import FootageError
from touchline.pipeline.clips.windows import centre_square, squared
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.distributed import current_world, memory_per_process
from touchline.pipeline.types import Example, Float64, Frames, Int64, UInt8

Rows = TypeVar("Rows", bound=npt.NDArray[np.generic])

CLIPS_SHARE = 0.75
"""How much of the memory decoded clips may take; more is an error instead of a killed process."""


@dataclass(frozen=True)
class LabelledClip:
    """The frames of one example, or their features, and where windows may start in them.

    Frame indices count from the first frame. Outside the frames the nearest one repeats, so an
    index may be negative.

    Attributes:
        example: The label.
        held: The frames, or the .npy file that holds them; None if they were not decoded.
        first: The earliest start of a window, as a frame index.
        last: The latest start of a window, as a frame index.
        begin: The first frame of the example itself, without the footage around it; for a label
            without length, the first frame of the window centred on it.
        end: The frame after the last one of the example itself.
        features: (N, D) the features of the frames, if they were computed earlier.
    """

    example: Example
    held: UInt8 | Path | None
    first: int
    last: int
    begin: int
    end: int
    features: npt.NDArray[np.float16] | None = None

    @property
    def num_frames(self) -> int:
        """N, how many frames there are."""
        return len(self.pixels if self.features is None else self.features)

    @property
    def pixels(self) -> UInt8:
        """The frames (N, 3, H, W), uint8 RGB, at the network's rate and shorter side.

        Raises:
            ValueError: They were not decoded.
        """
        if self.held is None:
            raise ValueError(f"the frames of a clip of {self.example.path} were not decoded")
        if isinstance(self.held, Path):
            # Mapped each time: one open file for every clip would be too many.
            mapped: UInt8 = np.load(self.held, mmap_mode="r")
            return mapped
        return self.held

    @property
    def num_bytes(self) -> int:
        """How much memory the frames take; 0 if they are in a file, or were not decoded."""
        return self.held.nbytes if isinstance(self.held, np.ndarray) else 0

    def take(self, index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> UInt8:
        """Return frames by index: (len(index), 3, H, W); outside the clip, the nearest one."""
        pixels = self.pixels
        return np.take(pixels, index.clip(0, len(pixels) - 1), axis=0)

    def window(self, start: int, num_frames: int) -> UInt8:
        """Return num_frames consecutive frames from frame `start` on: (num_frames, 3, H, W)."""
        return self.take(np.arange(start, start + num_frames))

    def spread(self, num_frames: int, places: Float64) -> UInt8:
        """Take one frame from each of num_frames equal parts of the example (Wang et al. 2016).

        Args:
            num_frames: The number of parts, and of frames in the result (num_frames, 3, H, W).
            places: (num_frames,), where in its part each frame is taken, in [0, 1).
        """
        return self.take(self._spread_index(num_frames, places))

    def _spread_index(self, num_frames: int, places: Float64) -> Int64:
        edges = np.linspace(self.begin, self.end, num_frames + 1)
        return np.asarray(np.floor(edges[:-1] + places * np.diff(edges)), dtype=np.int64)

    def view_index(self, num_frames: int, number: int, views: int, *, sampling: str) -> Int64:
        """Return the frames that `plain_view` shows, as indices (num_frames,).

        Args:
            num_frames: The frames of a window.
            number: Which of the views, from 0.
            views: How many views there are.
            sampling: dense (consecutive frames) or uniform (spread over the example).
        """
        if sampling == "uniform":
            # Each view takes another place in every one of the parts.
            return self._spread_index(num_frames, np.full(num_frames, (number + 0.5) / views))
        return np.arange(num_frames) + self.even_starts(views)[number]

    def even_starts(self, views: int) -> list[int]:
        """Return `views` window starts, spread evenly; a single view starts in the middle."""
        if views == 1:
            return [(self.first + self.last) // 2]
        return [round(s) for s in np.linspace(self.first, self.last, views)]


@dataclass(frozen=True)
class LoadedClips:
    """The clips that could be read, and the problems of the others.

    Attributes:
        clips: In the order of the examples.
        problems: One message per unreadable example; optional examples share one per file.
    """

    clips: list[LabelledClip]
    problems: list[str]


class LoadClip(Protocol):
    """The type of `load_clip`, and of functions that replace it."""

    def __call__(
        self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip: ...


def each_clip(
    examples: Sequence[Example],
    spec: ClipSpec,
    *,
    max_clip_s: float | None = None,
    load: LoadClip | None = None,
) -> Generator[LabelledClip | FootageError, None, None]:
    """Yield each example as a clip, or as the error of reading it, in order.

    A few examples are decoded ahead of the one that is taken.

    Args:
        examples: The labels to decode.
        spec: The network's input.
        max_clip_s: Use at most this many seconds of each example; None uses all of it.
        load: Replaces `load_clip`, for instance by a loader with a cache.
    """
    load = load or load_clip

    def attempt(example: Example) -> LabelledClip | FootageError:
        try:
            return load(example, spec, max_clip_s=max_clip_s)
        except FootageError as error:
            return error

    # Threads suffice: decoding and scaling release the interpreter's lock.
    num_workers = os.cpu_count() or 1
    pool = ThreadPoolExecutor(max_workers=num_workers)
    waiting: deque[Future[LabelledClip | FootageError]] = deque()
    try:
        for example in examples:
            waiting.append(pool.submit(attempt, example))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # After an interrupt, examples that have not begun are not decoded.
        pool.shutdown(cancel_futures=True)


def load_clips(
    examples: Sequence[Example],
    spec: ClipSpec,
    *,
    max_clip_s: float | None = None,
    max_bad: int = 0,
    load: LoadClip | None = None,
    on_clip: Callable[[], None] | None = None,
) -> LoadedClips:
    """Decode all examples and hold them in memory.

    All processes that torchrun started must call this; they get the same clips.

    Args:
        examples: The labels to decode.
        spec: The network's input.
        max_clip_s: Use at most this many seconds of each example, so that the model cannot tell
            classes by clip length; None uses all of it.
        max_bad: How many unreadable examples may be skipped. Optional examples do not count,
            except when nothing of their file can be read and it has no other examples.
        load: Replaces `load_clip`, for instance by a loader with a cache.
        on_clip: Called after each example.

    Raises:
        FootageError: More than max_bad examples cannot be read.
        ValueError: The clips would take more than CLIPS_SHARE of the memory.
    """
    room_bytes = CLIPS_SHARE * memory_per_process()
    num_bytes, counting = 0, Lock()

    def load_one(
        example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip:
        nonlocal num_bytes
        clip = (load or load_clip)(example, spec, max_clip_s=max_clip_s)
        with counting:
            num_bytes += clip.num_bytes
            if num_bytes > room_bytes:
                raise ValueError(
                    f"{len(examples)} examples take more than {room_bytes / 2**30:.1f} GiB of "
                    "memory when decoded. Use --cache FOLDER to keep them on disk, train on fewer "
                    "examples, or use less of each (--max-clip)"
                )
        return clip

    clips: dict[int, LabelledClip] = {}
    bad: dict[int, FootageError] = {}
    # Closed at once after an error, so that nothing goes on being decoded.
    with closing(each_clip(examples, spec, max_clip_s=max_clip_s, load=load_one)) as each:
        for i, loaded in enumerate(each):
            if isinstance(loaded, FootageError):
                bad[i] = loaded
            else:
                clips[i] = loaded
            if on_clip is not None:
                on_clip()
    # All processes leave out what one of them cannot read: their batches must be the same.
    bad = current_world().merged(bad)
    counted, left_out = _unread(examples, bad)
    refuse_unreadable(counted, len(examples), max_bad)
    problems = [str(error) for error in counted]
    for path, errors in left_out.items():
        count = sum(e.optional and e.path == path for e in examples)
        problems.append(
            f"{path}: {len(errors)} of {count} background examples ({errors[0].message})"
        )
    return LoadedClips([clips[i] for i in clips if i not in bad], problems)


def _unread(
    examples: Sequence[Example], bad: Mapping[int, FootageError]
) -> tuple[list[FootageError], dict[Path, list[FootageError]]]:
    """Return the errors that count, and by file the errors of optional examples."""
    used = {e.path for i, e in enumerate(examples) if i not in bad or not e.optional}
    counted: list[FootageError] = []
    left_out: dict[Path, list[FootageError]] = {}
    for i in sorted(bad):
        example = examples[i]
        spared = example.optional and example.path in used
        (left_out.setdefault(example.path, []) if spared else counted).append(bad[i])
    return counted, left_out


def refuse_unreadable(bad: Sequence[FootageError], num_examples: int, max_bad: int) -> None:
    """Raise FootageError if more than `max_bad` examples cannot be read.

    Args:
        bad: The error of each unreadable example.
        num_examples: How many examples there are in all.
        max_bad: How many of them may be unreadable.

    Raises:
        FootageError: There are too many.
    """
    if len(bad) > max_bad:
        raise FootageError(
            bad[0].path,
            f"{bad[0].message} ({len(bad)} of {num_examples} examples cannot be read, "
            f"at most {max_bad} may. Repair them, or raise --max-bad)",
        )


def load_clip(example: Example, spec: ClipSpec, *, max_clip_s: float | None = None) -> LabelledClip:
    """Decode one example; if it is shorter than the window, with the footage around it.

    footage   ------------------------------------------
    example               [=====]
    window            [--------------]   centred, shifted by up to an eighth in training

    Args:
        example: The label; without times it is the whole file.
        spec: The network's input.
        max_clip_s: Use at most this many seconds of the example; None uses all of it.

    Raises:
        FootageError: The footage cannot be read, or is too long to hold in memory.
    """

    def decoded(start_s: float, end_s: float | None) -> tuple[UInt8, float]:
        return _frames(example, spec, start_s, end_s)

    pixels, places = place_clip(example, spec, decoded, max_clip_s=max_clip_s)
    return LabelledClip(example, pixels, *places)


def place_clip(
    example: Example,
    spec: ClipSpec,
    take: Callable[[float, float | None], tuple[Rows, float]],
    *,
    max_clip_s: float | None = None,
) -> tuple[Rows, tuple[int, int, int, int]]:
    """Take what an example needs, and find where windows may start in it; see `load_clip`.

    Args:
        example: The label; without times it is the whole file.
        spec: The network's input.
        take: Takes the start and the end of a stretch in seconds, None for the end of the file, and
            returns what belongs to the frames in it, one row each, and the time of the first one.
        max_clip_s: Use at most this many seconds of the example; None uses all of it.

    Returns:
        What `take` returned, and first, last, begin and end of the `LabelledClip`.
    """
    T = spec.num_frames
    if example.start_s is None or example.end_s is None:
        rows, _ = take(0.0, max_clip_s)
        spare = len(rows) - T
        first, last = (0, spare) if spare >= 0 else (spare // 2, spare // 2)
        return rows, (first, last, 0, len(rows))
    start_s, end_s = example.start_s, example.end_s
    if max_clip_s is not None:
        end_s = min(end_s, start_s + max_clip_s)
    label_s = (start_s, end_s)
    jitter = 0
    if end_s - start_s < spec.duration_s:
        middle_s = (start_s + end_s) / 2
        start_s, end_s = middle_s - spec.duration_s / 2, middle_s + spec.duration_s / 2
        jitter = T // 8
    margin_s = jitter / spec.rate_hz
    rows, first_s = take(max(0.0, start_s - margin_s), end_s + margin_s)
    first = round((start_s - margin_s - first_s) * spec.rate_hz)
    wanted = max(T, round((end_s - start_s) * spec.rate_hz))
    last = first + 2 * jitter + wanted - T
    begin, end = (round((time_s - first_s) * spec.rate_hz) for time_s in label_s)
    if begin == end:
        begin, end = first + jitter, first + jitter + T
    return rows, (first, last, begin, end)


def _frames(
    example: Example, spec: ClipSpec, start_s: float, end_s: float | None
) -> tuple[UInt8, float]:
    """Return the frames of [start_s, end_s) as one array, and the time of the first one."""
    chunks: list[Frames] = []
    room_bytes = CLIPS_SHARE * memory_per_process()
    for chunk in decode(
        example.path, rate_hz=spec.rate_hz, size_px=spec.size_px, start_s=start_s, end_s=end_s
    ):
        chunks.append(chunk)
        room_bytes -= 2 * chunk.pixels.nbytes  # twice while they are joined
        if room_bytes < 0:
            raise FootageError(
                example.path,
                "too long for one example. The first "
                f"{chunk.sample_s[-1] - start_s:.0f} s already fill the memory. Label times in it, "
                "or use less of it (--max-clip)",
            )
    if not chunks:
        raise FootageError(
            example.path,
            f"{example.source or 'the label'} begins at {start_s:.3f} s, past the end of the video",
        )
    shape = chunks[0].pixels.shape[2:]
    same = [c.pixels for c in chunks if c.pixels.shape[2:] == shape]
    pixels = np.concatenate(same)
    # A crop keeps the whole width for random crops in training; a whole picture is final.
    if spec.fit != "crop":
        pixels = squared(pixels, spec)
    return pixels, float(chunks[0].sample_s[0])


def plain_view(
    clip: LabelledClip, spec: ClipSpec, number: int, views: int, *, sampling: str = "dense"
) -> Tensor:
    """Return one of `views` windows spread evenly over the clip: (T, 3, S, S) uint8, centre square.

    Args:
        clip: The decoded clip.
        spec: The network's input.
        number: Which of the views, from 0.
        views: How many views there are.
        sampling: dense (consecutive frames) or uniform (spread over the example).
    """
    frames = clip.take(clip.view_index(spec.num_frames, number, views, sampling=sampling))
    return torch.from_numpy(centre_square(frames, spec.size_px))


def one_per_interval(examples: Sequence[Example]) -> list[Example]:
    """Return the first of the examples that share file, start and end.

    With independent classes, the labels of one stretch of footage are one clip.
    """
    first: dict[tuple[object, ...], Example] = {}
    for example in examples:
        first.setdefault((example.path, example.start_s, example.end_s), example)
    return list(first.values())
