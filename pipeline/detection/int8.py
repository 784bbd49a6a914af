"""Make a trunk in int8 for `detect`, and find out what it changes in scores and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from touchline.models.atomic_files import atomic_path
from touchline.models.backbone import normalise
from touchline.models.checkpoint import TrainedModel
from touchline.models.engines.engine import graph_frames
from touchline.models.engines.int8 import (
    Int8Change,
    quantise_trunk,
    read_facts,
    write_facts,
)
from touchline.pipeline.calibration.stitched_clips import match_events, reach_of, stitch
from touchline.pipeline.clips.load import LabelledClip, load_clip
from touchline.pipeline.clips.windows import squared
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.detection.detect import events_of, points_of
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.footage.address import FOOTAGE_SUFFIXES
from touchline.pipeline.footage.sniff import is_footage
from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.scoring.events import find_events
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Frames, ScoreTrack

MOST_FRAMES = 2400
"""Footage for calibration has at most this many frames: five minutes at 8 frames a second."""

CALIBRATION_FRAMES = 256
"""Ranges of activations are taken from about this many of them."""

DEFAULTS = DetectOptions()


def make_int8(
    path: Path,
    model: TrainedModel,
    footage: Sequence[Frames],
    *,
    on_step: Callable[[str], None] = lambda step: None,
) -> Int8Change:
    """Write the trunk of a model in int8, for `detect`, and say what it changes.

    Ranges of activations are taken from frames that are spread over the footage. Then all of the
    footage is scored in float32 and in int8.

    Args:
        path: The file.
        model: The trained model.
        footage: Frames at the model's rate and size, from `calibration_footage`.
        on_step: Called with what begins.

    Raises:
        ValueError: A package is missing, or PyTorch cannot write this network as ONNX.
        OSError: The file cannot be written.
    """
    with atomic_path(path) as part:
        on_step("calibrating")
        calibrate_int8(part, model, footage)
        on_step("comparing with float32")
        change = compare_int8(part, model, footage)
        write_facts(part, replace(read_facts(part, model.backbone), change=change))
    return change


def calibrate_int8(path: Path, model: TrainedModel, footage: Sequence[Frames]) -> None:
    """Write the trunk of a model in int8, without a comparison.

    Args:
        path: The file.
        model: The trained model.
        footage: Frames at the model's rate and size.

    Raises:
        ValueError: A package is missing, or PyTorch cannot write this network as ONNX.
        OSError: The file cannot be written.
    """
    quantise_trunk(path, model.backbone, _clips(model, footage))


def calibration_footage(model: TrainedModel, sources: Sequence[Path]) -> list[Frames]:
    """Read footage to calibrate on: the first minutes of footage, or labelled clips, joined.

    Args:
        model: The model.
        sources: Footage files, label files and folders of clips, one or more. Each gives about the
            same number of frames, MOST_FRAMES together.

    Raises:
        LabelsError: Labels cannot be used.
        FootageError: Footage cannot be read.
    """
    share = max(model.spec.num_frames, MOST_FRAMES // len(sources))
    return [
        _footage(model, path, share) if _is_video(path) else _labelled(model, path, share)
        for path in sources
    ]


def compare_int8(path: Path, model: TrainedModel, footage: Sequence[Frames]) -> Int8Change:
    """Score footage in float32 and with a trunk in int8, and compare scores and events.

    Events are those of `detect` without options. Two events are the same if they are of one class
    and the peak of one is inside the other, or at most half a window outside.

    Args:
        path: The trunk in int8.
        model: The model.
        footage: The footage.
    """
    exact = Scorer(model, device="cpu", precision="float32")
    quick = Scorer(model, device="cpu", engine="auto", int8=path)
    tracks = [(exact.score([frames]), quick.score([frames])) for frames in footage]
    apart = np.concatenate([np.abs(one.probs - other.probs) for one, other in tracks])
    found = [(_events(model, one), _events(model, other)) for one, other in tracks]
    kept = sum(
        _common(events, others, reach_of(one, events_of(model, DEFAULTS)))
        for (one, _), (events, others) in zip(tracks, found, strict=True)
    )
    return Int8Change(
        footage_s=sum(map(len, footage)) / model.spec.rate_hz,
        windows=len(apart),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        kept=kept,
        lost=sum(len(events) for events, _ in found) - kept,
        gained=sum(len(others) for _, others in found) - kept,
    )


def _is_video(path: Path) -> bool:
    return not path.is_dir() and (path.suffix.lower() in FOOTAGE_SUFFIXES or is_footage(path))


def _footage(model: TrainedModel, path: Path, most: int) -> Frames:
    """The first frames of a file."""
    spec = model.spec
    stream = decode(
        path, rate_hz=spec.rate_hz, size_px=spec.size_px, end_s=(most - 0.5) / spec.rate_hz
    )
    with closing(stream):
        return _joined([replace(part, pixels=squared(part.pixels, spec)) for part in stream])


def _labelled(model: TrainedModel, path: Path, most: int) -> Frames:
    """Labelled clips, joined in a mixed order, until there are enough frames."""
    examples = read_labels(path)
    clips: list[LabelledClip] = []
    num_frames = 0
    for k in np.random.default_rng(0).permutation(len(examples)):
        clips.append(load_clip(examples[k], model.spec, max_clip_s=model.record.max_clip_s))
        num_frames += clips[-1].num_frames
        if num_frames >= most:
            break
    frames, _ = stitch(clips, model.spec)
    return frames


def _joined(parts: Sequence[Frames]) -> Frames:
    names = ("pixels", "time_s", "sample_s", "damaged")
    return Frames(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _clips(model: TrainedModel, footage: Sequence[Frames]) -> Iterator[Tensor]:
    """Clips (1, 3, T, S, S), normalised, that are spread over the footage."""
    length = graph_frames(model.backbone)
    pixels = np.concatenate([squared(frames.pixels, model.spec) for frames in footage])
    count = -(-CALIBRATION_FRAMES // length)
    if model.backbone.framewise:
        # Neighbours look alike: each clip takes frames from all over.
        index = np.linspace(0, len(pixels) - 1, count * length).round().astype(np.int64)
        picks = index.reshape(length, count).T
    else:
        starts = np.linspace(0, max(0, len(pixels) - length), count).round().astype(np.int64)
        picks = (starts[:, None] + np.arange(length)).clip(max=len(pixels) - 1)
    for pick in picks:
        clip = torch.from_numpy(pixels[pick])[None].transpose(1, 2)
        yield normalise(clip, model.spec)


def _events(model: TrainedModel, track: ScoreTrack) -> list[Event]:
    return find_events(track, points_of(model, DEFAULTS), events_of(model, DEFAULTS))


def _common(one: Sequence[Event], other: Sequence[Event], reach_s: float) -> int:
    """How many events of one are in the other, class by class."""
    return sum(
        len(
            match_events(
                [event for event in one if event.label == label],
                [event for event in other if event.label == label],
                reach_s=reach_s,
            )
        )
        for label in {event.label for event in one}
    )
