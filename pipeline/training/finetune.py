"""Fine-tuning: frozen early stages, a fresh classifier, a few dozen labelled clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.inference import pick_device, pick_dtype
from touchline.pipeline.clips.augment import mix_up
from touchline.pipeline.distributed import current_world
from touchline.pipeline.training.batches import (
    DROPOUT,
    MIXING,
    Inputs,
    Material,
    Step,
    load_material,
    plan_epoch,
)
from touchline.pipeline.training.figures import val_figures
from touchline.pipeline.training.folded_batchnorm import folded_layers, settle_batchnorm
from touchline.pipeline.training.loss import Loss, make_loss
from touchline.pipeline.training.optimize import (
    Average,
    Best,
    Clock,
    Guard,
    carry_over,
    make_optimizer,
    set_learning_rates,
    share_statistics,
    trained_parameters,
)
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import FineTuneResult, OnEpoch, Progress
from touchline.pipeline.training.snapshot import (
    KeepState,
    Training,
    describe_run,
    read_snapshot,
    save_snapshot,
)
from touchline.pipeline.training.split_network import CutNetwork
from touchline.pipeline.training.targets import draw_chances
from touchline.pipeline.types import Example, Float32

SETTLING_STEPS = 16
"""The batches from which folded BatchNorm layers get their statistics."""


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
    """Adapt `model` (its backbone is trained in place) to the examples' classes.

    Without validation examples the last epoch is kept, else the epoch of the best balanced
    accuracy, for independent classes of the best mean average precision (ties: lower loss). Every
    process that torchrun started calls this alike and gets the same model.

    cache: a folder of decoded clips and frozen features that later runs share.
    already_s: seconds of the budget that went before.
    """
    run = describe_run(model, (*train, *val), asdict(options))
    saved = None
    if keep is not None and keep.resume and keep.path.exists():
        saved = read_snapshot(keep.path, run=run)
        model.backbone.load_state_dict(saved.part("network"))
    # `auto` is settled once: neither another process nor a run that goes on may choose otherwise.
    precision = saved.precision if saved else _settled(options.precision, device)
    options = replace(options, precision=precision)
    clock = Clock(options.max_seconds, elapsed_s=already_s + (saved.elapsed_s if saved else 0.0))
    material = load_material(model, train, val, options, cache, on_progress)
    taught = any(clip.example.label == BACKGROUND for clip in material.train_clips)
    model = replace(model, has_background=taught)
    network = CutNetwork(
        model.backbone,
        freeze=options.frozen_at(saved.epoch if saved else 0),
        device=device,
        precision=options.precision,
        batch_size=options.batch_size,
        train_statistics=options.batchnorm == "train",
    )
    state = _begin(network, options)
    if saved is not None:
        saved.restore(state)
    inputs = Inputs(
        network,
        material.train_clips,
        material.val_clips,
        options.views(),
        cache=cache,
        on_view=lambda done, total: on_progress(Progress("frozen features", done, total)),
    )

    def after_step() -> None:
        if keep is not None and current_world().is_first and clock.due(keep.every_s):
            save_snapshot(
                keep.path, state, precision=precision, elapsed_s=clock.elapsed_s(), run=run
            )

    def after_epoch(row: dict[str, float], val_probs: Float32) -> None:
        on_epoch(row, val_probs)
        on_progress(Progress("training", state.epoch, options.epochs, _note(row)))

    stopped = _train(
        network, model, material, inputs, state, options, clock, after_step, after_epoch
    )
    _take_best(network, state)
    val_probs = _probs(network, model, inputs, len(material.val_clips))
    if not np.isfinite(val_probs).all():
        if keep is not None and current_world().is_first:
            keep.path.unlink(missing_ok=True)
        raise ValueError(
            "training diverged before any epoch was worth keeping: lower --lr, "
            "or take --precision float32"
        )
    best_epoch = state.best.epoch or state.epoch
    network.backbone.freeze(options.frozen_at(best_epoch - 1))
    return FineTuneResult(
        model=replace(model, backbone=network.backbone.cpu().eval()),
        history=state.history,
        val_probs=val_probs,
        val_truth=_truth(material.val_targets, multi_label=model.multi_label),
        problems=material.problems,
        seconds=clock.elapsed_s(),
        best_epoch=best_epoch,
        stopped=stopped,
        skipped_steps=state.guard.skipped,
        precision=precision,
    )


def _settled(precision: str, device: str) -> str:
    """bf16 or float32, alike in all processes."""
    dtype = current_world().agreed(pick_dtype(precision, pick_device(device)))
    return "bf16" if dtype == torch.bfloat16 else "float32"


def _train(
    network: CutNetwork,
    model: TrainedModel,
    material: Material,
    inputs: Inputs,
    state: Training,
    options: TrainOptions,
    clock: Clock,
    after_step: Callable[[], None],
    after_epoch: OnEpoch,
) -> str:
    """From where `state` is to the end; why training ended."""
    targets = material.targets
    loss = make_loss(
        targets,
        balance=options.balance,
        has_background=model.has_background,
        multi_label=model.multi_label,
        smoothing=options.label_smoothing,
        focal_gamma=options.focal_gamma,
    )
    chances = draw_chances(targets) if options.balance == "sampling" else None
    # All at once, lest a run fail when it has learnt for hours.
    inputs.check_memory({options.frozen_at(epoch) for epoch in range(state.epoch, options.epochs)})
    inputs.fill()
    if clock.spent() >= 1 and state.epoch == state.step == 0:
        raise ValueError(
            f"what comes before the first step (reading clips, frozen features) took all of the "
            f"{options.max_seconds:g} s, so nothing was trained: raise --max-seconds"
        )
    stopped = ""
    while not stopped:
        if options.frozen_at(state.epoch) != network.backbone.num_frozen:
            _unfreeze(network, state, options, clock)
            inputs.fill()
        steps = plan_epoch(
            state.epoch,
            len(targets),
            batch_size=options.batch_size,
            accumulate=options.accumulate,
            seed=options.seed,
            chances=chances,
        )
        if options.batchnorm == "train" and folded_layers(network.backbone):
            batches = inputs.batches(steps[:SETTLING_STEPS], state.epoch)
            settled = settle_batchnorm(network, (x for _, parts in batches for x in parts))
            state.average.adopt(network.backbone, settled)
            state.guard.keep()
        network.train()
        for step, parts in inputs.batches(steps[state.step :], state.epoch):
            spent = clock.spent()
            if spent >= 1 and state.step:
                break
            done = (state.epoch + state.step / len(steps)) / options.epochs
            set_learning_rates(state.optimizer, done=max(done, spent), warmup=options.warmup)
            value = _gradient(network, loss, targets, step, parts, state, options)
            norm = nn.utils.clip_grad_norm_(trained_parameters(network.backbone), options.clip_grad)
            if state.guard.allows(norm):
                state.optimizer.step()
                state.average.update(network.backbone)
                state.losses.append(value)
            state.step += 1
            if state.guard.diverged:
                break
            after_step()
        stopped = _reason_to_stop(state, options, clock)
        row, probs = _finish_epoch(
            network, model, inputs, material.val_targets, state, options, clock, last=bool(stopped)
        )
        after_epoch(row, probs)
        if not stopped and "val_loss" in row:
            stopped = _reason_after_validation(state, options, clock)
    return stopped


def _optimizer(network: CutNetwork, options: TrainOptions) -> torch.optim.AdamW:
    return make_optimizer(
        network.backbone,
        lr=options.lr,
        trunk_lr_scale=options.trunk_lr_scale,
        stage_lr_decay=options.stage_lr_decay,
        weight_decay=options.weight_decay,
    )


def _begin(network: CutNetwork, options: TrainOptions) -> Training:
    return Training(
        backbone=network.backbone,
        optimizer=_optimizer(network, options),
        average=Average(network.backbone, options.ema),
        best=Best(),
        guard=Guard(network.backbone, options.max_skipped),
    )


def _unfreeze(network: CutNetwork, state: Training, options: TrainOptions, clock: Clock) -> None:
    """Free the stages that are due; what has learnt already goes on as it was."""
    network.freeze(options.frozen_at(state.epoch))
    optimizer = _optimizer(network, options)
    done = max(state.epoch / options.epochs, clock.spent())
    carry_over(state.optimizer, optimizer, done=done)
    state.optimizer = optimizer


def _gradient(
    network: CutNetwork,
    loss: Loss,
    targets: Float32,
    step: Step,
    parts: Sequence[Tensor],
    state: Training,
    options: TrainOptions,
) -> float:
    """Fill in the gradients of the mean loss over the whole step; gives this process's share."""
    world = current_world()
    # Processes average their gradients, so each counts its sum `size` times.
    total = loss.total(torch.from_numpy(targets[step.everyone])) / world.size
    place = [options.seed, state.epoch, state.step, world.rank]
    # Dropout depends on the place in the run alone, so that a run can go on from any step.
    torch.manual_seed(int(np.random.SeedSequence([DROPOUT, *place]).generate_state(1)[0]))
    state.optimizer.zero_grad(set_to_none=True)
    value = 0.0
    for i, (part, x) in enumerate(zip(step.mine, parts, strict=True)):
        wanted = torch.from_numpy(targets[part]).to(network.device)
        if options.mixup:
            rng = np.random.default_rng([MIXING, *place, i])
            x, wanted = mix_up(x, wanted, options.mixup, rng)
        with network.synchronised(i == len(parts) - 1):
            result = loss.sum(network.finish(x), wanted) / total
            result.backward()  # type: ignore[no-untyped-call]
        value += result.item()
    return value


def _finish_epoch(
    network: CutNetwork,
    model: TrainedModel,
    inputs: Inputs,
    val_targets: Float32,
    state: Training,
    options: TrainOptions,
    clock: Clock,
    *,
    last: bool,
) -> tuple[dict[str, float], Float32]:
    """Validate where due, offer the epoch as the best one; its row of the history, its scores."""
    epoch = state.epoch + 1
    row = {"epoch": float(epoch), "seconds": clock.elapsed_s()}
    if state.losses:
        row["loss"] = float(np.mean(state.losses))
    share_statistics(network.backbone, state.average)
    state.guard.keep()
    probs = np.zeros((0, len(model.labels)), np.float32)
    if last or epoch % options.validate_every == 0:
        with state.average.applied(network.backbone):
            probs = _probs(network, model, inputs, len(val_targets))
            # A network that has diverged may say nothing that is a number.
            if len(probs) and current_world().agreed(bool(np.isfinite(probs).all())):
                figures = val_figures(probs, val_targets, multi_label=model.multi_label)
                figures = current_world().agreed(figures)
                rank = (figures.pop("val_score"), -figures["val_loss"])
                state.best.offer(network.backbone, rank, epoch)
                row |= figures
    state.history.append(row)
    state.epoch, state.step, state.losses = epoch, 0, []
    return row, probs


def _reason_to_stop(state: Training, options: TrainOptions, clock: Clock) -> str:
    """Why training ends with the epoch whose steps are done; empty where it does not."""
    if state.guard.diverged:
        return "diverged"
    if clock.spent() >= 1:
        return "budget"
    return "epochs" if state.epoch + 1 >= options.epochs else ""


def _reason_after_validation(state: Training, options: TrainOptions, clock: Clock) -> str:
    """Why training ends now that the epoch is validated; empty where it does not."""
    if clock.spent() >= 1:
        return "budget"
    stale = state.epoch - state.best.epoch
    return "patience" if options.patience is not None and stale >= options.patience else ""


def _take_best(network: CutNetwork, state: Training) -> None:
    """The network as of its best epoch; where nothing was validated, as of now."""
    kept = state.best.state or state.average.state
    if kept:
        network.backbone.load_state_dict(kept)


def _probs(network: CutNetwork, model: TrainedModel, inputs: Inputs, num_clips: int) -> Float32:
    """(N, K) probabilities of the validation clips, averaged over the views of each."""
    if num_clips == 0:
        return np.zeros((0, len(model.labels)), np.float32)
    logits = torch.cat([network.score(x) for x in inputs.val_batches()])
    probs = model.probs(logits).reshape(num_clips, -1, len(model.labels)).mean(dim=1)
    return probs.cpu().numpy()


def _truth(targets: Float32, *, multi_label: bool) -> npt.NDArray[np.int64]:
    """(N,) columns; for independent classes (N, K) of 0 and 1."""
    return np.asarray(targets if multi_label else targets.argmax(axis=1), dtype=np.int64)


def _note(row: dict[str, float]) -> str:
    figures = {"loss": "loss", "val_accuracy": "validation accuracy", "val_map": "validation mAP"}
    return ", ".join(f"{name} {row[key]:.3f}" for key, name in figures.items() if key in row)
