"""Run the demonstration: render matches, train a small network twice, detect in a new match.

The same network is trained twice on the same clips for the same wall-clock time: with the weights
in the package, frozen, under a fitted head; and as a whole from scratch. Thresholds come from
further matches that neither was trained on. Then both detect plays in a new match.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from touchline.models.atomic_files import write_atomic
from touchline.models.backbone import Backbone
from touchline.models.checkpoint import TrainedModel, load_checkpoint, save_checkpoint
from touchline.models.classes import BACKGROUND, VERIFIED
from touchline.pipeline.calibration.calibrate import calibrate, evidence_record
from touchline.pipeline.calibration.options import Target
from touchline.pipeline.calibration.temperature import fit_model_temperature
from touchline.pipeline.calibration.verified import score_verified
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.demonstration.options import DemoOptions
from touchline.pipeline.demonstration.render_match import render_match
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.evaluation.spotting import pair_events, spotting_map
from touchline.pipeline.labels.csv_files import write_csv
from touchline.pipeline.labels.target import LabelTarget
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.runs.options import TrainJob
from touchline.pipeline.runs.prepare import prepare
from touchline.pipeline.runs.run import MODEL_FILE, SNAPSHOT_FILE, run_training
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.scoring.score_clips import score_clips
from touchline.pipeline.training.options import TrainOptions
from touchline.pipeline.training.result import Progress
from touchline.pipeline.types import Event, Example, ScoreTrack

BACKBONE = "motion_net"
NUM_TRAINING = 16
NUM_CALIBRATION = 4
NUM_FRAMES = 24
"""Windows of 3 s: a play lasts up to 2.1 s, and whether a shot goes in is seen only at its end."""

UNSEEN = "unseen"
TOLERANCE_S = 1.0
"""An event is right if its peak is at most this far from the middle of a true event."""


@dataclass(frozen=True)
class DemoFootage:
    """The rendered footage and its labels.

    Attributes:
        labels: Labels of all matches but the unseen one, as CSV.
        calibration: The plays of those matches among them that only set thresholds.
        unseen: The match that is used for nothing but the test.
        truth: The true events of that match.
        unseen_s: Length of that match in seconds.
        num_plays: Number of labelled plays in the training matches.
    """

    labels: Path
    calibration: tuple[Example, ...]
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
        options: The seed.
        on_progress: Called with the progress of each phase.
    """
    footage = make_footage(out, seed=options.seed, on_progress=on_progress)
    transfer = TrainJob(
        labels=footage.labels,
        backbone=BACKBONE,
        weights=str(pretrained_weights()),
        freeze="trunk",
        head="linear",
        val_share=0.0,
        exclude_groups=tuple(sorted({play.group for play in footage.calibration})),
        # Many look-alikes as background, close to the plays, teach the difference.
        background_ratio=6.0,
        background_margin_s=0.25,
        num_frames=NUM_FRAMES,
        options=TrainOptions(batch_size=16, precision="float32", seed=options.seed),
    )
    first = run_arm("transfer", transfer, footage, out, on_progress=on_progress)
    same_time = replace(transfer.options, epochs=1000, max_seconds=first.seconds)
    scratch = replace(transfer, weights=None, freeze="0", head="own", options=same_time)
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
    names = [*(f"match_{k + 1}" for k in range(NUM_TRAINING + NUM_CALIBRATION)), UNSEEN]
    paths = [folder / f"{name}.mp4" for name in names]
    seeds = np.random.SeedSequence(seed).generate_state(len(names)).tolist()
    spawn = multiprocessing.get_context("spawn")
    matches: list[list[Event]] = []
    on_progress(Progress("rendering matches", 0, len(names)))
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        # The unseen match is the longest: begin with it.
        pairs = zip(reversed(paths), reversed(seeds), strict=True)
        jobs = [pool.submit(_render, path, seed) for path, seed in pairs]
        for done, job in enumerate(jobs, start=1):
            matches.append(job.result())
            on_progress(Progress("rendering matches", done, len(names)))
    matches.reverse()
    plays = [
        [Example(path, event.label, name, event.start_s, event.end_s) for event in events]
        for path, name, events in zip(paths, names, matches, strict=True)
    ]
    verified = [Example(path, VERIFIED, name) for path, name in zip(paths, names, strict=True)]
    labels = [row for k in range(len(names) - 1) for row in (*plays[k], verified[k])]
    write_atomic(out / "labels.csv", write_csv(labels, LabelTarget(out)))
    write_atomic(out / "unseen.csv", write_csv(plays[-1], LabelTarget(out)))
    return DemoFootage(
        labels=out / "labels.csv",
        calibration=tuple(play for match in plays[NUM_TRAINING:-1] for play in match),
        unseen=paths[-1],
        truth=tuple(example.event() for example in plays[-1]),
        unseen_s=probe_footage(paths[-1]).duration_s,
        num_plays=sum(map(len, plays[:NUM_TRAINING])),
    )


def _render(path: Path, seed: int) -> list[Event]:
    unseen = path.stem == UNSEEN
    return render_match(
        path, plays_each=5 if unseen else 2, distractors=14 if unseen else 7, seed=seed
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
    options = DetectOptions(device="cpu", precision="float32")
    model = calibrated(load_checkpoint(folder / MODEL_FILE), footage.calibration)
    save_checkpoint(folder / MODEL_FILE, model)
    [result] = detect_all([footage.unseen], model, folder, options, report=True)
    if result.error is not None or result.track is None:
        raise RuntimeError(f"{footage.unseen}: {result.error}")
    on_progress(Progress(f"detecting ({name})", 1, 1))
    rows = pair_events(footage.truth, result.accepted, tolerance_s=TOLERANCE_S)
    return Arm(
        name=name,
        folder=folder,
        backbone=trained.model.backbone,
        num_negatives=sum(example.label == BACKGROUND for example in split.train),
        seconds=trained.seconds,
        accuracy=middle_accuracy(footage.truth, result.track),
        mean_average_precision=mean_average_precision(footage.truth, result),
        found=sum(a is not None and b is not None for a, b in rows),
        false=sum(a is None for a, _ in rows),
        rows=rows,
    )


def calibrated(model: TrainedModel, plays: Sequence[Example]) -> TrainedModel:
    """Return the model with thresholds from matches that it was not trained on.

    Args:
        model: The trained model.
        plays: Every play in these matches.
    """
    matches = [
        Example(path, VERIFIED, group)
        for path, group in dict.fromkeys((play.path, play.group) for play in plays)
    ]
    options = ClipOptions(device="cpu", precision="float32")
    scores = score_clips(model, plays, options)
    temperature = fit_model_temperature(model, scores)
    scorer = Scorer(replace(model, temperature=temperature), device="cpu", precision="float32")
    calibration = calibrate(
        model,
        scores,
        target=Target(),
        stitched=[score_verified(scorer, plays, matches)],
        temperature=temperature,
        verified=True,
    )
    return calibration.apply(model, evidence_record(calibration, scores, Target()))


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
