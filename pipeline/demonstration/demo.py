"""Run the demonstration: render matches, train a small network twice, detect in a new match.

The same network is trained twice on the same clips for the same wall-clock time: from the weights
in the package with its first stages frozen, and from scratch. Then both detect plays in a match
that they were not trained on.
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
"""An event is right if its peak is at most this far from the middle of a true event."""


@dataclass(frozen=True)
class DemoFootage:
    """The rendered footage and its labels.

    Attributes:
        labels: Labels of the training matches, as CSV.
        unseen: The match that is not used for training.
        truth: The true events of that match.
        unseen_s: Length of that match in seconds.
        num_plays: Number of labelled plays in the training matches.
    """

    labels: Path
    unseen: Path
    truth: tuple[Event, ...]
    unseen_s: float
    num_plays: int


@dataclass(frozen=True)
class Arm:
    """One way of training, and its results on the unseen match.

    Attributes:
        name: Its name, which is also its folder's name.
        folder: Where the model and the results are.
        backbone: The trained network.
        num_negatives: Background clips used for training.
        seconds: Seconds of training.
        epochs: Epochs of training.
        accuracy: Share of true events whose middle window gets the right class.
        mean_average_precision: Spotting mAP at TOLERANCE_S over all candidates.
        found: Accepted events that match a true event.
        false: Accepted events that match none.
        rows: (true event, accepted event) in time order; None if one has no partner.
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
    """What the demonstration made.

    Attributes:
        footage: The rendered footage and its labels.
        transfer: Training from the weights in the package.
        scratch: Training from random weights.
    """

    footage: DemoFootage
    transfer: Arm
    scratch: Arm


def pretrained_weights() -> Path:
    """The weights that are part of the package."""
    return Path(str(files("touchline.models") / "pretrained" / f"{BACKBONE}.safetensors"))


def run_demo(
    out: Path, options: DemoOptions, *, on_progress: Callable[[Progress], None] = lambda _: None
) -> DemoResult:
    """Run the whole demonstration.

    Args:
        out: The folder to write to.
        options: Seed and length of the training.
        on_progress: Called with the progress of each phase.
    """
    footage = make_footage(out, seed=options.seed, on_progress=on_progress)
    transfer = TrainJob(
        labels=footage.labels,
        backbone=BACKBONE,
        weights=str(pretrained_weights()),
        freeze="block2",
        val_share=0.0,
        # The network needs many look-alikes as background to learn the difference.
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
    """Render the matches and write their labels: OUT/labels.csv and OUT/unseen.csv.

    Args:
        out: The folder to write to.
        seed: Decides how the matches look and what happens in them.
        on_progress: Called after each match.
    """
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
    """Train into OUT/<name>, detect in the unseen match, and compare with the truth.

    Args:
        name: Name of this way of training.
        job: What to train, and how.
        footage: The rendered footage and its labels.
        out: The folder to write to.
        on_progress: Called with the progress of each phase.
    """
    model, split, job = prepare(job)
    folder = out / name
    # Do not resume an interrupted demonstration: both networks must train for the same seconds.
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
    """Spotting mAP at TOLERANCE_S, over all candidates."""
    video = str(result.path)
    return spotting_map(
        {video: truth}, {video: result.candidates}, tolerances_s=(TOLERANCE_S,)
    ).value()


def middle_accuracy(truth: tuple[Event, ...], track: ScoreTrack) -> float:
    """Share of true events whose class has the highest score in the window at their middle."""
    right = 0
    for event in truth:
        middle = int(np.abs(track.centre_s - (event.start_s + event.end_s) / 2).argmin())
        right += track.labels[int(track.probs[middle].argmax())] == event.label
    return right / len(truth)


def pair_events(
    truth: tuple[Event, ...], found: tuple[Event, ...]
) -> tuple[tuple[Event | None, Event | None], ...]:
    """Pairs (true event, found event) in time order; None if one has no partner.

    In order of score, each found event takes the nearest true event of its class that is still
    free and whose middle is at most TOLERANCE_S from its peak.
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
