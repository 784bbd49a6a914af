"""The options of the demonstration. Importing this module loads no heavy library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoOptions:
    """What the demonstration renders.

    Attributes:
        seed: Decides the matches and the training.
    """

    seed: int = 0
