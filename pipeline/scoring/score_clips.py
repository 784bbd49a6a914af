"""Labelled clips through a trained network: what evaluation and calibration both start from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import FootageError
from touchline.pipeline.clips.load import (
    LabelledClip,
    LoadedClips,
    each_clip,
    load_clips,
    one_per_interval,
    plain_view,
    refuse_unreadable,
)
from touchline.pipeline.clips.windows import batched
from touchline.pipeline.labels.read import check_labels
from touchline.pipeline.labels.split import visible_examples
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Bool, Example, Float32


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

    def __post_init__(self) -> None:
        if self.max_clip_s is not None and not 0 < self.max_clip_s < math.inf:
            raise ValueError(f"max_clip_s is {self.max_clip_s}; it must be more than 0, finite")
        for name, least in (("views", 1), ("batch_size", 1), ("max_bad", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")


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

    def take(self, chosen: Bool) -> ClipScores:
        """The chosen clips (N,)."""
        examples = tuple(e for e, kept in zip(self.examples, chosen, strict=True) if kept)
        return replace(
            self, examples=examples, logits=self.logits[chosen], truth=self.truth[chosen]
        )


def score_clips(
    model: TrainedModel,
    examples: Sequence[Example],
    options: ClipOptions,
    *,
    on_clip: Callable[[], None] = lambda: None,
) -> ClipScores:
    """The logits of labelled clips; LabelsError for a class the model does not have.

    Clips are let go once they are scored, so any number of them can be.
    """
    check_labels(examples, model.labels)
    bad: list[FootageError] = []

    def readable() -> Iterator[LabelledClip]:
        for clip in each_clip(examples, model.spec, max_clip_s=options.max_clip_s):
            if isinstance(clip, FootageError):
                bad.append(clip)
            else:
                yield clip
            on_clip()

    kept, logits = _logits(model, readable(), options)
    refuse_unreadable(bad, len(examples), options.max_bad)
    return _scores(model, kept, logits, [str(error) for error in bad])


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
    return _scores(model, *_logits(model, loaded.clips, options), loaded.problems)


def _logits(
    model: TrainedModel, clips: Iterable[LabelledClip], options: ClipOptions
) -> tuple[list[Example], Float32]:
    """The N clips there are, and the logits of their views (N, V, K)."""
    scorer = Scorer(
        model, device=options.device, precision=options.precision, batch_size=options.batch_size
    )
    kept: list[Example] = []

    def views() -> Iterator[Tensor]:
        for clip in clips:
            kept.append(clip.example)
            for view in range(options.views):
                yield plain_view(clip, model.spec, view, options.views)

    parts = [
        scorer.logits(torch.stack(batch).numpy()).cpu().numpy()
        for batch in batched(views(), options.batch_size)
    ]
    K = len(model.labels)
    logits = np.concatenate(parts) if parts else np.zeros((0, K), np.float32)
    return kept, logits.reshape(len(kept), options.views, K)


def _scores(
    model: TrainedModel, kept: Sequence[Example], logits: Float32, problems: Sequence[str]
) -> ClipScores:
    column = {label: k for k, label in enumerate(model.labels)}
    truth = np.array([column[example.label] for example in kept], dtype=np.int64)
    return ClipScores(tuple(kept), logits, truth, tuple(problems))


def clip_probs(model: TrainedModel, scores: ClipScores) -> Float32:
    """(N, K) probabilities at the model's temperature, averaged over the windows of each clip."""
    N, V, K = scores.logits.shape
    probs = model.probs(torch.from_numpy(scores.logits.reshape(N * V, K)))
    averaged: Float32 = probs.reshape(N, V, K).mean(dim=1).numpy()
    return averaged


def to_be_seen(model: TrainedModel, examples: Sequence[Example]) -> tuple[list[Example], int]:
    """The examples that can be seen, and how many others there are.

    ValueError where several labels of a stretch are true together: each would count as an error of
    the others.
    """
    seen = list(visible_examples(examples))
    if model.multi_label and len(one_per_interval(seen)) < len(seen):
        raise ValueError(
            "several labels are true of the same clip, which figures of one class per clip cannot "
            "hold: leave only one of them for each clip"
        )
    return seen, len(examples) - len(seen)
