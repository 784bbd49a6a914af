"""Read files of tensors: safetensors, MoveNet's own, and pickles without running code in them."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from touchline.models.checkpoint import safetensors_problem
from touchline.models.errors import WeightsError
from touchline.models.weights.movenet_file import read_movenet

PICKLES = (".pt", ".pth", ".pyth")
MOVENET = ".bin"
SUFFIXES = (".safetensors", *PICKLES, MOVENET)

# A ZIP file may unpack to at most this many times its size, and to a small size in any case.
MAX_UNPACKING = 4
SMALL_BYTES = 16 << 20

# The key of the state dict in files of pytorchvideo and of OpenMMLab.
_WRAPPERS = ("model_state", "state_dict")


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file of weights.

    Attributes:
        path: The file.
        tensors: The tensors, by the names in the file.
        metadata: Texts by name; only safetensors files have any.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read_weights_file(path: Path, *, suffix: str | None = None) -> WeightsFile:
    """Read a .safetensors, .pt, .pth or .pyth file, or the .bin file of MoveNet.

    Args:
        path: The file.
        suffix: The suffix to go by, for a file that does not have its final name yet. None: that
            of `path`.

    Raises:
        WeightsError: The file is missing, damaged, of another kind, or could run code.
    """
    suffix = path.suffix if suffix is None else suffix
    _require_file(path)
    if suffix == ".safetensors":
        metadata = read_metadata(path)
        with safe_open(path, framework="pt") as file:
            return WeightsFile(path, {k: file.get_tensor(k) for k in list(file.keys())}, metadata)
    if suffix == MOVENET:
        return WeightsFile(path, read_movenet(path), {})
    if suffix not in PICKLES:
        raise WeightsError(
            path, f"the suffix is {suffix!r}; weights are {', '.join(SUFFIXES)} files"
        )
    return WeightsFile(path, _unwrap(path, _read_pickle(path)), {})


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, texts by name.

    Raises:
        WeightsError: The file is missing or is not a safetensors file.
    """
    _require_file(path)
    if problem := safetensors_problem(path):
        raise WeightsError(path, problem)
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(path, f"a damaged safetensors file ({error})") from None


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise WeightsError(path, "a folder, not a weights file. Name the file in it.")
    if not path.exists():
        raise WeightsError(path, "no such weights file. Is the path right?")
    if not path.is_file():
        raise WeightsError(path, "not a regular file. Name a file on disk.")
    if not path.stat().st_size:
        raise WeightsError(path, "an empty file. Copy it again.")


def _read_pickle(path: Path) -> Any:
    _refuse_bomb(path)
    try:
        with warnings.catch_warnings():
            # torch warns about pickle protocols that it does not know; it also refuses them, below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            path,
            "refused, because it is damaged, or holds more than tensors and could run code when "
            f"read. Save only its state dict. ({reason})",
        ) from None
    except Exception as error:
        # If the bytes are not a pickle, the restricted reader may raise any error.
        raise WeightsError(
            path, f"a damaged weights file ({type(error).__name__}: {error})"
        ) from None


def _refuse_bomb(path: Path) -> None:
    """Refuse a ZIP file that unpacks to much more than it has; `torch.save` does not compress."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return
    if unpacked > MAX_UNPACKING * path.stat().st_size + SMALL_BYTES:
        raise WeightsError(
            path,
            f"refused, because its {path.stat().st_size:,} bytes unpack to {unpacked:,}. Save the "
            "state dict again with torch.save.",
        )


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not content:
        raise WeightsError(path, "no state dict. The file must hold tensors by name.")
    bad = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if bad:
        raise WeightsError(
            path, f"no state dict, because {bad[0]!r} is not a tensor. Save only the state dict."
        )
    # A network saved inside DataParallel has this prefix on every name.
    wrapped = all(str(key).startswith("module.") for key in content)
    return {str(k).removeprefix("module.") if wrapped else str(k): v for k, v in content.items()}
