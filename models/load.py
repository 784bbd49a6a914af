"""Load a model by the path of a checkpoint, or by the name of published weights with classes."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, load_checkpoint
from touchline.models.classes import BACKGROUND, class_list
from touchline.models.spelling import ask, nearest
from touchline.models.training_record import TrainingRecord, WeightsOrigin
from touchline.models.weights.download import OnProgress
from touchline.models.weights.open import PretrainedWeights, find_entry, open_weights
from touchline.models.weights.table import WEIGHTS, WeightsEntry


def load_model(
    source: str | os.PathLike[str],
    *,
    labels: Sequence[str] = (),
    on_progress: OnProgress | None = None,
) -> TrainedModel:
    """Load a trained model, or published weights with their published classifier.

    A published classifier has not learnt background: its classes are columns 1 and up, and
    column 0 has probability 0.

    Args:
        source: Path of a checkpoint, or a name of `touchline models`.
        labels: Keep only these classes, see `keep_labels`. Empty: keep all.
        on_progress: Called during a download, see `OnProgress`.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        WeightsError: The published weights cannot be had or used.
        ValueError: The name or a label is unknown.

    Example:
        >>> from touchline.pipeline import load_model
        >>> model = load_model("model.safetensors", labels=["bright"])
        >>> model.architecture, model.labels
        ('brightness', ('background', 'bright'))
    """
    entry = find_entry(source)
    model = load_checkpoint(source) if entry is None else _published(entry, on_progress)
    return keep_labels(model, labels) if labels else model


def _published(entry: WeightsEntry, on_progress: OnProgress | None) -> TrainedModel:
    if entry.classes is None:
        usable = [e.name for e in WEIGHTS.values() if e.classes is not None]
        raise ValueError(
            f"weights {entry.name!r} have no classes to detect with. Fine-tune them "
            f"(touchline train --weights {entry.name}), or use one of {', '.join(usable)}."
        )
    (architecture,) = entry.backbones
    weights = open_weights(entry.name, architecture, on_progress=on_progress)
    return published_model(weights, class_list(entry.classes), record=_record(entry, weights))


def _record(entry: WeightsEntry, weights: PretrainedWeights) -> TrainingRecord:
    origin = WeightsOrigin(
        source=entry.name,
        sha256=weights.sha256,
        trained_on=entry.trained_on,
        address=entry.address,
        licence=entry.licence,
        accuracy=entry.accuracy,
    )
    return TrainingRecord(weights=origin)


def published_model(
    weights: PretrainedWeights, classes: Sequence[str], *, record: TrainingRecord
) -> TrainedModel:
    """Build a model from pretrained weights and their own classifier, without background.

    Args:
        weights: The weights; their classifier has one logit per class.
        classes: Its classes, in the order of the logits.
        record: Goes into the model.
    """
    backbone = build_backbone(weights.backbone, len(classes), weights.spec)
    weights.load_into(backbone, classifier=True)
    old = backbone.get_submodule(backbone.classifier)
    backbone.replace_classifier(len(classes) + 1)
    new = backbone.get_submodule(backbone.classifier)
    with torch.no_grad():
        # Column 0 is background. The weights have not learnt it, so its probability is 0.
        for theirs, ours in zip(old.parameters(), new.parameters(), strict=True):
            ours.zero_()[1:] = theirs
    return TrainedModel(
        backbone=backbone.eval(),
        architecture=weights.backbone,
        labels=(BACKGROUND, *classes),
        has_background=False,
        record=record,
    )


class FoldedHead(nn.Module):
    """Features -> logits of a few classes. Column 0 holds the probability of all other classes.

    Args:
        head: The head with all K classes.
        kept: Columns to keep.
        others: Columns that are added up in column 0.
        temperature: The logits are divided by it before they are added up.
    """

    kept: Tensor
    others: Tensor

    def __init__(
        self, head: nn.Module, kept: Sequence[int], others: Sequence[int], temperature: float
    ) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("others", torch.tensor(others), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, T') -> (B, 1 + kept)."""
        logits: Tensor = self.head(features) / self.temperature
        rest = logits[:, self.others].logsumexp(dim=1, keepdim=True)
        return torch.cat([rest, logits[:, self.kept]], dim=1)


class PickedHead(nn.Module):
    """Features -> the logits of some columns, in the order given."""

    columns: Tensor

    def __init__(self, head: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("columns", torch.tensor(columns), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D, T') -> (B, number of columns)."""
        logits: Tensor = self.head(features)[:, self.columns]
        return logits


def keep_labels(model: TrainedModel, labels: Sequence[str]) -> TrainedModel:
    """Return a model with only these classes, each as probable as it was among all.

    The probabilities of all other classes are added to `background`, which then means "none of
    these". The result is a copy, to be used and not to be saved.

    Raises:
        ValueError: A label is unknown. The message suggests the nearest ones.
    """
    for label in labels:
        if label == BACKGROUND or label not in model.labels:
            raise ValueError(_unknown(label, model.labels[1:]))
    wanted = tuple(dict.fromkeys(labels))
    kept = [model.labels.index(label) for label in wanted]
    first = 0 if model.has_background else 1
    others = [i for i in range(first, len(model.labels)) if i not in kept]
    thresholds, widths = model.thresholds, model.widths
    if thresholds is not None:
        thresholds = {k: v for k, v in thresholds.items() if k in wanted}
    if widths is not None:
        widths = {k: v for k, v in widths.items() if k in wanted}
    backbone = copy.deepcopy(model.backbone)
    backbone.classifier = "head." + backbone.classifier
    model = replace(
        model,
        backbone=backbone,
        labels=(BACKGROUND, *wanted),
        thresholds=thresholds,
        widths=widths,
    )
    if model.multi_label or not others:
        # The other classes do not matter if classes are independent, or if there are none.
        backbone.head = PickedHead(backbone.head, [0, *kept])
        return model
    backbone.head = FoldedHead(backbone.head, kept, others, model.temperature)
    return replace(model, temperature=1.0, has_background=True)


def _unknown(label: str, known: Sequence[str]) -> str:
    """The message about an unknown label, with the classes that may be meant."""
    words = [name for name in known if label.lower() in name.lower()]
    begin = f"Its {len(known)} classes begin with {', '.join(map(repr, known[:5]))}."
    hint = ask(words[:3] or nearest(label, known, most=3)) or begin
    return f"the model has no class {label!r}. {hint}"
