"""Fit a head to labelled clips in seconds: the trunk stays as it is, cross-validation chooses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.calibration import FrameClips, calibrate_frames
from touchline.pipeline.heads.choose import (
    ClipFeatures,
    Trial,
    candidates,
    cross_validate,
    fit,
)
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.held_out import HeldOut, cross_validated
from touchline.pipeline.heads.learning_curve import CurvePoint, learning_curve
from touchline.pipeline.heads.logistic import Linear
from touchline.pipeline.training.batches import BatchSource, Material, load_material
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import FineTuneResult, Progress
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.training.targets import true_classes
from touchline.pipeline.types import Example, Float32


@dataclass(frozen=True)
class FittedHead:
    """A model with a fitted head, and how the heads compared.

    Attributes:
        result: As from `fine_tune`; without a history of epochs.
        trials: Every head that was compared, best first, each with its best strength.
        held_out: The training clips, each answered by the best head fitted without its match.
        curve: How the recall of each class grew with the clips; empty if time ran out.
        num_folds: How many folds of whole matches they were compared on.
    """

    result: FineTuneResult
    trials: tuple[Trial, ...]
    held_out: HeldOut
    curve: tuple[CurvePoint, ...]
    num_folds: int


def fit_head(
    model: TrainedModel,
    train: Sequence[Example],
    val: Sequence[Example],
    options: TrainOptions,
    *,
    head: str = "auto",
    device: str = "auto",
    cache: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    already_s: float = 0.0,
) -> FittedHead:
    """Choose a head by cross-validation over the matches of `train`, and fit it to all of them.

    The trunk is not trained. `val` neither chooses nor fits the head; it takes part in calibration.

    Args:
        model: The network with its pretrained trunk; its backbone is changed in place.
        train: Examples to choose and fit on, of two or more matches.
        val: Examples to measure on; may be empty.
        options: How to sample the clips; options of the training loop have no effect.
        head: auto (compare all that fit the trunk), linear or frame.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and features that later runs reuse.
        on_progress: Called with news of each phase.
        already_s: Seconds spent before this call.

    Raises:
        FootageError: More than `options.max_bad` examples cannot be read.
        ValueError: The examples are of one match, or the head does not fit the trunk.
    """
    began = time.monotonic()
    specs = candidates(head, framewise=model.backbone.framewise)
    material = load_material(model, train, val, options, cache=cache, on_progress=on_progress)
    has_background = any(c.example.label == BACKGROUND for c in material.train_clips)
    model = replace(model, has_background=has_background)
    network = SplitNetwork(
        model.backbone,
        freeze=len(model.backbone.stages),
        device=device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    # Before the features, which take the time: it refuses clips of a single match.
    folds = match_folds(
        [c.example.group for c in material.train_clips],
        [c.example.label for c in material.train_clips],
    )
    windows = _clip_windows(network, material, options, cache=cache, on_progress=on_progress)
    num_train = len(material.train_clips)
    features = ClipFeatures(
        windows[:num_train],
        material.targets,
        has_background=has_background,
        multi_label=model.multi_label,
    )
    trials = cross_validate(
        features,
        specs,
        folds,
        on_fold=lambda done, total: on_progress(Progress("comparing heads", done, total)),
    )
    held_out = cross_validated(
        features,
        trials[0],
        folds,
        examples=[clip.example for clip in material.train_clips],
        labels=model.labels,
    )
    limit_s = options.max_seconds
    deadline = None if limit_s is None else began - already_s + limit_s
    curve = learning_curve(features, trials[0], folds, held_out, deadline=deadline)
    spec = model.spec
    model = with_head(replace(model, backbone=network.backbone.cpu()), features, trials[0])
    val_features = replace(features, windows=windows[num_train:], targets=material.val_targets)
    calibrated = model
    if trials[0].spec.kind == "frame":
        on_progress(Progress("calibrating", 0, 1))
        calibrated = calibrate_frames(
            model,
            FrameClips(material.train_clips, features.windows, spec, options.sampling),
            FrameClips(material.val_clips, val_features.windows, spec, options.sampling),
            features,
            trials[0],
            folds,
            seed=options.seed,
        )
    result = FineTuneResult(
        model=calibrated,
        history=[],
        val_examples=tuple(clip.example for clip in material.val_clips),
        val_probs=clip_probs(model, val_features),
        val_truth=true_classes(material.val_targets, multi_label=model.multi_label),
        problems=material.problems,
        seconds=already_s + time.monotonic() - began,
        best_epoch=0,
        stopped="solved",
        skipped_steps=0,
        precision="bf16" if network.dtype == torch.bfloat16 else "float32",
    )
    return FittedHead(result, tuple(trials), held_out, curve, len(folds))


def with_head(model: TrainedModel, features: ClipFeatures, trial: Trial) -> TrainedModel:
    """Return the model with a head fitted to all clips; a frame head sees one frame at a time.

    Args:
        model: The network, changed in place.
        features: The clips to fit the head to.
        trial: The head and its strength.
    """
    backbone, spec = model.backbone, trial.spec
    width = features.windows[0].shape[1]
    backbone.use_head(spec, len(model.labels), width=width)
    _set_linear(backbone.get_submodule(backbone.classifier), fit(features, spec, trial.strength))
    if spec.kind == "frame":
        backbone.spec = backbone.spec.with_sampling(num_frames=1)
    return replace(model, backbone=backbone.eval())


def clip_probs(model: TrainedModel, features: ClipFeatures) -> Float32:
    """Return (N, K) probabilities of clips, averaged over the rows of each."""
    probs = np.zeros(features.targets.shape, np.float32)
    if not len(probs):
        return probs
    head_spec = model.backbone.head_spec
    linear = model.backbone.get_submodule(model.backbone.classifier)
    X, clips = features.inputs(head_spec)
    with torch.no_grad():
        rows = model.probs(linear(torch.from_numpy(X))).numpy()
    np.add.at(probs, clips, rows)
    return np.asarray(probs / np.bincount(clips, minlength=len(probs))[:, None], dtype=np.float32)


def _clip_windows(
    network: SplitNetwork,
    material: Material,
    options: TrainOptions,
    *,
    cache: Path | None,
    on_progress: Callable[[Progress], None],
) -> list[Float32]:
    """Per clip, training clips first: (V, D, T) features of its windows."""
    clips: list[LabelledClip] = [*material.train_clips, *material.val_clips]
    # Where no clip is longer than a window, all windows of a clip are the same.
    views = options.val_views if any(clip.first < clip.last for clip in clips) else 1
    source = BatchSource(
        network,
        material.train_clips,
        clips,
        replace(options.views(), augmentation=None, cached=0, val=views),
        cache=cache,
        on_view=lambda done, total: on_progress(Progress("frozen features", done, total)),
    )
    source.check_memory({network.split_at})
    source.compute_features()
    rows = torch.cat([batch.cpu() for batch in source.val_batches()]).numpy()
    return list(rows.reshape(len(clips), views, *rows.shape[1:]))


def _set_linear(layer: torch.nn.Module, linear: Linear) -> None:
    with torch.no_grad():
        for own, fitted in zip(layer.parameters(), (linear.weight, linear.bias), strict=True):
            own.copy_(torch.from_numpy(fitted))
