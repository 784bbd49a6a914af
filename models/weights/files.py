"""Files of tensors: safetensors, and pickles read so that no code in them can run."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from touchline.models.errors import WeightsError

PICKLES = (".pt", ".pth", ".pyth")
SUFFIXES = (".safetensors", *PICKLES)

# Where the state dict lies: pytorchvideo, OpenMMLab.
_WRAPPERS = ("model_state", "state_dict")


@dataclass(frozen=True)
class WeightsFile:
    """tensors under the names of the file; metadata is empty but for safetensors."""

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read_weights_file(path: Path, *, suffix: str | None = None) -> WeightsFile:
    """The tensors of a .safetensors, .pt, .pth or .pyth file; WeightsError for anything else.

    suffix: what the file will be called, where it has not got its name yet.
    """
    suffix = path.suffix if suffix is None else suffix
    _require_file(path)
    if suffix == ".safetensors":
        metadata = read_metadata(path)
        with safe_open(path, framework="pt") as file:
            return WeightsFile(path, {k: file.get_tensor(k) for k in list(file.keys())}, metadata)
    if suffix not in PICKLES:
        raise WeightsError(path, f"weights are {', '.join(SUFFIXES)} files, not {suffix!r}")
    return WeightsFile(path, _unwrap(path, _read_pickle(path)), {})


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; WeightsError where it is none."""
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"a damaged safetensors file ({error})") from None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise WeightsError(path, "a folder, no weights file: name the file in it")
    if not path.is_file():
        raise WeightsError(path, "no such weights file")


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # It warns of pickle protocols it may not understand; then it refuses them, below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            path,
            "refused: it is damaged, or holds more than tensors, which could run code when read; "
            f"save its state dict alone ({reason})",
        ) from None
    except Exception as error:
        # Bytes that are no pickle make the restricted reader fail in any way at all.
        raise WeightsError(
            path, f"a damaged weights file ({type(error).__name__}: {error})"
        ) from None


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(path, "no state dict: names with tensors were expected")
    bad = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if bad:
        raise WeightsError(path, f"no state dict: {bad[0]!r} is no tensor")
    # Saved from inside DataParallel, every name starts with it.
    wrapped = all(str(key).startswith("module.") for key in content)
    return {str(k).removeprefix("module.") if wrapped else str(k): v for k, v in content.items()}
