"""Measure the speed of detection compared with a plain loop over windows, in the same run."""

from __future__ import annotations

import copy
import importlib.util
import io
import math
import sys
import time
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from touchline.models.backbone import ClipSpec, normalise
from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.errors import FootageError
from touchline.models.inference import pick_device, pick_dtype
from touchline.models.networks import pytorchvideo
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Float32

WINDOW_S, HOP_S = 2.56, 0.64
SPEC = ClipSpec(num_frames=8, rate_hz=8 / WINDOW_S, size_px=224)


@dataclass(frozen=True)
class Way:
    """One way of scoring, compared with the loop.

    Attributes:
        name: What it does.
        seconds: Wall-clock seconds.
        score_difference: Largest difference of a class probability from the loop's.
    """

    name: str
    seconds: float
    score_difference: float


@dataclass(frozen=True)
class DetectSpeed:
    """The loop and Touchline's ways of scoring the same footage.

    Attributes:
        footage_s: Seconds of footage scored.
        num_windows: Windows scored by the loop.
        loop_s: Wall-clock seconds of the loop.
        loop_decode_s: Seconds of the loop spent in `get_clip`.
        ways: Touchline's ways of scoring.
        device: The device that the network ran on.
        dtype: The number format of Touchline's network.
    """

    footage_s: float
    num_windows: int
    loop_s: float
    loop_decode_s: float
    ways: tuple[Way, ...]
    device: str
    dtype: str


def bench_detect(path: Path, *, footage_s: float, device: str = "auto") -> DetectSpeed:
    """Score the start of the footage with I3D-R50 (random weights): a loop, then Touchline.

    The loop does what PyTorchVideo's tutorial does: for each window `EncodedVideo.get_clip`,
    subsample, scale, crop, normalise, and run the original network in float32.

    Args:
        path: The footage file, at least one window long.
        footage_s: Seconds of footage to use; shorter footage is used completely.
        device: Where the networks run: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        ValueError: `footage_s` is shorter than a window, or PyTorchVideo is not installed.
        FootageError: The footage cannot be read, or is shorter than a window.
    """
    footage_s = _usable_s(path, footage_s)
    torch.manual_seed(0)
    network = pytorchvideo.i3d_r50(400, SPEC).eval()
    stock = copy.deepcopy(network).to(pick_device(device))
    model = TrainedModel(
        network, "i3d_r50", (BACKGROUND, *(str(k) for k in range(399))), has_background=True
    )
    loop_probs, loop_s, loop_decode_s = _loop(path, stock, footage_s)
    ways, dtype = [], pick_dtype("auto", pick_device(device))
    for mode, name in (("windows", "each window by itself"), ("shared", "trunk run once")):
        started = time.perf_counter()
        scorer = Scorer(model, device=device, mode=mode)
        frames = decode(path, rate_hz=SPEC.rate_hz, size_px=SPEC.size_px, end_s=footage_s)
        probs = scorer.score(frames, hop_s=HOP_S).probs
        seconds = time.perf_counter() - started
        both = min(len(probs), len(loop_probs))
        difference = float(np.abs(probs[:both] - loop_probs[:both]).max())
        ways.append(Way(name, seconds, difference))
    return DetectSpeed(
        footage_s=footage_s,
        num_windows=len(loop_probs),
        loop_s=loop_s,
        loop_decode_s=loop_decode_s,
        ways=tuple(ways),
        device=str(pick_device(device)),
        dtype=str(dtype).removeprefix("torch."),
    )


def _usable_s(path: Path, footage_s: float) -> float:
    """`footage_s`, or the length of the video if that is shorter."""
    if not WINDOW_S <= footage_s < math.inf:
        raise ValueError(f"seconds is {footage_s:g}; it must be at least {WINDOW_S}, one window")
    health = probe_footage(path)
    end_s = health.duration_s if health.pictures_end_s is None else health.pictures_end_s
    # The loop counts from the first frame. There may be sound before it.
    pictures_s = end_s - health.first_frame_s
    if pictures_s < WINDOW_S:
        raise FootageError(path, f"lasts {pictures_s:.2f} s, less than one window of {WINDOW_S} s")
    return min(footage_s, pictures_s)


@torch.inference_mode()
def _loop(path: Path, stock: Any, footage_s: float) -> tuple[Float32, float, float]:
    """Probabilities (N, 400) of the windows, seconds in total, and seconds in get_clip."""
    encoded_video = _encoded_video()
    device = next(stock.parameters()).device
    started = time.perf_counter()
    video = encoded_video(io.BytesIO(path.read_bytes()), path.name, decode_audio=False)
    probs, decode_s, start_s = [], 0.0, 0.0
    while start_s + WINDOW_S <= footage_s + 1e-6:
        began = time.perf_counter()
        clip = video.get_clip(start_s, start_s + WINDOW_S)["video"]  # (3, T, H, W) float32
        decode_s += time.perf_counter() - began
        index = torch.linspace(0, clip.shape[1] - 1, SPEC.num_frames).long()
        clip = clip[:, index]
        scale = SPEC.size_px / min(clip.shape[-2:])
        if scale != 1:
            clip = F.interpolate(clip, scale_factor=scale, mode="bilinear", align_corners=False)
        top, left = ((n - SPEC.size_px) // 2 for n in clip.shape[-2:])
        clip = clip[:, :, top : top + SPEC.size_px, left : left + SPEC.size_px]
        probs.append(stock(normalise(clip[None].to(device), SPEC)).softmax(dim=1)[0].cpu().numpy())
        start_s += HOP_S
    return np.stack(probs), time.perf_counter() - started, decode_s


def _encoded_video() -> Any:
    """The class behind PyTorchVideo's EncodedVideo, without its package's need of torchvision."""
    with _bare_package("pytorchvideo.data"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("pytorchvideo.data.encoded_video_pyav")
    return module.EncodedVideoPyAV


@contextmanager
def _bare_package(name: str) -> Iterator[None]:
    """Import modules of a package without running its __init__."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.submodule_search_locations is None:
        raise ValueError(f"{name} is not installed. Install it with: pip install pytorchvideo")
    package = types.ModuleType(name)
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules[name] = package
    try:
        yield
    finally:
        for module in [m for m in sys.modules if m == name or m.startswith(name + ".")]:
            del sys.modules[module]
