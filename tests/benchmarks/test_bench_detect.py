"""The bench of detection: as much footage as there is, and a line where that is too little."""

from __future__ import annotations

from pathlib import Path

import pytest
from footage_made import write_video

from touchline.models.errors import FootageError
from touchline.pipeline.benchmarks.detect import bench_detect


@pytest.mark.slow
def test_footage_shorter_than_asked_for_is_used_whole(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(85))
    speed = bench_detect(path, footage_s=60.0, device="cpu")
    assert speed.footage_s == pytest.approx(3.4, abs=0.01)
    # They begin at 0 and 0.64 s.
    assert speed.num_windows == 2
    assert [way.score_difference < 0.1 for way in speed.ways] == [True, True]


def test_less_than_a_window_is_refused_in_a_line(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", indices=range(50))
    with pytest.raises(FootageError, match=r"a\.mp4: lasts 2\.00 s, less than one window"):
        bench_detect(path, footage_s=60.0)
    for seconds in (2.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"seconds is .*; it must be at least 2\.56"):
            bench_detect(path, footage_s=seconds)
