"""The demonstration: made-up matches, a pretrained network with frozen stages, a match never seen.

The same network is trained twice on the same clips for the same wall-clock time, once from the
shipped weights with its first stages frozen and once from nothing, and both look for plays in a
match that neither saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.models.backbone import Backbone
from touchline.models.checkpoint import load_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.demonstration.options import DemoOptions
from touchline.pipeline.demonstration.render_match import render_match
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.evaluation.spotting import spotting_map
from touchline.pipeline.labels.csv_files import write_csv
from touchline.pipeline.labels.source import LabelTarget
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import prepare
from touchline.pipeline.runs.run import MODEL_FILE, SNAPSHOT_FILE, run_training
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.types import Event, Example, ScoreTrack

BACKBONE = "motion_net"
NUM_MATCHES = 4
UNSEEN = "unseen"
TOLERANCE_S = 1.0
"""An event is found where its peak lies at most so far from the middle of a true one."""


@dataclass(frozen=True)
class DemoFootage:
    """Footage and labels: those to train on, and the match that stays unseen."""

    labels: Path
    unseen: Path
    truth: tuple[Event, ...]
    unseen_s: float
    num_plays: int


@dataclass(frozen=True)
class Arm:
    """One way of training and what came of it on the unseen match.

    accuracy: share of the true events whose middle window gets the right class. found, false:
    accepted events that meet a true one of their class within TOLERANCE_S, and the others.
    average_precision: per class, at TOLERANCE_S, over all candidates.
    """

    name: str
    folder: Path
    backbone: Backbone
    num_negatives: int
    seconds: float
    epochs: int
    accuracy: float
    mean_average_precision: float
    found: int
    false: int
    rows: tuple[tuple[Event | None, Event | None], ...]


@dataclass(frozen=True)
class DemoResult:
    footage: DemoFootage
    transfer: Arm
    scratch: Arm


def pretrained_weights() -> Path:
    """The weights that come with the package."""
    return Path(str(files("touchline.models") / "pretrained" / f"{BACKBONE}.safetensors"))


def run_demo(
    out: Path, options: DemoOptions, *, on_progress: Callable[[Progress], None] = lambda _: None
) -> DemoResult:
    """Everything, into the folder `out`."""
    footage = make_footage(out, seed=options.seed, on_progress=on_progress)
    transfer = TrainJob(
        labels=footage.labels,
        backbone=BACKBONE,
        weights=str(pretrained_weights()),
        freeze="block2",
        val_share=0.0,
        # What looks like a play and is none is told apart only by seeing enough of it.
        background_ratio=3.0,
        background_margin_s=0.25,
        options=TrainOptions(
            epochs=options.epochs,
            batch_size=16,
            lr=1e-3,
            trunk_lr_scale=1.0,
            label_smoothing=0.0,
            precision="float32",
            seed=options.seed,
        ),
    )
    first = run_arm("transfer", transfer, footage, out, on_progress=on_progress)
    same_time = replace(transfer.options, epochs=1000, max_seconds=first.seconds)
    scratch = replace(transfer, weights=None, freeze="0", options=same_time)
    second = run_arm("scratch", scratch, footage, out, on_progress=on_progress)
    return DemoResult(footage, first, second)


def make_footage(
    out: Path, *, seed: int, on_progress: Callable[[Progress], None] = lambda _: None
) -> DemoFootage:
    """Render the matches and write OUT/labels.csv (to train on) and OUT/unseen.csv (the truth)."""
    folder = out / "footage"
    folder.mkdir(parents=True, exist_ok=True)
    examples: list[Example] = []
    names = [*(f"match_{k + 1}" for k in range(NUM_MATCHES)), UNSEEN]
    seeds = np.random.SeedSequence(seed).generate_state(len(names))
    for k, (name, match_seed) in enumerate(zip(names, seeds, strict=True)):
        on_progress(Progress("rendering matches", k, len(names), name))
        path = folder / f"{name}.mp4"
        last = name == UNSEEN
        events = render_match(
            path,
            plays_each=5 if last else 2,
            distractors=14 if last else 7,
            seed=int(match_seed),
        )
        labelled = [Example(path, e.label, name, e.start_s, e.end_s) for e in events]
        if not last:
            examples += labelled
    on_progress(Progress("rendering matches", len(names), len(names)))
    write_atomic(out / "labels.csv", write_csv(examples, LabelTarget(out)))
    write_atomic(out / "unseen.csv", write_csv(labelled, LabelTarget(out)))
    return DemoFootage(
        labels=out / "labels.csv",
        unseen=path,
        truth=tuple(example.event() for example in labelled),
        unseen_s=probe_footage(path).duration_s,
        num_plays=len(examples),
    )


def run_arm(
    name: str,
    job: TrainJob,
    footage: DemoFootage,
    out: Path,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Arm:
    """Train into OUT/<name>, detect in the unseen match, and judge it."""
    model, split, job = prepare(job)
    folder = out / name
    # What an interrupted demonstration left is no use: the arms are to have the same seconds, and
    # those of another run are others.
    (folder / SNAPSHOT_FILE).unlink(missing_ok=True)
    trained, _ = run_training(model, split, job, folder, device="cpu", on_progress=on_progress)
    on_progress(Progress(f"detecting ({name})", 0, 1))
    options = DetectOptions(hop_s=0.25, device="cpu", precision="float32")
    model = load_checkpoint(folder / MODEL_FILE)
    [result] = detect_all([footage.unseen], model, folder, options, report=True)
    if result.error is not None or result.track is None:
        raise RuntimeError(f"{footage.unseen}: {result.error}")
    on_progress(Progress(f"detecting ({name})", 1, 1))
    rows = pair_events(footage.truth, result.accepted)
    return Arm(
        name=name,
        folder=folder,
        backbone=trained.model.backbone,
        num_negatives=sum(example.label == BACKGROUND for example in split.train),
        seconds=trained.seconds,
        epochs=len(trained.history),
        accuracy=middle_accuracy(footage.truth, result.track),
        mean_average_precision=mean_average_precision(footage.truth, result),
        found=sum(a is not None and b is not None for a, b in rows),
        false=sum(a is None for a, _ in rows),
        rows=rows,
    )


def mean_average_precision(truth: tuple[Event, ...], result: MatchResult) -> float:
    """Over all candidates, at TOLERANCE_S, mean of the classes."""
    video = str(result.path)
    return spotting_map(
        {video: truth}, {video: result.candidates}, tolerances_s=(TOLERANCE_S,)
    ).value()


def middle_accuracy(truth: tuple[Event, ...], track: ScoreTrack) -> float:
    """Share of the true events whose class scores highest in the window around their middle."""
    right = 0
    for event in truth:
        middle = int(np.abs(track.centre_s - (event.start_s + event.end_s) / 2).argmin())
        right += track.labels[int(track.probs[middle].argmax())] == event.label
    return right / len(truth)


def pair_events(
    truth: tuple[Event, ...], found: tuple[Event, ...]
) -> tuple[tuple[Event | None, Event | None], ...]:
    """(true event, found event) in time order, None where the other has no partner.

    Best score first, each found event takes the nearest free true one of its class whose middle is
    at most TOLERANCE_S from its peak.
    """
    free = list(truth)
    rows: list[tuple[Event | None, Event | None]] = []
    for event in sorted(found, key=lambda e: -e.score):
        near = [
            (abs(t.peak_s - event.peak_s), i)
            for i, t in enumerate(free)
            if t.label == event.label and abs(t.peak_s - event.peak_s) <= TOLERANCE_S
        ]
        rows.append((free.pop(min(near)[1]) if near else None, event))
    rows += [(event, None) for event in free]
    return tuple(sorted(rows, key=lambda row: (row[0] or row[1] or truth[0]).peak_s))
