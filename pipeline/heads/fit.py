"""Fit a head to labelled clips in seconds, then fine-tune stages from it if they are to train."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from touchline.models.backbone import Backbone
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
from touchline.pipeline.scoring.feature_track import tracks_in
from touchline.pipeline.scoring.kept_features import KeptFeatures
from touchline.pipeline.training.batches import (
    BatchSource,
    Material,
    load_material,
    refuse_too_large,
)
from touchline.pipeline.training.optimize import FROZEN, READING, BudgetClock, Watch
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
    tracks: Sequence[Path] = (),
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
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
        options: How to sample the clips, and how to fine-tune; see `tuning_options`. `max_seconds`
            shortens the training of temporal heads and of stages. Linear and frame heads are
            fitted to the end, which takes seconds, once there are features.
        head: linear, frame, temporal, or auto: frame if there are background examples and the
            trunk sees single frames, else linear; and temporal where there are enough clips (see
            `suits_temporal`).
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and features that later runs reuse.
        tracks: Folders with features of whole matches, as the studio and `detect` keep them. Clips
            that they cover are not decoded if the trunk sees single frames and stays frozen.
        on_progress: Called with news of each phase.
        on_note: Called with one line, if `tracks` holds any features: for how many clips they are
            taken, and why not for all.
        already_s: Seconds spent before this call.

    Raises:
        FootageError: More than `options.max_bad` examples cannot be read.
        OutOfTimeError: `options.max_seconds` end before the features are computed, or it shows
            that they will.
        ValueError: The examples are of one match, or the head does not fit the trunk.
    """
    began = time.monotonic()
    clock = BudgetClock(options.max_seconds, elapsed_s=already_s)
    backbone = model.backbone
    frozen = options.frozen_at(options.epochs) == len(backbone.stages)
    specs = _specs(head, backbone, train, options, frozen=frozen)
    backbone.mirrored = any(spec.mirror for spec in specs)
    network = SplitNetwork(
        backbone,
        freeze=len(backbone.stages),
        device=device,
        precision=options.precision,
        batch_size=options.batch_size,
    )
    kept = _open_tracks(
        tracks,
        [*train, *val],
        network,
        max_clip_s=options.max_clip_s,
        why_not=_why_no_tracks(backbone, specs, frozen=frozen),
        on_note=on_note,
    )
    material = load_material(
        model,
        train,
        val,
        options,
        cache=cache,
        kept=kept,
        on_progress=on_progress,
        watch=clock.watch(READING, cache=cache),
    )
    has_background = any(c.example.label == BACKGROUND for c in material.train_clips)
    model = replace(model, has_background=has_background)
    # Before the features, which take the time: it refuses clips of a single match.
    folds = match_folds(
        [c.example.group for c in material.train_clips],
        [c.example.label for c in material.train_clips],
    )
    windows = clip_windows(
        network,
        material,
        options,
        cache=cache,
        on_progress=on_progress,
        watch=clock.watch(FROZEN, cache=cache),
    )
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
        model, val_probs, held_out = tuned.model, tuned.val_probs, tuned.held_out
    else:
        val_features = replace(features, windows=windows[num_train:], targets=material.val_targets)
        model, val_probs = _fitted(
            model, material, features, val_features, trials[0], folds, options, on_progress
        )
    result = FineTuneResult(
        model=model,
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


def _specs(
    head: str,
    backbone: Backbone,
    train: Sequence[Example],
    options: TrainOptions,
    *,
    frozen: bool,
) -> list[HeadSpec]:
    """The heads to compare; `frozen` says that no stage is fine-tuned afterwards."""
    specs = candidates(
        head,
        framewise=backbone.framewise,
        background=any(example.label == BACKGROUND for example in train),
        mirror=options.augmentation is not None and options.augmentation.flip,
    )
    if frozen:
        return specs
    # Stages are fine-tuned without mirror images, so from a head that does not see them either.
    return [*specs, *(replace(spec, mirror=False) for spec in specs if spec.mirror)]


def _fitted(
    model: TrainedModel,
    material: Material,
    features: ClipFeatures,
    val_features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    options: TrainOptions,
    on_progress: Callable[[Progress], None],
) -> tuple[TrainedModel, Float32]:
    """The model with a head fitted to all training clips, and its (N, K) answers to `val`.

    A frame head is calibrated, too.
    """
    spec = model.spec
    model = with_head(model, features, trial)
    val_probs = clip_probs(model, val_features)
    if trial.spec.kind == "frame":
        on_progress(Progress("calibrating", 0, 1))
        model = calibrate_frames(
            model,
            FrameClips(material.train_clips, features.windows, spec, options.sampling),
            FrameClips(material.val_clips, val_features.windows, spec, options.sampling),
            features,
            trial,
            folds,
            seed=options.seed,
        )
    return model, val_probs


def _temporal_limit_s(
    specs: Sequence[HeadSpec], num_folds: int, deadline: float | None
) -> float | None:
    """The seconds for one training of a temporal head, if all of them share what is left."""
    if deadline is None:
        return None
    # Each spec is trained on every fold, the best one once more on every fold and on all clips.
    num_trainings = num_folds * (1 + sum(spec.kind == "temporal" for spec in specs)) + 1
    return max(0.01, (deadline - time.monotonic()) / num_trainings)


def _why_no_tracks(backbone: Backbone, specs: Sequence[HeadSpec], *, frozen: bool) -> str | None:
    """Say why features of whole matches are of no use for these heads; None: they are."""
    if not backbone.framewise:
        return "the trunk looks beyond single frames, so a clip of its own has other features"
    if backbone.mirrored:
        return "a linear head sees mirror images, too. --no-augment leaves them out"
    if not frozen and any(can_tune(spec) for spec in specs):
        return "stages may be fine-tuned, which needs the pictures"
    return None


def _open_tracks(
    folders: Sequence[Path],
    examples: Sequence[Example],
    network: SplitNetwork,
    *,
    max_clip_s: float | None,
    why_not: str | None,
    on_note: Callable[[str], None],
) -> KeptFeatures | None:
    """Open the features of whole matches, and say what they are good for; None: nothing."""
    there = [folder for folder in folders if tracks_in(folder)]
    if not there:
        return None
    names, backbone = " and ".join(map(str, there)), network.backbone
    if why_not is not None:
        on_note(f"no features are taken from {names}: {why_not}")
        return None
    kept = KeptFeatures(there, [example.path for example in examples], backbone, network.dtype)
    missing = [
        example.path
        for example in examples
        if kept.clip(example, backbone.spec, max_clip_s=max_clip_s) is None
    ]
    if not missing:
        on_note(f"features of all {len(examples)} clips are taken from {names}")
        return kept
    reasons = [kept.missing[path] for path in missing if path in kept.missing]
    reason = reasons[0] if reasons else "they do not reach the other clips yet"
    taken = len(examples) - len(missing)
    whose = f"features of {taken} of {len(examples)} clips are" if taken else "no features are"
    on_note(f"{whose} taken from {names}: {reason}")
    return kept


def clip_windows(
    network: SplitNetwork,
    material: Material,
    options: TrainOptions,
    *,
    cache: Path | None,
    on_progress: Callable[[Progress], None],
    watch: Watch = lambda done, total: None,
) -> list[Float32]:
    """Return per clip, training clips first, the features (V, D, T) of its windows.

    Args:
        network: The network with all stages frozen.
        material: The clips.
        options: How to sample them.
        cache: Folder of features that later runs reuse.
        on_progress: Called with news.
        watch: As in `BatchSource.compute_features`.

    Raises:
        ValueError: The features do not fit into memory.
    """
    clips = [*material.train_clips, *material.val_clips]
    # Where no clip is longer than a window, all windows of a clip are the same.
    views = options.val_views if any(clip.first < clip.last for clip in clips) else 1
    T = network.backbone.spec.num_frames
    decoded = [clip for clip in clips if clip.features is None]
    widths = {clip.features.shape[1] for clip in clips if clip.features is not None}
    num_kept = views * (len(clips) - len(decoded))
    refuse_too_large(4 * T * max(widths, default=0) * num_kept, num_kept)
    computed: Iterator[Float32] = iter(())
    if decoded:
        source = BatchSource(
            network,
            decoded,
            decoded,
            replace(options.views(), augmentation=None, cached=0, val=views),
            cache=cache,
            on_view=lambda done, total: on_progress(Progress("frozen features", done, total)),
        )
        source.check_memory({network.split_at})
        source.compute_features(watch)
        rows = torch.cat([batch.cpu() for batch in source.val_batches()]).numpy()
        computed = iter(rows.reshape(len(decoded), views, *rows.shape[1:]))
    return [
        next(computed) if clip.features is None else _kept_windows(clip, T, views, options.sampling)
        for clip in clips
    ]


def _kept_windows(clip: LabelledClip, num_frames: int, views: int, sampling: str) -> Float32:
    """(V, D, T) features of the windows of a clip, from those of its frames."""
    assert clip.features is not None
    index = [clip.view_index(num_frames, k, views, sampling=sampling) for k in range(views)]
    rows = clip.features[np.stack(index).clip(0, clip.num_frames - 1)]  # (V, T, D)
    return np.ascontiguousarray(rows.transpose(0, 2, 1), dtype=np.float32)
