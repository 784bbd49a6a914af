"""Measure how well a trunk that runs once over the footage agrees with whole windows.

Most label files name clips, not matches. So validation clips are joined to one stretch of footage,
as for calibration, and both ways score it:

    clips     [goal][==card==][background][==goal==] ...
    windows   |-----|                          each through the whole network
                 |-----|
    shared    [ features of the trunk, once  ] the head slides over them

At a cut between two clips both ways see the same pictures, but a shared trunk sees beyond the ends
of a window and a whole window does not. A match changes less, so the figure is rather too low.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from touchline.models.checkpoint import TrainedModel
from touchline.models.training_record import SharedAgreement
from touchline.pipeline.calibration.stitched_clips import mixed_order, stitch
from touchline.pipeline.clips.load import LabelledClip
from touchline.pipeline.clips.windows import hop_samples
from touchline.pipeline.evaluation.spotting import spotting_map
from touchline.pipeline.scoring.events import find_events, operating_points
from touchline.pipeline.scoring.options import EventOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Event, Frames, ScoreTrack

MOST_WINDOWS = 400
"""Footage for a comparison has at most about this many windows."""

TOLERANCE_S = 1.0


def can_share(model: TrainedModel) -> bool:
    """Tell whether a shared trunk is possible and gives other scores than whole windows.

    Args:
        model: The model.
    """
    if model.backbone.framewise or not model.backbone.slides_in_time:
        return False
    try:
        Scorer(model, device="cpu", precision="float32", mode="shared")
    except ValueError:  # the features of a window are not of whole frames
        return False
    return True


def whole_hop(model: TrainedModel, stride: int) -> int:
    """Return the default hop in samples, rounded up to whole features of the trunk.

    Args:
        model: The model.
        stride: Frames per feature.
    """
    return -(-hop_samples(model.spec, None) // stride) * stride


def join_clips(model: TrainedModel, clips: Sequence[LabelledClip], *, seed: int = 0) -> Frames:
    """Join clips of mixed classes until there are about MOST_WINDOWS windows.

    Args:
        model: The model.
        clips: The labelled clips, one or more.
        seed: Random seed of the choice and of the order.
    """
    order = mixed_order([clip.example.label for clip in clips], np.random.default_rng(seed))
    ends = np.cumsum([len(clips[k].pixels) for k in order])
    count = int(np.searchsorted(ends, MOST_WINDOWS * hop_samples(model.spec, None))) + 1
    frames, _ = stitch([clips[k] for k in order[:count]], model.spec, seed=seed)
    return frames


def measure_agreement(
    model: TrainedModel,
    frames: Frames,
    *,
    device: str = "auto",
    precision: str = "auto",
    tuned: bool = False,
    on_way: Callable[[int], None] = lambda done: None,
) -> SharedAgreement:
    """Score footage in both ways, and compare scores and events.

    Events are those of `detect` without options: at the thresholds of the model, or 0.5.

    Args:
        model: The trained model; its trunk is one that `can_share`.
        frames: The footage.
        device: Where the network runs: auto, cpu, cuda, cuda:1 or mps.
        precision: auto, float32 or bf16.
        tuned: Whether the head was tuned on shared features; for the record.
        on_way: Called with how many of the two ways are done.

    Raises:
        ValueError: The trunk cannot be shared for windows of this length.
    """
    fast = Scorer(model, device=device, precision=precision, mode="shared")
    hop_s = whole_hop(model, fast.stride) / model.spec.rate_hz
    on_way(0)
    shared = fast.score([frames], hop_s=hop_s)
    on_way(1)
    scorer = Scorer(model, device=device, precision=precision, mode="windows")
    whole = scorer.score([frames], hop_s=hop_s)
    on_way(2)
    return SharedAgreement(
        mean_ap=_mean_ap(_events(model, whole), _events(model, shared)),
        largest_difference=float(np.abs(shared.probs - whole.probs).max()),
        events=len(_events(model, whole)),
        windows=len(whole.start_s),
        footage_s=len(frames) / model.spec.rate_hz,
        stride=fast.stride,
        tuned=tuned,
    )


def _events(model: TrainedModel, track: ScoreTrack) -> list[Event]:
    points = operating_points(model.labels, thresholds=model.thresholds)
    return find_events(track, points, EventOptions(widths=model.widths))


def _mean_ap(one: Sequence[Event], other: Sequence[Event]) -> float | None:
    """The lower mAP of both directions; None without any event.

    In one direction alone, events of a class that the other way never finds would cost nothing.
    """
    if not one and not other:
        return None
    if not one or not other:
        return 0.0
    return min(
        spotting_map({"footage": truth}, {"footage": found}, [TOLERANCE_S]).value()
        for truth, found in ((one, other), (other, one))
    )
