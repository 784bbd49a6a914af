"""Measure `touchline clock` on drawn scoreboards: python measure_clock.py FOOTAGE [LINES ...]

Over FOOTAGE, repeated to ten minutes: the first half from 40:20 on, 30 s without a scoreboard,
then the second half from 45:00 on. In every minute the scoreboard is hidden for 8 s, as in replays.
`match` in place of LINES: a whole match of 224 lines, two halves of 47 minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from drawn_scoreboard import minutes_seconds, write_match

from touchline.models.weights.installed import DIGIT_RECOGNISER, verified_file
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoreboard.read_clock import match_clock, read_clock
from touchline.pipeline.scoreboard.recognise import Recogniser


@dataclass(frozen=True)
class Match:
    """What the scoreboard shows.

    Attributes:
        first_s: The clock at the beginning of the footage, in seconds.
        break_s: When the first half ends, in seconds of the footage.
        second_half_s: When the second half begins, at 45:00.
        seconds: Length of the footage.
    """

    first_s: float
    break_s: int
    second_half_s: int
    seconds: int

    def clock_s(self, time_s: float) -> float | None:
        """Seconds on the clock; None where it is hidden."""
        if self.break_s <= time_s < self.second_half_s or time_s % 60 > 52:
            return None
        if time_s < self.break_s:
            return self.first_s + time_s
        return 2700.2 + time_s - self.second_half_s


PART = Match(2420.4, 280, 310, 600)
WHOLE = Match(0.4, 2820, 2850, 5670)


def background(path: Path) -> Iterator[np.ndarray]:
    """The pictures of the footage, again and again."""
    while True:
        with decode(path, rate_hz=12, size_px=224) as stream:
            for frames in stream:
                yield from frames.pixels.transpose(0, 2, 3, 1)


def main() -> None:
    """Print a row per height of the picture."""
    footage = Path(sys.argv[1])
    read = Recogniser(verified_file(DIGIT_RECOGNISER)[0], threads=1).read

    for what in sys.argv[2:] or ("224", "360", "720", "1080"):
        match, height = (WHOLE, 224) if what == "match" else (PART, int(what))

        def text(time_s: float, match: Match = match) -> str:
            seconds = match.clock_s(time_s)
            return "" if seconds is None else minutes_seconds(seconds)

        with tempfile.TemporaryDirectory() as folder:
            path = write_match(
                Path(folder) / "match.mp4",
                text,
                seconds=match.seconds,
                height=height,
                background=background(footage),
            )
            began_s = time.process_time()
            wall_s = time.monotonic()
            found = read_clock(path, read)
            spent_s, wall_s = time.process_time() - began_s, time.monotonic() - wall_s
        times = [t + 0.5 for t in range(match.seconds) if match.clock_s(t + 0.5) is not None]
        errors = [abs((found.at(t) or -99.0) - (match.clock_s(t) or 0.0)) for t in times]
        share = np.mean(np.array(errors) <= 1.1)
        print(
            f"{what}, {height} lines: {share:.3f} of {len(times)} s right, "
            f"{spent_s:.0f} s of this process, {wall_s:.0f} s in all, {match_clock(found)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
