"""Options of the studio: quick to import, so that `--help` is."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.pipeline.runs.options import DEFAULT_BACKBONE, DEFAULT_WEIGHTS


@dataclass(frozen=True)
class StudioOptions:
    """How the studio samples footage and computes features.

    Attributes:
        backbone: A framewise backbone, a name of `touchline models`.
        weights: Its pretrained weights: a name or a file.
        rate_hz: Features per second of footage, in (0, 60].
        size_px: Side of the network's picture in pixels.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: "auto", "float32" or "bf16".
    """

    backbone: str = DEFAULT_BACKBONE
    weights: str = DEFAULT_WEIGHTS
    rate_hz: float = 4.0
    size_px: int = 224
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz <= 60:
            raise ValueError(f"rate_hz is {self.rate_hz}; it must be in (0, 60]")
