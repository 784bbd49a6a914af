"""Pretrained weights: opened by path, renamed into our names, loaded strictly both ways."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.errors import WeightsError
from touchline.models.keymaps import KEYMAPS, KeyMap
from touchline.models.weights_file import WeightsFile, read_weights_file


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights ready for a backbone, and the clip that they were trained on.

    Build the backbone with `spec` (or `spec.with_sampling(...)`), then `load_into` it:
    normalisation follows the weights.

    path:    the file they were read from.
    source:  whose names the file carries.
    state:   our parameter names -> tensors; the published classifier under its own name.
    dropped: keys of the file that were left out on purpose.
    """

    path: Path
    source: str
    backbone: str
    spec: ClipSpec
    state: Mapping[str, Tensor]
    dropped: tuple[str, ...]

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
        _refuse(self.path, "it lacks", sorted(wanted - state.keys()))
        _refuse(self.path, "no place in the network for", sorted(state.keys() - own.keys()))
        bent = [k for k in state if state[k].shape != own[k].shape]
        for key in bent[:1]:
            raise WeightsError(
                self.path,
                f"{key} has shape {tuple(state[key].shape)}; "
                f"the network's is {tuple(own[key].shape)}",
            )
        backbone.load_state_dict({**own, **state})


def _refuse(path: Path, what: str, keys: list[str]) -> None:
    if keys:
        raise WeightsError(path, f"{what} {len(keys)} tensors, the first {keys[0]!r}")


def open_weights(source: str | os.PathLike[str], backbone: str) -> PretrainedWeights:
    """Weights for the backbone of that name from a file; WeightsError where they do not fit."""
    file = read_weights_file(Path(source))
    keymap = _choose(file, backbone)
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
    spec = _normalisation(file, keymap.spec)
    return PretrainedWeights(file.path, keymap.source, backbone, spec, state, tuple(dropped))


def _choose(file: WeightsFile, backbone: str) -> KeyMap:
    """The source whose names the file carries."""
    for keymap in KEYMAPS[backbone]:
        if keymap.fits(file.tensors):
            return keymap
    expected = " or ".join(f"{m.source} ({m.signature}...)" for m in KEYMAPS[backbone])
    first = next(iter(file.tensors), "none")
    raise WeightsError(
        file.path, f"not weights for {backbone}: expected {expected}; its first key is {first!r}"
    )


def _normalisation(file: WeightsFile, spec: ClipSpec) -> ClipSpec:
    """The clip with the mean and std that a file's metadata names, where it does."""
    try:
        mean, std = (
            _triple(file.metadata[name]) if name in file.metadata else getattr(spec, name)
            for name in ("mean", "std")
        )
    except ValueError as error:
        raise WeightsError(
            file.path, f"its metadata has no usable mean and std ({error})"
        ) from None
    return replace(spec, mean=mean, std=std)


def _triple(text: str) -> tuple[float, float, float]:
    """ "0.5,0.5,0.5" -> three numbers."""
    r, g, b = (float(part) for part in text.split(","))
    return r, g, b
