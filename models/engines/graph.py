"""Networks as ONNX files, kept only if they compute what PyTorch computes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from touchline.models.atomic_files import atomic_path
from touchline.models.backbone import Backbone, normalise
from touchline.models.checkpoint import TrainedModel

FORMAT = "touchline-onnx-1"

OPSET = 18

INSTALL = "pip install 'touchline[onnx]'"

LARGEST_DIFFERENCE = 1e-3
"""How far a graph may be from PyTorch: for features as a share of the largest one, and for
probabilities. Sums in another order differ by about 1e-6."""


class TrunkGraph(nn.Module):
    """Clips (1, 3, T, S, S) float32, normalised -> features (1, D, T') float32."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.training = backbone.training

    def forward(self, clips: Tensor) -> Tensor:
        """Run the trunk, also over the mirror images if the backbone's head wants them."""
        b = self.backbone
        sides = [clips, clips.flip(-1)] if b.mirrored else [clips]
        return torch.cat([b.leave(b.run_stages(b.enter(x)), 1).float() for x in sides], dim=1)


class ModelGraph(nn.Module):
    """Pictures (1, T, 3, S, S) uint8 RGB -> probabilities (1, K) float32."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.model = model
        self.trunk = TrunkGraph(model.backbone)
        self.head = model.backbone.head
        self.training = model.backbone.training

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalise, run the network, and turn logits into calibrated probabilities."""
        clips = normalise(pictures.transpose(1, 2), self.model.spec)
        return self.model.probs(self.head(self.trunk(clips)))


def write_trunk(path: Path, backbone: Backbone, num_frames: int) -> None:
    """Write the trunk of a network as ONNX.

    Args:
        path: The file.
        backbone: The network.
        num_frames: T of the clips that the graph takes.

    Raises:
        ValueError: PyTorch cannot write this network, or the file computes something else.
        OSError: The file cannot be written.
    """
    size_px = backbone.spec.size_px
    clip = torch.randn(
        (1, 3, num_frames, size_px, size_px), generator=torch.Generator().manual_seed(0)
    )
    _write(path, TrunkGraph(backbone), clip, names=("clips", "features"), facts={})


def write_model(path: Path, model: TrainedModel) -> float:
    """Write a whole model as ONNX: from pictures to probabilities.

    The metadata of the file holds the names of the classes and the sampling of the pictures.

    Args:
        path: The file.
        model: The model.

    Returns:
        The largest difference of a probability from PyTorch's, on random clips.

    Raises:
        ValueError: PyTorch cannot write this network, or the file computes something else.
        OSError: The file cannot be written.
    """
    spec = model.spec
    shape = (1, spec.num_frames, 3, spec.size_px, spec.size_px)
    facts = {
        "format": FORMAT,
        "architecture": model.architecture,
        "labels": json.dumps(model.labels),
        "num_frames": str(spec.num_frames),
        "rate_hz": str(spec.rate_hz),
        "size_px": str(spec.size_px),
        "fit": spec.fit,
    }
    pictures = torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return _write(
        path, ModelGraph(model), pictures, names=("pictures", "probabilities"), facts=facts
    )


@torch.inference_mode()
def _write(
    path: Path,
    module: nn.Module,
    example: Tensor,
    *,
    names: tuple[str, str],
    facts: Mapping[str, str],
) -> float:
    """Write a module as ONNX, compare it with PyTorch, and only then give the file its name."""
    check_installed()
    import onnx

    training = module.training
    module.eval()
    expected = module(example)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        try:
            with _quiet():
                torch.onnx.export(
                    module,
                    (example,),
                    part,
                    dynamo=True,
                    external_data=False,
                    input_names=[names[0]],
                    output_names=[names[1]],
                    opset_version=OPSET,
                    verbose=False,
                )
        except OSError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"PyTorch cannot write this network as ONNX ({reason[0][:200]}). "
                "Use the engine torch"
            ) from error
        finally:
            module.train(training)
        graph = onnx.load(part)
        onnx.helper.set_model_props(graph, dict(facts))
        onnx.save(graph, part)
        found = run_once(part, example)
        scale = max(1.0, float(expected.abs().max()))
        difference = float((found - expected).abs().max()) / scale
        if not difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"the ONNX file computes something else than PyTorch: the difference is "
                f"{difference:.2g}. Use the engine torch"
            )
    return difference


def run_once(path: Path, example: Tensor) -> Tensor:
    """Return what ONNX Runtime computes for one input.

    Args:
        path: The ONNX file, with one input and one output.
        example: The input.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    (found,) = session.run(None, {name: example.numpy()})
    return torch.from_numpy(found)


def check_installed() -> None:
    """Check that ONNX files can be written and run here.

    Raises:
        ValueError: A package is missing. The message says how to install it.
    """
    if missing := _missing():
        raise ValueError(f"{', '.join(missing)}: not installed. Run: {INSTALL}")


def is_installed() -> bool:
    """Tell whether ONNX files can be written and run here."""
    return not _missing()


def _missing() -> list[str]:
    return [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about itself off the terminal."""
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        exporter.setLevel(level)
