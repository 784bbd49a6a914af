"""Calibrate a frame head on its own training clips, each answered by a head that did not see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.heads import HeadSpec, pool_features
from touchline.pipeline.calibration.calibrate import NUM_ORDERS, calibrate, evidence_record
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.stitched_clips import has_enough_eventless, stitch_logits
from touchline.pipeline.calibration.temperature import fit_model_temperature
from touchline.pipeline.calibration.thresholds import LEAST_THRESHOLD
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.choose import ClipFeatures, Trial, held_out_heads
from touchline.pipeline.heads.logistic import Linear
from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.types import Float32, Float64

SPOTS = EventOptions(spots=True)

DEFAULT_THRESHOLD = OperatingPoint().threshold

VIEWS = 3
"""Frames of each clip that the temperature is fitted to, evenly spread."""


@dataclass(frozen=True)
class FrameClips:
    """Clips with the features of all their frames.

    Attributes:
        clips: The N clips.
        features: Per clip, the features (V, D, T) of V views of T frames.
        spec: The clip that they were loaded for: T frames.
        sampling: dense or uniform; how the views were taken.
    """

    clips: Sequence[LabelledClip]
    features: Sequence[Float32]
    spec: ClipSpec
    sampling: str = "dense"

    def frames(self, i: int) -> Float32:
        """Return the features (N, D) of every frame of clip i; of the nearest that has some."""
        clip, (V, D, T) = self.clips[i], self.features[i].shape
        index = np.concatenate([clip.view_index(T, k, V, sampling=self.sampling) for k in range(V)])
        rows = self.features[i].transpose(0, 2, 1).reshape(V * T, D)
        frame = np.arange(clip.num_frames)
        nearest: Float32 = rows[np.abs(frame[:, None] - index).argmin(axis=1)]
        return nearest

    def logits(self, i: int, linear: Callable[[Float32], Float64], head: HeadSpec) -> Float32:
        """Return what a frame head answers to every frame of clip i, (N, K)."""
        frames = torch.from_numpy(self.frames(i))[:, :, None]
        return linear(pool_features(frames, head).numpy()).astype(np.float32)


def calibrate_frames(
    model: TrainedModel,
    train: FrameClips,
    val: FrameClips,
    features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    *,
    seed: int = 0,
) -> TrainedModel:
    """Return the model with operating points for spots, from clips of matches not seen.

    Every training clip is answered by a head that was fitted without its match, every validation
    clip by the model. A training class of only one match has no head that could know it: its clips
    are left out. With less time without events than with events, thresholds do not fall below the
    default, because too few false events could show. Without events the model stays as it is, and
    so it does if several classes are true of one clip.

    Args:
        model: The fitted model.
        train: The training clips.
        val: The validation clips.
        features: What the head was fitted to.
        trial: The head and its strength.
        folds: Indices of the training clips of each fold; whole matches.
        seed: Random seed of the orders in which the clips are stitched together.
    """
    if (features.targets.sum(axis=1) > 1).any():
        return model
    layer = model.backbone.get_submodule(model.backbone.classifier)
    weight, bias = (parameter.detach().double().numpy() for parameter in layer.parameters())
    clips = list(val.clips)
    logits = [val.logits(i, Linear(weight, bias), trial.spec) for i in range(len(clips))]
    labels = [clip.example.label for clip in train.clips]
    num_folds = Counter(label for fold in folds for label in {labels[i] for i in fold})
    for fold, linear in zip(folds, held_out_heads(features, trial, folds), strict=True):
        known = [i for i in fold if num_folds[labels[i]] > 1]
        clips += [train.clips[i] for i in known]
        logits += [train.logits(i, linear, trial.spec) for i in known]
    if all(clip.example.label == BACKGROUND for clip in clips):
        return model
    return _calibrated(model, clips, logits, train.spec, seed)


def _calibrated(
    model: TrainedModel,
    clips: Sequence[LabelledClip],
    logits: Sequence[Float32],
    spec: ClipSpec,
    seed: int,
) -> TrainedModel:
    column = {label: k for k, label in enumerate(model.labels)}
    scores = ClipScores(
        tuple(clip.example for clip in clips),
        np.stack(
            [rows[np.linspace(0, len(rows) - 1, VIEWS).round().astype(int)] for rows in logits]
        ),
        np.array([column[clip.example.label] for clip in clips], dtype=np.int64),
    )
    temperature = fit_model_temperature(model, scores)
    at = replace(model, temperature=temperature)
    stitched = [stitch_logits(at, clips, logits, spec, seed=seed + k) for k in range(NUM_ORDERS)]
    target = Target()
    calibration = calibrate(
        model,
        scores,
        target=target,
        stitched=stitched,
        temperature=temperature,
        events=SPOTS,
        floor=LEAST_THRESHOLD if has_enough_eventless(stitched, []) else DEFAULT_THRESHOLD,
    )
    evidence = evidence_record(calibration, scores, target)
    return calibration.apply(model, replace(evidence, cross_validated=True))
