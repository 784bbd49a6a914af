"""Read the weights of MoveNet as published for TensorFlow.js: half floats without names, in order.

The order is that of `movenet-thunder.json`, which lies next to the file in its package. Touchline
does not read that file, because only one order is published.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from touchline.models.errors import WeightsError

_STEM, _LAST = 56, 1280
_BLOCK_WIDTHS = (32, 40, 40, 56, 56, 56, *[112] * 4, *[168] * 3, *[280] * 3, 560)

# The graph's constants lie between the weights; their sizes in bytes.
_GRID = 64 * 64 * 2
_INT = 4

Part = int | tuple[str, tuple[int, ...]]
"""Bytes to skip, or the name of a tensor and its shape in TensorFlow."""


def read_movenet(path: Path) -> dict[str, Tensor]:
    """Return the float32 tensors of the file, by our names; kernels as torch has them.

    Raises:
        WeightsError: The file has another size.
    """
    content = path.read_bytes()
    parts = list(layout())
    size = sum(part if isinstance(part, int) else 2 * math.prod(part[1]) for part in parts)
    if len(content) != size:
        raise WeightsError(
            path, f"not the weights of MoveNet Thunder: {len(content)} bytes instead of {size}"
        )
    tensors: dict[str, Tensor] = {}
    offset = 0
    for part in parts:
        if isinstance(part, int):
            offset += part
            continue
        name, shape = part
        count = math.prod(shape)
        values = torch.frombuffer(bytearray(content[offset : offset + 2 * count]), dtype=torch.half)
        tensors[name] = _as_torch(values.reshape(shape).float(), depthwise="depthwise" in name)
        offset += 2 * count
    return tensors


def _as_torch(kernel: Tensor, *, depthwise: bool) -> Tensor:
    """(H, W, in, out), depthwise (H, W, channels, 1) -> (out, in, H, W), (channels, 1, H, W)."""
    if kernel.ndim != 4:
        return kernel
    return kernel.permute((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)).contiguous()


def layout() -> Iterator[Part]:
    """Yield the parts of the file in their order."""
    yield _INT
    yield from _map("offset", 34)
    yield (3 + 17 * 2 + 2) * _INT + 2 * 2 + (17 + 1) * _INT
    yield from _map("heatmap", 17)
    yield 2 * _GRID
    yield from _map("regress", 34)
    yield 2 * _INT
    yield from _conv("pyramid.lateral.3", 1, _LAST, 64)
    yield 2 * _INT
    yield from _conv("pyramid.lateral.2", 1, 112, 64)
    yield "pyramid.smooth.2.depthwise.conv.weight", (3, 3, 64, 1)
    yield 2 * _INT
    yield from _conv("pyramid.lateral.1", 1, 56, 32)
    yield "pyramid.smooth.1.depthwise.conv.weight", (3, 3, 32, 1)
    yield 2 * _INT + _INT + (3 + 3 + 1) * 2
    yield from _conv("pyramid.lateral.0", 1, 40, 24)
    yield "pyramid.smooth.0.depthwise.conv.weight", (3, 3, 24, 1)
    yield from _map("center", 1)
    yield _GRID + (3 + 1 + 1 + 1 + 1 + 2) * _INT + 2 + (3 + 4 + 17 + 5) * _INT
    yield from _conv("mobilenet.stem", 3, 3, _STEM)
    c_in = _STEM
    for number, (width, name) in enumerate(zip(_BLOCK_WIDTHS, _block_names(), strict=True)):
        hidden = c_in if number == 0 else 6 * c_in
        if number > 0:
            yield from _conv(f"{name}.expand", 1, c_in, hidden)
        yield from _conv(f"{name}.depthwise", 3, hidden, 1)
        yield from _conv(f"{name}.project", 1, hidden, width)
        c_in = width
    yield from _conv("mobilenet.last", 1, c_in, _LAST)
    for level, (c_in, c_out) in zip((2, 1, 0), ((64, 32), (32, 24), (24, 24)), strict=True):
        yield from _conv(f"pyramid.smooth.{level}.pointwise", 1, c_in, c_out)
    yield _INT


def _block_names() -> list[str]:
    return [
        f"mobilenet.blocks.{block}.{i}"
        for block, repeats in enumerate((1, 2, 3, 4, 3, 3, 1))
        for i in range(repeats)
    ]


def _map(name: str, channels: int) -> Iterator[Part]:
    yield f"maps.{name}.smooth.depthwise.conv.weight", (3, 3, 24, 1)
    yield from _conv(f"maps.{name}.smooth.pointwise", 1, 24, 96)
    yield from _conv(f"maps.{name}.out", 1, 96, channels)


def _conv(name: str, kernel: int, c_in: int, c_out: int) -> Iterator[Part]:
    """A kernel and a bias; a depthwise kernel has one output for each of its channels."""
    yield f"{name}.conv.weight", (kernel, kernel, c_in, c_out)
    yield f"{name}.conv.bias", (c_in if "depthwise" in name else c_out,)
