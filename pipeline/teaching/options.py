"""Options of the studio: quick to import, so that `--help` is."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.pipeline.runs.options import DEFAULT_BACKBONE, DEFAULT_WEIGHTS


@dataclass(frozen=True)
class StudioOptions:
    """How the studio samples footage and computes features.

    Attributes:
        backbone: A backbone that can run over footage of any length, a name of `touchline
            models`.
        weights: Its pretrained weights: a name or a file.
        rate_hz: Frames per second, in (0, 60]. None: 4 for a trunk that sees single frames, else
            as the weights were trained.
        size_px: Side of the network's picture in pixels. None: 224, likewise.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "float32" or "bf16".
    """

    backbone: str = DEFAULT_BACKBONE
    weights: str = DEFAULT_WEIGHTS
    rate_hz: float | None = None
    size_px: int | None = None
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.rate_hz is not None and not 0 < self.rate_hz <= 60:
            raise ValueError(f"rate_hz is {self.rate_hz}; it must be in (0, 60]")
