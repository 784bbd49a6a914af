"""Choose what thresholds are to achieve; `touchline calibrate` takes its defaults from here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Target:
    """What the threshold of a class is to achieve.

    Attributes:
        kind: "f1": the best F1. "precision": at least `value` of the events found are right, and
            as many as possible are found. "false_per_hour": at most `value` events of each class
            per hour of eventless footage, and above that threshold the best F1.
        value: A precision in (0, 1], or a number of events per hour; unused for "f1".
    """

    kind: Literal["f1", "precision", "false_per_hour"] = "f1"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "precision" and not 0 < self.value <= 1:
            raise ValueError(f"the target precision is {self.value}; it must be in (0, 1]")
        if self.kind == "false_per_hour" and not 0 <= self.value < math.inf:
            raise ValueError(f"the target rate is {self.value} per hour; it must be 0 or more")

    def require_footage(self, *, given: bool) -> None:
        """Raise ValueError if the target is a rate per hour and no eventless footage is given."""
        if self.kind == "false_per_hour" and not given:
            raise ValueError(
                "the number of false events per hour cannot be measured on clips. Give footage "
                "without events (--eventless FOOTAGE), or label stretches as verified."
            )
