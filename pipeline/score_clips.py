"""Labelled clips through a trained network: what evaluation and calibration both start from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from touchline.models.checkpoint import TrainedModel
from touchline.models.errors import FootageError
from touchline.pipeline.dataset import (
    LabelledClip,
    LoadedClips,
    each_clip,
    load_clips,
    plain_view,
    refuse_unreadable,
)
from touchline.pipeline.label_source import FOOTAGE_SUFFIXES
from touchline.pipeline.labels import check_labels, visible_examples
from touchline.pipeline.score import Scorer, batched
from touchline.pipeline.targets import one_per_interval
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


def unseen_examples(
    model: TrainedModel, examples: Sequence[Example]
) -> tuple[list[Example], list[str]]:
    """The examples whose match the model was not trained on, and the training groups left out.

    ValueError where none remains: figures on training matches would say nothing.
    """
    left_out = trained_groups(model, {example.group for example in examples})
    unseen = [example for example in examples if example.group not in left_out]
    if examples and not unseen:
        raise ValueError(
            f"the model was trained on every group of these labels ({', '.join(left_out[:8])}); "
            "give labels of other matches"
        )
    return unseen, left_out


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


def trained_groups(model: TrainedModel, groups: Iterable[str]) -> list[str]:
    """Those of these groups that the model, or weights it began with, were trained on, sorted.

    A group that is a file's name is known wherever its label file lay: clips/a.mp4 is a.mp4.
    """
    trained = every_trained_group(model.record)
    by_end: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for group in trained:
        by_end[_stem(group)[-1]].append(_stem(group))
    return sorted(g for g in set(groups) if g in trained or _has_same_end(_stem(g), by_end))


def _stem(group: str) -> tuple[str, ...]:
    """The parts of a group's name, without the ending that a file's name has."""
    path = PurePosixPath(group)
    name = path.stem if path.suffix.lower() in FOOTAGE_SUFFIXES else path.name
    return (*path.parts[:-1], name)


def _has_same_end(parts: tuple[str, ...], known: Mapping[str, Sequence[tuple[str, ...]]]) -> bool:
    return any(
        all(a == b for a, b in zip(reversed(parts), reversed(other), strict=False))
        for other in known.get(parts[-1], ())
    )


def every_trained_group(record: Mapping[str, Any]) -> set[str]:
    """The groups that a model of this record, or weights it began with, were trained on."""
    groups = recorded_groups(record)
    return {*groups.get("train", ()), *groups.get("earlier", ())}


def recorded_groups(record: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """The groups of each part of the split a model comes from; empty where nobody wrote them.

    `earlier` are those that the weights it began with were trained on.
    """
    groups = record.get("groups", {})
    return groups if isinstance(groups, Mapping) else {}


def recorded_max_clip_s(model: TrainedModel) -> float | None:
    """How much of a clip training used at most; None: all of it, or nobody wrote it."""
    job = model.record.get("job", {})
    options = job.get("options", {}) if isinstance(job, Mapping) else {}
    longest = options.get("max_clip_s") if isinstance(options, Mapping) else None
    return float(longest) if isinstance(longest, int | float) else None
