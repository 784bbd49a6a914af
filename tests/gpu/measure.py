"""Every figure that needs a GPU, in one run of at most eight minutes: tests, then benches.

`make gpu` runs it. It downloads and installs nothing. What it finds goes to OUT/gpu.json and, as
it goes on, to OUT/gpu.log. `--device cpu` is the rehearsal on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.models.engines.machine import machine
from touchline.models.json_values import to_json
from touchline.pipeline.benchmarks.detect import bench_detect
from touchline.pipeline.detection.detect import detect, make_scorer
from touchline.pipeline.detection.options import DetectOptions

LIMIT_S = 8 * 60
NETWORKS = ("i3d_r50", "x3d_s", "cnn_lstm_lite0")


class Log:
    """Lines on the terminal and in a file, with the seconds since the start."""

    def __init__(self, path: Path) -> None:
        self.started = time.monotonic()
        self._file = path.open("w", encoding="utf-8")

    def spent_s(self) -> float:
        return time.monotonic() - self.started

    def __call__(self, text: str) -> None:
        line = f"[{self.spent_s():5.0f} s] {text}"
        print(line, flush=True)
        print(line, file=self._file, flush=True)


def write_minute(path: Path, *, seconds: int, width: int, height: int) -> None:
    """Moving stripes with noise at 25 frames a second, as H.264."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 40, (height, width, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, width, dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(25 * seconds):
            picture = np.roll(ramp, 4 * k)[None, :, None] + np.roll(noise, k, axis=0)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def repeat(path: Path, out: Path, times: int) -> None:
    """Join a file to itself without encoding it again."""
    with av.open(str(out), "w") as sink:
        target = None
        shift = 0
        for _ in range(times):
            with av.open(str(path)) as source:
                stream = source.streams.video[0]
                target = target or sink.add_stream_from_template(stream)
                ticks = stream.duration
                for packet in source.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts += shift
                    packet.dts += shift
                    packet.stream = target
                    sink.mux(packet)
                shift += ticks


def run_tests(device: str, limit_s: float) -> dict[str, Any]:
    """The tests marked gpu; on a CPU they are collected and skip."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {limit_s:.0f} s"}
    return {"exit": done.returncode, "device": device, "summary": done.stdout.splitlines()[-25:]}


def whole_match(path: Path, device: str, decoder: str) -> dict[str, Any]:
    """Detection from the file to events with the default network of random weights."""
    torch.manual_seed(0)
    network = build_backbone("cnn_lstm_lite0", 4, ClipSpec(16, 8.0, 224)).eval()
    model = TrainedModel(network, "cnn_lstm_lite0", ("background", "a", "b", "c"))
    options = DetectOptions(device=device, decoder=decoder, engine="torch")
    scorer = make_scorer(model, options)
    started = time.monotonic()
    result = detect(path, scorer, options)
    seconds = time.monotonic() - started
    assert result.health is not None
    length_s = result.health.duration_s
    return {"seconds": seconds, "footage_s": length_s, "times_real_time": length_s / seconds}


def main() -> int:
    """Run everything that fits the time, and write what was found after each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds in all")
    chosen = parser.parse_args()
    rehearsal = chosen.device == "cpu"
    if not rehearsal and not torch.cuda.is_available():
        print("There is no CUDA device here. --device cpu rehearses the run.", file=sys.stderr)
        return 1
    chosen.out.mkdir(parents=True, exist_ok=True)
    log = Log(chosen.out / "gpu.log")
    found: dict[str, Any] = {"machine": machine(), "device": chosen.device, "rehearsal": rehearsal}
    if not rehearsal:
        found["gpu"] = torch.cuda.get_device_name()

    def step(name: str, needs_s: float, work: Any) -> None:
        left_s = chosen.limit - log.spent_s()
        if left_s < needs_s:
            log(f"{name}: left out, {left_s:.0f} s are left and it may need {needs_s:.0f}")
            found[name] = {"left_out": True}
        else:
            log(f"{name} ...")
            try:
                found[name] = work()
                log(f"{name}: {json.dumps(found[name])[:2000]}")
            except Exception as error:  # the other figures must still come
                found[name] = {"error": f"{type(error).__name__}: {error}"}
                log(f"{name}: FAILED, {found[name]['error']}")
        (chosen.out / "gpu.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

    minute, match = chosen.out / "minute.mp4", chosen.out / "match.mp4"
    seconds, size, times = (20, (640, 360), 3) if rehearsal else (60, (1920, 1080), 90)
    write_minute(minute, seconds=seconds, width=size[0], height=size[1])
    repeat(minute, match, times)
    log(f"made {match.name}: {seconds * times} s of {size[0]} x {size[1]}, 25 frames/s")
    step("tests", 20, lambda: run_tests(chosen.device, 120))
    used_s, rounds = (6.0, 1) if rehearsal else (60.0, 5)

    def bench(network: str, compiled: bool = False) -> Any:
        return to_json(
            bench_detect(
                minute,
                network=network,
                footage_s=used_s,
                rounds=rounds,
                device=chosen.device,
                compiled=compiled,
            )
        )

    for network in NETWORKS:
        step(f"bench {network}", 20, partial(bench, network))
    decoders = ("pyav",) if rehearsal else ("pyav", "pyav-cuda", "torchcodec-cuda")
    for decoder in decoders:
        step(f"match, {decoder}", 60, partial(whole_match, match, chosen.device, decoder))
    step(f"bench {NETWORKS[0]}, compiled", 90, partial(bench, NETWORKS[0], compiled=True))
    for path in (minute, match):
        path.unlink()
    failed = [name for name, value in found.items() if isinstance(value, dict) and "error" in value]
    log(f"done; failed: {', '.join(failed) or 'nothing'}")
    return 1 if failed or found["tests"].get("exit", 1) not in (0, 5) else 0


if __name__ == "__main__":
    sys.exit(main())
