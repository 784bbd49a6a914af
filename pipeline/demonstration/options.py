"""The options of the demonstration. Importing this module loads no heavy library."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoOptions:
    """What the demonstration renders and for how long it trains.

    `epochs` is the number of passes over the clips with the pretrained network. The network
    trained from scratch gets the same number of seconds.
    """

    seed: int = 0
    epochs: int = 45
