"""Train the last stages of a trunk, starting from the head that was fitted to the frozen trunk.

Head and stages are pulled towards where they start (L2-SP, Li et al. 2018). The same folds of whole
matches that chose the head judge every epoch. Fine-tuning is kept only if it is better there.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.heads import HeadSpec
from touchline.pipeline.distributed import current_world
from touchline.pipeline.heads.attach import with_head
from touchline.pipeline.heads.choose import ClipFeatures, Trial, figures
from touchline.pipeline.heads.held_out import HeldOut
from touchline.pipeline.scoring.clip_figures import clip_losses
from touchline.pipeline.training.batches import BatchSource, Material
from touchline.pipeline.training.finetune import Trainer
from touchline.pipeline.training.optimize import FROZEN, BudgetClock, OutOfTimeError, smooth
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.types import Float32, Float64

MAX_EPOCHS = 10
"""Fine-tuning starts from a good head, so it needs few epochs."""

ANCHOR = 0.1
"""Weight of half the squared distance to the start in the loss."""


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned model that was better than its start.

    Attributes:
        model: The model.
        val_probs: (N, K) probabilities of the clips to measure on.
        held_out: The training clips, each answered by a network fine-tuned without its match.
    """

    model: TrainedModel
    val_probs: Float32
    held_out: HeldOut


@dataclass(frozen=True)
class Tuning:
    """What fine-tuning gave, on the folds that chose the head.

    Attributes:
        trial: The fitted head that it started from.
        log_loss: As in `Trial`, after the best number of epochs, smoothed; None without any epoch.
        balanced_accuracy: As in `Trial`; None without any epoch.
        epochs: How many epochs the result was trained for; 0 if the frozen trunk was kept.
        why: Why it was kept or not, as a sentence.
    """

    trial: Trial
    log_loss: float | None
    balanced_accuracy: float | None
    epochs: int
    why: str


def tuning_options(options: TrainOptions, *, views: int, multi_label: bool) -> TrainOptions:
    """Return the options that start as the fitted head ended.

    The loss is that of the logistic regression. The head learns as slowly as the last stage, and
    BatchNorm keeps its statistics, so that nothing jumps at the start.

    Args:
        options: As the user gave them.
        views: Windows per validation clip.
        multi_label: Whether classes are independent of each other.

    Raises:
        ValueError: A stage is freed after the last epoch.
    """
    epochs = min(options.epochs, MAX_EPOCHS)
    return replace(
        options,
        epochs=epochs,
        lr=options.lr * options.trunk_lr_scale,
        trunk_lr_scale=1.0,
        weight_decay=0.0,
        label_smoothing=0.0,
        focal_gamma=0.0,
        batchnorm="keep",
        balance="none" if multi_label else "weights",
        patience=None,
        val_views=views,
        validate_every=epochs + 1,
    )


def can_tune(spec: HeadSpec) -> bool:
    """Return whether stages can be fine-tuned from this head."""
    return spec.kind == "linear" and not spec.mirror


@dataclass(frozen=True)
class Start:
    """Where fine-tuning starts.

    Attributes:
        model: The network with its pretrained trunk.
        features: Features of the training clips behind the frozen trunk.
        trial: The head to start from, and its strength.
        folds: Indices of the clips of each fold that chose it.
        held_out: The training clips, each answered by the best head fitted without its match.
        best: The best head, which fine-tuning must beat; it may see mirror images, for example.
    """

    model: TrainedModel
    features: ClipFeatures
    trial: Trial
    folds: Sequence[Sequence[int]]
    held_out: HeldOut
    best: Trial

    def fitted_to(self, clips: Sequence[int]) -> TrainedModel:
        """Return a copy of the model with the head fitted to these clips."""
        model = replace(self.model, backbone=copy.deepcopy(self.model.backbone))
        return with_head(model, self.features.take(clips), self.trial)


def tune(
    start: Start,
    material: Material,
    options: TrainOptions,
    *,
    device: str = "auto",
    cache: Path | None = None,
    deadline: float | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Tuned | None, Tuning]:
    """Fine-tune the stages that `options` leave free; the head must be a linear one.

    Args:
        start: The model and its fitted head.
        material: The training clips, and clips to measure on; those never choose anything.
        options: From `tuning_options`.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of features that later runs reuse; None uses a temporary one.
        deadline: When to end at the latest, by `time.monotonic`.
        on_progress: Called with news of each phase.

    Returns:
        The fine-tuned model, None if it is not better than the frozen trunk, and how they compared.
    """
    kind = start.best.spec.kind
    if kind != "linear":
        why = f"did not fine-tune last stages, because a {kind} head won: kept the frozen trunk"
        return None, Tuning(start.trial, None, None, 0, why)
    with tempfile.TemporaryDirectory(prefix="touchline-") as folder:
        tuner = _Tuner(start, material, options, device, cache or Path(folder), deadline)
        try:
            return tuner.run(on_progress)
        except OutOfTimeError:
            return None, compare(start, [])


@dataclass(frozen=True)
class _Tuner:
    start: Start
    material: Material
    options: TrainOptions
    device: str
    cache: Path
    deadline: float | None

    def run(self, on_progress: Callable[[Progress], None]) -> tuple[Tuned | None, Tuning]:
        """See `tune`."""
        self._compute_features(on_progress)
        start, num_trainings = self.start, len(self.start.folds) + 1
        epochs: list[Float64] = []
        for k, fold in enumerate(start.folds):
            on_progress(Progress("fine-tuning", k, num_trainings))
            answers = list(self._fold_answers(fold, self._share_s(num_trainings - k)))
            if k == 0:
                epochs = [np.zeros_like(start.held_out.probs) for _ in answers]
            epochs = epochs[: len(answers)]
            for all_answers, of_fold in zip(epochs, answers, strict=False):
                all_answers[list(fold)] = of_fold
        tuning = current_world().agreed(compare(start, epochs))
        if not tuning.epochs:
            return None, tuning
        on_progress(Progress("fine-tuning", num_trainings - 1, num_trainings))
        model = start.fitted_to(range(len(start.features.windows)))
        trainer = self._trainer(model, self.material, self._share_s(1))
        if sum(1 for _ in train_epochs(trainer, tuning.epochs)) < tuning.epochs:
            why = "fine-tuned last stages: training on all clips ended early: kept the frozen trunk"
            return None, replace(tuning, epochs=0, why=why)
        trainer.load_best()
        probs = trainer.val_probs()
        model = replace(trainer.model, backbone=trainer.network.backbone.cpu().eval())
        held_out = replace(start.held_out, probs=epochs[tuning.epochs - 1])
        return Tuned(model, probs, held_out), tuning

    def _compute_features(self, on_progress: Callable[[Progress], None]) -> None:
        """Compute the features of all clips at the first split; every training then reads them."""
        material = self.material
        source = BatchSource(
            self._network(),
            material.train_clips,
            [*material.train_clips, *material.val_clips],
            self.options.views(),
            cache=self.cache,
            on_view=lambda done, total: on_progress(Progress("frozen features", done, total)),
        )
        source.check_memory({self.options.frozen_at(0)})
        left_s = None if self.deadline is None else self.deadline - time.monotonic()
        if current_world().size > 1:
            left_s = None  # one process must not stop while the others wait for its features
        source.compute_features(BudgetClock(left_s).watch(FROZEN))

    def _network(self) -> SplitNetwork:
        start, options = self.start, self.options
        return SplitNetwork(
            start.fitted_to(range(len(start.features.windows))).backbone,
            freeze=options.frozen_at(0),
            device=self.device,
            precision=options.precision,
            batch_size=options.batch_size,
        )

    def _share_s(self, trainings_left: int) -> float | None:
        """The seconds that the next training may take if all that are left share the time."""
        if self.deadline is None:
            return None
        return max(1e-9, (self.deadline - time.monotonic()) / trainings_left)

    def _fold_answers(self, fold: Sequence[int], budget_s: float | None) -> Iterator[Float32]:
        """Train on the other folds; after each epoch, the answers to this fold's clips."""
        material, held = self.material, set(fold)
        rest = [i for i in range(len(material.train_clips)) if i not in held]
        of_fold = Material(
            [material.train_clips[i] for i in rest],
            [material.train_clips[i] for i in fold],
            material.targets[rest],
            material.targets[list(fold)],
            [],
        )
        trainer = self._trainer(self.start.fitted_to(rest), of_fold, budget_s)
        for _ in train_epochs(trainer, self.options.epochs):
            with trainer.state.average.applied(trainer.network.backbone):
                answers = trainer.val_probs()
            if not np.isfinite(answers).all():
                return
            yield answers

    def _trainer(self, model: TrainedModel, material: Material, budget_s: float | None) -> Trainer:
        return Trainer(
            model,
            material,
            self.options,
            BudgetClock(budget_s),
            device=self.device,
            cache=self.cache,
            anchor=ANCHOR,
        )


def train_epochs(trainer: Trainer, count: int) -> Iterator[int]:
    """Train up to `count` epochs and yield after each; stop if time is up or training diverges."""
    state = trainer.state
    trainer.batches.compute_features()
    while state.epoch < count and trainer.clock.spent() < 1 and not state.guard.diverged:
        trainer.train_epoch(lambda: None)
        trainer.finish_epoch(last=False)
        yield state.epoch


def compare(start: Start, epochs: Sequence[Float64]) -> Tuning:
    """Compare fine-tuning with the best head, on the held-out clips of all folds together.

    The log loss of an epoch is smoothed. The best epoch counts as better than the head only if the
    difference is larger than its standard error over matches (one-standard-error rule, Breiman et
    al. 1984, section 3.4.3).

    Args:
        start: Where fine-tuning started.
        epochs: After each epoch, probabilities (N, K) of all training clips, by networks that did
            not see their match.
    """
    if not epochs:
        why = "fine-tuned last stages: no time for an epoch: kept the frozen trunk"
        return Tuning(start.trial, None, None, 0, why)
    judged = np.flatnonzero(start.held_out.judged).tolist()
    known = start.features.take(judged)

    def losses(probs: Float64) -> tuple[Float64, Float64]:
        return clip_losses(probs[judged], known.targets, multi_label=known.multi_label)

    first, weights = losses(start.held_out.probs)
    smoothed = smooth(np.array([losses(probs)[0] for probs in epochs]))
    best = int((smoothed @ weights).argmin())
    groups = [start.held_out.examples[i].group for i in judged]
    gain, error = gain_and_error(weights * (first - smoothed[best]), groups)
    before, after = float(first @ weights), float(smoothed[best] @ weights)
    accuracy = figures(known, epochs[best][judged])[1]
    begin = f"fine-tuned last stages: log loss {after:.3f}"
    if gain > error:
        why = f"{begin} after epoch {best + 1}, better than {before:.3f}: kept"
        return Tuning(start.trial, after, accuracy, best + 1, why)
    if gain > 0:
        begin += f", better than {before:.3f} by less than the standard error of {error:.3f}"
    else:
        begin += f", not better than {before:.3f}"
    return Tuning(start.trial, after, accuracy, 0, f"{begin}: kept the frozen trunk")


def gain_and_error(gains: Float64, groups: Sequence[str]) -> tuple[float, float]:
    """Return the sum of the gains and its standard error, matches being independent.

    Args:
        gains: (N,) of each clip.
        groups: The match of each clip.
    """
    names, of_clip = np.unique(groups, return_inverse=True)
    per_match = np.bincount(of_clip, weights=gains)
    n = len(names)
    error = float(per_match.std(ddof=1)) * n**0.5 if n > 1 else float("inf")
    return float(per_match.sum()), error
