"""Choose a head by cross-validation over whole matches, on the features of a frozen trunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from touchline.models.checkpoint import class_probs
from touchline.models.heads import POOLINGS, HeadSpec, pool_features
from touchline.pipeline.heads.logistic import Linear, LogisticProblem, balanced_weights
from touchline.pipeline.heads.temporal import (
    TEMPORAL_STRENGTHS,
    FittedTemporal,
    TemporalProblem,
)
from touchline.pipeline.scoring.clip_figures import clip_losses
from touchline.pipeline.types import Float32, Float64, Int64

STRENGTHS = (1.0, 10.0, 100.0, 1000.0)
"""The strengths C of logistic regression that are tried, weakest first."""

TEMPERATURES = tuple(float(t) for t in np.geomspace(0.02, 4.0, 25))
"""What the logits of a frame head may be divided by: a weak one is right, but far too unsure."""

FRAMES_PER_CLIP = 16
"""The most frames of a clip that a frame head learns from, evenly spread."""


@dataclass(frozen=True)
class ClipFeatures:
    """Trunk features of labelled clips, and what each clip shows.

    Attributes:
        windows: Per clip (V, D, T) float32: V windows of T features; (V, 2 D, T) if `mirrored`.
        targets: (N, K) float32, 1 in the column of each clip's class.
        has_background: Whether column 0 has examples; without, it is left out.
        multi_label: Whether classes are independent of each other.
        limit_s: The most seconds of one training of a temporal head; None for no limit.
        mirrored: Whether the features of the mirror image follow those of each picture.
    """

    windows: Sequence[Float32]
    targets: Float32
    has_background: bool = True
    multi_label: bool = False
    limit_s: float | None = None
    mirrored: bool = False

    @property
    def width(self) -> int:
        """D, how many features a picture has."""
        return int(self.windows[0].shape[1]) // (2 if self.mirrored else 1)

    def take(self, clips: Sequence[int]) -> ClipFeatures:
        """Return these clips only."""
        rows = [self.windows[i] for i in clips]
        return replace(self, windows=rows, targets=self.targets[list(clips)])

    def inputs(self, spec: HeadSpec) -> tuple[Float32, Int64]:
        """Return what the fitted layers see, and the clip of each row, (M,).

        That is (M, P) for a linear layer, and (M, D, T) for a temporal head.
        """
        if spec.kind == "temporal":
            counts = [len(windows) for windows in self.windows]
            seen = np.concatenate(self.windows)[:, : self.width]
            return seen, np.repeat(np.arange(len(counts)), counts)
        rows, clips = [], []
        for i, windows in enumerate(self.windows):
            features = torch.from_numpy(windows)
            if self.mirrored and not spec.mirror:
                features = features[:, : self.width]
            if spec.kind == "frame":
                features = _frames(features)
            pooled = pool_features(features, spec).numpy()
            rows.append(pooled)
            clips += [i] * len(pooled)
        return np.concatenate(rows), np.array(clips, dtype=np.int64)


def _frames(windows: torch.Tensor) -> torch.Tensor:
    """(V, D, T) -> (M, D, 1): single frames, at most FRAMES_PER_CLIP, evenly spread."""
    frames = windows.transpose(1, 2).flatten(0, 1)[:, :, None]
    if len(frames) <= FRAMES_PER_CLIP:
        return frames
    return frames[torch.linspace(0, len(frames) - 1, FRAMES_PER_CLIP).round().long()]


@dataclass(frozen=True)
class Trial:
    """A head as cross-validation found it.

    Attributes:
        spec: The head.
        strength: C of the logistic regression; of a temporal head, the inverse weight decay.
        temperature: The logits of a frame head are divided by it; 1 for other heads.
        log_loss: Mean over classes of the mean negative log probability of the right answer.
        balanced_accuracy: Mean recall of the classes, in [0, 1]; for independent classes, the share
            of right answers at probability 0.5, mean over classes.
    """

    spec: HeadSpec
    strength: float
    log_loss: float
    balanced_accuracy: float
    temperature: float = 1.0


def candidates(
    head: str, *, framewise: bool, background: bool = False, mirror: bool = False
) -> list[HeadSpec]:
    """Return the heads to compare.

    With background examples the model is meant to find events in matches, where a frame head is
    better than a linear one although it is worse on clips. So auto compares frame heads then, and
    linear heads otherwise.

    Args:
        head: auto, linear, frame or temporal.
        framewise: Whether the trunk sees frames one by one, so that single frames have features.
        background: Whether there are background examples.
        mirror: Whether linear heads see the mirror image of each picture, too. Other heads never
            do: in a match that would take twice as long.

    Raises:
        ValueError: A frame head is asked for, and the trunk has no features of single frames.
    """
    if head == "frame" and not framewise:
        raise ValueError(
            "this backbone has no features of single frames, so it cannot have a frame head. "
            "Use --head linear, or a backbone that works frame by frame, such as cnn_lstm"
        )
    normalisations = ("l2", "none")
    if head == "frame" or (head == "auto" and framewise and background):
        return [HeadSpec("frame", "mean", n) for n in normalisations]
    if head == "temporal":
        return [HeadSpec("temporal", "mean", n) for n in normalisations]
    return [HeadSpec("linear", p, n, mirror) for p in POOLINGS for n in normalisations]


def cross_validate(
    features: ClipFeatures,
    specs: Sequence[HeadSpec],
    folds: Sequence[Sequence[int]],
    *,
    on_fold: Callable[[int, int], None] = lambda done, total: None,
) -> list[Trial]:
    """Return the best strength of each head, best head first.

    Every fold's clips are answered by a head that did not see their matches. The lowest log loss
    wins: on a few dozen clips it is steadier than accuracy, which one clip moves by percents. A
    frame head is judged at its best temperature, because its probabilities are averaged over time
    anyway. Clips of a class that only one fold has are not judged: without them nothing shows
    their class.

    Args:
        features: The clips to learn from.
        specs: The heads to compare.
        folds: Indices of the clips of each fold; whole matches.
        on_fold: Called with the number of fits done and in all.
    """
    judged = judged_clips(features.targets, folds)
    known = features.take(judged)
    best = []
    for n, spec in enumerate(specs):
        X, clips = features.inputs(spec)
        strengths = TEMPORAL_STRENGTHS if spec.kind == "temporal" else STRENGTHS
        logits = np.zeros((len(strengths), len(X), features.targets.shape[1]))
        for k, fold in enumerate(folds):
            on_fold(n * len(folds) + k, len(specs) * len(folds))
            held = np.isin(clips, fold)
            problem = _problem(features, spec, X[~held], clips[~held])
            for s, strength in enumerate(strengths):
                logits[s, held] = _logits(features, problem.solve(strength), X[held])
        trials = [
            Trial(
                spec,
                strength,
                *figures(known, _clip_probs(features, found / temperature, clips)[judged]),
                temperature,
            )
            for strength, found in zip(strengths, logits, strict=True)
            for temperature in (TEMPERATURES if spec.kind == "frame" else (1.0,))
        ]
        best.append(min(trials, key=lambda t: t.log_loss))
    return sorted(best, key=lambda t: t.log_loss)


def held_out_probs(
    features: ClipFeatures,
    trial: Trial,
    folds: Sequence[Sequence[int]],
    *,
    learn: Callable[[Sequence[int]], Sequence[int]] = list,
) -> Float64:
    """Return (N, K) probabilities of all clips, each by a head that did not see its match.

    Args:
        features: The clips to learn from and to answer.
        trial: The head and its strength.
        folds: Indices of the clips of each fold; whole matches.
        learn: Which of the clips of the other folds a head is fitted to.
    """
    X, clips = features.inputs(trial.spec)
    probs = np.zeros(features.targets.shape)
    for fold in folds:
        held = np.isin(clips, fold)
        fitted = np.isin(clips, learn(np.setdiff1d(clips, fold).tolist()))
        head = _problem(features, trial.spec, X[fitted], clips[fitted]).solve(trial.strength)
        logits = _logits(features, head, X[held]) / trial.temperature
        answers = _clip_probs(features, logits, clips[held])
        probs[list(fold)] = answers[list(fold)]
    return probs


def held_out_heads(
    features: ClipFeatures, trial: Trial, folds: Sequence[Sequence[int]]
) -> list[Linear | FittedTemporal]:
    """Return for each fold what is fitted to the clips of all the others.

    Args:
        features: The clips to fit it to.
        trial: The head and its strength.
        folds: Indices of the clips of each fold; whole matches.
    """
    X, clips = features.inputs(trial.spec)
    kept = [~np.isin(clips, fold) for fold in folds]
    return [_solve(features, trial, X[k], clips[k]) for k in kept]


def fit(features: ClipFeatures, trial: Trial) -> Linear | FittedTemporal:
    """Return the linear layer of a head, or the temporal head, fitted to all clips."""
    return _solve(features, trial, *features.inputs(trial.spec))


def _solve(
    features: ClipFeatures, trial: Trial, X: Float32, clips: Int64
) -> Linear | FittedTemporal:
    fitted = _problem(features, trial.spec, X, clips).solve(trial.strength)
    if isinstance(fitted, Linear):
        fitted = fitted.divided_by(trial.temperature)
    # Without background examples column 0 was left out; its probability is 0 whatever its logit.
    return fitted if features.has_background else fitted.with_column_0()


def _problem(
    features: ClipFeatures, spec: HeadSpec, X: Float32, clips: Int64
) -> LogisticProblem | TemporalProblem:
    first = 0 if features.has_background else 1
    targets = features.targets[clips][:, first:]
    multi_label = features.multi_label
    weights = 1 / np.bincount(clips)[clips]
    if not multi_label:
        weights = balanced_weights(targets, weights)
    if spec.kind == "temporal":
        limit_s = features.limit_s
        return TemporalProblem(spec, X, targets, weights, multi_label=multi_label, limit_s=limit_s)
    return LogisticProblem(X, targets, weights, multi_label=multi_label)


def _logits(features: ClipFeatures, head: Linear | FittedTemporal, X: Float32) -> Float64:
    """(M, K) logits of rows; without background examples, column 0 is minus infinity."""
    logits = head(X)
    if features.has_background:
        return logits
    return np.concatenate([np.full((len(X), 1), -np.inf), logits], axis=1)


def _clip_probs(features: ClipFeatures, logits: Float64, clips: Int64) -> Float64:
    """(N, K) probabilities of clips, averaged over their rows (M, K); 0 for clips without any."""
    probs = class_probs(
        torch.from_numpy(logits), has_background=True, multi_label=features.multi_label
    ).numpy()
    sums = np.zeros(features.targets.shape)
    np.add.at(sums, clips, probs)
    counts = np.bincount(clips, minlength=len(sums))
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def judged_clips(targets: Float32, folds: Sequence[Sequence[int]]) -> list[int]:
    """Return the clips of classes that two folds or more have; without such a class, all clips."""
    num_folds = sum(targets[list(fold)].max(axis=0) for fold in folds)
    judged = [i for i in range(len(targets)) if (targets[i] * num_folds).max() > 1]
    return judged or list(range(len(targets)))


def figures(features: ClipFeatures, probs: Float64) -> tuple[float, float]:
    """Return log loss and balanced accuracy of clip probabilities, as in `Trial`.

    Args:
        features: The clips.
        probs: (N, K) the answers.
    """
    losses, weights = clip_losses(probs, features.targets, multi_label=features.multi_label)
    targets = features.targets.astype(bool)
    if features.multi_label:
        right = ((probs >= 0.5) == targets).mean(axis=1)
    else:
        right = probs.argmax(axis=1) == targets.argmax(axis=1)
    return float(losses @ weights), float(np.average(right, weights=weights))
