"""Results in a remote store, here an S3 server on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("moto.s3", reason="moto is not installed")
pytest.importorskip("s3fs", reason="the extra `remote` is not installed")

from click.testing import Result
from loopback import BUCKET, KEYS, S3, serve_s3
from typer.testing import CliRunner

from touchline.models.errors import DecoderError, FootageError, TouchlineError
from touchline.models.load import load_model
from touchline.pipeline.detection import batch
from touchline.pipeline.footage.address import Address, output_path
from touchline.pipeline.footage.inputs import Inputs, find_inputs
from touchline.pipeline.season import lock, store
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.lock import lease
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, run_matches
from touchline.pipeline.season.store import Store
from touchline.tools.cli import app

# moto and s3fs warn about themselves.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.timeout(300)]

FILES = ("events.csv", "events.json", "report.html", "scores.npz")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import s3fs

    with serve_s3() as server:
        # A file system remembers the address of the server.
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        monkeypatch.setattr(store, "PAUSES_S", (0.01,) * 7)
        yield server


OUT = Address(f"s3://{BUCKET}/cup/2026")


def run(
    job: Job, files: list[Path], out: Path = OUT, *, news: News | None = None, **options: Any
) -> list[tuple[str, str]]:
    """The name and the state of each input, in the order of their ends."""
    inputs = Inputs(tuple(files))
    records = run_matches(inputs, job, load_model(job.model), out, RunOptions(**options), news=news)
    return [(record.result.path.name, record.state) for record in records]


def journal() -> list[dict[str, Any]]:
    content = Store(OUT).read("run.jsonl")
    assert content is not None
    return [json.loads(line) for line in content.splitlines()]


def content(name: str) -> bytes:
    found = Store(OUT).read(name)
    assert found is not None
    return found


def fail(s3: S3, part: str, times: float) -> None:
    """Let the store refuse the first writes to names with a part."""
    left = [times]

    def fails(method: str, path: str) -> bool:
        if method != "PUT" or part not in path or left[0] <= 0:
            return False
        left[0] -= 1
        return True

    s3.fails = fails


@pytest.mark.parametrize("workers", [0, 2])
def test_a_store_gets_the_files_of_a_local_run_and_is_not_written_twice(
    s3: S3, job: Job, matches: list[Path], tmp_path: Path, workers: int
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    files = [*matches[:2], bad]
    run(job, files, tmp_path / "out")
    ended = [("bad.mp4", "failed"), ("m0.mp4", "done"), ("m1.mp4", "done")]
    assert sorted(run(job, files, workers=workers)) == ended
    names = Store(OUT).names()
    assert sorted(names) == sorted(["run.jsonl", *(f"m{k}/{x}" for k in (0, 1) for x in FILES)])
    for k in (0, 1):
        assert content(f"m{k}/scores.npz") == (tmp_path / f"out/m{k}/scores.npz").read_bytes()
        ours, local = (
            json.loads(x)
            for x in (
                content(f"m{k}/events.json"),
                (tmp_path / f"out/m{k}/events.json").read_bytes(),
            )
        )
        # From a store, footage has no relative path.
        assert ours.pop("video") == str(matches[k])
        assert local.pop("video") != str(matches[k])
        assert ours == local
    assert [x["state"] for x in journal()][0 :: len(journal()) - 1] == ["run", "end"]
    s3.requests.clear()
    ended = [("bad.mp4", "failed"), ("m0.mp4", "skipped"), ("m1.mp4", "skipped")]
    assert sorted(run(job, files, workers=workers)) == ended
    assert [name for name in s3.writes if "/m" in name] == []
    # Without its journal the store is judged by its files.
    Store(OUT).remove("run.jsonl")
    assert sorted(run(job, files[:2])) == ended[1:]
    assert [state for _, state in run(job, files[:1], again=True)] == ["done"]


def test_a_store_that_fails_for_a_while_costs_nothing(
    s3: S3, job: Job, matches: list[Path]
) -> None:
    fail(s3, "/m1/", times=5)
    assert run(job, matches[:2]) == [("m0.mp4", "done"), ("m1.mp4", "done")]
    assert sum(failed for *_, failed in s3.requests) == 5
    assert [entry["state"] for entry in journal()].count("retried") == 0
    json.loads(content("m1/events.json"))


def test_a_store_that_stays_away_costs_its_match_which_is_not_analysed_again_in_this_run(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    detect, analysed = batch.detect, []

    def counted(path: Path, *rest: Any, **more: Any) -> Any:
        analysed.append(path.name)
        return detect(path, *rest, **more)

    monkeypatch.setattr(batch, "detect", counted)
    fail(s3, "/m0/", times=float("inf"))
    assert run(job, matches[:2]) == [("m1.mp4", "done"), ("m0.mp4", "failed")]
    assert analysed == ["m0.mp4", "m1.mp4"]
    failed = next(entry for entry in journal() if entry["state"] == "failed")
    assert failed["reason"].startswith(
        "the results cannot be stored: the store fails ([Errno 16] Service Unavailable)."
    )
    assert [name for name in Store(OUT).names() if name.startswith("m0/")] == []
    # It fails until the first try has ended: the second one sends what is there.
    fail(s3, "/m0/", times=8)
    assert run(job, matches[:2]) == [("m1.mp4", "skipped"), ("m0.mp4", "done")]
    assert analysed == ["m0.mp4", "m1.mp4", "m0.mp4"]
    assert len(content("m0/scores.npz")) > 0


def test_the_command_reports_a_store_that_stays_away(s3: S3, job: Job, matches: list[Path]) -> None:
    fail(s3, "/m0/", times=float("inf"))
    arguments = [
        "detect", *map(str, matches[:2]), "--model", job.model, "-o", str(OUT), "--device", "cpu",
        "--hop", "0.25", "--decode-workers", "1",
    ]  # fmt: skip
    runner = CliRunner()
    failed = runner.invoke(app, arguments)
    assert failed.exit_code == 1
    assert "m0.mp4: the results cannot be stored: the store fails" in said(failed)
    assert str(matches[0]) in content("index.html").decode()
    s3.fails = lambda *_: False
    done = runner.invoke(app, arguments)
    assert done.exit_code == 0
    assert f"2 of 2 files done, results in {OUT}" in said(done)
    assert 'href="./m0/report.html"' in content("index.html").decode()


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://nowhere/out", "there is no such bucket or folder"),
        ("nothing://bucket/out", "Protocol not known: nothing"),
    ],
)
def test_a_store_that_takes_nothing_is_found_before_decoding(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setattr(batch, "detect", None)
    with pytest.raises(TouchlineError, match=says):
        run(job, matches[:1], Address(address))


def test_a_store_that_never_answers_is_given_up_before_decoding(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "detect", None)
    fail(s3, "", times=float("inf"))
    with pytest.raises(TouchlineError, match=r"the store fails \(.+\)\. Repeat the command"):
        run(job, matches[:1])
    assert len(s3.requests) == 8


def test_what_cannot_be_written_to_is_refused() -> None:
    assert output_path("a/b") == Path("a/b")
    assert isinstance(output_path("s3://bucket/a"), Address)
    with pytest.raises(FootageError, match="results cannot be written to a web address"):
        output_path("https://host/a")


def test_events_json_goes_first_and_comes_last(s3: S3, job: Job, matches: list[Path]) -> None:
    run(job, matches[:1])
    s3.requests.clear()
    other = replace(job, options=replace(job.options, hop_s=0.5), formats=("csv", "vtt"))
    assert run(other, matches[:1]) == [("m0.mp4", "done")]
    written = [name.removeprefix("cup/2026/") for name in s3.writes if "/m0/" in name]
    assert written == [
        *("m0/events.json.old", "m0/events.csv", "m0/events.vtt", "m0/report.html"),
        *("m0/scores.npz", "m0/events.json"),
    ]
    # As in a local folder, what this run does not write stays as *.old.
    assert run(job, matches[:1]) == [("m0.mp4", "done")]
    assert set(Store(OUT).names("m0")) == {
        *(f"m0/{x}" for x in FILES), "m0/events.vtt.old"
    }  # fmt: skip


def test_results_that_are_no_longer_right_are_set_aside_in_the_store_too(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job, matches[:1])

    def crashes(path: Path, *_: Any, **__: Any) -> None:
        raise DecoderError(path, "the decoder crashed (SIGSEGV).")

    monkeypatch.setattr(batch, "detect", crashes)
    assert run(job, matches[:1], again=True) == [("m0.mp4", "failed")]
    assert Store(OUT).names("m0") == [f"m0/{name}" for name in FILES]
    other = replace(job, options=replace(job.options, hop_s=0.5))
    assert run(other, matches[:1]) == [("m0.mp4", "failed")]
    assert Store(OUT).names("m0") == [f"m0/{name}.old" for name in FILES]


def test_footage_of_the_same_name_gets_folders_of_its_own(
    s3: S3, job: Job, matches: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "m0.mp4"
    copy.write_bytes(matches[1].read_bytes())
    run(job, matches[:1])
    assert run(job, [copy]) == [("m0.mp4", "done")]
    folders = {name.partition("/")[0] for name in Store(OUT).names() if "/" in name}
    assert len(folders) == 2
    assert run(job, [copy]) == [("m0.mp4", "skipped")]
    assert run(job, matches[:1]) == [("m0.mp4", "skipped")]


def test_a_run_that_is_cut_off_goes_on(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(job, matches[:3])
    whole = {name: content(name) for name in Store(OUT).names() if "/" in name}
    for name in Store(OUT).names():
        Store(OUT).remove(name)
    send, calls = Store.send, []

    def interrupted(self: Store, folder: Path) -> None:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        send(self, folder)

    monkeypatch.setattr(Store, "send", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(job, matches[:3])
    assert [state for _, state in run(job, matches[:3])] == ["skipped", "done", "done"]
    assert {name: content(name) for name in Store(OUT).names() if "/" in name} == whole


def test_only_one_run_at_a_time_writes_to_a_store(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(lock, "RENEW_S", 0.05)
    renewed: list[None] = []
    with lease(Store(OUT), lambda: renewed.append(None)) as gone:
        assert gone is None
        with pytest.raises(TouchlineError, match=r"process number \d+ on .+ is writing to this"):
            run(job, matches[:1])
        deadline_s = time.monotonic() + 60
        while not renewed and time.monotonic() < deadline_s:
            time.sleep(0.01)
        holder = json.loads(content(".lock.json"))
    assert renewed
    assert Store(OUT).read(".lock.json") is None
    # A run that was killed on another machine: its lease ends.
    holder |= {"host": "elsewhere", "pid": 1}
    Store(OUT).write(".lock.json", json.dumps(holder).encode())
    with pytest.raises(TouchlineError, match="process number 1 on elsewhere"):
        run(job, matches[:1])
    Store(OUT).write(".lock.json", json.dumps(holder | {"seen_s": time.time() - 91}).encode())
    news = News(on_takeover=told.append)
    assert run(job, matches[:1], news=news) == [("m0.mp4", "done")]
    assert [each.partition(",")[0] for each in told] == ["a run with process number 1 on elsewhere"]


def test_the_journal_is_sent_while_the_run_goes_on(
    s3: S3, job: Job, matches: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "RENEW_S", 0.05)
    states: list[str] = []

    def on_start(path: Path) -> None:
        deadline_s = time.monotonic() + 60
        while path == matches[1] and time.monotonic() < deadline_s:
            states[:] = [entry["state"] for entry in journal()]
            if states[-2:] == ["done", "started"]:
                return
            time.sleep(0.01)

    run(job, matches[:2], news=News(on_start=on_start))
    assert states == ["run", "started", "done", "started"]


def test_a_store_without_objects_gets_whole_files_too(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    out = Address(f"file://{tmp_path}/out")
    assert run(job, matches[:1], out) == [("m0.mp4", "done")]
    assert {path.name for path in tmp_path.glob("out/m0/*")} == set(FILES)
    assert run(job, matches[:1], out) == [("m0.mp4", "skipped")]
    assert not list(tmp_path.rglob("*.part*"))


def test_remote_footage_goes_to_a_remote_store(s3: S3, job: Job, matches: list[Path]) -> None:
    footage = Store(Address(f"s3://{BUCKET}/footage"))
    footage.write("m0.mp4", matches[0].read_bytes())
    files = list(find_inputs([f"s3://{BUCKET}/footage/"]).files)
    # A decoder's process of an earlier test would ask the server of that test.
    job = replace(job, options=replace(job.options, isolation=False))
    assert run(job, files) == [("m0.mp4", "done")]
    assert json.loads(content("m0/events.json"))["video"] == f"s3://{BUCKET}/footage/m0.mp4"
    assert run(job, files) == [("m0.mp4", "skipped")]
