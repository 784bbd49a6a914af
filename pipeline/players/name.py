"""Name the player in a photo, or say why not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel, load_checkpoint
from touchline.models.errors import CheckpointError
from touchline.models.training_record import PhotoRules
from touchline.models.weights.installed import FACE_DETECTOR, verified_file
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.players.faces import Face, FaceFinder, FindFaces
from touchline.pipeline.players.options import UNKNOWN
from touchline.pipeline.players.photos import Look, look_at
from touchline.pipeline.players.train import least_prob_of
from touchline.pipeline.types import UInt8


@dataclass(frozen=True)
class Naming:
    """Who is in a photo.

    Attributes:
        player: The name; None: unknown.
        probability: Of the name, or of the likeliest one if that is too low; None if the photo was
            not good enough to be asked about.
        why: Why the player is unknown; empty with a name.
        face: The face that was looked at; None if none was found, or the whole photo was.

    Example:
        >>> from touchline.pipeline import Naming
        >>> Naming("Anna", 0.97).player
        'Anna'
    """

    player: str | None
    probability: float | None
    why: str = ""
    face: Face | None = None


def load_players_model(path: str | os.PathLike[str]) -> TrainedModel:
    """Load a model that `touchline players train` wrote.

    Raises:
        CheckpointError: The file cannot be used, or is a model of another kind.
    """
    model = load_checkpoint(path)
    if model.record.photos is None:
        raise CheckpointError(
            Path(path), "a model of footage, not of players. Use `touchline players train`."
        )
    return model


def face_finder(model: TrainedModel) -> FindFaces | None:
    """Return what finds the faces that a model of players looks at; None if it looks at photos.

    Args:
        model: From `train_players` or `load_players_model`.

    Raises:
        WeightsError: The package that holds the face detector is missing, or its file is another.
        ValueError: The model is not one of players.
    """
    if _rules(model).crop == "none":
        return None
    return FaceFinder(verified_file(FACE_DETECTOR)[0]).faces


def name_players(
    model: TrainedModel, pictures: Sequence[UInt8], *, find_faces: FindFaces | None = None
) -> list[Naming]:
    """Name the player in each picture; of several faces, the largest is looked at.

    Args:
        model: From `train_players` or `load_players_model`.
        pictures: (3, H, W) RGB each, of any size.
        find_faces: Finds faces, if the model looks at faces; None: the installed detector.

    Raises:
        WeightsError: The package that holds the face detector is missing, or its file is another.
        ValueError: The model is not one of players.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from touchline.pipeline import PlayersOptions, name_players, train_players
        >>> weights = "model.safetensors"
        >>> options = PlayersOptions(backbone="brightness", weights=weights, crop="none")
        >>> model = train_players(Path("photos"), options).model
        >>> (naming,) = name_players(model, [np.zeros((3, 20, 30), np.uint8)])
        >>> naming.player, naming.why
        (None, 'too small: 30 x 20 px, at least 96 px are needed')
    """
    rules = _rules(model)
    find_faces = find_faces or face_finder(model)
    return [_name(model, look_at(picture, rules, find_faces)) for picture in pictures]


def _rules(model: TrainedModel) -> PhotoRules:
    if model.record.photos is None:
        raise ValueError(
            "the model is one of footage, not of players. Use one of `touchline players train`"
        )
    return model.record.photos


@torch.no_grad()
def _name(model: TrainedModel, look: Look) -> Naming:
    if look.refusal:
        return Naming(None, None, look.refusal, look.face)
    square = torch.from_numpy(squared(look.pixels[None], model.spec))  # (1, 3, S, S)
    clip = normalise(square.transpose(0, 1)[None], model.spec)
    probs = model.probs(model.backbone(clip))[0]
    k = int(probs.argmax())
    top, least = float(probs[k]), least_prob_of(model)
    if k == 0:
        return Naming(None, top, f"looks like the people in {UNKNOWN}/", look.face)
    if top < least:
        likeliest = f"the likeliest player has {top:.2f}, at least {least:.2f} is needed"
        return Naming(None, top, likeliest, look.face)
    return Naming(model.labels[k], top, face=look.face)
