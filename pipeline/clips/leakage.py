"""Find near-identical clips on both sides of a split by hashing a few frames of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.distributed import current_world
from touchline.pipeline.labels.split import Split
from touchline.pipeline.types import Example, UInt8

HASHED_SIZE_PX = 72

HASH_ROWS = 8
HASH_COLUMNS = 9

# Of 64 bits. Measured on 31 real broadcast clips: copies at half size and 100 kbit/s, brightened or
# cropped by 5 %, differ by at most 9 bits. Unrelated clips of 12 matches, and of 213 basketball
# plays, differ by at least 16.
MAX_DISTANCE_BITS = 10

# A frame with less detail (black, a fade) looks like every other such frame.
MIN_BITS_SET = 6

# How many bits are 1 in each 16-bit number.
BITS_SET = np.array([n.bit_count() for n in range(1 << 16)], dtype=np.uint8)

LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class NearDuplicate(Generic[Name]):
    """Two clips of different groups that show almost the same pictures.

    Attributes:
        first: Name of one clip.
        second: Name of the other clip.
        distance_bits: How many of 64 bits of their hashes differ.
    """

    first: Name
    second: Name
    distance_bits: float


def difference_hash(frame: UInt8) -> int:
    """Return the 64-bit difference hash (dHash) of a frame (3, H, W) uint8 RGB (Krawetz 2013).

    The frame is averaged to 8 x 9 grey values. A bit is 1 if a value is brighter than its left
    neighbour. Resolution, compression and brightness hardly change the hash.

    Raises:
        ValueError: The frame has another type or shape, or is smaller than 9 x 8 pixels.
    """
    if frame.ndim != 3 or frame.shape[0] != 3 or frame.dtype != np.uint8:
        raise ValueError(f"frame is {frame.dtype} {frame.shape}; it must be uint8 (3, H, W)")
    H, W = frame.shape[1:]
    if H < HASH_ROWS or W < HASH_COLUMNS:
        raise ValueError(f"frame is {W} x {H} px; it must be at least 9 x 8")
    grey = np.tensordot(LUMA, frame.astype(np.float64), axes=1)  # (H, W)
    rows = np.linspace(0, H, HASH_ROWS + 1).astype(int)
    columns = np.linspace(0, W, HASH_COLUMNS + 1).astype(int)
    sums = np.add.reduceat(np.add.reduceat(grey, rows[:-1], axis=0), columns[:-1], axis=1)
    means = sums / np.outer(np.diff(rows), np.diff(columns))  # (8, 9)
    # At least half a grey level, so that rounding makes no pattern in an even area.
    bits = means[:, 1:] > means[:, :-1] + 0.5
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def example_hashes(example: Example, *, num_frames: int = 5) -> list[int]:
    """Return the difference hashes of about num_frames frames, spread evenly over the example.

    Raises:
        FootageError: The footage cannot be read.
    """
    start_s = 0.0 if example.start_s is None else example.start_s
    end_s = probe_footage(example.path).duration_s if example.end_s is None else example.end_s
    length_s = end_s - start_s
    rate_hz = min(1000.0, num_frames / length_s) if length_s > 0 else 1.0
    frames = decode(
        example.path,
        rate_hz=rate_hz,
        size_px=HASHED_SIZE_PX,
        start_s=start_s,
        end_s=end_s if length_s > 0 else start_s + 1.0,
    )
    return [difference_hash(frame) for chunk in frames for frame in chunk.pixels]


def hash_all(
    examples: Sequence[Example], *, on_clip: Callable[[int], None] = lambda done: None
) -> tuple[dict[Example, list[int]], list[str]]:
    """Hash every example; return the hashes, and one message per unreadable example.

    Processes that torchrun started share the work; each gets the whole result.

    Args:
        examples: The labels to hash.
        on_clip: Called with the number of examples that are done.
    """
    world = current_world()
    mine = range(world.rank, len(examples), world.size)
    found: dict[int, list[int]] = {}
    errors: dict[int, str] = {}

    def attempt(number: int) -> None:
        try:
            found[number] = example_hashes(examples[number])
        except FootageError as error:
            errors[number] = str(error)

    # Threads suffice: decoding releases the interpreter's lock.
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for done, _ in enumerate(pool.map(attempt, mine), start=1):
            on_clip(done * world.size)
    found, errors = world.merged(found), world.merged(errors)
    return {examples[i]: found[i] for i in sorted(found)}, [errors[i] for i in sorted(errors)]


def find_leaks(split: Split, *, on_clip: Callable[[int], None] = lambda done: None) -> list[str]:
    """Return one warning per training clip that looks almost like a validation clip.

    Footage that cannot be read is skipped; loading it for training reports it. Without validation
    clips nothing is read.

    Args:
        split: The training and validation examples.
        on_clip: Called with the number of examples that are done.
    """
    if not split.val:
        return []
    hashes, _ = hash_all([*split.train, *split.val], on_clip=on_clip)
    in_val = set(split.val)
    sides = {example: "validation" if example in in_val else "training" for example in hashes}
    return [
        f"{pair.first.source} in training and {pair.second.source} in validation show almost the "
        f"same pictures ({pair.distance_bits:g} of 64 bits differ). If they are of one match, put "
        "them into one group"
        for pair in near_duplicates(hashes, sides)
    ]


def near_duplicates(
    hashes: Mapping[Name, Sequence[int]],
    groups: Mapping[Name, str],
    *,
    max_distance_bits: float = MAX_DISTANCE_BITS,
) -> list[NearDuplicate[Name]]:
    """Find pairs of clips of different groups that look the same, the most similar first.

    Distance from A to B: for each frame of A take the nearest frame of B, then the median. The
    larger of A-to-B and B-to-A is used. Frames without detail (black, fades) are ignored.

    Args:
        hashes: A few difference hashes of each clip.
        groups: The match, or the side of the split, of each clip. Pairs within one group are not
            reported.
        max_distance_bits: The largest distance that still counts as the same, of 64 bits.
    """
    detailed = {name: _detailed(own) for name, own in hashes.items()}
    names = [name for name in hashes if len(detailed[name])]
    if len(names) < 2:
        return []
    frames = np.concatenate([detailed[name] for name in names])  # (M,)
    starts = np.cumsum([0, *(len(detailed[name]) for name in names[:-1])])  # (N,)
    _, group_of = np.unique([groups[name] for name in names], return_inverse=True)
    # Clips of one match may all look alike, so only pairs of different groups are kept in memory.
    one_way: dict[tuple[int, int], float] = {}
    for i, name in enumerate(names):
        to_others = _distances(detailed[name], frames, starts)  # (N,)
        near = (to_others <= max_distance_bits) & (group_of != group_of[i])
        one_way |= {(i, int(j)): float(to_others[j]) for j in np.flatnonzero(near)}
    found = [
        NearDuplicate(names[i], names[j], max(there, one_way[j, i]))
        for (i, j), there in one_way.items()
        if i < j and (j, i) in one_way
    ]
    return sorted(found, key=lambda pair: pair.distance_bits)


def _detailed(own: Sequence[int]) -> npt.NDArray[np.uint64]:
    return np.array([h for h in own if h.bit_count() >= MIN_BITS_SET], dtype=np.uint64)


def _distances(
    own: npt.NDArray[np.uint64], frames: npt.NDArray[np.uint64], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Distance from a clip with frames (F,) to every clip, whose frames begin at starts: (N,)."""
    differing = own[:, None] ^ frames[None, :]  # (F, M)
    bits = BITS_SET[differing.view(np.uint16).reshape(*differing.shape, 4)].sum(axis=-1)
    nearest = np.minimum.reduceat(bits, starts, axis=1)  # (F, N)
    return np.asarray(np.median(nearest, axis=0))
