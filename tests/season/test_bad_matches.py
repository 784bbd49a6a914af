"""200 short matches, 20 of them bad in 20 ways: 180 results and 20 reasons."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from footage_bad_cases import CASES
from footage_cases import Case

from touchline.models.load import load_model
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import run_matches

pytestmark = pytest.mark.slow

NUM_GOOD, NUM_BAD = 180, 20


@pytest.fixture
def footage(matches: list[Path], tmp_path: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Good matches, and bad ones with a part of what must be said of each."""
    good = []
    for k in range(NUM_GOOD):
        good.append(tmp_path / f"good{k:03d}.mp4")
        shutil.copy(matches[k % len(matches)], good[-1])
    bad = []
    for case in _different_ways():
        folder = tmp_path / f"bad{len(bad):02d}"
        folder.mkdir()
        bad.append((case.make(folder), case.says))
    return good, bad


def _different_ways() -> list[Case]:
    """Refused cases, each with another reason."""
    ways = {case.says: case for case in CASES if case.outcome == "refuse"}
    return list(ways.values())[:NUM_BAD]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("on", ["local", "ray"])
@pytest.mark.filterwarnings("default")
def test_twenty_bad_matches_of_two_hundred_cost_themselves_only(
    job: Job,
    footage: tuple[list[Path], list[tuple[Path, str]]],
    tmp_path: Path,
    on: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if on == "ray":
        pytest.importorskip("ray", reason="the extra ray is not installed")
    good, bad = footage
    assert len(bad) == NUM_BAD
    mixed = [path for k in range(20) for path in (*good[9 * k : 9 * k + 9], bad[k][0])]
    options = RunOptions(workers=2, on=on)
    seconds = {}
    for name, files in (("without", good), ("with", mixed)):
        began_s = time.monotonic()
        records = list(
            run_matches(Inputs(tuple(files)), job, load_model(job.model), tmp_path / name, options)
        )
        seconds[name] = time.monotonic() - began_s
    ended = {record.result.path: record for record in records}
    assert len(ended) == len(records) == 200
    assert [path for path in good if ended[path].state != "done"] == []
    for path, says in bad:
        assert ended[path].state == "failed"
        assert says in str(ended[path].reason)
    for path in good:
        one, two = (tmp_path / name / path.stem / "scores.npz" for name in ("with", "without"))
        assert one.read_bytes() == two.read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "with/run.jsonl").read_text().splitlines()]
    assert lines[-1] == lines[-1] | {"done": 180, "failed": 20}
    with capsys.disabled():
        told = ", ".join(f"{name} bad ones {s / NUM_GOOD:.3f} s" for name, s in seconds.items())
        print(f"\n{on}: per good match {told}")
