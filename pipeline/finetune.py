"""Fine-tuning: frozen early stages, a fresh classifier, a few dozen labelled clips."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from touchline.models.backbone import Backbone, normalise
from touchline.models.checkpoint import TrainedModel
from touchline.models.inference import fast_copy, pick_device, pick_dtype
from touchline.pipeline.dataset import (
    Augmentation,
    LabelledClip,
    augmented_view,
    load_clips,
    plain_views,
)
from touchline.pipeline.types import BACKGROUND, Example, Float32


@dataclass(frozen=True)
class TrainOptions:
    """How to fine-tune; the defaults suit a few dozen clips.

    freeze: how many stages stay as they are, from the first on.
    trunk_lr_scale: learning rate of trained stages as a share of `lr`, the head's.
    max_seconds: wall-clock budget, decoding and feature extraction counted in; the schedule
        follows whichever of epochs and budget runs out first.
    cached_views: with frozen stages, so many augmented views of each clip are carried through
        them once and reused; 0 carries fresh views through every epoch.
    val_views: windows per validation clip, probabilities averaged.
    """

    freeze: int = 0
    epochs: int = 40
    batch_size: int = 8
    lr: float = 1e-3
    trunk_lr_scale: float = 0.1
    weight_decay: float = 0.01
    warmup: float = 0.1
    label_smoothing: float = 0.1
    clip_grad: float = 1.0
    balance: bool = True
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    cached_views: int = 4
    val_views: int = 3
    max_clip_s: float | None = None
    max_bad: int = 0
    max_seconds: float | None = None
    precision: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """One line of news for whoever shows progress: `done` of `total` in `phase`."""

    phase: str
    done: float
    total: float
    note: str = ""


@dataclass(frozen=True)
class FineTuneResult:
    """The best model, what happened epoch by epoch, and the validation scores of that model.

    val_probs: (N, K) of the validation clips in order; val_truth: (N,) column indices.
    """

    model: TrainedModel
    history: list[dict[str, float]]
    val_probs: Float32
    val_truth: npt.NDArray[np.int64]
    problems: list[str]
    seconds: float


def fine_tune(
    model: TrainedModel,
    train: Sequence[Example],
    val: Sequence[Example],
    options: TrainOptions,
    *,
    device: str = "auto",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> FineTuneResult:
    """Adapt `model` (its backbone is trained in place) to the examples' classes.

    Without validation examples the last epoch is kept, else the epoch of the best balanced
    accuracy (ties: lower loss) on them.
    """
    clock = _Clock(options)
    rng = np.random.default_rng(options.seed)
    torch.manual_seed(options.seed)
    network = _Network(model.backbone, options, device)
    model = replace(model, has_background=any(e.label == BACKGROUND for e in train))
    train_clips, val_clips, problems = _load(model, train, val, options, on_progress)
    column = {label: k for k, label in enumerate(model.labels)}
    truth = np.array([column[c.example.label] for c in train_clips])
    val_truth = np.array([column[c.example.label] for c in val_clips], dtype=np.int64)
    weights = class_weights(truth, len(column)) if options.balance else torch.ones(len(column))

    bank = _cached_views(network, train_clips, options, rng, on_progress)
    val_views = [v for c in val_clips for v in plain_views(c, model.spec, options.val_views)]
    val_inputs = network.carry(val_views)
    optimizer = make_optimizer(network.backbone, options)
    best = _Best(network.backbone)
    history: list[dict[str, float]] = []
    for epoch in range(options.epochs):
        network.backbone.train()
        losses: list[float] = []
        order = rng.permutation(len(truth))
        for batch in np.array_split(order, math.ceil(len(order) / options.batch_size)):
            done = (epoch + len(losses) * options.batch_size / len(order)) / options.epochs
            _set_lr(optimizer, schedule(max(done, clock.spent()), options.warmup))
            if bank is None:
                clips = [train_clips[i] for i in batch]
                x = network.carry(_random_views(clips, network, options, rng))
            else:
                x = bank[rng.integers(0, len(bank), len(batch)), batch]
            logits = network.finish(x)
            loss = classification_loss(
                logits,
                torch.from_numpy(truth[batch]).to(logits.device),
                weights=weights,
                has_background=model.has_background,
                smoothing=options.label_smoothing,
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(_trained(network.backbone), options.clip_grad)
            optimizer.step()
            losses.append(loss.item())
        row = {"epoch": epoch + 1.0, "seconds": clock.elapsed_s(), "loss": float(np.mean(losses))}
        if len(val_truth):
            row |= val_figures(_probs(network, model, val_inputs, len(val_truth)), val_truth)
            best.offer(network.backbone, (row["val_balanced_accuracy"], -row["val_loss"]))
        history.append(row)
        on_progress(Progress("training", epoch + 1, options.epochs, _note(row)))
        if clock.spent() >= 1:
            break
    if len(val_truth):
        best.restore(network.backbone)
    return FineTuneResult(
        model=replace(model, backbone=network.backbone.cpu().eval()),
        history=history,
        val_probs=_probs(network, model, val_inputs, len(val_truth)),
        val_truth=val_truth,
        problems=problems,
        seconds=clock.elapsed_s(),
    )


class _Clock:
    """Time since training began, and how much of the budget it is."""

    def __init__(self, options: TrainOptions) -> None:
        self._started = time.monotonic()
        self._budget_s = options.max_seconds

    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def spent(self) -> float:
        return 0.0 if self._budget_s is None else min(1.0, self.elapsed_s() / self._budget_s)


class _Network:
    """The backbone cut where freezing ends: `carry` runs the frozen part, `finish` the rest."""

    def __init__(self, backbone: Backbone, options: TrainOptions, device: str) -> None:
        self.device = pick_device(device)
        self.dtype = pick_dtype(options.precision, self.device)
        self.backbone = backbone = backbone.to(self.device)
        self.backbone.freeze(options.freeze)
        # Between the stages of a network of several paths stands more than one tensor.
        whole_trunk = options.freeze == len(backbone.stages)
        self.cut = options.freeze if backbone.single_path or whole_trunk else 0
        self.batch_size = options.batch_size
        # BatchNorm of frozen stages is folded: the same function, about twice as fast.
        self.frozen = fast_copy(backbone, self.device, self.dtype) if self.cut else backbone

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=enabled)

    @torch.no_grad()
    def carry(self, views: Sequence[Tensor]) -> Tensor:
        """Views, each (T, 3, S, S) uint8 -> (N, ...): what the first trained part takes.

        uint8 clips where nothing is frozen, activations at the cut, or trunk features (N, D, T').
        """
        if not views:
            return torch.empty(0)
        if self.cut == 0:
            return torch.stack(list(views))
        carried = []
        for i in range(0, len(views), self.batch_size):
            clips = torch.stack(list(views[i : i + self.batch_size])).to(self.device)
            carried.append(self._frozen(clips))
        return torch.cat(carried)

    def _frozen(self, clips: Tensor) -> Tensor:
        backbone, N = self.frozen, len(clips)
        pixels = normalise(clips.transpose(1, 2), backbone.spec).to(self.dtype)
        x: Tensor = backbone.run_stages(backbone.enter(pixels), stop=self.cut)
        if self.cut == len(backbone.stages):
            return backbone.leave(x, N).float()
        return x.reshape(N, -1, *x.shape[1:]) if backbone.framewise else x

    def finish(self, x: Tensor) -> Tensor:
        """What `carry` gave, (B, ...) -> logits (B, K) float32."""
        backbone, B = self.backbone, len(x)
        x = x.to(self.device)
        if self.cut < len(backbone.stages):
            with self._autocast():
                if self.cut == 0:
                    x = backbone.enter(normalise(x.transpose(1, 2), backbone.spec))
                elif backbone.framewise:
                    x = x.flatten(0, 1)
                x = backbone.leave(backbone.run_stages(x, start=self.cut), B)
        logits: Tensor = backbone.head(x.float())
        return logits


class _Best:
    """The trained part of the best epoch so far; frozen stages need no copy."""

    def __init__(self, backbone: Backbone) -> None:
        self.rank: tuple[float, ...] = (-math.inf,)
        self._state: dict[str, Tensor] = {}

    def offer(self, backbone: Backbone, rank: tuple[float, ...]) -> None:
        if rank > self.rank:
            self.rank = rank
            self._state = {k: v.detach().clone() for k, v in backbone.state_dict().items()}

    def restore(self, backbone: Backbone) -> None:
        backbone.load_state_dict(self._state)


def _load(
    model: TrainedModel,
    train: Sequence[Example],
    val: Sequence[Example],
    options: TrainOptions,
    on_progress: Callable[[Progress], None],
) -> tuple[list[LabelledClip], list[LabelledClip], list[str]]:
    """The clips of both parts, and a message per example that could not be read."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        on_progress(Progress("reading clips", done, len(train) + len(val)))

    loaded = load_clips(
        [*train, *val],
        model.spec,
        max_clip_s=options.max_clip_s,
        max_bad=options.max_bad,
        on_clip=count,
    )
    in_train = {id(e) for e in train}
    train_clips = [c for c in loaded.clips if id(c.example) in in_train]
    val_clips = [c for c in loaded.clips if id(c.example) not in in_train]
    return train_clips, val_clips, loaded.problems


def _random_views(
    clips: Sequence[LabelledClip],
    network: _Network,
    options: TrainOptions,
    rng: np.random.Generator,
) -> list[Tensor]:
    spec = network.backbone.spec
    if options.augmentation is None:
        return [plain_views(c, spec, 1)[0] for c in clips]
    return [augmented_view(c, spec, options.augmentation, rng) for c in clips]


def _cached_views(
    network: _Network,
    clips: Sequence[LabelledClip],
    options: TrainOptions,
    rng: np.random.Generator,
    on_progress: Callable[[Progress], None],
) -> Tensor | None:
    """(views, N, ...) of every clip carried through the frozen stages; None where none is."""
    if network.cut == 0 or options.cached_views == 0:
        return None
    bank = []
    for view in range(options.cached_views if options.augmentation else 1):
        on_progress(Progress("frozen features", view, options.cached_views))
        bank.append(network.carry(_random_views(clips, network, options, rng)))
    return torch.stack(bank)


def class_weights(truth: npt.NDArray[np.int64], num_classes: int) -> Tensor:
    """(K,) inverse frequency, mean 1 over the examples; 0 for a class without any."""
    counts = np.bincount(truth, minlength=num_classes)
    present = counts > 0
    weights = np.zeros(num_classes)
    weights[present] = len(truth) / (present.sum() * counts[present])
    return torch.tensor(weights, dtype=torch.float32)


def classification_loss(
    logits: Tensor, truth: Tensor, *, weights: Tensor, has_background: bool, smoothing: float
) -> Tensor:
    """Cross-entropy of logits (B, K) on columns (B,); a background nobody taught is left out."""
    weights = weights.to(logits.device)
    if not has_background:
        logits, truth, weights = logits[:, 1:], truth - 1, weights[1:]
    return F.cross_entropy(logits, truth, weight=weights, label_smoothing=smoothing)


def make_optimizer(backbone: Backbone, options: TrainOptions) -> torch.optim.Optimizer:
    """AdamW over what is trained; no decay on biases and norms, `trunk_lr_scale` on stages."""
    groups = []
    for module, scale in ((backbone.stages, options.trunk_lr_scale), (backbone.head, 1.0)):
        trained = [p for p in module.parameters() if p.requires_grad]
        for decays in (True, False):
            params = [p for p in trained if (p.ndim > 1) == decays]
            if params:
                lr = options.lr * scale
                decay = options.weight_decay if decays else 0.0
                groups.append({"params": params, "lr": lr, "peak_lr": lr, "weight_decay": decay})
    return torch.optim.AdamW(groups)


def schedule(done: float, warmup: float) -> float:
    """Share of the peak learning rate at `done` in [0, 1]: linear warm-up, then half a cosine."""
    if done < warmup:
        return max(done / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup))))


def _set_lr(optimizer: torch.optim.Optimizer, share: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * share


def _trained(backbone: Backbone) -> list[nn.Parameter]:
    return [p for p in backbone.parameters() if p.requires_grad]


@torch.no_grad()
def _probs(network: _Network, model: TrainedModel, inputs: Tensor, num_clips: int) -> Float32:
    """(N, K) probabilities, averaged over the views of each clip; inputs are clip-major."""
    if num_clips == 0:
        return np.zeros((0, len(model.labels)), np.float32)
    network.backbone.eval()
    logits = torch.cat([network.finish(x) for x in torch.split(inputs, network.batch_size)])
    probs = model.probs(logits).reshape(num_clips, -1, len(model.labels)).mean(dim=1)
    return probs.cpu().numpy()


def val_figures(probs: Float32, truth: npt.NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, balanced accuracy (mean recall of the classes present) and log loss."""
    right = probs.argmax(axis=1) == truth
    recalls = [right[truth == k].mean() for k in np.unique(truth)]
    likelihood = probs[np.arange(len(truth)), truth].clip(1e-12)
    return {
        "val_accuracy": float(right.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
        "val_loss": float(-np.log(likelihood).mean()),
    }


def score_examples(
    model: TrainedModel,
    examples: Sequence[Example],
    options: TrainOptions,
    *,
    device: str = "auto",
) -> tuple[Float32, list[str], list[str]]:
    """Class probabilities (N, K) of labelled clips, their labels, and what could not be read."""
    loaded = load_clips(
        examples, model.spec, max_clip_s=options.max_clip_s, max_bad=options.max_bad
    )
    network = _Network(model.backbone, replace(options, freeze=model.backbone.num_frozen), device)
    views = [v for c in loaded.clips for v in plain_views(c, model.spec, options.val_views)]
    probs = _probs(network, model, network.carry(views), len(loaded.clips))
    return probs, [c.example.label for c in loaded.clips], loaded.problems


def _note(row: dict[str, float]) -> str:
    note = f"loss {row['loss']:.3f}"
    if "val_accuracy" in row:
        note += f", validation accuracy {row['val_accuracy']:.2f}"
    return note
