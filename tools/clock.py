"""The match clock from the command line's --kickoff, for every command that shows times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from touchline.pipeline.timing import MatchClock
    from touchline.pipeline.types import MatchResult


def clock_of(
    result: MatchResult, kickoffs: Sequence[str], *, period_min: float | None, alone: bool
) -> MatchClock | None:
    """The clock of one file: from the kick-offs given, else from what the result holds.

    alone: no other file is in the call; among several every kick-off has to name its file.
    """
    from touchline.pipeline.timing import MatchClock, parse_kickoffs

    if not kickoffs:
        return MatchClock.from_options(result.options)
    if not alone and any("@" not in text for text in kickoffs):
        raise ValueError(
            "with several files each kick-off must name its file: "
            "--kickoff 1=first.mp4@0:02:10 --kickoff 2=second.mp4@0:00:05"
        )
    return parse_kickoffs(list(kickoffs), file_name=result.path.name, period_min=period_min)
