"""Fine-tune a network: frozen early stages, a new classifier, a few dozen labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.inference import computes_numbers, pick_device, pick_dtype
from touchline.pipeline.clips.augment import mix_up
from touchline.pipeline.distributed import current_world
from touchline.pipeline.scoring.clip_figures import val_figures
from touchline.pipeline.training.batches import (
    DROPOUT,
    MIXING,
    BatchSource,
    Material,
    Step,
    load_material,
    plan_epoch,
)
from touchline.pipeline.training.folded_batchnorm import folded_layers, settle_batchnorm
from touchline.pipeline.training.loss import make_loss
from touchline.pipeline.training.optimize import (
    FROZEN,
    READING,
    Anchor,
    Average,
    Best,
    BudgetClock,
    Guard,
    OutOfTimeError,
    carry_over,
    make_optimizer,
    set_learning_rates,
    share_statistics,
    smooth,
    trained_parameters,
)
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import FineTuneResult, OnEpoch, Progress
from touchline.pipeline.training.snapshot import (
    KeepState,
    Snapshot,
    TrainingState,
    describe_run,
    read_snapshot,
    save_snapshot,
)
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.training.targets import draw_chances, true_classes
from touchline.pipeline.types import Example, Float32

SETTLING_STEPS = 16
"""From this many steps, folded BatchNorm layers take their mean and variance."""


def fine_tune(
    model: TrainedModel,
    train: Sequence[Example],
    val: Sequence[Example],
    options: TrainOptions,
    *,
    device: str = "auto",
    cache: Path | None = None,
    keep: KeepState | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_epoch: OnEpoch = lambda row, val_probs: None,
    already_s: float = 0.0,
) -> FineTuneResult:
    """Train `model` on labelled examples and return the model of its best epoch.

    The best epoch has the lowest log loss on the validation examples, as the mean over the last
    three validations; one validation of a few dozen clips is luck. Without validation examples the
    last epoch is kept.

    Every process that torchrun started must make the same call; all get the same model.

    Args:
        model: The network to start from; its backbone is trained in place.
        train: Examples to learn from.
        val: Examples to choose the best epoch on; may be empty.
        options: How to train.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of decoded clips and frozen features that later runs reuse.
        keep: Where to save the state of the run, and whether to continue from it.
        on_progress: Called with news of each phase.
        on_epoch: Called after each epoch.
        already_s: Seconds of `options.max_seconds` spent before this call.

    Raises:
        FootageError: More than `options.max_bad` examples cannot be read.
        CheckpointError: The snapshot in `keep` is damaged or of another run.
        OutOfTimeError: The time budget is spent before the first step, or it shows that it will be.
        ValueError: The clips do not fit into memory, or training diverges before the first epoch
            ends well.

    Example:
        Train on match A, choose the best epoch on match B:

        >>> from pathlib import Path
        >>> from touchline.pipeline import TrainOptions, fine_tune, load_model, save_checkpoint
        >>> from touchline.pipeline import read_labels, split_by_group
        >>> split = split_by_group(read_labels("labels.csv"), val_groups=["B"])
        >>> model = load_model("model.safetensors")
        >>> result = fine_tune(model, split.train, split.val, TrainOptions(epochs=2))
        >>> result.stopped, len(result.history), result.val_probs.shape
        ('epochs', 2, (2, 2))
        >>> save_checkpoint(Path("fine_tuned.safetensors"), result.model)
    """
    run = describe_run(model, (*train, *val), options)
    saved = None
    if keep is not None and keep.resume and keep.path.exists():
        saved = read_snapshot(keep.path, run=run)
        model.backbone.load_state_dict(saved.part("network"))
    # `auto` is resolved once: no other process and no resumed run may choose differently.
    precision = saved.numbers.precision if saved else _resolve(options.precision, device)
    options = replace(options, precision=precision)
    spent_s = already_s + (saved.numbers.elapsed_s if saved else 0.0)
    clock = BudgetClock(options.max_seconds, elapsed_s=spent_s)
    # What was trained before is worth finishing, however long the clips take.
    limit = clock if saved is None else BudgetClock(None)
    material = load_material(
        model,
        train,
        val,
        options,
        cache=cache,
        on_progress=on_progress,
        watch=limit.watch(READING, cache=cache),
    )
    has_background = any(clip.example.label == BACKGROUND for clip in material.train_clips)
    trainer = Trainer(
        replace(model, has_background=has_background),
        material,
        options,
        clock,
        device=device,
        cache=cache,
        saved=saved,
        on_progress=on_progress,
    )

    def after_step() -> None:
        if keep is not None and current_world().is_first and clock.due(keep.every_s):
            elapsed_s = clock.elapsed_s()
            save_snapshot(
                keep.path, trainer.state, precision=precision, elapsed_s=elapsed_s, run=run
            )

    def after_epoch(row: dict[str, float], val_probs: Float32) -> None:
        on_epoch(row, val_probs)
        on_progress(Progress("training", trainer.state.epoch, options.epochs, _note(row)))

    stopped = trainer.train(after_step, after_epoch)
    trainer.load_best()
    val_probs = trainer.val_probs()
    # Without validation clips, only a clip of noise shows whether the network still works.
    if not (np.isfinite(val_probs).all() and computes_numbers(trainer.network.backbone)):
        if keep is not None and current_world().is_first:
            keep.path.unlink(missing_ok=True)
        raise ValueError(
            "training diverged before any epoch was worth keeping. "
            "Lower --lr, or use --precision float32"
        )
    network, state = trainer.network, trainer.state
    best_epoch = state.best.epoch or state.epoch
    network.backbone.freeze(options.frozen_at(best_epoch - 1))
    return FineTuneResult(
        model=replace(trainer.model, backbone=network.backbone.cpu().eval()),
        history=state.history,
        val_examples=tuple(clip.example for clip in material.val_clips),
        val_probs=val_probs,
        val_truth=true_classes(material.val_targets, multi_label=model.multi_label),
        problems=material.problems,
        seconds=clock.elapsed_s(),
        best_epoch=best_epoch,
        stopped=stopped,
        skipped_steps=state.guard.skipped,
        precision=precision,
    )


def _resolve(precision: str, device: str) -> str:
    """Return bf16 or float32, the same in all processes."""
    dtype = current_world().agreed(pick_dtype(precision, pick_device(device)))
    return "bf16" if dtype == torch.bfloat16 else "float32"


class Trainer:
    """Trains a network on loaded clips, epoch by epoch.

    Attributes:
        model: The model that is trained; its backbone is that of `network`.
        network: The backbone on its device, split where freezing ends.
        state: Everything that changes from step to step; what a snapshot saves.
        material: The clips and their targets.
        options: How to train; the precision is bf16 or float32.
        clock: The time budget.
        batches: Makes the inputs of each step.
        loss: The training loss.
        anchor: Pulls the weights towards where they started.
    """

    def __init__(
        self,
        model: TrainedModel,
        material: Material,
        options: TrainOptions,
        clock: BudgetClock,
        *,
        device: str = "auto",
        cache: Path | None = None,
        saved: Snapshot | None = None,
        anchor: float = 0.0,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Set up the network, its optimizer and its batches.

        Args:
            model: The model to train, in place.
            material: The clips to train and validate on.
            options: How to train; the precision is bf16 or float32.
            clock: The time budget.
            device: auto, cpu, cuda, cuda:1 or mps.
            cache: Folder of frozen features that later runs reuse.
            saved: Continue from this snapshot; its weights must be in `model` already.
            anchor: Weight of half the squared distance to the first weights in the loss.
            on_progress: Called while frozen features are computed.
        """
        self.model = model
        self.material = material
        self.options = options
        self.clock = clock
        self._cache = cache
        self.network = SplitNetwork(
            model.backbone,
            freeze=options.frozen_at(saved.numbers.epoch if saved else 0),
            device=device,
            precision=options.precision,
            batch_size=options.batch_size,
            train_statistics=options.batchnorm == "train",
        )
        backbone = self.network.backbone
        self.anchor = Anchor(backbone, anchor)
        self.state = TrainingState(
            backbone=backbone,
            optimizer=self._make_optimizer(),
            average=Average(backbone, options.ema),
            best=Best(),
            guard=Guard(backbone, options.max_skipped),
        )
        if saved is not None:
            saved.restore(self.state)
        self.batches = BatchSource(
            self.network,
            material.train_clips,
            material.val_clips,
            options.views(),
            cache=cache,
            on_view=lambda done, total: on_progress(Progress("frozen features", done, total)),
        )
        self.loss = make_loss(
            material.targets,
            balance=options.balance,
            has_background=model.has_background,
            multi_label=model.multi_label,
            smoothing=options.label_smoothing,
            focal_gamma=options.focal_gamma,
        )

    def train(self, after_step: Callable[[], None], after_epoch: OnEpoch) -> str:
        """Train until an option ends it; return why: epochs, budget, patience or diverged.

        Raises:
            OutOfTimeError: No time is left for the first step.
            ValueError: The features do not fit into memory.
        """
        options, state = self.options, self.state
        # Checked for every epoch now, so that no run fails after hours of training.
        later = range(state.epoch, options.epochs)
        self.batches.check_memory({options.frozen_at(epoch) for epoch in later})
        limit = self.clock if state.epoch == state.step == 0 else BudgetClock(None)
        self.batches.compute_features(limit.watch(FROZEN, cache=self._cache))
        if self.clock.spent() >= 1 and state.epoch == state.step == 0:
            raise OutOfTimeError(
                f"nothing was trained. Reading the clips and computing frozen features took all of "
                f"the {options.max_seconds:g} s. Raise --max-seconds"
            )
        stopped = ""
        while not stopped:
            self.train_epoch(after_step)
            stopped = self._reason_to_stop()
            row, val_probs = self.finish_epoch(last=bool(stopped))
            after_epoch(row, val_probs)
            if not stopped and "val_loss" in row:
                stopped = self._reason_after_validation()
        return stopped

    def train_epoch(self, after_step: Callable[[], None]) -> None:
        """Take the steps that this epoch still has, until the budget is spent or all diverges."""
        options, state, network = self.options, self.state, self.network
        if options.frozen_at(state.epoch) != network.backbone.num_frozen:
            self._unfreeze()
            self.batches.compute_features()
        steps = self._plan_epoch()
        self._settle_batchnorm(steps)
        network.train()
        for step, inputs in self.batches.train_batches(steps[state.step :], state.epoch):
            spent = self.clock.spent()
            if spent >= 1 and state.step:
                break
            done = (state.epoch + state.step / len(steps)) / options.epochs
            set_learning_rates(state.optimizer, done=max(done, spent), warmup=options.warmup)
            self.train_step(step, inputs)
            if state.guard.diverged:
                break
            after_step()

    def train_step(self, step: Step, inputs: Sequence[Tensor]) -> None:
        """Take one optimizer step; skip it if its gradient is not finite.

        Args:
            step: The step.
            inputs: Frozen features (B, ...) of each of its micro-batches.
        """
        state, backbone = self.state, self.network.backbone
        value = self._compute_gradient(step, inputs)
        self.anchor.add_gradient()
        norm = nn.utils.clip_grad_norm_(trained_parameters(backbone), self.options.clip_grad)
        if state.guard.allows(norm):
            state.optimizer.step()
            state.average.update(backbone)
            state.losses.append(value)
        state.step += 1

    def finish_epoch(self, *, last: bool) -> tuple[dict[str, float], Float32]:
        """Validate if it is due; return the epoch's row of the history and its scores (N, K)."""
        state = self.state
        epoch = state.epoch + 1
        row = {"epoch": float(epoch), "seconds": self.clock.elapsed_s()}
        if state.losses:
            row["loss"] = float(np.mean(state.losses))
        share_statistics(self.network.backbone, state.average)
        state.guard.keep()
        probs = np.zeros((0, len(self.model.labels)), np.float32)
        if last or epoch % self.options.validate_every == 0:
            probs, figures = self.validate(epoch)
            row |= figures
        state.history.append(row)
        state.epoch, state.step, state.losses = epoch, 0, []
        return row, probs

    def validate(self, epoch: int) -> tuple[Float32, dict[str, float]]:
        """Score the validation clips with the averaged weights; keep the epoch if it is the best.

        The figures are empty without validation clips, and if the network has diverged.
        """
        backbone, world = self.network.backbone, current_world()
        with self.state.average.applied(backbone):
            probs = self.val_probs()
            if not len(probs) or not world.agreed(bool(np.isfinite(probs).all())):
                return probs, {}
            targets = self.material.val_targets
            figures = world.agreed(val_figures(probs, targets, multi_label=self.model.multi_label))
            losses = [row["val_loss"] for row in self.state.history if "val_loss" in row]
            smoothed = float(smooth(np.array([*losses, figures["val_loss"]]))[-1])
            if self.state.losses:  # else all steps were skipped: the network of the epoch before
                self.state.best.offer(backbone, smoothed, epoch)
            return probs, figures | {"val_loss_smoothed": smoothed}

    def val_probs(self) -> Float32:
        """Return (N, K) probabilities of the validation clips, averaged over each clip's views."""
        K, num_clips = len(self.model.labels), len(self.material.val_clips)
        if num_clips == 0:
            return np.zeros((0, K), np.float32)
        logits = torch.cat([self.network.score(x) for x in self.batches.val_batches()])
        probs = self.model.probs(logits).reshape(num_clips, -1, K).mean(dim=1)
        return probs.cpu().numpy()

    def load_best(self) -> None:
        """Load the weights of the best epoch; the last ones if nothing was validated."""
        kept = self.state.best.state or self.state.average.state
        if kept:
            self.network.backbone.load_state_dict(kept)

    def _make_optimizer(self) -> torch.optim.AdamW:
        options = self.options
        return make_optimizer(
            self.network.backbone,
            lr=options.lr,
            trunk_lr_scale=options.trunk_lr_scale,
            stage_lr_decay=options.stage_lr_decay,
            weight_decay=options.weight_decay,
        )

    def _unfreeze(self) -> None:
        """Free the stages that are due; those that train already keep their optimizer state."""
        options, state = self.options, self.state
        self.network.freeze(options.frozen_at(state.epoch))
        optimizer = self._make_optimizer()
        done = max(state.epoch / options.epochs, self.clock.spent())
        carry_over(state.optimizer, optimizer, done=done)
        state.optimizer = optimizer

    def _plan_epoch(self) -> list[Step]:
        options, targets = self.options, self.material.targets
        return plan_epoch(
            self.state.epoch,
            len(targets),
            batch_size=options.batch_size,
            accumulate=options.accumulate,
            seed=options.seed,
            chances=draw_chances(targets) if options.balance == "sampling" else None,
        )

    def _settle_batchnorm(self, steps: Sequence[Step]) -> None:
        """Give folded BatchNorm layers that are about to train the statistics of the clips."""
        state, backbone = self.state, self.network.backbone
        if self.options.batchnorm != "train" or not folded_layers(backbone):
            return
        batches = self.batches.train_batches(steps[:SETTLING_STEPS], state.epoch)
        settled = settle_batchnorm(self.network, (x for _, inputs in batches for x in inputs))
        state.average.adopt(backbone, settled)
        state.guard.keep()

    def _compute_gradient(self, step: Step, inputs: Sequence[Tensor]) -> float:
        """Compute the gradient of the step's mean loss; return this process's share of the loss."""
        options, state, network = self.options, self.state, self.network
        targets, world = self.material.targets, current_world()
        # Processes average their gradients, so each counts its sum `size` times.
        total = self.loss.total(torch.from_numpy(targets[step.everyone])) / world.size
        place = [options.seed, state.epoch, state.step, world.rank]
        # Dropout depends only on the place in the run, so that a run can resume at any step.
        torch.manual_seed(int(np.random.SeedSequence([DROPOUT, *place]).generate_state(1)[0]))
        state.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for i, (part, x) in enumerate(zip(step.mine, inputs, strict=True)):
            wanted = torch.from_numpy(targets[part]).to(network.device)
            if options.mixup:
                rng = np.random.default_rng([MIXING, *place, i])
                x, wanted = mix_up(x, wanted, options.mixup, rng)
            with network.synchronised(i == len(inputs) - 1):
                result = self.loss.sum(network.run_trained(x), wanted) / total
                result.backward()  # type: ignore[no-untyped-call]
            value += result.item()
        return value

    def _reason_to_stop(self) -> str:
        """After an epoch's steps, return why training ends with it; empty if it continues."""
        if self.state.guard.diverged:
            return "diverged"
        if self.clock.spent() >= 1:
            return "budget"
        return "epochs" if self.state.epoch + 1 >= self.options.epochs else ""

    def _reason_after_validation(self) -> str:
        """After validation, return why training ends; empty if it continues."""
        if self.clock.spent() >= 1:
            return "budget"
        patience = self.options.patience
        stale = self.state.epoch - self.state.best.epoch
        return "patience" if patience is not None and stale >= patience else ""


def _note(row: dict[str, float]) -> str:
    figures = {"loss": "loss", "val_accuracy": "validation accuracy", "val_map": "validation mAP"}
    return ", ".join(f"{name} {row[key]:.3f}" for key, name in figures.items() if key in row)
