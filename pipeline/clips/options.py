"""Options for sampling and augmenting clips; imports only the standard library."""

from __future__ import annotations

from dataclasses import dataclass

SAMPLINGS = ("dense", "uniform")
"""How a window's frames are chosen.

dense: consecutive frames at the network's rate. uniform: the same number, spread evenly over the
whole example.
"""


@dataclass(frozen=True)
class Augmentation:
    """How training clips are varied at random; the defaults suit broadcast footage.

    Attributes:
        min_area: The smallest random crop, as a fraction of the square's area, in (0, 1].
        flip: Whether half of the clips are mirrored left to right; turn it off if a class names a
            side.
        brightness: The factor is drawn from 1 - brightness to 1 + brightness, in [0, 1).
        contrast: As for brightness.
        saturation: As for brightness.
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
