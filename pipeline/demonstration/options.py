"""The options of the demonstration. Importing this module loads no heavy library."""

from __future__ import annotations

from dataclasses import dataclass

from touchline.models.errors import check_seed


@dataclass(frozen=True)
class DemoOptions:
    """What the demonstration renders.

    Attributes:
        seed: Decides the matches and the training; in [0, 2**31).

    Raises:
        ValueError: The seed is outside its range.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
