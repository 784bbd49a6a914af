"""Labelled clips through a trained network: what evaluation and calibration both start from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.dataset import LoadedClips, load_clips, plain_view
from touchline.pipeline.labels import check_labels
from touchline.pipeline.score import Scorer, batched
from touchline.pipeline.types import Example, Float32


@dataclass(frozen=True)
class ClipOptions:
    """How clips are looked at.

    views: windows per clip, spread evenly.  max_clip_s: use at most so many seconds of each.
    max_bad: so many unreadable clips are passed over before it is an error.
    """

    views: int = 3
    max_clip_s: float | None = None
    max_bad: int = 0
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8


@dataclass(frozen=True)
class ClipScores:
    """What the network says of N clips in V windows each.

    logits: (N, V, K) float32, before temperature.  truth: (N,) columns of their labels.
    problems: one message per clip that could not be read.
    """

    examples: tuple[Example, ...]
    logits: Float32
    truth: npt.NDArray[np.int64]
    problems: tuple[str, ...] = ()

    @property
    def groups(self) -> list[str]:
        return [example.group for example in self.examples]


def score_clips(
    model: TrainedModel,
    examples: Sequence[Example],
    options: ClipOptions,
    *,
    on_clip: Callable[[], None] = lambda: None,
) -> ClipScores:
    """The logits of labelled clips; LabelsError for a class the model does not have."""
    return score_loaded(model, load_for(model, examples, options, on_clip=on_clip), options)


def load_for(
    model: TrainedModel,
    examples: Sequence[Example],
    options: ClipOptions,
    *,
    on_clip: Callable[[], None] = lambda: None,
) -> LoadedClips:
    """The frames of labelled clips; LabelsError for a class the model does not have."""
    check_labels(examples, model.labels)
    return load_clips(
        examples,
        model.spec,
        max_clip_s=options.max_clip_s,
        max_bad=options.max_bad,
        on_clip=on_clip,
    )


def score_loaded(model: TrainedModel, loaded: LoadedClips, options: ClipOptions) -> ClipScores:
    """The logits of clips that are in memory already."""
    scorer = Scorer(
        model, device=options.device, precision=options.precision, batch_size=options.batch_size
    )
    views = (
        plain_view(clip, model.spec, view, options.views)
        for clip in loaded.clips
        for view in range(options.views)
    )
    parts = [
        scorer.logits(torch.stack(batch).numpy()).cpu().numpy()
        for batch in batched(views, options.batch_size)
    ]
    K = len(model.labels)
    logits = np.concatenate(parts) if parts else np.zeros((0, K), np.float32)
    column = {label: k for k, label in enumerate(model.labels)}
    kept = tuple(clip.example for clip in loaded.clips)
    return ClipScores(
        examples=kept,
        logits=logits.reshape(len(kept), options.views, K),
        truth=np.array([column[example.label] for example in kept], dtype=np.int64),
        problems=tuple(loaded.problems),
    )


def clip_probs(model: TrainedModel, scores: ClipScores) -> Float32:
    """(N, K) probabilities at the model's temperature, averaged over the windows of each clip."""
    N, V, K = scores.logits.shape
    probs = model.probs(torch.from_numpy(scores.logits.reshape(N * V, K)))
    averaged: Float32 = probs.reshape(N, V, K).mean(dim=1).numpy()
    return averaged


def unseen_examples(
    model: TrainedModel, examples: Sequence[Example]
) -> tuple[list[Example], list[str]]:
    """The examples whose match the model was not trained on, and the training groups left out.

    ValueError where none remains: figures on training matches would say nothing.
    """
    trained = set(recorded_groups(model).get("train", ()))
    left_out = sorted({example.group for example in examples} & trained)
    unseen = [example for example in examples if example.group not in trained]
    if examples and not unseen:
        raise ValueError(
            f"the model was trained on every group of these labels ({', '.join(left_out[:8])}); "
            "give labels of other matches"
        )
    return unseen, left_out


def recorded_groups(model: TrainedModel) -> Mapping[str, Sequence[str]]:
    """The groups of each part of the split the model comes from; empty where nobody wrote them."""
    groups = model.record.get("groups", {})
    return groups if isinstance(groups, Mapping) else {}


def recorded_max_clip_s(model: TrainedModel) -> float | None:
    """How much of a clip training used at most; None: all of it, or nobody wrote it."""
    job = model.record.get("job", {})
    options = job.get("options", {}) if isinstance(job, Mapping) else {}
    longest = options.get("max_clip_s") if isinstance(options, Mapping) else None
    return float(longest) if isinstance(longest, int | float) else None
