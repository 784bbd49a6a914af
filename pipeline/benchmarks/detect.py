"""Measure detection stage by stage against what the machine can do, and against a plain loop."""

from __future__ import annotations

import copy
import importlib.util
import io
import math
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from touchline.models.backbone import ClipSpec, normalise
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.engines.graph import is_installed
from touchline.models.engines.machine import machine
from touchline.models.engines.runtimes import installed_runtimes
from touchline.models.errors import FootageError
from touchline.models.inference import pick_device, pick_dtype
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection.int8 import calibrate_int8
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Float32, Frames

NUM_CLASSES = 400

LOOP = "EncodedVideo.get_clip in a loop"

# The clips of networks whose own clip would make a bench of little footage: 2.56 s for I3D-R50.
SPECS = {"i3d_r50": ClipSpec(num_frames=8, rate_hz=8 / 2.56, size_px=224)}


@dataclass(frozen=True)
class Limits:
    """What the machine can do, measured in the same run.

    Attributes:
        product_gflops: Billions of operations a second in a large matrix product.
        convolution_gflops: The same in a large convolution, in the precision of the network.
        decoding: Seconds of footage that are decoded in a second, with every frame kept as it is.
    """

    product_gflops: float
    convolution_gflops: float
    decoding: float


@dataclass(frozen=True)
class Row:
    """One way of scoring the footage. Seconds are medians over the rounds.

    Attributes:
        name: What it does.
        together_s: From the file to scores.
        least_s: The fastest round.
        most_s: The slowest round.
        decoding_s: Decoding and scaling alone.
        network_s: From decoded frames to scores alone.
        waiting_s: Of `together_s`, how long the network waited for frames.
        windows_per_s: Windows scored in a second of `together_s`.
        times_real_time: Seconds of footage scored in a second.
        share_of_limit: Operations a second of the network alone, as a share of the large
            convolution's. None where they cannot be counted.
        host_mb: Peak memory of this process in MB; None where the system does not tell.
        device_mb: Peak memory of the GPU in MB; None without one.
        score_difference: Largest difference of a class probability from the loop's.
    """

    name: str
    together_s: float
    least_s: float
    most_s: float
    decoding_s: float
    network_s: float
    waiting_s: float
    windows_per_s: float
    times_real_time: float
    share_of_limit: float | None
    host_mb: float | None
    device_mb: float | None
    score_difference: float


@dataclass(frozen=True)
class DetectSpeed:
    """A bench of detection.

    Attributes:
        machine: The machine.
        device: The device that the networks ran on.
        dtype: The number format of Touchline's networks. The loop runs in float32.
        network: The name of the network; its weights are random.
        footage_s: Seconds of footage scored.
        window_s: Length of a window. They begin a quarter of it apart.
        num_windows: How many there are.
        rounds: How often each row was measured, in turns.
        limits: What the machine can do.
        rows: The loop first.
    """

    machine: str
    device: str
    dtype: str
    network: str
    footage_s: float
    window_s: float
    num_windows: int
    rounds: int
    limits: Limits
    rows: tuple[Row, ...]


@dataclass
class _Measured:
    """What the rounds of one row took."""

    together: list[float]
    decoding: list[float]
    network: list[float]
    waiting: list[float]
    host_mb: float | None = None
    device_mb: float | None = None
    probs: Float32 | None = None


def bench_detect(
    path: Path,
    *,
    network: str = "i3d_r50",
    footage_s: float,
    rounds: int = 5,
    device: str = "auto",
    compiled: bool = False,
) -> DetectSpeed:
    """Score the start of the footage with a network of random weights: a loop, then Touchline.

    The loop does what PyTorchVideo's tutorial does: for each window `EncodedVideo.get_clip`,
    subsample, scale, crop, normalise, and run the original network in float32. The rows take
    turns, so that what else runs on the machine costs all of them.

    Args:
        path: The footage file, at least one window long.
        network: A name in `touchline models`.
        footage_s: Seconds of footage to use; shorter footage is used completely.
        rounds: How often each row is measured.
        device: Where the networks run: auto, cpu, cuda, cuda:1 or mps.
        compiled: Also measure whole windows, or each frame once, through torch.compile. Compiling
            itself is not measured.

    Raises:
        ValueError: `footage_s` is shorter than a window, there is no such network, or PyTorchVideo
            is not installed.
        FootageError: The footage cannot be read, or is shorter than a window.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; it must be at least 1")
    torch.manual_seed(0)
    backbone = build_backbone(network, NUM_CLASSES, SPECS.get(network)).eval()
    spec = backbone.spec
    footage_s = _usable_s(path, footage_s, spec.duration_s)
    where = pick_device(device)
    dtype = pick_dtype("auto", where)
    labels = (BACKGROUND, *(str(k) for k in range(NUM_CLASSES - 1)))
    model = TrainedModel(backbone, network, labels, has_background=True)
    scorers = _scorers(model, device)
    if compiled:
        name = next(iter(scorers))
        mode = "auto" if backbone.framewise else "windows"
        quick = Scorer(model, device=device, mode=mode, batch_size=None, compiled=True)
        if not quick.compiled:
            raise ValueError(quick.warm_up)
        scorers[f"{name}, compiled"] = quick
    stock = copy.deepcopy(backbone).to(where)
    read = partial(decode, path, rate_hz=spec.rate_hz, size_px=spec.size_px, end_s=footage_s)
    frames = list(read())
    if where.type == "cpu" and is_installed() and backbone.framewise:
        scorers["each frame once, onnxruntime int8"] = _int8_scorer(model, frames)
    loop = _Measured([], [], [], [])
    ours = {name: _Measured([], [], [], []) for name in scorers}
    for _ in range(rounds):
        _peak(loop, where, partial(_time_loop, loop, path, stock, spec, footage_s))
        for name, scorer in scorers.items():
            _peak(ours[name], where, partial(_time_scorer, ours[name], scorer, read, frames))
    limits = _limits(path, footage_s, where, dtype)
    assert loop.probs is not None
    num_windows = len(loop.probs)
    make_row = partial(_row, reference=loop.probs, footage_s=footage_s, limits=limits)
    rows = [
        make_row(LOOP, loop, flops=count_flops(lambda: stock(_clip(spec, where))) * num_windows)
    ]
    # Engines do the same operations; the first way of each mode runs on PyTorch, which counts them.
    flops: dict[bool, float] = {}
    for name, scorer in scorers.items():
        if scorer.shared not in flops:
            flops[scorer.shared] = count_flops(partial(scorer.score, frames))
        # Operations in int8 have another limit.
        counted = 0.0 if scorer.int8 is not None else flops[scorer.shared]
        rows.append(make_row(name, ours[name], flops=counted))
    return DetectSpeed(
        machine=machine(),
        device=str(where),
        dtype=str(dtype).removeprefix("torch."),
        network=network,
        footage_s=footage_s,
        window_s=spec.duration_s,
        num_windows=num_windows,
        rounds=rounds,
        limits=limits,
        rows=tuple(rows),
    )


def _scorers(model: TrainedModel, device: str) -> dict[str, Scorer]:
    """Touchline's ways of scoring with this network on this device."""
    if not model.backbone.framewise:
        ways = {"windows": Scorer(model, device=device, mode="windows", batch_size=None)}
        with suppress(ValueError):
            ways["trunk once (shared)"] = Scorer(
                model, device=device, mode="shared", batch_size=None
            )
        return ways
    ways = {"each frame once": Scorer(model, device=device, batch_size=None)}
    if pick_device(device).type == "cpu" and is_installed():
        for engine in installed_runtimes():
            ways[f"each frame once, {engine}"] = Scorer(
                model, device=device, precision="float32", engine=engine
            )
    return ways


def _int8_scorer(model: TrainedModel, frames: Sequence[Frames]) -> Scorer:
    """Touchline's way with the trunk in int8, calibrated on the same frames."""
    with TemporaryDirectory(prefix="touchline-") as folder:
        path = Path(folder) / "trunk.onnx"
        calibrate_int8(path, model, frames)
        return Scorer(model, device="cpu", engine="auto", int8=path)


def _time_loop(took: _Measured, path: Path, stock: Any, spec: ClipSpec, footage_s: float) -> None:
    probs, together_s, decoding_s = _loop(path, stock, spec, footage_s)
    took.together.append(together_s)
    took.decoding.append(decoding_s)
    took.network.append(together_s - decoding_s)
    took.waiting.append(decoding_s)
    took.probs = probs


def _time_scorer(
    took: _Measured, scorer: Scorer, read: Callable[[], Iterable[Frames]], frames: list[Frames]
) -> None:
    started = time.perf_counter()
    for _ in read():
        pass
    took.decoding.append(time.perf_counter() - started)
    started = time.perf_counter()
    scorer.score(frames)
    took.network.append(time.perf_counter() - started)
    waits: list[float] = []
    started = time.perf_counter()
    took.probs = scorer.score(_waited(read(), waits)).probs
    took.together.append(time.perf_counter() - started)
    took.waiting.append(sum(waits))


def _waited(frames: Iterable[Frames], waits: list[float]) -> Iterator[Frames]:
    """The frames, with the seconds that each chunk was waited for."""
    chunks = iter(frames)
    while True:
        started = time.perf_counter()
        chunk = next(chunks, None)
        waits.append(time.perf_counter() - started)
        if chunk is None:
            return
        yield chunk


def _row(
    name: str,
    took: _Measured,
    *,
    reference: Float32,
    footage_s: float,
    limits: Limits,
    flops: float,
) -> Row:
    assert took.probs is not None
    together_s, network_s = statistics.median(took.together), statistics.median(took.network)
    both = min(len(took.probs), len(reference))
    limit = limits.convolution_gflops * 1e9
    return Row(
        name=name,
        together_s=together_s,
        least_s=min(took.together),
        most_s=max(took.together),
        decoding_s=statistics.median(took.decoding),
        network_s=network_s,
        waiting_s=statistics.median(took.waiting),
        windows_per_s=len(took.probs) / together_s,
        times_real_time=footage_s / together_s,
        share_of_limit=flops / network_s / limit if flops else None,
        host_mb=took.host_mb,
        device_mb=took.device_mb,
        score_difference=float(np.abs(took.probs[:both] - reference[:both]).max()),
    )


def _limits(path: Path, footage_s: float, device: torch.device, dtype: torch.dtype) -> Limits:
    side, channels = (8192, 256) if device.type == "cuda" else (2048, 128)
    a = torch.randn(side, side, device=device, dtype=dtype)
    x = torch.randn(8, channels, 56, 56, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    convolution = convolution.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = time.perf_counter()
    until_s = min(footage_s, 20.0)
    for _ in decode(path, rate_hz=None, size_px=None, end_s=until_s):
        pass
    return Limits(
        product_gflops=_speed(lambda: a @ a, device),
        convolution_gflops=_speed(lambda: convolution(x), device),
        decoding=until_s / (time.perf_counter() - started),
    )


@torch.inference_mode()
def _speed(work: Callable[[], object], device: torch.device) -> float:
    """Billions of operations a second, in the fastest of ten runs."""
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return count_flops(work) / min(seconds) / 1e9


@torch.inference_mode()
def count_flops(work: Callable[[], object]) -> float:
    """Count the operations of products and convolutions in a piece of work.

    A multiplication and its sum are two operations.
    """
    # Of a convolution and activation in one pass, which torch does not know how to count.
    joined = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    mapping = {} if joined is None else {joined: _joined_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        work()
    return float(counter.get_total_flops())


def _joined_flops(
    x: Sequence[int], weight: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    return conv_flop_count(list(x), list(weight), list(out_shape))


def _clip(spec: ClipSpec, device: torch.device) -> torch.Tensor:
    return torch.zeros(1, 3, spec.num_frames, spec.size_px, spec.size_px, device=device)


def _peak(took: _Measured, device: torch.device, work: Callable[[], None]) -> None:
    """Do the work, and keep the most memory that it needed."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    with suppress(OSError):
        reset.write_text("5", encoding="ascii")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work()
    if device.type == "cuda":
        took.device_mb = max(took.device_mb or 0, torch.cuda.max_memory_allocated(device) / 1e6)
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
        if peaks:
            took.host_mb = max(took.host_mb or 0, peaks[0] * 1024 / 1e6)


def _usable_s(path: Path, footage_s: float, window_s: float) -> float:
    """`footage_s`, or the length of the video if that is shorter."""
    if not window_s <= footage_s < math.inf:
        raise ValueError(f"seconds is {footage_s:g}; it must be at least {window_s:g}, one window")
    health = probe_footage(path)
    end_s = health.duration_s if health.pictures_end_s is None else health.pictures_end_s
    # The loop counts from the first frame. There may be sound before it.
    pictures_s = end_s - health.first_frame_s
    if pictures_s < window_s:
        raise FootageError(
            path, f"lasts {pictures_s:.2f} s, less than one window of {window_s:g} s"
        )
    return min(footage_s, pictures_s)


@torch.inference_mode()
def _loop(path: Path, stock: Any, spec: ClipSpec, footage_s: float) -> tuple[Float32, float, float]:
    """Probabilities (N, K) of the windows, seconds in total, and seconds in get_clip."""
    encoded_video = _encoded_video()
    window_s = spec.duration_s
    device = next(stock.parameters()).device
    started = time.perf_counter()
    video = encoded_video(io.BytesIO(path.read_bytes()), path.name, decode_audio=False)
    probs, decode_s, start_s = [], 0.0, 0.0
    while start_s + window_s <= footage_s + 1e-6:
        began = time.perf_counter()
        clip = video.get_clip(start_s, start_s + window_s)["video"]  # (3, T, H, W) float32
        decode_s += time.perf_counter() - began
        index = torch.linspace(0, clip.shape[1] - 1, spec.num_frames).long()
        clip = clip[:, index]
        scale = spec.size_px / min(clip.shape[-2:])
        if scale != 1:
            clip = F.interpolate(clip, scale_factor=scale, mode="bilinear", align_corners=False)
        top, left = ((n - spec.size_px) // 2 for n in clip.shape[-2:])
        clip = clip[:, :, top : top + spec.size_px, left : left + spec.size_px]
        probs.append(stock(normalise(clip[None].to(device), spec)).softmax(dim=1)[0].cpu().numpy())
        start_s += window_s / 4
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
