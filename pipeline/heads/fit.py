"""Fit a head to labelled clips in seconds, then fine-tune stages from it if they are to train."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.heads import HeadSpec
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.attach import clip_probs, with_head
from touchline.pipeline.heads.calibration import FrameClips, calibrate_frames
from touchline.pipeline.heads.choose import ClipFeatures, Trial, candidates, cross_validate
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.held_out import HeldOut, cross_validated
from touchline.pipeline.heads.learning_curve import CurvePoint, learning_curve
from touchline.pipeline.heads.temporal import suits_temporal
from touchline.pipeline.heads.tune import Start, Tuning, can_tune, tune, tuning_options
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
        held_out: The training clips, each answered without its match: by the best head, or by the
            network that was fine-tuned from it where that is kept.
        curve: How the recall of each class grew with the clips; empty if time ran out, and for a
            temporal head.
        num_folds: How many folds of whole matches they were compared on.
        tuning: How fine-tuning from the best head compared; None if all stages stay frozen.
    """

    result: FineTuneResult
    trials: tuple[Trial, ...]
    held_out: HeldOut
    curve: tuple[CurvePoint, ...]
    num_folds: int
    tuning: Tuning | None = None


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

    If `options` leave stages free, they are then fine-tuned from the fitted head, and kept where
    the same cross-validation says that this is better. `val` chooses nothing and is not fitted to;
    it takes part in the calibration of a frame head.

    Args:
        model: The network with its pretrained trunk; its backbone is changed in place.
        train: Examples to choose and fit on, of two or more matches.
        val: Examples to measure on; may be empty.
        options: How to sample the clips, and how to fine-tune; see `tuning_options`. Once features
            are computed, `max_seconds` shortens the training of temporal heads and of stages.
        head: linear, frame, temporal, or auto: frame if there are background examples and the
            trunk sees single frames, else linear; and temporal where there are enough clips (see
            `suits_temporal`).
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and features that later runs reuse.
        on_progress: Called with news of each phase.
        already_s: Seconds spent before this call.

    Raises:
        FootageError: More than `options.max_bad` examples cannot be read.
        ValueError: The examples are of one match, or the head does not fit the trunk.
    """
    began = time.monotonic()
    backbone = model.backbone
    frozen = options.frozen_at(options.epochs) == len(backbone.stages)
    flip = options.augmentation is not None and options.augmentation.flip
    specs = candidates(
        head,
        framewise=backbone.framewise,
        background=any(example.label == BACKGROUND for example in train),
        mirror=flip,
    )
    if not frozen:
        # Stages are fine-tuned without mirror images, so from a head that does not see them either.
        plain = [replace(spec, mirror=False) for spec in specs if spec.mirror]
        specs = [*specs, *plain]
    backbone.mirrored = any(spec.mirror for spec in specs)
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
    windows = clip_windows(network, material, options, cache=cache, on_progress=on_progress)
    if head == "auto" and suits_temporal(material.targets, num_steps=windows[0].shape[2]):
        specs = [*specs, *candidates("temporal", framewise=model.backbone.framewise)]
    num_train = len(material.train_clips)
    max_s = options.max_seconds
    deadline = None if max_s is None else began - already_s + max_s
    features = ClipFeatures(
        windows[:num_train],
        material.targets,
        has_background=has_background,
        multi_label=model.multi_label,
        limit_s=_temporal_limit_s(specs, len(folds), deadline),
        mirrored=backbone.mirrored,
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
    curve: tuple[CurvePoint, ...] = ()
    if trials[0].spec.kind != "temporal":  # its curve would take minutes
        curve = learning_curve(features, trials[0], folds, held_out, deadline=deadline)
    spec = model.spec
    model = replace(model, backbone=network.backbone.cpu())
    tuned, tuning = None, None
    if not frozen:
        start_trial = next((t for t in trials if can_tune(t.spec)), trials[0])
        tuned, tuning = tune(
            Start(model, features, start_trial, folds, held_out, trials[0]),
            material,
            tuning_options(options, views=len(windows[0]), multi_label=model.multi_label),
            device=device,
            cache=cache,
            deadline=deadline,
            on_progress=on_progress,
        )
    if tuned is not None:
        calibrated, val_probs, held_out = tuned.model, tuned.val_probs, tuned.held_out
    else:
        model = with_head(model, features, trials[0])
        val_features = replace(features, windows=windows[num_train:], targets=material.val_targets)
        val_probs = clip_probs(model, val_features)
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
        val_probs=val_probs,
        val_truth=true_classes(material.val_targets, multi_label=model.multi_label),
        problems=material.problems,
        seconds=already_s + time.monotonic() - began,
        best_epoch=0,
        stopped="solved",
        skipped_steps=0,
        precision="bf16" if network.dtype == torch.bfloat16 else "float32",
    )
    return FittedHead(result, tuple(trials), held_out, curve, len(folds), tuning)


def _temporal_limit_s(
    specs: Sequence[HeadSpec], num_folds: int, deadline: float | None
) -> float | None:
    """The seconds for one training of a temporal head, if all of them share what is left."""
    if deadline is None:
        return None
    # Each spec is trained on every fold, the best one once more on every fold and on all clips.
    num_trainings = num_folds * (1 + sum(spec.kind == "temporal" for spec in specs)) + 1
    return max(0.01, (deadline - time.monotonic()) / num_trainings)


def clip_windows(
    network: SplitNetwork,
    material: Material,
    options: TrainOptions,
    *,
    cache: Path | None,
    on_progress: Callable[[Progress], None],
) -> list[Float32]:
    """Return per clip, training clips first, the features (V, D, T) of its windows.

    Args:
        network: The network with all stages frozen.
        material: The clips.
        options: How to sample them.
        cache: Folder of features that later runs reuse.
        on_progress: Called with news.

    Raises:
        ValueError: The features do not fit into memory.
    """
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
