"""A run over many matches: what is skipped, tried again and written down."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import write_levels

from touchline.models.errors import DecoderError, TouchlineError
from touchline.models.load import load_model
from touchline.pipeline.detection import batch
from touchline.pipeline.footage.inputs import Inputs, find_inputs
from touchline.pipeline.season import attempt as attempts
from touchline.pipeline.season.attempt import Job
from touchline.pipeline.season.lock import hold
from touchline.pipeline.season.options import RunOptions
from touchline.pipeline.season.run import News, Record, run_matches

Run = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def run(job: Job, tmp_path: Path) -> Run:
    """Run over files; give the name and the state of each input, in the order of their ends."""
    trained = load_model(job.model)

    def runs(files: list[Path], *, job: Job = job, **options: Any) -> list[tuple[str, str]]:
        inputs = find_inputs(map(str, files))
        records = run_matches(inputs, job, trained, tmp_path / "out", RunOptions(**options))
        return [(record.result.path.name, record.state) for record in records]

    return runs


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "run.jsonl").read_text().splitlines()]


def states(out: Path) -> list[tuple[str, str]]:
    """Each input and state in the journal, in order."""
    return [(Path(x["input"]).name, x["state"]) for x in lines(out) if "input" in x]


def tree(out: Path) -> dict[str, bytes]:
    """Every result file of a run."""
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.glob("*/*") if path.is_file()
    }


def fails_once(error: Exception, monkeypatch: pytest.MonkeyPatch, times: int = 1) -> None:
    """Make the first tries at m0.mp4 fail."""
    detect, failed = batch.detect, []

    def sometimes(path: Path, *rest: Any, **more: Any) -> Any:
        if path.name == "m0.mp4" and len(failed) < times:
            failed.append(path)
            raise error
        return detect(path, *rest, **more)

    monkeypatch.setattr(batch, "detect", sometimes)


def test_every_input_ends_in_the_journal_and_a_second_run_does_what_failed(
    run: Run, matches: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"not a video")
    files = [matches[0], bad, matches[1], matches[0]]
    ended = [("m0.mp4", "done"), ("bad.mp4", "failed"), ("m1.mp4", "done")]
    assert run(files) == [("m0.mp4", "skipped"), *ended]
    assert states(tmp_path / "out") == [
        ("m0.mp4", "skipped"),
        *(each for name, state in ended for each in ((name, "started"), (name, state))),
    ]
    journal = lines(tmp_path / "out")
    assert journal[0]["inputs"] == 4
    assert journal[-1] == journal[-1] | {"state": "end", "done": 2, "failed": 1, "skipped": 1}
    duplicate, *_, failed, _, done, _ = journal[1:]
    assert duplicate["reason"] == f"the same file as {matches[0]}"
    assert failed["reason"].startswith("a text file, not a video")
    assert done["footage"]["size"] == matches[1].stat().st_size
    # What failed is tried again, the rest is not.
    write_levels(bad, [20] * 40)
    assert run(files[:3]) == [("m0.mp4", "skipped"), ("bad.mp4", "done"), ("m1.mp4", "skipped")]
    assert {state for _, state in run(files[:3])} == {"skipped"}
    assert [state for _, state in run(files[:2], again=True)] == ["done", "done"]


def test_what_is_done_depends_on_the_content_of_footage_model_and_options(
    run: Run, job: Job, matches: list[Path], tmp_path: Path
) -> None:
    match = Path(shutil.copy(matches[0], tmp_path / "match.mp4"))

    def state(job: Job = job) -> str:
        [(_, state)] = run([match], job=job)
        return state

    assert state() == "done"
    # Copied again: another time, the same content.
    shutil.copy(matches[0], match)
    assert state() == "skipped"
    # The same size and an older time, other content.
    content = bytearray(matches[0].read_bytes())
    content[-1] ^= 1
    match.write_bytes(content)
    os.utime(match, (1e9, 1e9))
    assert state() == "done"
    assert state() == "skipped"
    # The same model at another place; another model; other options; another output.
    moved = replace(job, model=shutil.copy(job.model, tmp_path / "moved.safetensors"))
    assert state(moved) == "skipped"
    assert state(replace(job, sha256="0" * 64)) == "done"
    assert state(replace(job, options=replace(job.options, hop_s=0.5))) == "done"
    assert state() == "done"
    assert state(replace(job, formats=("vtt",))) == "done"


def test_a_try_that_may_help_is_made_once_more_at_the_end(
    run: Run, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(DecoderError("m0.mp4", "the decoder crashed (SIGSEGV)."), monkeypatch)
    assert run(matches[:2]) == [("m1.mp4", "done"), ("m0.mp4", "done")]
    assert states(tmp_path / "out") == [
        ("m0.mp4", "started"),
        ("m0.mp4", "retried"),
        ("m1.mp4", "started"),
        ("m1.mp4", "done"),
        ("m0.mp4", "started"),
        ("m0.mp4", "done"),
    ]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (RuntimeError("CUDA error"), 2),
        (MemoryError(), 2),
        (OSError(5, "Input/output error"), 2),
        (OSError(28, "No space left on device"), 1),
        (ValueError("stream is 7; there is 1"), 1),
        (KeyError("fault"), 1),
    ],
)
def test_a_match_that_keeps_failing_is_given_up_and_the_rest_goes_on(
    run: Run,
    matches: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    tries: int,
) -> None:
    fails_once(error, monkeypatch, times=9)
    assert sorted(run(matches[:2])) == [("m0.mp4", "failed"), ("m1.mp4", "done")]
    [failed] = [x for x in lines(tmp_path / "out") if x["state"] == "failed"]
    assert failed["tries"] == tries
    # Only a fault of Touchline itself comes with its place.
    assert ("traceback" in failed) == isinstance(error, KeyError)


def test_footage_that_grows_while_it_is_analysed_fails(
    run: Run, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = Path(shutil.copy(matches[0], tmp_path / "match.mp4"))
    detect = batch.detect

    def while_it_grows(path: Path, *rest: Any, **more: Any) -> Any:
        result = detect(path, *rest, **more)
        with path.open("ab") as file:
            file.write(b"\0\0\0\x08free")
        return result

    monkeypatch.setattr(batch, "detect", while_it_grows)
    assert run([match]) == [("match.mp4", "failed")]
    monkeypatch.undo()
    assert run([match]) == [("match.mp4", "done")]


def test_a_journal_that_was_cut_short_loses_the_last_line_only(
    run: Run, matches: list[Path], tmp_path: Path
) -> None:
    run(matches[:2])
    journal = tmp_path / "out" / "run.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"time": "2026-11-30T1')
    assert {state for _, state in run(matches[:2])} == {"skipped"}
    assert [x["state"] for x in lines(tmp_path / "out")].count("run") == 2
    # Without its journal a folder is judged by its files.
    journal.unlink()
    assert {state for _, state in run(matches[:2])} == {"skipped"}


@pytest.mark.parametrize("tidy", [shutil.rmtree, lambda out: out.rename(out.parent / "moved")])
def test_a_run_ends_if_its_folder_is_removed_or_moved(
    tidy: Callable[[Path], object],
    run: Run,
    matches: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    detect = batch.detect

    def while_somebody_tidies(path: Path, *rest: Any, **more: Any) -> Any:
        if path == matches[1]:
            tidy(out)
        return detect(path, *rest, **more)

    monkeypatch.setattr(batch, "detect", while_somebody_tidies)
    with pytest.raises(TouchlineError, match=r"run\.jsonl: was removed or moved while a run"):
        run(matches)
    monkeypatch.undo()
    assert len(run(matches)) == len(matches)
    assert {name.partition("/")[0] for name in tree(out)} == {path.stem for path in matches}


def test_an_interrupt_stays_one_if_the_folder_is_gone(
    run: Run, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        shutil.rmtree(tmp_path / "out")
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(matches[:1])


def test_only_one_run_at_a_time_writes_to_a_folder(
    run: Run, matches: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (
        hold(out),
        pytest.raises(TouchlineError, match=rf"process number {os.getpid()} on .+, since 20\d\d-"),
    ):
        run(matches[:1])
    assert not (out / "m0").exists()
    assert run(matches[:1]) == [("m0.mp4", "done")]


def test_the_lock_of_a_run_that_is_gone_is_taken_over(
    job: Job, matches: list[Path], tmp_path: Path
) -> None:
    left = {"pid": 1, "host": "elsewhere", "since": "2026-11-30T03:58:27+00:00"}
    (tmp_path / "m0").mkdir()
    (tmp_path / ".lock.json").write_text(json.dumps(left))
    (tmp_path / "m0" / ".0123456789ab.part.json").write_text("half")
    told: list[str] = []
    records: list[Record] = list(
        run_matches(
            Inputs(tuple(matches[:1])), job, load_model(job.model), tmp_path, RunOptions(),
            news=News(on_takeover=told.append),
        )
    )  # fmt: skip
    assert [record.state for record in records] == ["done"]
    assert told == ["a run with process number 1 on elsewhere, since 2026-11-30T03:58:27+00:00"]
    assert not (tmp_path / ".lock.json").exists()
    assert not list(tmp_path.rglob("*.part*"))


def test_a_run_that_is_cut_off_and_resumed_leaves_the_files_of_one_that_was_not(
    run: Run, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(matches)
    whole = tree(tmp_path / "out")
    assert {name.partition("/")[2] for name in whole} == {
        *("events.json", "events.csv", "scores.npz", "report.html")
    }
    shutil.rmtree(tmp_path / "out")
    calls = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(*arguments)

    write = batch.write_report
    monkeypatch.setattr(batch, "write_report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(matches)
    ended = [state for _, state in run(matches)]
    assert ended == ["skipped", "skipped", "done", "done"]
    assert tree(tmp_path / "out") == whole


def test_an_output_that_cannot_be_written_is_found_before_decoding(
    run: Run, matches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "detect", None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "m0").write_text("a file")
    assert run(matches[:1]) == [("m0.mp4", "failed")]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(OSError, match="No space left"):
        run(matches[1:2])


def test_an_outcome_holds_no_score_track(job: Job, matches: list[Path], tmp_path: Path) -> None:
    analysis = job.load()
    match = analysis.examined(batch.Match(matches[0], tmp_path / "m0"))
    outcome = attempts.attempt(analysis, match, lambda *_: None)
    assert outcome.result.track is None
    assert outcome.result.error is None
    assert outcome.content is not None
    assert outcome.content.size == matches[0].stat().st_size
