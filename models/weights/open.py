"""Open pretrained weights by name or path, translate their names, and load them strictly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.checkpoint import (
    FORMAT,
    damaged_tensors,
    file_digest,
    metadata_head,
    metadata_spec,
)
from touchline.models.errors import WeightsError
from touchline.models.networks.inflate import inflate_kernel
from touchline.models.spelling import counted, did_you_mean
from touchline.models.training_record import TrainingRecord, read_record
from touchline.models.weights.cache import obtain
from touchline.models.weights.download import OnProgress
from touchline.models.weights.files import SUFFIXES, WeightsFile, read_weights_file
from touchline.models.weights.keymaps import KEYMAPS, KeyMap
from touchline.models.weights.table import WEIGHTS, WeightsEntry

_POSITION_TABLES = ("pos_embed_spatial", "pos_embed_temporal")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights for a backbone, and the clip that they were trained on.

    Build the backbone with `spec` or `spec.with_sampling(...)`, because the normalisation belongs
    to the weights. Then call `load_into`.

    Attributes:
        path: The file they were read from.
        sha256: SHA-256 of the file, 64 hex digits.
        source: Whose parameter names the file has.
        backbone: Name of the backbone they are for.
        spec: The clip they were trained on.
        state: The tensors, by our parameter names.
        dropped: Keys of the file that were left out on purpose.
        flat: True if the kernels are 2-D and are inflated on loading.
        record: How a Touchline checkpoint was trained; empty for other files.
    """

    path: Path
    sha256: str
    source: str
    backbone: str
    spec: ClipSpec
    state: Mapping[str, Tensor]
    dropped: tuple[str, ...]
    flat: bool = False
    record: TrainingRecord = field(default_factory=TrainingRecord)

    def load_into(self, backbone: Backbone, *, classifier: bool = False) -> None:
        """Copy the weights into a backbone: the trunk, and what the file has of the head.

        Args:
            backbone: The network, built with the normalisation of `spec`.
            classifier: Copy the last linear layer too. False: it stays random.

        Raises:
            WeightsError: A tensor of the trunk is missing, a tensor has no place in the network,
                or a shape differs.
            ValueError: The backbone has another normalisation.
        """
        if (backbone.spec.mean, backbone.spec.std) != (self.spec.mean, self.spec.std):
            raise ValueError(
                f"the backbone normalises with mean {backbone.spec.mean}, std {backbone.spec.std}; "
                f"{self.path} was trained with {self.spec.mean}, {self.spec.std}. "
                "Build the backbone with the spec of the weights."
            )
        last = backbone.classifier + "."
        state = {k: v for k, v in self.state.items() if classifier or not k.startswith(last)}
        own = backbone.state_dict()
        wanted = {k for k in own if k.startswith("stages.") or (classifier and k.startswith(last))}
        # BatchNorm needs num_batches_tracked only without momentum, and old files do not have it.
        wanted = {k for k in wanted if not k.endswith("num_batches_tracked")}
        self._refuse("it lacks", wanted - state.keys())
        self._refuse("the network has no place for", state.keys() - own.keys())
        backbone.load_state_dict({**own, **{k: self._fit(k, v, own[k]) for k, v in state.items()}})

    def _refuse(self, what: str, keys: set[str]) -> None:
        if keys:
            raise WeightsError(
                self.path,
                f"{what} {counted(len(keys), 'tensor')}, such as {min(keys)!r}. Give weights that "
                "were made for this network",
            )

    def _fit(self, key: str, tensor: Tensor, own: Tensor) -> Tensor:
        """The tensor in our shape: inflated, or with its positions interpolated."""
        if self.flat and tensor.ndim == 4 and own.ndim == 5:
            tensor = inflate_kernel(tensor, own.shape[2])
        elif key.endswith(_POSITION_TABLES) and tensor.shape != own.shape:
            tensor = resize_positions(tensor, own.shape[1], square=key.endswith("spatial"))
        if tensor.shape != own.shape:
            raise WeightsError(
                self.path,
                f"{key} has shape {tuple(tensor.shape)}; the network needs {tuple(own.shape)}",
            )
        return tensor


def resize_positions(table: Tensor, length: int, *, square: bool) -> Tensor:
    """Interpolate a table of positions: (1, N, C) -> (1, length, C).

    Args:
        table: One vector per position.
        length: Number of positions to return.
        square: The positions are a square grid, row by row. False: they are a line.

    Raises:
        ValueError: `square`, and N or `length` is not a square number.
    """
    by_channel = table.transpose(1, 2)  # (1, C, N)
    if not square:
        line = F.interpolate(by_channel, size=length, mode="linear")
        return line.transpose(1, 2)
    side, new_side = round(table.shape[1] ** 0.5), round(length**0.5)
    if side**2 != table.shape[1] or new_side**2 != length:
        raise ValueError(f"{table.shape[1]} or {length} positions do not make a square grid")
    grid = by_channel.reshape(*by_channel.shape[:2], side, side)
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic")
    return grid.flatten(2).transpose(1, 2)


def find_entry(source: str | os.PathLike[str]) -> WeightsEntry | None:
    """Return the entry of a name of weights; None for a path.

    An existing file counts as a path, under any name. A folder does not.

    Raises:
        ValueError: The text is neither a name nor a path.
    """
    text = os.fspath(source)
    if Path(text).is_file() or text.endswith(SUFFIXES) or "/" in text or os.sep in text:
        return None
    if text in WEIGHTS:
        return WEIGHTS[text]
    hint = did_you_mean(text, WEIGHTS) or "`touchline models` lists the names."
    what = "a folder" if Path(text).is_dir() else "no file"
    raise ValueError(f"{text!r} is {what}, and no weights have this name. {hint}")


def open_weights(
    source: str | os.PathLike[str], backbone: str, *, on_progress: OnProgress | None = None
) -> PretrainedWeights:
    """Open weights for a backbone; download them if they are named and not in the cache.

    Args:
        source: A path, or a name of `touchline models`.
        backbone: Name of the backbone.
        on_progress: Called during a download.

    Raises:
        WeightsError: The weights cannot be had, or do not fit the backbone.
        ValueError: The name is unknown, or these weights are for another backbone.
    """
    entry = find_entry(source)
    if entry is None:
        path = Path(source)
        file, sha256 = read_weights_file(path), file_digest(path)
    else:
        _require_backbone(entry, backbone)
        path, sha256 = obtain(entry, on_progress=on_progress)
        file = read_weights_file(path)
    if damage := damaged_tensors(file.tensors, file.metadata):
        raise WeightsError(path, f"{damage}.")
    if file.metadata.get("format") == FORMAT:
        return _from_checkpoint(file, sha256, backbone)
    keymap = _choose(file, backbone)
    state, dropped = _rename(file, keymap, backbone)
    if keymap.rest is not None:
        stage, name = keymap.rest
        other = open_weights(name, WEIGHTS[name].backbones[0], on_progress=on_progress)
        state |= {stage + key.removeprefix("stages."): t for key, t in other.state.items()}
    spec = _normalisation(file, keymap.spec) if entry is None else entry.spec
    return PretrainedWeights(
        path, sha256, keymap.source, backbone, spec, state, dropped, keymap.flat
    )


def fitting_backbones(file: WeightsFile) -> list[str]:
    """Return the backbones that take a file with these parameter names."""
    return [name for name, maps in KEYMAPS.items() if any(m.takes(file.tensors) for m in maps)]


def _require_backbone(entry: WeightsEntry, backbone: str) -> None:
    if backbone not in entry.backbones:
        fitting = [name for name, other in WEIGHTS.items() if backbone in other.backbones]
        raise ValueError(
            f"weights {entry.name!r} are for {' and '.join(entry.backbones)}, not {backbone}. "
            f"Weights for {backbone}: {', '.join(fitting) or 'none'}."
        )


def _from_checkpoint(file: WeightsFile, sha256: str, backbone: str) -> PretrainedWeights:
    """A Touchline checkpoint to go on from: its names are ours."""
    if file.metadata.get("architecture") != backbone:
        raise WeightsError(
            file.path, f"a checkpoint of {file.metadata.get('architecture')!r}, not of {backbone}"
        )
    try:
        spec = metadata_spec(file.metadata)
        head = metadata_head(file.metadata)
        record = read_record(file.metadata["record"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(file.path, f"a damaged Touchline checkpoint ({error})") from None
    # Only its own head fits the network of that name; a fitted one is of its classes alone.
    fitted = [key for key in file.tensors if head.kind != "own" and key.startswith("head.")]
    state = {key: tensor for key, tensor in file.tensors.items() if key not in fitted}
    return PretrainedWeights(
        file.path, sha256, "Touchline", backbone, spec, state, tuple(fitted), record=record
    )


def _rename(
    file: WeightsFile, keymap: KeyMap, backbone: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors under our names, and the keys that are dropped on purpose."""
    state: dict[str, Tensor] = {}
    dropped: list[str] = []
    for key, tensor in file.tensors.items():
        try:
            ours = keymap.rename(key)
        except KeyError:
            raise WeightsError(
                file.path,
                f"unknown key {key!r}, which {keymap.source} files for {backbone} do not have",
            ) from None
        if ours is None:
            dropped.append(key)
        else:
            # Some classifiers are published as 1x1x1 convolutions; here they are linear layers.
            flat = ours == "head.linear.weight" and tensor.ndim == 5
            state[ours] = tensor.flatten(1) if flat else tensor
    return state, tuple(dropped)


def _choose(file: WeightsFile, backbone: str) -> KeyMap:
    """The publisher whose names the file has."""
    keymaps = KEYMAPS.get(backbone, ())
    for keymap in keymaps:
        if any(key.startswith(keymap.signature) for key in file.tensors):
            return keymap
    known = [f"{m.source} ({m.signature}...)" for m in keymaps]
    expected = " or ".join([*known, "a Touchline checkpoint"])
    first = next(iter(file.tensors), "none")
    fitting = fitting_backbones(file)
    hint = f" It would fit {', '.join(fitting)}." if fitting else ""
    raise WeightsError(
        file.path,
        f"not weights for {backbone}. Its first key is {first!r}; expected {expected}.{hint}",
    )


def _normalisation(file: WeightsFile, spec: ClipSpec) -> ClipSpec:
    """The clip, with the mean and std that the metadata of the file names, if it does."""
    try:
        mean, std = (
            _triple(file.metadata[name]) if name in file.metadata else getattr(spec, name)
            for name in ("mean", "std")
        )
        return replace(spec, mean=mean, std=std)
    except ValueError as error:
        raise WeightsError(file.path, f"its mean and std are unusable ({error})") from None


def _triple(text: str) -> tuple[float, float, float]:
    """ "0.5,0.5,0.5" -> three numbers."""
    r, g, b = (float(part) for part in text.split(","))
    return r, g, b
