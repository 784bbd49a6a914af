"""Labelled examples to clips in memory, and the views of them that training and scoring use."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from touchline.models.backbone import ClipSpec
from touchline.models.errors import FootageError
from touchline.pipeline.decode import decode
from touchline.pipeline.sample import centre_square
from touchline.pipeline.types import Example, UInt8


@dataclass(frozen=True)
class LabelledClip:
    """The decoded frames of one example and where windows may start in them.

    pixels: (N, 3, H, W) uint8 RGB at the network's rate, shorter side its size.
    first, last: the earliest and latest window start, as frame index; outside the frames the
    nearest one repeats, so first may be negative.
    """

    example: Example
    pixels: UInt8
    first: int
    last: int

    def window(self, start: int, num_frames: int) -> UInt8:
        """(num_frames, 3, H, W) from frame `start` on; edge frames repeat."""
        index = np.arange(start, start + num_frames).clip(0, len(self.pixels) - 1)
        return np.take(self.pixels, index, axis=0)

    def even_starts(self, views: int) -> list[int]:
        """`views` window starts spread evenly; the middle one alone where views is 1."""
        if views == 1:
            return [(self.first + self.last) // 2]
        return [round(s) for s in np.linspace(self.first, self.last, views)]


@dataclass(frozen=True)
class LoadedClips:
    """What could be loaded, and one message per example that could not."""

    clips: list[LabelledClip]
    problems: list[str]


def load_clips(
    examples: Sequence[Example],
    spec: ClipSpec,
    *,
    max_clip_s: float | None = None,
    max_bad: int = 0,
    on_clip: Callable[[], None] | None = None,
) -> LoadedClips:
    """Decode every example, in order; more than `max_bad` unreadable ones is a FootageError.

    max_clip_s uses at most the first so many seconds of an example, so that a model cannot learn
    a class by its clips' length.
    """

    def load(example: Example) -> LabelledClip | FootageError:
        try:
            return load_clip(example, spec, max_clip_s=max_clip_s)
        except FootageError as error:
            return error
        finally:
            if on_clip is not None:
                on_clip()

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        loaded = list(pool.map(load, examples))
    bad = [e for e in loaded if isinstance(e, FootageError)]
    if len(bad) > max_bad:
        raise FootageError(
            bad[0].path,
            f"{bad[0].message} ({len(bad)} of {len(examples)} examples cannot be read; "
            f"at most {max_bad} may: mend them, or raise --max-bad)",
        )
    clips = [c for c in loaded if isinstance(c, LabelledClip)]
    return LoadedClips(clips, [str(e) for e in bad])


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
        return LabelledClip(example, pixels, first, last)
    start_s, end_s = example.start_s, example.end_s
    if max_clip_s is not None:
        end_s = min(end_s, start_s + max_clip_s)
    jitter = 0
    if end_s - start_s < spec.duration_s:
        middle_s = (start_s + end_s) / 2
        start_s, end_s = middle_s - spec.duration_s / 2, middle_s + spec.duration_s / 2
        jitter = T // 8
    margin_s = jitter / spec.rate_hz
    pixels, first_s = _frames(example, spec, max(0.0, start_s - margin_s), end_s + margin_s)
    first = round((start_s - margin_s - first_s) * spec.rate_hz)
    wanted = max(T, round((end_s - start_s) * spec.rate_hz))
    return LabelledClip(example, pixels, first, first + 2 * jitter + wanted - T)


def _frames(
    example: Example, spec: ClipSpec, start_s: float, end_s: float | None
) -> tuple[UInt8, float]:
    """The frames of [start_s, end_s) as one array, and the first one's sample instant."""
    chunks = list(
        decode(
            example.path,
            rate_hz=spec.rate_hz,
            size_px=spec.size_px,
            start_s=start_s,
            end_s=end_s,
        )
    )
    if not chunks:
        raise FootageError(
            example.path, f"{example.source or 'the label'} begins at {start_s:.3f} s, past the end"
        )
    shape = chunks[0].pixels.shape[2:]
    same = [c.pixels for c in chunks if c.pixels.shape[2:] == shape]
    return np.concatenate(same), float(chunks[0].sample_s[0])


def plain_views(clip: LabelledClip, spec: ClipSpec, views: int) -> list[Tensor]:
    """`views` windows spread over the clip, centre square: each (T, 3, S, S) uint8."""
    return [
        torch.from_numpy(centre_square(clip.window(start, spec.num_frames), spec.size_px))
        for start in clip.even_starts(views)
    ]


@dataclass(frozen=True)
class Augmentation:
    """How a training view is varied; the defaults suit broadcast footage.

    min_area: random resized crop takes at least this share of the square's area.
    flip: mirror left and right; off where a class names a side.
    brightness, contrast: each drawn from 1 +- this.
    """

    min_area: float = 0.5
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2


def augmented_view(
    clip: LabelledClip, spec: ClipSpec, augmentation: Augmentation, rng: np.random.Generator
) -> Tensor:
    """One random window, cropped, flipped and coloured alike in all frames: (T, 3, S, S) uint8."""
    start = int(rng.integers(clip.first, clip.last + 1))
    frames = torch.from_numpy(clip.window(start, spec.num_frames))
    H, W = frames.shape[-2:]
    side = spec.size_px * float(np.sqrt(rng.uniform(augmentation.min_area, 1.0)))
    aspect = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    h, w = min(H, round(side / np.sqrt(aspect))), min(W, round(side * np.sqrt(aspect)))
    top, left = int(rng.integers(0, H - h + 1)), int(rng.integers(0, W - w + 1))
    view = frames[..., top : top + h, left : left + w].float()
    if augmentation.flip and rng.random() < 0.5:
        view = view.flip(-1)
    size = (spec.size_px, spec.size_px)
    view = F.interpolate(view, size=size, mode="bilinear", align_corners=False)
    bright = rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness)
    contrast = rng.uniform(1 - augmentation.contrast, 1 + augmentation.contrast)
    view = (view - view.mean()) * contrast + view.mean() * bright
    return view.round().clamp(0, 255).to(torch.uint8)
