"""The same run on a Ray cluster of this machine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from loopback import BUCKET, KEYS, serve_s3

from touchline.models.load import load_model
from touchline.pipeline.footage.address import Address
from touchline.pipeline.footage.inputs import Inputs
from touchline.pipeline.season import on_ray
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, Record, run_matches
from touchline.pipeline.season.store import Store

pytestmark = [
    pytest.mark.slow,
    # Ray and its protobuf warn about themselves.
    pytest.mark.filterwarnings("default"),
]


def run(job: Job, matches: list[Path], out: Path, **how: object) -> list[Record]:
    news = how.pop("news", None)
    options = RunOptions(**how)  # type: ignore[arg-type]
    inputs = Inputs(tuple(matches))
    return list(
        run_matches(inputs, job, load_model(job.model), out, options, news=news)  # type: ignore[arg-type]
    )


def assert_alike(one: Path, two: Path, num_files: int) -> None:
    names = sorted(str(path.relative_to(one)) for path in one.glob("*/*"))
    assert len(names) == num_files
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.fixture(scope="module", autouse=True)
def ray() -> object:
    return pytest.importorskip("ray", reason="the extra ray is not installed")


def test_two_actors_leave_the_same_files_as_this_process(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    run(job, matches, tmp_path / "one")
    records = run(job, [*matches, bad], tmp_path / "two", on="ray", workers=2)
    assert sorted((r.result.path.name, r.state) for r in records) == [
        ("bad.mp4", "failed"),
        *((f"m{k}.mp4", "done") for k in range(4)),
    ]
    assert_alike(tmp_path / "one", tmp_path / "two", 16)
    again = run(job, matches, tmp_path / "two", on="ray", workers=2)
    assert {record.state for record in again} == {"skipped"}


def test_an_actor_that_is_killed_costs_no_match(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    run(job, matches, tmp_path / "one")
    killed: list[int] = []
    threads: list[threading.Thread] = []

    def on_start(path: Path) -> None:
        # Once: the match may be the one that is then tried again.
        if path.name == "m2.mp4" and not threads:
            threads.append(threading.Thread(target=kill_one, args=(killed,)))
            threads[0].start()

    news = News(on_start=on_start)
    records = run(job, matches, tmp_path / "two", on="ray", workers=2, news=news)
    assert len(killed) == 1
    assert [record.state for record in records] == ["done"] * 4
    assert_alike(tmp_path / "one", tmp_path / "two", 16)


def kill_one(killed: list[int]) -> None:
    """Kill an actor's process as soon as there is one; one of an earlier run may just be ending."""
    for _ in range(600):
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::_Analyst"):
                try:
                    os.kill(int(entry.name), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(int(entry.name))
                return
        time.sleep(0.1)


def test_a_node_that_is_lost_costs_no_match(
    job: Job, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    # No node has room for the actor that was on it; the match goes to the other actor.
    monkeypatch.setattr(on_ray, "LOST_S", 20.0)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    lost: list[str] = []

    def on_start(path: Path) -> None:
        if path.name == "m2.mp4" and not lost:
            cluster.remove_node(node, allow_graceful=False)
            lost.append(path.name)

    try:
        records = run(
            job, matches, tmp_path, on="ray", ray_address=cluster.address, workers=2,
            news=News(on_start=on_start),
        )  # fmt: skip
    finally:
        cluster.shutdown()
    assert lost == ["m2.mp4"]
    assert sorted((r.result.path.name, r.state) for r in records) == [
        (f"m{k}.mp4", "done") for k in range(4)
    ]
    states = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert sum(entry["state"] == "done" for entry in states) == 4


def test_results_go_to_a_remote_store(
    job: Job, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("moto.s3", reason="moto is not installed")
    s3fs = pytest.importorskip("s3fs", reason="the extra `remote` is not installed")
    run(job, matches, tmp_path / "one")
    with serve_s3() as s3:
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": s3.url}.items():
            monkeypatch.setenv(name, value)
        out = Address(f"s3://{BUCKET}/cup")
        records = run(job, matches, out, on="ray", workers=2)
        assert [record.state for record in records] == ["done"] * 4
        for k in range(4):
            scores = (tmp_path / f"one/m{k}/scores.npz").read_bytes()
            assert Store(out).read(f"m{k}/scores.npz") == scores
        assert {record.state for record in run(job, matches, out)} == {"skipped"}
