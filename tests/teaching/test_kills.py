"""Random actions with kills between them: what was acknowledged is there, however it ended."""

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest
from studio_material import act_until_killed

from touchline.pipeline.labels.read import read_labels
from touchline.pipeline.teaching.actions import History
from touchline.pipeline.teaching.journal import Journal
from touchline.pipeline.teaching.project import Project


@pytest.mark.parametrize(
    "num_actions", [60, pytest.param(1000, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_what_was_acknowledged_outlives_kills(tmp_path, footage, num_actions):
    folder, acknowledged = tmp_path / "project", tmp_path / "acknowledged.jsonl"
    folder.mkdir()
    acknowledged.touch()
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["studio_material"])
    rng = random.Random(num_actions)
    done: list[dict[str, object]] = []
    kills = unacknowledged = 0
    while len(done) < num_actions or kills < num_actions // 8:
        child = forks.Process(
            target=act_until_killed, args=(folder, footage, acknowledged, kills), daemon=True
        )
        size = acknowledged.stat().st_size
        child.start()
        # Every third is killed at any moment of its start, the others while they work.
        until = time.monotonic() + 60
        while kills % 3 and acknowledged.stat().st_size == size and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03 if kills % 3 else 0.1))
        child.kill()
        child.join()
        kills += 1
        lines = acknowledged.read_bytes().split(b"\n")[:-1]
        told = [json.loads(line) for line in lines]
        with Journal(folder / "journal.jsonl") as journal:
            found = [entry["action"] for entry in journal.entries if "action" in entry]
        # One more than those acknowledged may be there: the one that was under way.
        assert 0 <= len(found) - len(told) <= 1 + unacknowledged
        unacknowledged = len(found) - len(told)
        by_revision = {one["revision"]: one for one in told}
        history = History()
        for revision, action in enumerate(found, start=1):
            made = history.do(action)
            if revision in by_revision:
                assert by_revision[revision] == {
                    "revision": revision, "made": made, "action": action,
                }  # fmt: skip
        assert max(by_revision, default=0) <= len(found)
        check_replay(folder, footage, history)
        done = found


def check_replay(folder: Path, footage: Path, history: History) -> None:
    for _ in range(2):
        project = Project(folder, [footage])
        assert (project.state, project.revision) == (history.state, history.revision)
        assert (project.can_undo, project.can_redo) == (history.can_undo, history.can_redo)
        assert list(project.state.marks) == list(history.state.marks)
        labels = project.folder / "labels.csv"
        written = read_labels(labels) if project.state.marks else []
        assert len(written) == len(project.state.marks)
        project.close()
