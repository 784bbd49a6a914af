"""Cut sampled frames into windows, each with its time span."""

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
    """One frame, or the features of one, with the time that it covers.

    Attributes:
        item: The frame or its features.
        start_s: Start of the time it covers.
        end_s: End of the time it covers, exclusive.
        damaged: Whether decoding reported damage in the frame.
    """

    item: T
    start_s: float
    end_s: float
    damaged: bool = False


def default_hop_s(spec: ClipSpec) -> float:
    """Return the default hop: a quarter of the window in whole samples, at least one."""
    return max(1, round(spec.num_frames / 4)) / spec.rate_hz


def hop_samples(spec: ClipSpec, hop_s: float | None) -> int:
    """Return the hop in whole samples; None gives the default.

    Raises:
        ValueError: hop_s is not more than 0, or is longer than the window.
    """
    hop_s = default_hop_s(spec) if hop_s is None else hop_s
    if not 0 < hop_s <= spec.duration_s + 1e-9:
        raise ValueError(f"hop_s is {hop_s}; it must be in (0, {spec.duration_s}]")
    return max(1, round(hop_s * spec.rate_hz))


def slide(
    items: Iterable[Sampled[T]], *, length: int, hop: int
) -> Iterator[tuple[list[Sampled[T]], int]]:
    """Yield windows of `length` items, each with the number of real items in it.

    The last window ends with the last item. A track shorter than a window repeats its last item;
    only then are fewer items real.

    items    0 1 2 3 4 5 6          length 4, hop 2
    windows  0 1 2 3
                 2 3 4 5
                   3 4 5 6

    Args:
        items: The track, in time order.
        length: Items per window.
        hop: Items from the start of one window to the start of the next.
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
    """Yield lists of at most `size` consecutive items, as itertools.batched of Python 3.12 does."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def frames_of(chunks: Iterable[Frames], spec: ClipSpec) -> Iterator[Sampled[UInt8]]:
    """Yield frames one by one, each cropped or squeezed to the network's square (3, S, S)."""
    for chunk in chunks:
        pixels = squared(chunk.pixels, spec)
        for i in range(len(chunk)):
            start_s = float(chunk.sample_s[i])
            yield Sampled(pixels[i], start_s, start_s + 1 / spec.rate_hz, bool(chunk.damaged[i]))


def sliding_windows(
    frames: Iterable[Frames], spec: ClipSpec, *, hop_s: float | None = None
) -> Iterator[Clip]:
    """Yield a clip of spec.num_frames frames every hop_s seconds.

    The windows do not depend on how the frames were chunked. The last window ends with the footage.
    Footage shorter than a window repeats its last frame.

    Args:
        frames: Chunks of decoded frames, sampled at spec.rate_hz.
        spec: The network's input.
        hop_s: Seconds from window to window, in (0, window]; None is a quarter of the window.

    Raises:
        ValueError: hop_s is out of range.

    Example:
        Windows of 1 s at 8 frames per second, one every half second:

        >>> from touchline.models.backbone import ClipSpec
        >>> from touchline.pipeline import decode, sliding_windows
        >>> spec = ClipSpec(num_frames=8, rate_hz=8.0, size_px=32)
        >>> frames = decode("match.mp4", rate_hz=spec.rate_hz, size_px=spec.size_px)
        >>> clips = list(sliding_windows(frames, spec, hop_s=0.5))
        >>> len(clips), clips[1].start_s, clips[1].end_s, clips[1].pixels.shape
        (23, 0.5, 1.5, (8, 3, 32, 32))
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
    """Crop, squeeze or pad frames (N, 3, H, W) to squares (N, 3, S, S), as spec.fit says."""
    S = spec.size_px
    if spec.fit == "crop":
        return centre_square(pixels, S)
    H, W = pixels.shape[-2:]
    h, w = S, S
    if spec.fit == "pad":
        h, w = (max(1, round(side * S / max(H, W))) for side in (H, W))
    resized = F.interpolate(torch.from_numpy(pixels), size=(h, w), mode="bilinear", antialias=True)
    top, left = (S - h) // 2, (S - w) // 2
    return F.pad(resized, (left, S - w - left, top, S - h - top)).numpy()


def centre_square(pixels: UInt8, size_px: int) -> UInt8:
    """Return the middle square of frames: (..., H, W) -> (..., size_px, size_px), without a copy.

    Raises:
        ValueError: The frames are smaller than the square.
    """
    H, W = pixels.shape[-2:]
    if min(H, W) < size_px:
        raise ValueError(f"frames are {W} x {H} px; the shorter side must be at least {size_px}")
    top, left = (H - size_px) // 2, (W - size_px) // 2
    return pixels[..., top : top + size_px, left : left + size_px]
