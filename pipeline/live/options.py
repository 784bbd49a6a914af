"""Options of live detection: plain values, quick to import."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LiveOptions:
    """How a live stream is followed.

    Attributes:
        wait_s: How long to wait when the stream falls silent or its connection breaks, in seconds.
        post: Address that each event is posted to as JSON. None posts nothing.
        clips: Folder for a clip of each event. None cuts none.

    Example:
        >>> from touchline.pipeline.live.options import LiveOptions
        >>> LiveOptions(wait_s=5).post is None
        True
    """

    wait_s: float = 30.0
    post: str | None = None
    clips: Path | None = None

    def __post_init__(self) -> None:
        if not 0 < self.wait_s < math.inf:
            raise ValueError(f"wait_s is {self.wait_s}; it must be more than 0 seconds")
