"""Score labelled clips with a trained model, for evaluation and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
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
from touchline.pipeline.scoring.options import ClipOptions
from touchline.pipeline.scoring.score import Scorer
from touchline.pipeline.types import Bool, Example, Float32, Int64


@dataclass(frozen=True)
class ClipScores:
    """The network's output for N clips in V windows each.

    Attributes:
        examples: The N labelled clips.
        logits: (N, V, K) logits before the temperature.
        truth: (N,) the column of each clip's class.
        problems: One message for each clip that could not be read.
    """

    examples: tuple[Example, ...]
    logits: Float32
    truth: Int64
    problems: tuple[str, ...] = ()

    @property
    def groups(self) -> list[str]:
        """The match of each clip."""
        return [example.group for example in self.examples]

    def take(self, chosen: Bool) -> ClipScores:
        """Return the clips where the mask `chosen` (N,) is True."""
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
    """Compute the logits of labelled clips. Each clip leaves memory once it is scored.

    Args:
        model: The trained model.
        examples: The labelled clips.
        options: How to score them.
        on_clip: Called after each clip is read.

    Raises:
        LabelsError: The model does not have the class of a clip.
        FootageError: More than `options.max_bad` clips cannot be read.
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
    """Load the frames of labelled clips into memory, as the model sees them.

    Args:
        model: The trained model.
        examples: The labelled clips.
        options: How they will be scored.
        on_clip: Called after each clip is read.

    Raises:
        LabelsError: The model does not have the class of a clip.
        FootageError: More than `options.max_bad` clips cannot be read.
    """
    check_labels(examples, model.labels)
    return load_clips(
        examples,
        model.spec,
        max_clip_s=options.max_clip_s,
        max_bad=options.max_bad,
        on_clip=on_clip,
    )


def score_loaded(model: TrainedModel, loaded: LoadedClips, options: ClipOptions) -> ClipScores:
    """Compute the logits of clips that are in memory.

    Args:
        model: The trained model.
        loaded: Its clips, from `load_for`.
        options: How to score them.
    """
    return _scores(model, *_logits(model, loaded.clips, options), loaded.problems)


def _logits(
    model: TrainedModel, clips: Iterable[LabelledClip], options: ClipOptions
) -> tuple[list[Example], Float32]:
    """The N clips, and the logits (N, V, K) of their windows."""
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
    """Average the probabilities over each clip's windows, at the model's temperature: (N, K)."""
    N, V, K = scores.logits.shape
    probs = model.probs(torch.from_numpy(scores.logits.reshape(N * V, K)))
    averaged: Float32 = probs.reshape(N, V, K).mean(dim=1).numpy()
    return averaged


def keep_visible(model: TrainedModel, examples: Sequence[Example]) -> tuple[list[Example], int]:
    """Drop the events that the broadcast does not show; return the rest and how many were dropped.

    Raises:
        ValueError: Several labels are true of one clip. Each would count as an error of the others.
    """
    seen = list(visible_examples(examples))
    if model.multi_label and len(one_per_interval(seen)) < len(seen):
        raise ValueError(
            "several labels are true of the same clip, but these figures need one class per clip. "
            "Keep one label for each clip."
        )
    return seen, len(examples) - len(seen)
