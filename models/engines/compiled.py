"""The trunk of a network through torch.compile: fused kernels, and on CUDA one graph."""

from __future__ import annotations

import time

import torch

from touchline.models.backbone import FRAMES_PER_PASS, Backbone
from touchline.models.engines.engine import GraphTrunk, Trunk
from touchline.models.engines.graph import LARGEST_DIFFERENCE

LARGEST_DIFFERENCE_BF16 = 2e-2
"""The largest difference of features in bf16; LARGEST_DIFFERENCE is for float32."""


def compile_trunk(
    backbone: Backbone, device: torch.device, dtype: torch.dtype, batch_size: int
) -> tuple[Trunk, str]:
    """Compile the trunk of a network for clips of one shape, and compare it.

    The first run compiles, which takes a minute or so. On CUDA the graph is recorded
    (`reduce-overhead`).

    Args:
        backbone: The network, on the device, as it would run without.
        device: The device.
        dtype: The type of the clips.
        batch_size: Windows that run together on a GPU. On a CPU windows run one by one.

    Returns:
        The trunk, and a sentence about the warm-up.

    Raises:
        ValueError: PyTorch cannot compile it here, or the compiled trunk computes something else.
    """
    on_cpu = device.type == "cpu"
    T, S = backbone.spec.num_frames, backbone.spec.size_px
    B = 1 if on_cpu or backbone.framewise else batch_size
    if backbone.framewise:
        T = FRAMES_PER_PASS if on_cpu else T * batch_size
    clips = torch.zeros(B, 3, T, S, S, device=device, dtype=dtype)
    if not backbone.framewise:
        clips = clips.contiguous(memory_format=torch.channels_last_3d)
    run = torch.compile(
        backbone.features, dynamic=False, mode="default" if on_cpu else "reduce-overhead"
    )
    trunk = GraphTrunk(run, clips, framewise=backbone.framewise, reuses_result=not on_cpu)
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(device, dtype)
    started = time.perf_counter()
    try:
        # A graph on CUDA is recorded in the second run and played in the third.
        for _ in range(1 if on_cpu else 3):
            found = trunk(noise)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"PyTorch cannot compile this network here ({reason[0][:200]})") from error
    seconds = time.perf_counter() - started
    expected = backbone.features(noise)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    most = LARGEST_DIFFERENCE if dtype == torch.float32 else LARGEST_DIFFERENCE_BF16
    if not difference <= most:
        raise ValueError(
            f"the compiled network computes something else: the difference is {difference:.2g}"
        )
    return trunk, (
        f"PyTorch compiled the network in {seconds:.0f} s. Its features differ by at most "
        f"{difference:.1g} from those without."
    )
