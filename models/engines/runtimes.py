"""The runtimes besides PyTorch that run a trunk from its ONNX file. To add one, add an entry."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import numpy.typing as npt

Clip = npt.NDArray[np.float32]
Session = Callable[[Clip], Clip]
"""Clips (1, 3, T, S, S) float32, normalised -> features (1, D, T') float32."""


def _onnxruntime(path: Path, threads: int) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait must leave their core to the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )

    def run(clip: Clip) -> Clip:
        (features,) = session.run(None, {"clips": clip})
        return np.asarray(features, np.float32)

    return run


def _openvino(path: Path, threads: int) -> Session:
    import openvino

    core = openvino.Core()
    network = core.compile_model(
        core.read_model(path),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    return lambda clip: np.array(network(clip)[0], np.float32)


RUNTIMES: dict[str, Callable[[Path, int], Session]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def installed_runtimes() -> dict[str, str]:
    """Return the runtimes that are installed, with their versions."""
    found = {}
    for name in RUNTIMES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
