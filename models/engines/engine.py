"""Run the trunk of a network on an engine: PyTorch, or a runtime that takes its ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor

from touchline.models.backbone import Backbone, trunk_digest
from touchline.models.engines.graph import check_installed, write_trunk
from touchline.models.engines.runtimes import RUNTIMES, installed_runtimes
from touchline.models.weights.cache import cache_dir

ENGINES = ("auto", "torch", *RUNTIMES)

PASS_FRAMES = 8
"""Frames that go through the graph of a framewise trunk at once."""

Trunk = Callable[[Tensor], Tensor]
"""Clips (B, 3, T, S, S), normalised -> features (B, D, T') float32."""


class GraphTrunk:
    """A trunk that runs as a graph, for clips of one shape; others are cut and filled up."""

    def __init__(
        self, run: Trunk, clips: Tensor, *, framewise: bool, reuses_result: bool = False
    ) -> None:
        """Wrap what runs the graph.

        Args:
            run: Takes `clips` and returns features.
            clips: Memory (B, 3, T, S, S) for what goes in, with its type and device.
            framewise: Whether a clip may be cut anywhere; B is then 1.
            reuses_result: Whether the next run writes over the features of this one.
        """
        self._run = run
        self._clips = clips
        self._framewise = framewise
        self._copies = reuses_result

    def __call__(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, S, S) -> features (B, D, T')."""
        if not self._framewise:
            return torch.cat([self._part(x, 0) for x in torch.split(clips, len(self._clips))])
        B, _, T = clips.shape[:3]
        frames = clips.transpose(0, 1).flatten(1, 2)[None]  # (1, 3, B * T, S, S)
        passes = torch.split(frames, self._clips.shape[2], dim=2)
        found = torch.cat([self._part(x, 2) for x in passes], dim=2)[0]
        return found.reshape(-1, B, T).transpose(0, 1)

    def _part(self, x: Tensor, dim: int) -> Tensor:
        """Features of as much as the graph takes; what is short along `dim` is filled up."""
        n = x.shape[dim]
        self._clips.narrow(dim, 0, n).copy_(x)
        self._clips.narrow(dim, n, self._clips.shape[dim] - n).zero_()
        features = self._run(self._clips).narrow(dim, 0, n)
        return features.clone() if self._copies else features


def open_trunk(name: str, backbone: Backbone, int8: Path | None = None) -> Trunk:
    """Return the trunk of a network on a runtime other than PyTorch.

    The ONNX file is written once and kept in the cache, after it was compared with PyTorch.

    Args:
        name: A name in RUNTIMES.
        backbone: The network.
        int8: The trunk in int8, to run instead; see `quantise_trunk`.

    Raises:
        ValueError: The runtime is not installed, or cannot run this network.
    """
    check_installed()
    if name not in installed_runtimes():
        raise ValueError(f"the engine {name} is not installed. Run: pip install {name}")
    graph = trunk_graph(backbone) if int8 is None else int8
    session = RUNTIMES[name](graph, torch.get_num_threads())
    size_px = backbone.spec.size_px
    clip = torch.zeros(1, 3, graph_frames(backbone), size_px, size_px)
    return GraphTrunk(
        lambda x: torch.from_numpy(session(x.numpy())), clip, framewise=backbone.framewise
    )


def trunk_graph(backbone: Backbone) -> Path:
    """Return the ONNX file of a trunk. It is written if it is not in the cache.

    Args:
        backbone: The network.

    Raises:
        ValueError: PyTorch cannot write this network, or the file computes something else.
        OSError: The file cannot be written.
    """
    graph = engine_folder(backbone) / "trunk.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(graph.with_suffix(".lock")):
        if not graph.is_file():
            write_trunk(graph, backbone, graph_frames(backbone))
    return graph


def graph_frames(backbone: Backbone) -> int:
    """Return how many frames the clips have that the graph of a trunk takes."""
    return PASS_FRAMES if backbone.framewise else backbone.spec.num_frames


def engine_folder(backbone: Backbone) -> Path:
    """Return the folder of the cache for what is known of a trunk: its graph and its trial."""
    return cache_dir() / "engines" / graph_digest(backbone)


def graph_digest(backbone: Backbone) -> str:
    """Return a hash of all that the graph of a trunk depends on."""
    spec = backbone.spec.with_sampling(num_frames=graph_frames(backbone))
    return trunk_digest(backbone, len(backbone.stages), torch.float32, spec=spec)[:32]
