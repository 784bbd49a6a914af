"""Measure `touchline clock` on drawn scoreboards: python measure_clock.py FOOTAGE [LINES ...]

Over FOOTAGE, repeated to ten minutes: the first half from 40:20 on, 30 s without a scoreboard,
then the second half from 45:00 on. In every minute the scoreboard is hidden for 8 s, as in replays.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from drawn_scoreboard import minutes_seconds, write_match

from touchline.models.weights.installed import DIGIT_RECOGNISER, verified_file
from touchline.pipeline.decoding.decode import decode
from touchline.pipeline.scoreboard.read_clock import match_clock, read_clock
from touchline.pipeline.scoreboard.recognise import Recogniser

SECONDS, BREAK_S, SECOND_HALF_S = 600, 280, 310


def clock_s(time_s: float) -> float | None:
    """Seconds on the clock; None where it is hidden."""
    if BREAK_S <= time_s < SECOND_HALF_S or time_s % 60 > 52:
        return None
    return 2420.4 + time_s if time_s < BREAK_S else 2700.2 + time_s - SECOND_HALF_S


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

    def text(time_s: float) -> str:
        seconds = clock_s(time_s)
        return "" if seconds is None else minutes_seconds(seconds)

    for height in map(int, sys.argv[2:] or ("224", "360", "720", "1080")):
        with tempfile.TemporaryDirectory() as folder:
            path = write_match(
                Path(folder) / "match.mp4",
                text,
                seconds=SECONDS,
                height=height,
                background=background(footage),
            )
            began_s = time.process_time()
            wall_s = time.monotonic()
            found = read_clock(path, read)
            spent_s, wall_s = time.process_time() - began_s, time.monotonic() - wall_s
        times = [t + 0.5 for t in range(SECONDS) if clock_s(t + 0.5) is not None]
        errors = [abs((found.at(t) or -99.0) - (clock_s(t) or 0.0)) for t in times]
        print(
            f"{height} lines: {np.mean(np.array(errors) <= 1.1):.3f} of {len(times)} s right, "
            f"{spent_s:.0f} s of this process, {wall_s:.0f} s in all, {match_clock(found)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
