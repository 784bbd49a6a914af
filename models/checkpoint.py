"""Save and load checkpoints: a safetensors file whose metadata rebuilds the model, no pickle."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from touchline.models.atomic_files import atomic_path
from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.catalog import BACKBONES, build_backbone
from touchline.models.classes import BACKGROUND
from touchline.models.errors import CheckpointError
from touchline.models.heads import HeadSpec, head_width
from touchline.models.json_values import from_json, to_json
from touchline.models.training_record import (
    PeakWidths,
    TrainingRecord,
    read_record,
    record_text,
)

FORMAT = "touchline-checkpoint-1"

# Reasons may list every tensor of a network.
MAX_REASON = 200

# The header of a safetensors file lists its tensors; those of large networks are below 1 MB.
MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class TrainedModel:
    """A network with its classes, its operating point, and the record of its training.

    Attributes:
        backbone: The network, K logits.
        architecture: Its name in `touchline models`.
        labels: K class names in column order. The first is `background`.
        has_background: False if training had no background clips. Column 0 then has
            probability 0.
        multi_label: True if classes are independent (sigmoid), False if exclusive (softmax).
        temperature: The logits are divided by it. 1 until calibrated.
        thresholds: The threshold of each class. None until calibrated.
        widths: The smoothing and suppression of each class. None until calibrated for spots.
        record: How the model came to be.

    Example:
        >>> from touchline.pipeline import load_model
        >>> model = load_model("model.safetensors")
        >>> model.labels, model.temperature, model.thresholds
        (('background', 'bright'), 1.0, None)
        >>> print(model.spec)
        8 frames at 8 Hz, 32 px
    """

    backbone: Backbone
    architecture: str
    labels: tuple[str, ...]
    has_background: bool = True
    multi_label: bool = False
    temperature: float = 1.0
    thresholds: Mapping[str, float] | None = None
    widths: Mapping[str, PeakWidths] | None = None
    record: TrainingRecord = field(default_factory=TrainingRecord)

    @property
    def spec(self) -> ClipSpec:
        """The clip that the network takes."""
        return self.backbone.spec

    def probs(self, logits: Tensor) -> Tensor:
        """Logits (B, K) -> probabilities (B, K) float32."""
        return class_probs(
            logits / self.temperature,
            has_background=self.has_background,
            multi_label=self.multi_label,
        )


def mask_background(logits: Tensor, *, has_background: bool) -> Tensor:
    """Set column 0 of logits (B, K) to minus infinity if the model has not learnt background."""
    logits = logits.float()
    if has_background:
        return logits
    return torch.cat([torch.full_like(logits[:, :1], -torch.inf), logits[:, 1:]], dim=1)


def class_probs(logits: Tensor, *, has_background: bool, multi_label: bool = False) -> Tensor:
    """Logits (B, K) -> probabilities (B, K) float32: softmax, or sigmoid for multi-label.

    Args:
        logits: Already divided by the temperature.
        has_background: False: column 0 gets probability 0.
        multi_label: Whether classes are independent.
    """
    logits = mask_background(logits, has_background=has_background)
    return logits.sigmoid() if multi_label else logits.softmax(dim=1)


def save_checkpoint(path: Path, model: TrainedModel) -> None:
    """Write a model to a file. If writing is cut short, the old file stays as it was.

    Args:
        path: The file; its suffix should be .safetensors. Its folder is made if it is missing.
        model: The model to write.

    Raises:
        CheckpointError: The file cannot be written, for example because the disk is full.

    Example:
        >>> from pathlib import Path
        >>> from touchline.pipeline import load_model, save_checkpoint
        >>> save_checkpoint(Path("copy.safetensors"), load_model("model.safetensors"))
        >>> load_model("copy.safetensors").labels
        ('background', 'bright')
    """
    metadata = {
        "format": FORMAT,
        "architecture": model.architecture,
        "labels": json.dumps(model.labels),
        "spec": json.dumps(asdict(model.spec)),
        "head": json.dumps(asdict(model.backbone.head_spec)),
        "has_background": json.dumps(model.has_background),
        "multi_label": json.dumps(model.multi_label),
        "temperature": json.dumps(model.temperature),
        "thresholds": json.dumps(None if model.thresholds is None else dict(model.thresholds)),
        "widths": json.dumps(to_json(model.widths)),
        "num_frozen": json.dumps(model.backbone.num_frozen),
        "record": record_text(model.record),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.backbone.state_dict().items()}
    metadata["tensors_sha256"] = tensors_digest(tensors)
    try:
        with atomic_path(path) as part:
            write_tensors(part, tensors, metadata)
    except SafetensorError as error:
        raise CheckpointError(path, f"cannot be written ({error})") from None


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with the permissions that new files usually have.

    `save_file` of safetensors makes files that only their owner may read.

    Args:
        path: The file.
        tensors: The tensors by name, contiguous.
        metadata: Texts by name.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    path.chmod(mode)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a checkpoint: JSON texts by name.

    Raises:
        CheckpointError: The file is missing or is not a Touchline checkpoint.
    """
    if path.is_dir():
        raise CheckpointError(path, "a folder, not a Touchline checkpoint. Name the file in it.")
    if not path.exists():
        raise CheckpointError(path, "no such checkpoint. Is the path right?")
    if problem := safetensors_problem(path):
        raise CheckpointError(path, problem)
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            path, f"not a Touchline checkpoint, because it is not a safetensors file ({error})"
        ) from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            path,
            "a safetensors file, but not a Touchline checkpoint. To start training from it, "
            "give it as --weights.",
        )
    return metadata


def safetensors_problem(path: Path) -> str | None:
    """Return what keeps a file from being read as safetensors, judged by its size and its header.

    None: they show no problem. The file must exist.
    """
    if not path.is_file():
        return "not a regular file. Name a file on disk."
    size = path.stat().st_size
    if not size:
        return "an empty file. Copy it again."
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            starts_well = file.read(1) == b"{"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not starts_well:
        return None  # another kind of file; the reader of safetensors says so
    if length > MAX_HEADER_BYTES:
        return f"its header has {length:,} bytes. Touchline reads up to {MAX_HEADER_BYTES:,}."
    if 8 + length > size:
        return "cut short. Copy the file again."
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            ends = [row["data_offsets"][1] for k, row in header.items() if k != "__metadata__"]
            needed = 8 + length + max(ends, default=0)
        except (ValueError, TypeError, KeyError, IndexError, RecursionError, AttributeError):
            return None
    if size < needed:
        return f"cut short: {size:,} of {needed:,} bytes. Copy the file again."
    return None


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes, 64 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def damaged_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str | None:
    """Return what is wrong with the weights of a file; None for nothing.

    Args:
        tensors: The weights.
        metadata: The texts of the file. A checkpoint has the digest of its weights.
    """
    if not all_finite(tensors.values()):
        return "damaged: the weights hold values that are not finite numbers. Copy the file again"
    saved = metadata.get("tensors_sha256")
    if saved is not None and saved != tensors_digest(tensors):
        return "damaged: the weights are not those that were saved. Copy the file again"
    return None


def metadata_spec(metadata: Mapping[str, str]) -> ClipSpec:
    """Return the clip a checkpoint was trained on.

    Raises:
        KeyError: The metadata has no clip.
        ValueError: The clip is damaged.
    """
    return from_json(json.loads(metadata["spec"]), ClipSpec)


def metadata_head(metadata: Mapping[str, str]) -> HeadSpec:
    """Return the head of a checkpoint; without an entry, the backbone's own.

    Raises:
        ValueError: The entry is damaged.
    """
    return from_json(json.loads(metadata.get("head", "{}")), HeadSpec)


def _labels(metadata: Mapping[str, str]) -> tuple[str, ...]:
    labels = from_json(json.loads(metadata["labels"]), tuple[str, ...])
    if labels[:1] != (BACKGROUND,) or len(set(labels)) < len(labels):
        raise ValueError(f"labels are {labels!r}; they must be unique, with background first")
    return labels


def _temperature(metadata: Mapping[str, str]) -> float:
    value = from_json(json.loads(metadata["temperature"]), float)
    if not 0 < value < math.inf:
        raise ValueError(f"temperature is {value!r}; it must be a number above 0")
    return value


def _thresholds(metadata: Mapping[str, str], labels: Sequence[str]) -> dict[str, float] | None:
    value = json.loads(metadata["thresholds"])
    if value is None:
        return None
    thresholds = from_json(value, dict[str, float])
    if not set(thresholds) <= set(labels):
        raise ValueError(f"thresholds are {thresholds!r}; they must belong to the labels")
    if bad := [v for v in thresholds.values() if not 0 < v <= 1]:
        raise ValueError(f"a threshold is {bad[0]!r}; it must be in (0, 1]")
    return thresholds


def _widths(metadata: Mapping[str, str], labels: Sequence[str]) -> dict[str, PeakWidths] | None:
    value = json.loads(metadata.get("widths", "null"))
    if value is None:
        return None
    widths = from_json(value, dict[str, PeakWidths])
    if not set(widths) <= set(labels):
        raise ValueError(f"widths are {widths!r}; they must belong to the labels")
    return widths


def load_checkpoint(path: str | os.PathLike[str]) -> TrainedModel:
    """Load the model of a checkpoint, in eval mode on the CPU.

    Raises:
        CheckpointError: The file is missing, is not a Touchline checkpoint, or is damaged.
    """
    path = Path(path)
    metadata = read_metadata(path)
    try:
        labels = _labels(metadata)
        if metadata["architecture"] not in BACKBONES:
            raise ValueError(f"unknown architecture {metadata['architecture']!r}")
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in list(file.keys())}
        if damage := damaged_tensors(state, metadata):
            raise CheckpointError(path, f"{damage}, or train again.")
        # A network for many more classes than the file has weights for could fill the memory.
        if not any(tensor.shape[:1] == (len(labels),) for tensor in state.values()):
            raise ValueError(f"{len(labels)} labels, but no weights for as many classes")
        backbone = build_backbone(metadata["architecture"], len(labels), metadata_spec(metadata))
        head = metadata_head(metadata)
        if head.kind != "own":
            backbone.use_head(head, len(labels), width=head_width(head, state))
        if missing := sorted(backbone.state_dict().keys() - state.keys()):
            raise ValueError(f"it lacks {missing[0]}, which {metadata['architecture']} has")
        backbone.load_state_dict(state)
        backbone.freeze(from_json(json.loads(metadata["num_frozen"]), int))
        return TrainedModel(
            backbone=backbone.eval(),
            architecture=metadata["architecture"],
            labels=labels,
            has_background=from_json(json.loads(metadata["has_background"]), bool),
            multi_label=from_json(json.loads(metadata["multi_label"]), bool),
            temperature=_temperature(metadata),
            thresholds=_thresholds(metadata, labels),
            widths=_widths(metadata, labels),
            record=read_record(metadata["record"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        # The first two lines of torch name what does not fit.
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])[:MAX_REASON]
        raise CheckpointError(
            path,
            f"a damaged Touchline checkpoint ({reason}), or one of another version. Copy it again, "
            "or train again.",
        ) from error


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether no tensor holds an infinite value or NaN."""
    # torch has no `isfinite` for some formats of one byte.
    wide = (t.float() if t.itemsize == 1 else t for t in tensors if t.is_floating_point())
    return all(bool(t.isfinite().all()) for t in wide)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
