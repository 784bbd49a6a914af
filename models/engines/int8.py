"""Trunks in int8: a graph whose sums are of whole numbers, and what that changes in the scores."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from touchline.models.backbone import Backbone
from touchline.models.engines.engine import graph_digest, trunk_graph
from touchline.models.engines.graph import check_installed
from touchline.models.json_values import from_json, to_json
from touchline.models.spelling import counted

FORMAT = "touchline-int8-1"

INT8_ENGINE = "onnxruntime"
"""What runs a trunk in int8 if nothing else is asked for."""

VNNI = ("avx512_vnni", "avx_vnni", "avx10_1")
"""What torch calls the instructions that sum four products of bytes in 32 bits."""

MAKE = "Make one: touchline models export MODEL --to int8 --calibrate CLIPS"


@dataclass(frozen=True)
class Int8Change:
    """What int8 changes, compared with float32 on some footage.

    Attributes:
        footage_s: Seconds of footage.
        windows: How many windows were scored.
        largest: Largest difference of a class probability.
        mean: Mean difference of a class probability.
        kept: Events that both find.
        lost: Events that only float32 finds.
        gained: Events that only int8 finds.
    """

    footage_s: float
    windows: int
    largest: float
    mean: float
    kept: int
    lost: int
    gained: int

    def text(self) -> str:
        """Return it as a sentence."""
        return (
            f"On {self.footage_s:.0f} s of footage ({self.windows} windows), class probabilities "
            f"differ from float32 by {self.mean:.2g} on average and {self.largest:.2g} at most; "
            f"of {counted(self.kept + self.lost, 'event')}, {self.lost} are lost; "
            f"{self.gained} are new."
        )


@dataclass(frozen=True)
class Int8Facts:
    """What a trunk in int8 says about itself.

    Attributes:
        trunk: Digest of the trunk that it was made of.
        weight_bits: 8, or 7 where sums of products of 8 bits would overflow.
        change: What it changes; None before that is known.
    """

    trunk: str
    weight_bits: int
    change: Int8Change | None = None


def quantise_trunk(path: Path, backbone: Backbone, clips: Iterable[Tensor]) -> None:
    """Write the trunk of a network in int8, for `open_trunk`.

    Weights get a scale for each channel. Activations get one for each tensor, from the smallest to
    the largest value on the clips (ONNX Runtime's static quantisation, as pairs of QuantizeLinear
    and DequantizeLinear).

    Args:
        path: The file.
        backbone: The network.
        clips: Clips (1, 3, T, S, S), normalised, one or more; T is `graph_frames(backbone)`.

    Raises:
        ValueError: A package is missing, or PyTorch cannot write this network as ONNX.
        OSError: The file cannot be written.
    """
    check_installed()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._inputs: Iterator[dict[str, Any]] = (
                {"clips": clip.float().contiguous().numpy()} for clip in clips
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._inputs, None)

    with TemporaryDirectory(prefix="touchline-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(trunk_graph(backbone)), str(prepared), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(prepared),
            str(path),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not sums_are_exact(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    write_facts(path, Int8Facts(graph_digest(backbone), weight_bits=8 if sums_are_exact() else 7))


def write_facts(path: Path, facts: Int8Facts) -> None:
    """Write into a trunk in int8 what it says about itself.

    Args:
        path: The file.
        facts: The facts.
    """
    import onnx

    graph = onnx.load(path)
    onnx.helper.set_model_props(
        graph, {"format": FORMAT, "int8": json.dumps(to_json(facts), sort_keys=True)}
    )
    onnx.save(graph, path)


def read_facts(path: Path, backbone: Backbone) -> Int8Facts:
    """Return what a trunk in int8 says about itself.

    Args:
        path: The file.
        backbone: The network that it is to be the trunk of.

    Raises:
        ValueError: It is not a trunk in int8, it is that of another network, or this processor
            cannot sum it.
        OSError: The file cannot be read.
    """
    check_installed()
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ValueError(f"{path} is no file. {MAKE}")
    try:
        graph = onnx.load(path)
        told = {entry.key: entry.value for entry in graph.metadata_props}
        facts = from_json(json.loads(told["int8"]), Int8Facts)
    except (DecodeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is not a trunk in int8. {MAKE}") from error
    if told.get("format") != FORMAT or facts.trunk != graph_digest(backbone):
        raise ValueError(f"{path} is the trunk of another network. {MAKE}")
    if facts.weight_bits == 8 and not sums_are_exact():
        raise ValueError(
            f"{path} was made on a processor with VNNI. On this one its sums would overflow. {MAKE}"
        )
    return facts


def sums_are_exact() -> bool:
    """Tell whether this processor sums products of eight bits without overflow.

    Of x86 processors, those with VNNI do. The others sum pairs of products in 16 bits.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(can.get(name)) for name in VNNI)
