"""Measure `touchline players` on rendered players: python measure_players.py [NAME ...]

photos: accuracy by the number of photos per player, and how often strangers get a name.
sizes:  what is right, named and refused by the size of a photo.
ways:   frozen trunk, last stages, dense head and training from scratch, in equal seconds.
match-224, match-360, match-720: whom the events of rendered footage of this height are about,
        by shirt numbers and a line-up.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from drawn_match import Scene, write_lineup, write_scenes
from drawn_players import Look, draw_player, looks, write_photos

from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.models.classes import BACKGROUND
from touchline.models.heads import HeadSpec
from touchline.models.weights.installed import DIGIT_RECOGNISER, TEXT_DETECTOR, verified_file
from touchline.models.weights.open import open_weights
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.heads.attach import with_head
from touchline.pipeline.heads.choose import ClipFeatures, cross_validate
from touchline.pipeline.heads.fit import clip_windows
from touchline.pipeline.heads.folds import match_folds
from touchline.pipeline.heads.tune import tuning_options
from touchline.pipeline.players.lineup import read_lineup
from touchline.pipeline.players.name import name_players
from touchline.pipeline.players.numbers import NumberReader
from touchline.pipeline.players.options import PlayersOptions, WhoOptions
from touchline.pipeline.players.photos import look_at, photo_clip
from touchline.pipeline.players.train import (
    dense_options,
    least_prob_of,
    train_players,
    trained_answers,
)
from touchline.pipeline.players.who import name_events
from touchline.pipeline.training.batches import Material
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.split_network import SplitNetwork
from touchline.pipeline.training.targets import make_targets
from touchline.pipeline.types import Event, Example

PLAYERS, TESTED = 10, 6
SECONDS = 60.0
SIZES = [(px, "as it is") for px in (24, 32, 48, 64, 96, 128, 224)]
SIZES += [(px, "enlarged") for px in (24, 48, 96)]
WHOLE = PlayersOptions(crop="none")


def pictures(people: list[Look], each: int, size_px: int = 224) -> tuple[list[np.ndarray], list]:
    """`each` new pictures (3, H, W) of every player, and their names."""
    shown, names = [], []
    for p, look in enumerate(people):
        for k in range(each):
            drawn = draw_player(look, np.random.default_rng([7, p, k]), size_px=size_px)
            shown.append(np.ascontiguousarray(drawn.transpose(2, 0, 1)))
            names.append(look.name)
    return shown, names


def loose(model: TrainedModel) -> TrainedModel:
    """The model, made to name everything."""
    rules = model.record.photos
    assert rules is not None
    record = replace(model.record, photos=replace(rules, min_size_px=1, min_sharpness=0.0))
    return replace(model, record=record, thresholds=dict.fromkeys(model.labels[1:], 1e-9))


def measure_photos() -> None:
    """Print a row per number of photos."""
    people, strangers = looks(PLAYERS), looks(PLAYERS, seed=1)
    shown, names = pictures(people, TESTED)
    others, _ = pictures(strangers, TESTED)
    for each in (3, 5, 10, 20):
        with tempfile.TemporaryDirectory() as folder:
            trained = train_players(write_photos(Path(folder), people, each), WHOLE)
        model = trained.model
        right = np.mean([n.player for n in name_players(loose(model), shown)] == np.array(names))
        given = [n.player for n in name_players(model, shown)]
        named = [(a, b) for a, b in zip(given, names, strict=True) if a]
        wrong = sum(a != b for a, b in named)
        of_others = [n.player for n in name_players(model, others) if n.player]
        print(
            f"{each} photos: {right:.3f} right; named {len(named)} of {len(shown)}, {wrong} wrong; "
            f"strangers named {len(of_others)} of {len(others)} "
            f"(training said {trained.strangers_named:.2f}); from {trained.min_prob:.2f} on",
            flush=True,
        )


def enlarged(picture: np.ndarray) -> np.ndarray:
    """The picture at 224 px."""
    big = cv2.resize(picture.transpose(1, 2, 0), (224, 224), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(big.transpose(2, 0, 1))


def measure_sizes() -> None:
    """Print a row per size, of photos as they are and enlarged to 224 px."""
    people = looks(PLAYERS)
    with tempfile.TemporaryDirectory() as folder:
        model = train_players(write_photos(Path(folder), people, 10), WHOLE).model
    rules = model.record.photos
    assert rules is not None
    everything = loose(model)
    least = least_prob_of(model)
    for size_px, made in SIZES:
        shown, names = pictures(people, TESTED, size_px)
        if made == "enlarged":
            shown = [enlarged(one) for one in shown]
        guessed = name_players(everything, shown)
        right = np.array([n.player == b for n, b in zip(guessed, names, strict=True)])
        probs = np.array([n.probability or 0.0 for n in guessed])
        refused = np.array([look_at(one, rules, None).refusal is not None for one in shown])
        named = ~refused & (probs >= least)
        print(
            f"{size_px} px {made}: {right.mean():.2f} right at a mean probability of "
            f"{probs.mean():.2f}; refused {refused.mean():.2f}; named {named.mean():.2f}, "
            f"{int((named & ~right).sum())} of {named.sum()} names wrong",
            flush=True,
        )


def measure_ways() -> None:
    """Print a row per way to train, on 10 photos of each player, tested on others."""
    people = looks(PLAYERS)
    labels = (BACKGROUND, *(look.name for look in people))
    weights = open_weights("efficientnet_lite0-imagenet", "cnn_lstm_lite0")
    spec = weights.spec.with_sampling(num_frames=1, fit="pad")
    clips: list[LabelledClip] = []
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        for p, look in enumerate(people):
            for k in range(10 + 2 * TESTED):
                picture = draw_player(look, np.random.default_rng([8, p, k]))
                path = Path(folder) / f"{p}_{k}.bin"
                path.write_bytes(picture.tobytes())
                example = Example(path, look.name, path.name)
                clips.append(photo_clip(picture.transpose(2, 0, 1).copy(), example, spec))
        targets = make_targets([clip.example for clip in clips], labels)
        material = Material(clips, [], targets, targets[:0], [])
        tested = [i for i in range(len(clips)) if i % (10 + 2 * TESTED) >= 10]
        learnt = [i for i in range(len(clips)) if i not in set(tested)]

        def network(*, pretrained: bool) -> TrainedModel:
            torch.manual_seed(0)
            backbone = build_backbone("cnn_lstm_lite0", len(labels), spec)
            if pretrained:
                weights.load_into(backbone)
            backbone.use_head(HeadSpec("linear"), len(labels), width=1280)
            return TrainedModel(backbone, "cnn_lstm_lite0", labels, has_background=False)

        began = time.monotonic()
        base = network(pretrained=True)
        num_stages = len(base.backbone.stages)
        part = Material([clips[i] for i in learnt], [], targets[learnt], targets[:0], [])
        options = TrainOptions(freeze=num_stages, val_views=1, augmentation=None)
        split = SplitNetwork(base.backbone, freeze=num_stages)
        windows = clip_windows(split, part, options, cache=None, on_progress=lambda _: None)
        features = ClipFeatures(windows, part.targets, has_background=False)
        folds = match_folds(
            [clip.example.group for clip in part.train_clips],
            [clip.example.label for clip in part.train_clips],
        )
        specs = [HeadSpec("linear", "mean", n) for n in ("l2", "none")]
        trial = cross_validate(features, specs, folds)[0]
        fitted_s = time.monotonic() - began

        def fitted() -> TrainedModel:
            return with_head(network(pretrained=True), features, trial)

        def frozen() -> TrainedModel:
            model = fitted()
            model.backbone.freeze(num_stages)
            return model

        def dense() -> TrainedModel:
            model = network(pretrained=True)
            torch.manual_seed(0)
            model.backbone.use_head(HeadSpec("dense"), len(labels))
            return model

        def report(name: str, fresh: Callable[[], TrainedModel], options: TrainOptions) -> None:
            began = time.monotonic()
            probs = trained_answers(
                fresh, material, [tested], options, cache=Path(cache), seconds=SECONDS
            )
            right = probs[tested].argmax(1) == targets[tested].argmax(1)
            spent_s = time.monotonic() - began
            print(f"{name}: {right.mean():.3f} of {len(tested)}, {spent_s:.0f} s", flush=True)

        # One step of no length: the fitted head as it is.
        still = TrainOptions(
            freeze=num_stages, epochs=1, lr=1e-12, weight_decay=0.0, augmentation=None, val_views=1
        )
        report(f"frozen, logistic regression ({fitted_s:.0f} s to fit)", frozen, still)
        report("frozen, dense head", dense, dense_options(PlayersOptions(), num_stages=num_stages))
        block6 = list(base.backbone.stages).index("block6") + 1
        last = tuning_options(
            TrainOptions(freeze=block6, epochs=10, val_views=1), views=1, multi_label=False
        )
        report("last stages from the fitted head", fitted, last)
        scratch = TrainOptions(epochs=1000, trunk_lr_scale=1.0, val_views=1, validate_every=1001)
        report("from scratch", lambda: network(pretrained=False), scratch)


def measure_match(height: int) -> None:
    """Print a row per width of the player in the close-up, of footage this high."""
    people = looks(22, seed=5)
    others = looks(22, seed=6)
    taken = {(look.team, look.number) for look in people}
    strangers = [look for look in others if (look.team, look.number) not in taken]
    reader = NumberReader(*(verified_file(f)[0] for f in (TEXT_DETECTOR, DIGIT_RECOGNISER)))
    options = WhoOptions(after_s=7, rate_hz=1)
    for share in (0.9, 0.5):
        shown: list[Look | None] = [*people[:14], *[None] * 8]
        scenes = [
            *(Scene(look, share=share) for look in people[:14]),
            *(Scene(look, number=False, share=share) for look in people[14:17]),
            *(Scene(look, share=share) for look in strangers[:3]),
            *(Scene(None) for _ in range(2)),
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "match.mp4"
            times = write_scenes(path, scenes, height=height)
            lineup = read_lineup(write_lineup(Path(folder) / "teams.csv", people))
            events = [Event("goal", t, t, t) for t in times]
            named = name_events(path, events, lineup, reader.numbers, options)
        pairs = [
            (w.name, look.name if look else None) for (_, w), look in zip(named, shown, strict=True)
        ]
        right = sum(a is not None and a == b for a, b in pairs)
        wrong = sum(a is not None and a != b for a, b in pairs)
        print(
            f"{height} lines, player {share:g} of the height: {right} of 14 named right, "
            f"{wrong} of {len(pairs)} events named wrong",
            flush=True,
        )


def main() -> None:
    """Run the measurements that are named; all without a name."""
    known = {
        "photos": measure_photos,
        "sizes": measure_sizes,
        "ways": measure_ways,
        "match-224": lambda: measure_match(224),
        "match-360": lambda: measure_match(360),
        "match-720": lambda: measure_match(720),
    }
    for name in sys.argv[1:] or known:
        print(f"# {name}", flush=True)
        known[name]()


if __name__ == "__main__":
    main()
