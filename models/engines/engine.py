"""Run the trunk of a network on an engine: PyTorch, or a runtime that takes its ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn import functional as F

from touchline.models.backbone import Backbone, trunk_digest
from touchline.models.engines.graph import check_installed, write_trunk
from touchline.models.engines.runtimes import RUNTIMES, Session, installed_runtimes
from touchline.models.weights.cache import cache_dir

ENGINES = ("auto", "torch", *RUNTIMES)

PASS_FRAMES = 8
"""Frames that go through the graph of a framewise trunk at once."""

Trunk = Callable[[Tensor], Tensor]
"""Clips (B, 3, T, S, S), normalised -> features (B, D, T') float32."""


class GraphTrunk:
    """A trunk that a runtime runs from its ONNX file, in clips of a fixed length."""

    def __init__(self, session: Session, num_frames: int, *, framewise: bool) -> None:
        """Wrap a session.

        Args:
            session: What runs the graph.
            num_frames: T of the clips that the graph takes.
            framewise: Whether a clip may be cut anywhere.
        """
        self._session = session
        self._num_frames = num_frames
        self._framewise = framewise

    def __call__(self, clips: Tensor) -> Tensor:
        """Clips (B, 3, T, S, S) -> features (B, D, T')."""
        if not self._framewise:
            return torch.cat([self._run(clip[None]) for clip in clips])
        B, _, T = clips.shape[:3]
        frames = clips.transpose(0, 1).flatten(1, 2)  # (3, B * T, S, S)
        found = [self._run_frames(part) for part in torch.split(frames, self._num_frames, dim=1)]
        return torch.cat(found, dim=1).reshape(-1, B, T).transpose(0, 1)

    def _run_frames(self, frames: Tensor) -> Tensor:
        """(3, n, S, S) -> (D, n); a short pass is filled up with zeros."""
        n = frames.shape[1]
        full = F.pad(frames, (0, 0, 0, 0, 0, self._num_frames - n))
        return self._run(full[None])[0, :, :n]

    def _run(self, clip: Tensor) -> Tensor:
        return torch.from_numpy(self._session(clip.float().contiguous().numpy()))


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
    return GraphTrunk(session, graph_frames(backbone), framewise=backbone.framewise)


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
