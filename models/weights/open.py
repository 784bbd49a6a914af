"""Pretrained weights: by name or by path, renamed into our names, loaded strictly both ways."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.checkpoint import FORMAT, file_digest, metadata_spec
from touchline.models.errors import WeightsError
from touchline.models.networks.inflate import inflate_kernel
from touchline.models.spelling import did_you_mean
from touchline.models.training_record import TrainingRecord, read_record
from touchline.models.weights.cache import obtain
from touchline.models.weights.download import OnProgress
from touchline.models.weights.files import SUFFIXES, WeightsFile, read_weights_file
from touchline.models.weights.keymaps import KEYMAPS, KeyMap
from touchline.models.weights.table import WEIGHTS, WeightsEntry

_POSITION_TABLES = ("pos_embed_spatial", "pos_embed_temporal")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights ready for a backbone, and the clip that they were trained on.

    Build the backbone with `spec` (or `spec.with_sampling(...)`), then `load_into` it:
    normalisation follows the weights.

    path:    the file they were read from; sha256 is its digest.
    source:  whose names the file carries.
    state:   our parameter names -> tensors; the published classifier under its own name.
    dropped: keys of the file that were left out on purpose.
    flat:    kernels are 2-D and are inflated on loading.
    record:  of a model that was trained here, how; else empty.
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
        """Copy into a backbone, trunk and whatever of the head was published.

        The last linear layer stays random unless `classifier`. WeightsError unless every tensor of
        the trunk is found, every tensor has a place, and shapes agree; ValueError where the
        backbone was built with another normalisation.
        """
        if (backbone.spec.mean, backbone.spec.std) != (self.spec.mean, self.spec.std):
            raise ValueError(
                f"the backbone normalises with mean {backbone.spec.mean}, std {backbone.spec.std}; "
                f"{self.path} was trained with {self.spec.mean}, {self.spec.std}: "
                "build it with the weights' spec"
            )
        last = backbone.classifier + "."
        state = {k: v for k, v in self.state.items() if classifier or not k.startswith(last)}
        own = backbone.state_dict()
        wanted = {k for k in own if k.startswith("stages.") or (classifier and k.startswith(last))}
        # BatchNorm counts its batches only to average them without momentum; old files lack it.
        wanted = {k for k in wanted if not k.endswith("num_batches_tracked")}
        self._refuse("it lacks", wanted - state.keys())
        self._refuse("the network has no place for", state.keys() - own.keys())
        backbone.load_state_dict({**own, **{k: self._fit(k, v, own[k]) for k, v in state.items()}})

    def _refuse(self, what: str, keys: set[str]) -> None:
        if keys:
            raise WeightsError(self.path, f"{what} {len(keys)} tensors, such as {min(keys)!r}")

    def _fit(self, key: str, tensor: Tensor, own: Tensor) -> Tensor:
        """The tensor in the shape of ours: inflated, or its positions interpolated."""
        if self.flat and tensor.ndim == 4 and own.ndim == 5:
            tensor = inflate_kernel(tensor, own.shape[2])
        elif key.endswith(_POSITION_TABLES) and tensor.shape != own.shape:
            tensor = resize_positions(tensor, own.shape[1], square=key.endswith("spatial"))
        if tensor.shape != own.shape:
            raise WeightsError(
                self.path,
                f"{key} has shape {tuple(tensor.shape)}; the network's is {tuple(own.shape)}",
            )
        return tensor


def resize_positions(table: Tensor, length: int, *, square: bool) -> Tensor:
    """A table of positions (1, N, C) -> (1, length, C), interpolated over its grid.

    The grid is a line, or where `square` a square stored row by row.
    """
    by_channel = table.transpose(1, 2)  # (1, C, N)
    if not square:
        line = F.interpolate(by_channel, size=length, mode="linear")
        return line.transpose(1, 2)
    side, new_side = round(table.shape[1] ** 0.5), round(length**0.5)
    if side**2 != table.shape[1] or new_side**2 != length:
        raise ValueError(f"{table.shape[1]} or {length} positions are no square")
    grid = by_channel.reshape(*by_channel.shape[:2], side, side)
    grid = F.interpolate(grid, size=(new_side, new_side), mode="bicubic")
    return grid.flatten(2).transpose(1, 2)


def find_entry(source: str | os.PathLike[str]) -> WeightsEntry | None:
    """The entry of a weights name; None for a path. ValueError for what is neither.

    A file that is there counts as a path, whatever it is called; a folder does not.
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
    """Weights for the backbone of that name, from a file or by name, fetched where needed.

    WeightsError where they cannot be had or do not fit; ValueError for an unknown name.
    """
    entry = find_entry(source)
    if entry is None:
        path = Path(source)
        file, sha256 = read_weights_file(path), file_digest(path)
    else:
        _require_backbone(entry, backbone)
        path, sha256 = obtain(entry, on_progress=on_progress)
        file = read_weights_file(path)
    if file.metadata.get("format") == FORMAT:
        return _from_checkpoint(file, sha256, backbone)
    keymap = _choose(file, backbone)
    state, dropped = _rename(file, keymap, backbone)
    spec = _normalisation(file, keymap.spec) if entry is None else entry.spec
    return PretrainedWeights(
        path, sha256, keymap.source, backbone, spec, state, dropped, keymap.flat
    )


def fitting_backbones(file: WeightsFile) -> list[str]:
    """The backbones that take a file with these names."""
    return [name for name, maps in KEYMAPS.items() if any(m.takes(file.tensors) for m in maps)]


def _require_backbone(entry: WeightsEntry, backbone: str) -> None:
    if backbone not in entry.backbones:
        fitting = [name for name, other in WEIGHTS.items() if backbone in other.backbones]
        raise ValueError(
            f"weights {entry.name!r} are for {' and '.join(entry.backbones)}, not {backbone}; "
            f"for {backbone} there are: {', '.join(fitting) or 'none'}"
        )


def _from_checkpoint(file: WeightsFile, sha256: str, backbone: str) -> PretrainedWeights:
    """A model that was trained here, to go on from: its names are ours."""
    if file.metadata.get("architecture") != backbone:
        raise WeightsError(
            file.path, f"a checkpoint of {file.metadata.get('architecture')!r}, not of {backbone}"
        )
    try:
        spec = metadata_spec(file.metadata)
        record = read_record(file.metadata["record"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise WeightsError(file.path, f"a damaged Touchline checkpoint ({error})") from None
    return PretrainedWeights(
        file.path, sha256, "Touchline", backbone, spec, file.tensors, (), record=record
    )


def _rename(
    file: WeightsFile, keymap: KeyMap, backbone: str
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors under our names, and the keys dropped on purpose."""
    state: dict[str, Tensor] = {}
    dropped: list[str] = []
    for key, tensor in file.tensors.items():
        try:
            ours = keymap.rename(key)
        except KeyError:
            raise WeightsError(
                file.path, f"unknown key {key!r}: no {keymap.source} file for {backbone} has it"
            ) from None
        if ours is None:
            dropped.append(key)
        else:
            # A classifier published as a 1x1x1 convolution is a linear layer here.
            flat = ours == "head.linear.weight" and tensor.ndim == 5
            state[ours] = tensor.flatten(1) if flat else tensor
    return state, tuple(dropped)


def _choose(file: WeightsFile, backbone: str) -> KeyMap:
    """The source whose names the file carries."""
    keymaps = KEYMAPS.get(backbone, ())
    for keymap in keymaps:
        if any(key.startswith(keymap.signature) for key in file.tensors):
            return keymap
    known = [f"{m.source} ({m.signature}...)" for m in keymaps]
    expected = " or ".join([*known, "a Touchline checkpoint"])
    first = next(iter(file.tensors), "none")
    fitting = fitting_backbones(file)
    hint = f"; it would fit {', '.join(fitting)}" if fitting else ""
    raise WeightsError(
        file.path,
        f"not weights for {backbone}: expected {expected}, its first key is {first!r}{hint}",
    )


def _normalisation(file: WeightsFile, spec: ClipSpec) -> ClipSpec:
    """The clip with the mean and std that a file's metadata names, where it does."""
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
