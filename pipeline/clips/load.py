"""Labelled examples to clips: decoded once, with what surrounds the short ones."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from touchline.models.backbone import ClipSpec
from touchline.models.errors import FootageError
from touchline.pipeline.clips.windows import centre_square, squared
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.distributed import current_world, memory_per_process
from touchline.pipeline.types import Example, Float64, Frames, UInt8

CLIPS_SHARE = 0.75
"""Of the memory: more decoded clips are refused, before the system ends the process."""


@dataclass(frozen=True)
class LabelledClip:
    """The decoded frames of one example and where windows may start in them.

    held: the frames, or the .npy file that holds them. first, last: the earliest and latest window
    start, as frame index; outside the frames the nearest one repeats, so first may be negative.
    begin, end: the frames of the example itself, without surroundings; of an instant the window
    about it.
    """

    example: Example
    held: UInt8 | Path
    first: int
    last: int
    begin: int
    end: int

    @property
    def pixels(self) -> UInt8:
        """(N, 3, H, W) uint8 RGB at the network's rate, shorter side its size."""
        if isinstance(self.held, Path):
            # Mapped anew each time: a file kept open for every clip would be too many.
            mapped: UInt8 = np.load(self.held, mmap_mode="r")
            return mapped
        return self.held

    @property
    def num_bytes(self) -> int:
        """The memory that the frames take."""
        return 0 if isinstance(self.held, Path) else self.held.nbytes

    def take(self, index: np.ndarray[tuple[int], np.dtype[np.int64]]) -> UInt8:
        """(len(index), 3, H, W): frames by index; edge frames repeat."""
        pixels = self.pixels
        return np.take(pixels, index.clip(0, len(pixels) - 1), axis=0)

    def window(self, start: int, num_frames: int) -> UInt8:
        """(num_frames, 3, H, W) from frame `start` on."""
        return self.take(np.arange(start, start + num_frames))

    def spread(self, num_frames: int, places: Float64) -> UInt8:
        """(num_frames, 3, H, W): one frame of each of num_frames equal parts of the example.

        places (num_frames,) in [0, 1) say where in its part each frame lies (Wang et al. 2016).
        """
        edges = np.linspace(self.begin, self.end, num_frames + 1)
        return self.take(np.floor(edges[:-1] + places * np.diff(edges)).astype(np.int64))

    def even_starts(self, views: int) -> list[int]:
        """`views` window starts spread evenly; the middle one alone where views is 1."""
        if views == 1:
            return [(self.first + self.last) // 2]
        return [round(s) for s in np.linspace(self.first, self.last, views)]


@dataclass(frozen=True)
class LoadedClips:
    """What could be loaded, and one message per example that could not; per file, if optional."""

    clips: list[LabelledClip]
    problems: list[str]


class LoadClip(Protocol):
    """What `load_clip` is."""

    def __call__(
        self, example: Example, spec: ClipSpec, *, max_clip_s: float | None = None
    ) -> LabelledClip: ...


def each_clip(
    examples: Sequence[Example],
    spec: ClipSpec,
    *,
    max_clip_s: float | None = None,
    load: LoadClip | None = None,
) -> Iterator[LabelledClip | FootageError]:
    """Every example decoded, in order, a few ahead of what is taken; see `load_clips`."""
    load = load or load_clip

    def attempt(example: Example) -> LabelledClip | FootageError:
        try:
            return load(example, spec, max_clip_s=max_clip_s)
        except FootageError as error:
            return error

    # Threads suffice: decoding and scaling leave the interpreter's lock.
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
        # Who is interrupted does not wait for what has not begun.
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
    """Decode every example, in order; more than `max_bad` unreadable ones is a FootageError.

    Optional ones do not count, unless nothing at all of a file can be read that holds no others.
    Processes that torchrun started must all call this, and get the same clips. Clips that take more
    than CLIPS_SHARE of the memory are a ValueError.

    max_clip_s uses at most the first so many seconds of an example, so that a model cannot learn
    a class by its clips' length. load stands in for `load_clip`, such as one that keeps a cache.
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
                    "memory once decoded: train with --cache FOLDER, which keeps them on disk, "
                    "give fewer, or use less of each (--max-clip)"
                )
        return clip

    clips: dict[int, LabelledClip] = {}
    bad: dict[int, FootageError] = {}
    for i, loaded in enumerate(each_clip(examples, spec, max_clip_s=max_clip_s, load=load_one)):
        if isinstance(loaded, FootageError):
            bad[i] = loaded
        else:
            clips[i] = loaded
        if on_clip is not None:
            on_clip()
    # What one process cannot read none of them trains on: their batches must be the same.
    bad = current_world().merged(bad)
    counted, left_out = _unread(examples, bad)
    refuse_unreadable(counted, len(examples), max_bad)
    problems = [str(error) for error in counted]
    for path, errors in left_out.items():
        count = sum(e.optional and e.path == path for e in examples)
        problems.append(
            f"{path}: {len(errors)} of {count} stretches that nobody labelled ({errors[0].message})"
        )
    return LoadedClips([clips[i] for i in clips if i not in bad], problems)


def _unread(
    examples: Sequence[Example], bad: Mapping[int, FootageError]
) -> tuple[list[FootageError], dict[Path, list[FootageError]]]:
    """The errors that count, and by file those of optional examples, which are left out."""
    used = {e.path for i, e in enumerate(examples) if i not in bad or not e.optional}
    counted: list[FootageError] = []
    left_out: dict[Path, list[FootageError]] = {}
    for i in sorted(bad):
        example = examples[i]
        spared = example.optional and example.path in used
        (left_out.setdefault(example.path, []) if spared else counted).append(bad[i])
    return counted, left_out


def refuse_unreadable(bad: Sequence[FootageError], num_examples: int, max_bad: int) -> None:
    """FootageError where more than `max_bad` examples cannot be read."""
    if len(bad) > max_bad:
        raise FootageError(
            bad[0].path,
            f"{bad[0].message} ({len(bad)} of {num_examples} examples cannot be read; "
            f"at most {max_bad} may: mend them, or raise --max-bad)",
        )


def load_clip(example: Example, spec: ClipSpec, *, max_clip_s: float | None = None) -> LabelledClip:
    """The frames of one example; one shorter than the window keeps its real surroundings.

    footage   ------------------------------------------
    example               [=====]
    window            [--------------]   centred, shifted by up to an eighth in training
    """
    T = spec.num_frames
    if example.start_s is None or example.end_s is None:
        pixels, _ = _frames(example, spec, 0.0, max_clip_s)
        spare = len(pixels) - T
        first, last = (0, spare) if spare >= 0 else (spare // 2, spare // 2)
        return LabelledClip(example, pixels, first, last, 0, len(pixels))
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
    pixels, first_s = _frames(example, spec, max(0.0, start_s - margin_s), end_s + margin_s)
    first = round((start_s - margin_s - first_s) * spec.rate_hz)
    wanted = max(T, round((end_s - start_s) * spec.rate_hz))
    last = first + 2 * jitter + wanted - T
    begin, end = (round((time_s - first_s) * spec.rate_hz) for time_s in label_s)
    if begin == end:
        begin, end = first + jitter, first + jitter + T
    return LabelledClip(example, pixels, first, last, begin, end)


def _frames(
    example: Example, spec: ClipSpec, start_s: float, end_s: float | None
) -> tuple[UInt8, float]:
    """The frames of [start_s, end_s) as one array, and the first one's sample instant.

    Decoding begins at the key frame before start_s, wherever in the footage that is.
    """
    chunks: list[Frames] = []
    room_bytes = CLIPS_SHARE * memory_per_process()
    for chunk in decode(
        example.path, rate_hz=spec.rate_hz, size_px=spec.size_px, start_s=start_s, end_s=end_s
    ):
        chunks.append(chunk)
        room_bytes -= 2 * chunk.pixels.nbytes  # twice while they are put together
        if room_bytes < 0:
            raise FootageError(
                example.path,
                f"too long to be held as one example: {chunk.sample_s[-1] - start_s:.0f} s of it "
                "take all the memory; label times in it, or use less of each (--max-clip)",
            )
    if not chunks:
        raise FootageError(
            example.path, f"{example.source or 'the label'} begins at {start_s:.3f} s, past the end"
        )
    shape = chunks[0].pixels.shape[2:]
    same = [c.pixels for c in chunks if c.pixels.shape[2:] == shape]
    pixels = np.concatenate(same)
    # Random crops may take any part of a wide picture, unless the network sees all of it anyway.
    if spec.fit == "squash":
        pixels = squared(pixels, spec)
    return pixels, float(chunks[0].sample_s[0])


def plain_view(
    clip: LabelledClip, spec: ClipSpec, number: int, views: int, *, sampling: str = "dense"
) -> Tensor:
    """The number-th of `views` windows spread over the clip, centre square: (T, 3, S, S) uint8."""
    if sampling == "uniform":
        # Each view takes another place in every one of the T parts.
        frames = clip.spread(spec.num_frames, np.full(spec.num_frames, (number + 0.5) / views))
    else:
        frames = clip.window(clip.even_starts(views)[number], spec.num_frames)
    return torch.from_numpy(centre_square(frames, spec.size_px))


def plain_views(clip: LabelledClip, spec: ClipSpec, views: int) -> list[Tensor]:
    """`views` windows spread over the clip, centre square: each (T, 3, S, S) uint8."""
    return [plain_view(clip, spec, k, views) for k in range(views)]


def one_per_interval(examples: Sequence[Example]) -> list[Example]:
    """The first of the examples of each stretch of footage; for independent classes."""
    first: dict[tuple[object, ...], Example] = {}
    for example in examples:
        first.setdefault((example.path, example.start_s, example.end_s), example)
    return list(first.values())
