"""The options for cutting clips and reels. Importing this module loads no heavy library."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

MODES = ("exact", "copy", "encode")


@dataclass(frozen=True)
class RenderOptions:
    """How clips and reels are made.

    Attributes:
        before_s: Seconds shown before an event.
        after_s: Seconds shown after an event.
        mode: "exact", "copy" or "encode"; see `touchline.pipeline.reels.render`.
        titles: Draw the class and the time of each event into the picture.
        crossfade_s: Length of the cross-fade between two cuts of a reel in seconds; 0 cuts hard.
        encoder: "libx264" or the name of a hardware encoder. "auto" takes a hardware encoder if
            one works on this machine, otherwise libx264.
        font: A .ttf or .otf file for the titles; None uses a built-in font.
        height_px: Scale the picture to this height; None keeps its size.
        stream: Index of the video stream in the file; None takes the file's default video stream,
            otherwise the largest.

    Raises:
        ValueError: A value is out of range, or mode "copy" is combined with an option that needs
            encoding.

    Example:
        >>> from touchline.pipeline import RenderOptions
        >>> options = RenderOptions(before_s=2, after_s=1, titles=True)
        >>> options.mode
        'exact'
        >>> RenderOptions(mode="copy", titles=True)
        Traceback (most recent call last):
        ValueError: mode "copy" cannot add titles or cross-fades or change the size. ...
    """

    before_s: float = 5.0
    after_s: float = 3.0
    mode: str = "exact"
    titles: bool = False
    crossfade_s: float = 0.0
    encoder: str = "auto"
    font: Path | None = None
    height_px: int | None = None
    stream: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        for name in ("before_s", "after_s", "crossfade_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.height_px is not None and self.height_px < 2:
            raise ValueError(f"height_px is {self.height_px}; it must be 2 or more")
        if self.mode == "copy" and (self.titles or self.crossfade_s or self.height_px):
            raise ValueError(
                'mode "copy" cannot add titles or cross-fades or change the size. '
                "These need encoding. Leave them out, or leave out --copy."
            )
