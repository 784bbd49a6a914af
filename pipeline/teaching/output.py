"""What leaves a project: a model for `touchline detect`, and the confirmed events in any format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from touchline.models.catalog import BACKBONES, build_backbone
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.classes import BACKGROUND
from touchline.models.errors import FootageError
from touchline.models.heads import HeadSpec
from touchline.models.training_record import (
    PeakWidths,
    TrainedGroups,
    TrainingRecord,
    WeightsOrigin,
)
from touchline.models.weights.open import open_weights
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import WRITERS, write_result
from touchline.pipeline.teaching.learning import NMS_S, SMOOTH_S, Learned
from touchline.pipeline.teaching.options import StudioOptions
from touchline.pipeline.teaching.project import Project

FRAME_RATE_HZ, FRAME_SIZE_PX = 4.0, 224
"""How a trunk that sees single frames samples footage, if not asked otherwise."""

MODEL_FILE, EXPORTS_FOLDER = "model.safetensors", "exports"


def open_trunk(options: StudioOptions) -> TrainedModel:
    """Load the network whose frozen trunk gives the features; its head is never used.

    Args:
        options: Which network, and how it sees footage.

    Raises:
        WeightsError: The weights cannot be had or used.
        ValueError: There is no such network, or its trunk cannot run over longer footage.
    """
    if options.backbone not in BACKBONES:
        raise ValueError(
            f"backbone is {options.backbone!r}; it must be one of {', '.join(BACKBONES)}"
        )
    weights = open_weights(options.weights, options.backbone)
    backbone = build_backbone(options.backbone, 2, weights.spec)
    if not backbone.slides_in_time:
        raise ValueError(
            f"backbone is {options.backbone!r}, whose trunk sees clips of fixed length only. The "
            "studio needs one that can run over a whole match, such as cnn_lstm_lite0"
        )
    rate_hz, size_px = options.rate_hz, options.size_px
    if backbone.framewise:
        rate_hz, size_px = frame_sampling(options)
    backbone.spec = weights.spec.with_sampling(
        num_frames=1 if backbone.framewise else None, rate_hz=rate_hz, size_px=size_px
    )
    weights.load_into(backbone)
    record = TrainingRecord(
        groups=TrainedGroups(earlier=tuple(sorted(weights.record.groups.seen))),
        weights=WeightsOrigin(options.weights, weights.sha256),
    )
    return TrainedModel(backbone.eval(), options.backbone, (BACKGROUND, "event"), record=record)


def frame_sampling(options: StudioOptions) -> tuple[float, int]:
    """Return rate_hz and size_px of a trunk that sees single frames."""
    rate_hz = FRAME_RATE_HZ if options.rate_hz is None else options.rate_hz
    return rate_hz, FRAME_SIZE_PX if options.size_px is None else options.size_px


def learnt_model(
    trunk: TrainedModel,
    learned: Learned,
    names: Mapping[str, str],
    thresholds: Mapping[str, float],
    *,
    groups: Sequence[str],
) -> TrainedModel:
    """Return a model that scores footage as the studio does.

    Args:
        trunk: From `open_trunk`.
        learned: The head.
        names: The name of each class by its id.
        thresholds: The threshold of each class by its id.
        groups: The matches that have marks.
    """
    labels = (BACKGROUND, *(names[label] for label in learned.labels[1:]))
    rows = learned.window_rows
    frames_per_row = round(learned.row_s * trunk.spec.rate_hz)
    spec = trunk.spec.with_sampling(num_frames=rows * frames_per_row)
    backbone = build_backbone(trunk.architecture, len(labels), spec)
    backbone.stages.load_state_dict(trunk.backbone.stages.state_dict())
    head = learned.head()
    width = head.weight.shape[1]
    backbone.use_head(HeadSpec("linear", "mean", "l2"), len(labels), width=width)
    layer = backbone.get_submodule(backbone.classifier)
    with torch.no_grad():
        for own, fitted in zip(layer.parameters(), (head.weight, head.bias), strict=True):
            own.copy_(torch.from_numpy(fitted))
    backbone.freeze(len(backbone.stages))
    return TrainedModel(
        backbone.eval(),
        trunk.architecture,
        labels,
        thresholds={names[label]: value for label, value in thresholds.items()},
        widths={label: PeakWidths(SMOOTH_S, NMS_S) for label in labels[1:]},
        record=replace(
            trunk.record, groups=replace(trunk.record.groups, train=tuple(sorted(groups)))
        ),
    )


def save_model(project: Project, trunk: TrainedModel, learned: Learned) -> Path:
    """Write model.safetensors of a project. Return its path.

    Args:
        project: The project.
        trunk: From `open_trunk`.
        learned: The newest result.

    Raises:
        CheckpointError: The file cannot be written.
    """
    state, matches = project.state, project.matches
    names = {one.id: one.name for one in state.classes}
    marked = {matches[mark.match].group for mark in state.marks.values()}
    model = learnt_model(trunk, learned, names, learned.thresholds, groups=sorted(marked))
    path = project.folder / MODEL_FILE
    save_checkpoint(path, model)
    return path


def export_events(project: Project, formats: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Write the confirmed events of every match that has some.

    Args:
        project: The project.
        formats: Names in `WRITERS`.

    Returns:
        The files, and what could not be written and why.

    Raises:
        ValueError: A format is unknown.
    """
    unknown = [name for name in formats if name not in WRITERS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a format; use one of {', '.join(WRITERS)}")
    paths: list[Path] = []
    problems: list[str] = []
    for match in project.matches.values():
        events = tuple(example.event() for example in project.examples_of(match.id))
        if not events:
            continue
        health = None
        # Footage that is gone costs only the formats that count its frames.
        with suppress(FootageError):
            health = project.health_of(match.id)
        result = MatchResult(match.path, candidates=events, accepted=events, health=health)
        folder = project.folder / EXPORTS_FOLDER / f"{match.id}-{match.group}"
        for name in formats:
            try:
                paths += write_result(result, folder, formats=[name])
            except (ValueError, OSError) as error:
                problems.append(f"{match.path.name}, {name}: {error}")
    return paths, problems
