"""Learn players from photos: a frozen trunk, a fitted head, and what it is worth on others."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from touchline.models.checkpoint import TrainedModel, class_probs
from touchline.models.classes import BACKGROUND
from touchline.models.heads import HeadSpec
from touchline.models.training_record import PhotoRules
from touchline.models.weights.download import OnProgress
from touchline.models.weights.installed import FACE_DETECTOR, verified_file
from touchline.pipeline.calibration.temperature import fit_temperature
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.attach import with_head
from touchline.pipeline.heads.choose import ClipFeatures, Trial, cross_validate, fit
from touchline.pipeline.heads.fit import clip_windows
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.held_out import HeldOut, cross_validated
from touchline.pipeline.heads.logistic import Linear
from touchline.pipeline.heads.tune import Start, train_epochs, tune, tuning_options
from touchline.pipeline.players.faces import FaceFinder
from touchline.pipeline.players.options import LEAST_PROB, UNKNOWN, PlayersOptions
from touchline.pipeline.players.photos import PlayerPhotos, load_players, player_files
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import resolve_freeze, untrained
from touchline.pipeline.training.batches import Material
from touchline.pipeline.training.finetune import Trainer
from touchline.pipeline.training.optimize import BudgetClock
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.training.targets import make_targets
from touchline.pipeline.types import Float64

OnNews = Callable[[Progress], None]

LINEAR_HEADS = [HeadSpec("linear", "mean", n, m) for n in ("l2", "none") for m in (False, True)]


@dataclass(frozen=True)
class TrainedPlayers:
    """A model of players, and what it answered to photos that it had not seen.

    Attributes:
        model: The model; its thresholds hold the least probability of a name.
        held_out: Every photo, answered by a head that had seen neither it nor its look-alikes;
            probabilities are calibrated.
        photos: The photos it learnt from, and those left out.
        strangers_named: Share of photos that got a name, asked of a head that had never seen their
            player. None if that was not measured.
        how: What was compared, as sentences.
        seconds: How long training took.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import PlayersOptions, train_players
        >>> weights = "model.safetensors"
        >>> options = PlayersOptions(backbone="brightness", weights=weights, crop="none")
        >>> trained = train_players(Path("photos"), options)
        >>> trained.held_out.recalls(), trained.min_prob
        ({'Anna': 1.0, 'Berta': 1.0}, 0.5)
    """

    model: TrainedModel
    held_out: HeldOut
    photos: PlayerPhotos
    strangers_named: float | None
    how: tuple[str, ...]
    seconds: float

    @property
    def min_prob(self) -> float:
        """The least probability of a name."""
        return least_prob_of(self.model)


def least_prob_of(model: TrainedModel) -> float:
    """Return the least probability at which a model of players gives a name."""
    return max(model.thresholds.values()) if model.thresholds else LEAST_PROB


def train_players(
    folder: Path,
    options: PlayersOptions | None = None,
    *,
    device: str = "auto",
    on_progress: OnNews = lambda _: None,
    on_download: OnProgress | None = None,
) -> TrainedPlayers:
    """Learn players from a folder of photos per player.

    Photos that show almost the same picture, and photos of one subfolder, are look-alikes. They are
    never divided between learning and testing.

    Args:
        folder: A folder with one folder per player; `unknown` holds people who are none of them.
        options: How to train.
        device: auto, cpu, cuda, cuda:1 or mps.
        on_progress: Called with news of each phase.
        on_download: Called during a download of weights.

    Raises:
        PhotoError: The folder or a photo cannot be used.
        WeightsError: The pretrained weights, or those that find faces, cannot be had or used.
        ValueError: An option does not fit the network.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import PlayersOptions, train_players
        >>> weights = "model.safetensors"
        >>> options = PlayersOptions(backbone="brightness", weights=weights, crop="none")
        >>> trained = train_players(Path("photos"), options)
        >>> trained.model.labels
        ('background', 'Anna', 'Berta')
    """
    began = time.monotonic()
    options = options or PlayersOptions()
    files = player_files(folder)
    model = _untrained(files, options, on_download)
    rules = PhotoRules(options.least_size_px, options.min_sharpness, options.crop)
    find_faces = None
    if options.crop == "face":
        install = f"{FACE_DETECTOR.install} (or learn whole photos: --crop none)"
        find_faces = FaceFinder(verified_file(replace(FACE_DETECTOR, install=install))[0]).faces
    photos = load_players(
        folder,
        files,
        model.spec,
        rules,
        find_faces=find_faces,
        max_bad=options.max_bad,
        on_photo=lambda done, total: on_progress(Progress("reading photos", done, total)),
    )
    clips = list(photos.clips)
    model = replace(
        model, has_background=any(clip.example.label == BACKGROUND for clip in photos.clips)
    )
    material = Material(clips, [], *_targets(clips, model.labels), [])
    folds = match_folds(
        [clip.example.group for clip in clips], [clip.example.label for clip in clips]
    )
    fitting = _dense if options.head == "dense" else _linear
    fitted = fitting(model, material, folds, options, device, on_progress)
    model, held_out = calibrated(fitted.model, fitted.held_out)
    strangers = None
    if fitted.features is not None and fitted.trial is not None:
        strangers = stranger_probs(fitted.features, fitted.trial, model.temperature)
    min_prob = least_prob(held_out, options.min_right)
    if strangers is not None:
        min_prob = max(min_prob, least_prob_for_strangers(strangers, options.max_strangers))
    record = replace(model.record, photos=rules, job=asdict(options))
    model = replace(model, thresholds=dict.fromkeys(model.labels[1:], min_prob), record=record)
    named = None if strangers is None else float((strangers >= min_prob).mean())
    return TrainedPlayers(model, held_out, photos, named, fitted.how, time.monotonic() - began)


def _untrained(
    files: dict[str, list[Path]], options: PlayersOptions, on_download: OnProgress | None
) -> TrainedModel:
    """The network with pretrained weights, which sees one whole picture."""
    job = TrainJob(
        labels=Path(),
        backbone=options.backbone,
        weights=options.weights,
        num_frames=1,
        fit="pad",
        options=TrainOptions(seed=options.seed),
    )
    model = untrained(job, (BACKGROUND, *(name for name in files if name != UNKNOWN)), on_download)
    if not model.backbone.framewise:
        raise ValueError(
            f"backbone {options.backbone!r} sees clips, not single pictures. Use cnn_lstm_lite0, "
            "or another network that starts with cnn_lstm"
        )
    return model


def _targets(clips: Sequence[LabelledClip], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Targets of the clips, and of no clips."""
    targets = make_targets([clip.example for clip in clips], labels)
    return targets, targets[:0]


@dataclass(frozen=True)
class _Fitted:
    model: TrainedModel
    held_out: HeldOut
    how: tuple[str, ...]
    features: ClipFeatures | None = None
    trial: Trial | None = None


def _linear(
    model: TrainedModel,
    material: Material,
    folds: Sequence[Sequence[int]],
    options: PlayersOptions,
    device: str,
    on_progress: OnNews,
) -> _Fitted:
    """Logistic regression over the frozen trunk; then the last stages, where they gain."""
    freeze = resolve_freeze(options.freeze, model.backbone.stage_names, pretrained=True)
    training = TrainOptions(freeze=freeze, epochs=options.epochs, val_views=1, seed=options.seed)
    model.backbone.mirrored = True
    network = SplitNetwork(model.backbone, freeze=len(model.backbone.stages), device=device)
    windows = clip_windows(network, material, training, cache=None, on_progress=on_progress)
    features = ClipFeatures(
        windows, material.targets, has_background=model.has_background, mirrored=True
    )
    trials = cross_validate(
        features,
        LINEAR_HEADS,
        folds,
        on_fold=lambda done, total: on_progress(Progress("comparing heads", done, total)),
    )
    best = trials[0]
    examples = [clip.example for clip in material.train_clips]
    held_out = cross_validated(features, best, folds, examples=examples, labels=model.labels)
    model = replace(model, backbone=network.backbone.cpu())
    how = [f"logistic regression on the frozen trunk: log loss {best.log_loss:.3f}"]
    if freeze < len(model.backbone.stages):
        tuned, tuning = tune(
            Start(
                model,
                features,
                next(trial for trial in trials if not trial.spec.mirror),
                folds,
                held_out,
                best,
            ),
            material,
            tuning_options(training, views=1, multi_label=False),
            device=device,
            on_progress=on_progress,
        )
        how.append(tuning.why)
        if tuned is not None:
            return _Fitted(tuned.model, tuned.held_out, tuple(how))
    fitted = with_head(model, features, best)
    fitted.backbone.freeze(len(fitted.backbone.stages))
    return _Fitted(fitted, held_out, tuple(how), features, best)


def _dense(
    model: TrainedModel,
    material: Material,
    folds: Sequence[Sequence[int]],
    options: PlayersOptions,
    device: str,
    on_progress: OnNews,
) -> _Fitted:
    """Flatten, 512 units, softmax, by gradient descent over the frozen trunk."""
    training = dense_options(options, num_stages=len(model.backbone.stages))

    def fresh() -> TrainedModel:
        backbone = copy.deepcopy(model.backbone)
        torch.manual_seed(options.seed)
        backbone.use_head(HeadSpec("dense"), len(model.labels))
        return replace(model, backbone=backbone)

    with tempfile.TemporaryDirectory(prefix="touchline-") as cache:
        probs = trained_answers(
            fresh,
            material,
            folds,
            training,
            device=device,
            cache=Path(cache),
            on_progress=on_progress,
        )
        trainer = Trainer(
            fresh(), material, training, BudgetClock(None), device=device, cache=Path(cache)
        )
        for _ in train_epochs(trainer, training.epochs):
            pass
    trained = replace(trainer.model, backbone=trainer.network.backbone.cpu().eval())
    judged = np.ones(len(probs), dtype=np.bool_)
    examples = tuple(clip.example for clip in material.train_clips)
    held_out = HeldOut(examples, model.labels, probs, material.targets, judged)
    how = f"flatten, 512 units, softmax: {training.epochs} epochs of gradient descent"
    return _Fitted(trained, held_out, (how,))


def dense_options(options: PlayersOptions, *, num_stages: int) -> TrainOptions:
    """Return how the dense head is trained: Adam on the bare features, a steady course.

    Args:
        options: As the user gave them.
        num_stages: How many stages the trunk has; all stay frozen.
    """
    return TrainOptions(
        freeze=num_stages,
        epochs=options.epochs,
        batch_size=16,
        weight_decay=0.0,
        label_smoothing=0.0,
        augmentation=None,
        cached_views=1,
        val_views=1,
        validate_every=options.epochs + 1,
        seed=options.seed,
    )


def trained_answers(
    fresh: Callable[[], TrainedModel],
    material: Material,
    folds: Sequence[Sequence[int]],
    options: TrainOptions,
    *,
    device: str = "auto",
    cache: Path | None = None,
    seconds: float | None = None,
    on_progress: OnNews = lambda _: None,
) -> Float64:
    """Return (N, K) probabilities of all photos, each by a network trained without its look-alikes.

    Args:
        fresh: Returns the network to train, always the same.
        material: The photos.
        folds: Indices of the photos of each fold.
        options: How to train.
        device: auto, cpu, cuda, cuda:1 or mps.
        cache: Folder of frozen features.
        seconds: Time limit of each training.
        on_progress: Called before each training.

    Raises:
        ValueError: The features do not fit into memory.
    """
    probs = np.zeros(material.targets.shape)
    for k, fold in enumerate(folds):
        on_progress(Progress("training", k, len(folds) + 1))
        rest = np.setdiff1d(np.arange(len(probs)), fold)
        part = Material(
            [material.train_clips[i] for i in rest],
            [material.train_clips[i] for i in fold],
            material.targets[rest],
            material.targets[list(fold)],
            [],
        )
        trainer = Trainer(fresh(), part, options, BudgetClock(seconds), device=device, cache=cache)
        trainer.batches.check_memory({options.frozen_at(0)})
        for _ in train_epochs(trainer, options.epochs):
            pass
        probs[list(fold)] = trainer.val_probs()
    return probs


def calibrated(model: TrainedModel, held_out: HeldOut) -> tuple[TrainedModel, HeldOut]:
    """Return the model with its temperature fitted to held-out photos, and these at it.

    Args:
        model: The model.
        held_out: What models like it answered to photos that they had not seen.
    """
    logits = np.log(np.maximum(held_out.probs, 1e-12)).astype(np.float32)
    truth = held_out.targets.argmax(axis=1)
    temperature = fit_temperature(model, logits, truth, doubt=1 / (len(truth) + 2))
    probs = class_probs(
        torch.from_numpy(logits / temperature), has_background=model.has_background
    ).numpy()
    return replace(model, temperature=temperature), replace(
        held_out, probs=probs.astype(np.float64)
    )


def least_prob(held_out: HeldOut, min_right: float) -> float:
    """Return the lowest probability at which enough names are right.

    That is where `min_right` of the names given to held-out photos are right, and at least
    `LEAST_PROB`. If there is none, it is 1: then no name is given.

    Args:
        held_out: Photos with calibrated answers.
        min_right: The share of names that should be right.
    """
    given = held_out.probs.argmax(axis=1)
    right = given == held_out.targets.argmax(axis=1)
    top = held_out.probs.max(axis=1)
    named = np.flatnonzero((given > 0) & (top >= LEAST_PROB))
    order = named[np.argsort(-top[named], kind="stable")]
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    # Photos of one probability are all named, or none of them.
    last = len(order) - 1
    ends = [k for k in range(len(order)) if k == last or top[order[k + 1]] < top[order[k]]]
    good = [k for k in ends if shares[k] >= min_right]
    if not good:
        return 1.0
    return LEAST_PROB if max(good) == last else float(top[order[max(good)]])


def least_prob_for_strangers(probs: Float64, max_named: float) -> float:
    """Return the lowest probability that at most this share of strangers reaches.

    Args:
        probs: (N,) from `stranger_probs`.
        max_named: The share of them that may get a name.
    """
    highest_first = np.sort(probs)[::-1]
    allowed = int(max_named * len(probs))
    if allowed == len(probs):
        return 0.0
    return float(np.nextafter(highest_first[allowed], 2.0).clip(0, 1))


def stranger_probs(features: ClipFeatures, trial: Trial, temperature: float) -> Float64 | None:
    """Return the probability of the name that a photo gets from a head that never saw its player.

    Each player is left out in turn. None with fewer than three players.

    Args:
        features: All photos.
        trial: The head.
        temperature: The logits are divided by it.

    Returns:
        (N,) of every photo of a player; 0 where the head says unknown.
    """
    truth = features.targets.argmax(axis=1)
    players = [k for k in np.unique(truth).tolist() if k > 0]
    if len(players) < 3:
        return None
    found = []
    for player in players:
        columns = [k for k in range(features.targets.shape[1]) if k != player]
        others = features.take(np.flatnonzero(truth != player).tolist())
        layer = fit(replace(others, targets=others.targets[:, columns]), trial)
        assert isinstance(layer, Linear)
        X, _ = features.take(np.flatnonzero(truth == player).tolist()).inputs(trial.spec)
        logits = torch.from_numpy(layer(X) / temperature)
        probs = class_probs(logits, has_background=features.has_background).numpy()
        found += np.where(probs.argmax(axis=1) > 0, probs.max(axis=1), 0.0).tolist()
    return np.array(found, dtype=np.float64)


def num_named(held_out: HeldOut, min_prob: float) -> int:
    """Return how many held-out photos get a name.

    Args:
        held_out: Photos with calibrated answers.
        min_prob: The least probability of a name.
    """
    probs = held_out.probs
    return int(((probs.argmax(axis=1) > 0) & (probs.max(axis=1) >= min_prob)).sum())


def coverage_rows(held_out: HeldOut) -> list[tuple[float, float, int]]:
    """Return rows of (share of photos answered, share right, photos): the surest first.

    Args:
        held_out: Photos with calibrated answers.
    """
    right = held_out.probs.argmax(axis=1) == held_out.targets.argmax(axis=1)
    order = np.argsort(-held_out.probs.max(axis=1), kind="stable")
    rows = []
    for share in (1.0, 0.9, 0.75, 0.5, 0.25):
        count = max(1, round(share * len(right)))
        rows.append((share, float(right[order[:count]].mean()), count))
    return rows
