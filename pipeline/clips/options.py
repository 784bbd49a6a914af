"""Choose how clips are sampled and varied; imports the standard library only."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLINGS = ("dense", "uniform")
"""dense: frames at the network's rate. uniform: as many frames spread over the whole example."""


@dataclass(frozen=True)
class Augmentation:
    """How a training view is varied; the defaults suit broadcast footage.

    min_area: random resized crop takes at least this share of the square's area.
    flip: mirror left and right; off where a class names a side.
    brightness, contrast, saturation: each drawn from 1 +- this.
    """

    min_area: float = 0.5
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.min_area <= 1:
            raise ValueError(f"min_area is {self.min_area}; it must be in (0, 1]")
        for name in ("brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
