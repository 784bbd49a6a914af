"""Attach a fitted head to a network, and answer clips with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.heads.choose import ClipFeatures, Trial, fit
from touchline.pipeline.heads.logistic import Linear
from touchline.pipeline.types import Float32


def with_head(model: TrainedModel, features: ClipFeatures, trial: Trial) -> TrainedModel:
    """Return the model with a head fitted to all clips; a frame head sees one frame at a time.

    Args:
        model: The network, changed in place.
        features: The clips to fit the head to.
        trial: The head and its strength.
    """
    backbone, spec = model.backbone, trial.spec
    backbone.use_head(spec, len(model.labels), width=features.width)
    fitted = fit(features, trial)
    if isinstance(fitted, Linear):
        _set_linear(backbone.get_submodule(backbone.classifier), fitted)
    else:
        backbone.head.load_state_dict(fitted.head.state_dict())
    if spec.kind == "frame":
        backbone.spec = backbone.spec.with_sampling(num_frames=1)
    return replace(model, backbone=backbone.eval())


def clip_probs(model: TrainedModel, features: ClipFeatures) -> Float32:
    """Return (N, K) probabilities of clips, averaged over the rows of each."""
    probs = np.zeros(features.targets.shape, np.float32)
    if not len(probs):
        return probs
    head_spec = model.backbone.head_spec
    temporal = head_spec.kind == "temporal"
    layer = model.backbone.get_submodule("head" if temporal else model.backbone.classifier)
    X, clips = features.inputs(head_spec)
    with torch.no_grad():
        rows = model.probs(layer(torch.from_numpy(X))).numpy()
    np.add.at(probs, clips, rows)
    return np.asarray(probs / np.bincount(clips, minlength=len(probs))[:, None], dtype=np.float32)


def _set_linear(layer: torch.nn.Module, linear: Linear) -> None:
    with torch.no_grad():
        for own, fitted in zip(layer.parameters(), (linear.weight, linear.bias), strict=True):
            own.copy_(torch.from_numpy(fitted))
