"""Frames to windows: which sampled frames make a clip, and when that clip is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import torch
from torch.nn import functional as F

from touchline.models.backbone import ClipSpec
from touchline.pipeline.types import Clip, Frames, UInt8

T = TypeVar("T")


@dataclass(frozen=True)
class Sampled(Generic[T]):
    """One item of a track, a frame or its features, and the span [start_s, end_s) it stands for."""

    item: T
    start_s: float
    end_s: float
    damaged: bool = False


def default_hop_s(spec: ClipSpec) -> float:
    """A quarter of the window, rounded to whole samples, at least one."""
    return max(1, round(spec.num_frames / 4)) / spec.rate_hz


def hop_samples(spec: ClipSpec, hop_s: float | None) -> int:
    """hop_s in whole samples; ValueError unless it lies in (0, window]."""
    hop_s = default_hop_s(spec) if hop_s is None else hop_s
    if not 0 < hop_s <= spec.duration_s + 1e-9:
        raise ValueError(f"hop_s is {hop_s}; it must be in (0, {spec.duration_s}]")
    return max(1, round(hop_s * spec.rate_hz))


def slide(
    items: Iterable[Sampled[T]], *, length: int, hop: int
) -> Iterator[tuple[list[Sampled[T]], int]]:
    """Every run of `length` items, `hop` apart, the last one ending with the items.

    Gives (items, how many of them are real): a track shorter than `length` repeats its last item.
    """
    held: deque[Sampled[T]] = deque(maxlen=length)
    n = 0
    for sampled in items:
        held.append(sampled)
        n += 1
        if n >= length and (n - length) % hop == 0:
            yield list(held), length
    if 0 < n < length:
        yield list(held) + [held[-1]] * (length - n), n
    elif n > length and (n - length) % hop != 0:
        yield list(held), length


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` consecutive items; itertools.batched is in Python 3.12."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def frames_of(chunks: Iterable[Frames], spec: ClipSpec) -> Iterator[Sampled[UInt8]]:
    """Frames one by one, each (3, S, S) as the network sees them."""
    for chunk in chunks:
        pixels = squared(chunk.pixels, spec)
        for i in range(len(chunk)):
            start_s = float(chunk.sample_s[i])
            yield Sampled(pixels[i], start_s, start_s + 1 / spec.rate_hz, bool(chunk.damaged[i]))


def sliding_windows(
    frames: Iterable[Frames], spec: ClipSpec, *, hop_s: float | None = None
) -> Iterator[Clip]:
    """Clips of spec.num_frames frames every hop_s seconds (default: a quarter of the window).

    The windows do not depend on how the frames were chunked. The last one ends with the footage;
    shorter footage repeats its last frame. frames must be sampled at spec.rate_hz.
    """
    hop = hop_samples(spec, hop_s)
    for window, real in slide(frames_of(frames, spec), length=spec.num_frames, hop=hop):
        yield Clip(
            pixels=np.stack([w.item for w in window]),
            start_s=window[0].start_s,
            end_s=window[real - 1].end_s,
            damaged=any(w.damaged for w in window),
        )


def squared(pixels: UInt8, spec: ClipSpec) -> UInt8:
    """Decoded frames (N, 3, H, W) -> (N, 3, S, S): the square that the network sees of each."""
    if spec.fit == "crop":
        return centre_square(pixels, spec.size_px)
    size = (spec.size_px, spec.size_px)
    squeezed = F.interpolate(torch.from_numpy(pixels), size=size, mode="bilinear", antialias=True)
    return squeezed.numpy()


def centre_square(pixels: UInt8, size_px: int) -> UInt8:
    """(..., H, W) -> (..., size_px, size_px) from the middle; a view, nothing is copied."""
    H, W = pixels.shape[-2:]
    if min(H, W) < size_px:
        raise ValueError(f"frames are {W}x{H}; the shorter side must be at least {size_px}")
    top, left = (H - size_px) // 2, (W - size_px) // 2
    return pixels[..., top : top + size_px, left : left + size_px]
