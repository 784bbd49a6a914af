"""Which folder of OUT results go to: those of other footage stay, those of the same are found."""

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import brightness_model, write_levels

from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection import batch
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.detect import applied_options, model_summary
from touchline.pipeline.detection.folders import output_folders, result_folder
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.evaluation.event_sets import read_event_set
from touchline.pipeline.footage.address import footage_path
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import write_result
from touchline.pipeline.types import FootageHealth


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def folders(paths: Sequence[Path], out: Path, health: FootageHealth | None = None) -> list[Path]:
    """Where results of inputs go; without health, while they are not analysed yet."""
    planned = output_folders(paths, out)
    return [result_folder(path, at, health) for path, at in zip(paths, planned, strict=True)]


def health_of(path: Path) -> FootageHealth:
    return probe_footage(write_levels(path, [20] * 16))


@pytest.fixture
def halves(tmp_path: Path) -> list[Path]:
    """Two files of one name, of one size of picture and of different lengths."""
    paths = [tmp_path / name / "half.mp4" for name in "AB"]
    for half, levels in zip(paths, ([20] * 48 + [235] * 32, [235] * 40 + [20] * 48), strict=True):
        half.parent.mkdir()
        write_levels(half, levels)
    return paths


def test_results_of_other_footage_of_the_same_name_stay(tmp_path: Path, halves: list[Path]) -> None:
    model, options = brightness_model(), DetectOptions(hop_s=0.25, device="cpu")
    first, second = halves
    out = tmp_path / "out"
    started: list[Path] = []

    def run(*paths: Path) -> None:
        list(detect_all(paths, model, out, options, skip_done=True, on_start=started.append))

    run(first)
    of_first = (out / "half" / "events.json").read_text()
    run(second)
    apart = folders([second], out)[0]
    assert names(out) == {"half", apart.name}
    assert (out / "half" / "events.json").read_text() == of_first
    # All later runs find them where they are, and nothing is there twice.
    for paths in ([first], [second], [second, first], [first, second]):
        run(*paths)
    assert started == halves
    assert names(out) == {"half", apart.name}
    assert set(read_event_set(out).events) == {str(half) for half in halves}
    # Footage that was moved is no other footage.
    moved = first.rename(tmp_path / "half.mp4")
    run(moved)
    assert started[2:] == [moved]
    assert names(out) == {"half", apart.name}
    assert set(read_event_set(out).events) == {str(moved), str(second)}


def test_results_of_other_footage_stay_where_that_is_gone(
    tmp_path: Path, halves: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, options = brightness_model(), DetectOptions(hop_s=0.25, device="cpu")
    first, second = halves
    out = tmp_path / "out"

    def run(path: Path, **changed: Any) -> MatchResult:
        (result,) = detect_all([path], model, out, replace(options, **changed))
        return result

    run(first)
    made = (out / "half" / "events.json").read_bytes()
    away = first.parent.rename(tmp_path / "unplugged")
    assert run(second).folder != out / "half"
    assert (out / "half" / "events.json").read_bytes() == made
    # Nor are they replaced where they were set aside.
    shutil.rmtree(folders([second], out)[0])
    away.rename(first.parent)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch, "detect", fails)
    assert run(first, hop_s=0.5).error is not None
    monkeypatch.undo()
    assert run(second).folder != out / "half"
    assert (out / "half" / "events.json.old").read_bytes() == made
    assert run(first).folder == out / "half"


@pytest.mark.parametrize("differs", ["size_bytes", "duration_s", "start_timecode", None])
def test_footage_that_is_gone_was_moved_where_all_that_is_known_of_it_is_alike(
    tmp_path: Path, differs: str | None
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    health = probe_footage(match)
    if differs is not None:
        other = {"size_bytes": 1, "duration_s": 2.0, "start_timecode": "01:00:00:00"}[differs]
        health = replace(health, **{differs: other})
    out, options = tmp_path / "out", DetectOptions(hop_s=0.25, device="cpu")
    write_result(MatchResult(tmp_path / "A" / "match.mp4", health=health), out / "match")
    (result,) = detect_all([match], brightness_model(), out, options)
    assert (result.folder == out / "match") == (differs is None)


def test_a_run_beside_another_one_leaves_the_results_it_finished_meanwhile(
    tmp_path: Path, halves: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, options = brightness_model(), DetectOptions(hop_s=0.25, device="cpu")
    first, second = halves
    out = tmp_path / "out"
    finished: list[MatchResult] = []

    def the_other_run(_: Path) -> None:
        finished.extend(detect_all([second], model, out, options))

    (result,) = detect_all([first], model, out, options, report=True, on_start=the_other_run)
    assert [one.folder for one in finished] == [out / "half"]
    assert result.folder is not None
    assert names(out) == {"half", result.folder.name}
    assert "report.html" in names(result.folder)
    assert set(read_event_set(out).events) == {str(half) for half in halves}

    # Nor are they set aside where this one fails.
    def fails_beside_the_other_run(*_: object, **__: object) -> None:
        monkeypatch.undo()
        the_other_run(second)
        raise RuntimeError("out of memory")

    out = tmp_path / "again"
    monkeypatch.setattr(batch, "detect", fails_beside_the_other_run)
    (failed,) = detect_all([first], model, out, options)
    assert failed.error is not None
    assert names(out / "half") == {"events.csv", "events.json", "scores.npz"}


def test_an_address_is_other_footage_but_not_by_its_signature(tmp_path: Path) -> None:
    of_first, of_first_later, of_second = (
        footage_path(f"https://a.b/{rest}") for rest in ("1/x.mp4?s=1", "1/x.mp4?s=2", "2/x.mp4")
    )
    write_result(MatchResult(of_first), tmp_path / "x", formats=["json"])
    assert folders([of_first_later], tmp_path) == [tmp_path / "x"]
    assert folders([of_second], tmp_path) != [tmp_path / "x"]


def test_an_address_keeps_its_folder_and_its_results_whatever_signs_it(tmp_path: Path) -> None:
    options, model, out = DetectOptions(hop_s=0.25, device="cpu"), brightness_model(), tmp_path
    signed = [footage_path(f"https://127.0.0.1:9/1/x.mp4?s={sign}/{sign}") for sign in "12"]
    # Beside footage of the same name the folder has a hash, the same for both.
    write_result(MatchResult(tmp_path / "x.mp4"), out / "x", formats=["json"])
    first, second = (folders([far], out)[0] for far in signed)
    assert first == second != out / "x"
    made = MatchResult(
        signed[0], options=applied_options(model, options), model=model_summary(model)
    )
    write_result(made, first, formats=["json"])
    # Nothing answers there, and what was found earlier is still of this footage.
    (failed,) = detect_all([signed[1]], model, out, options)
    assert failed.error is not None
    assert names(first) == {"events.json"}


def test_an_address_that_names_no_file_is_other_footage_by_its_query(tmp_path: Path) -> None:
    one, other = (footage_path(f"https://a.b/watch?v={k}") for k in "12")
    assert len(set(folders([one, other], tmp_path))) == 2
    write_result(MatchResult(one), tmp_path / "watch", formats=["json"])
    assert folders([one], tmp_path) == [tmp_path / "watch"]
    assert folders([other], tmp_path) != [tmp_path / "watch"]


def test_local_footage_leaves_the_results_of_an_address_of_its_name(tmp_path: Path) -> None:
    far, near = footage_path("https://a.b/1/x.mp4"), tmp_path / "x.mp4"
    health = health_of(near)
    write_result(MatchResult(far, health=health), tmp_path / "x", formats=["json"])
    assert folders([far], tmp_path) == [tmp_path / "x"]
    for known in (None, health):
        assert folders([near], tmp_path, known) != [tmp_path / "x"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EHOSTDOWN, errno.ESTALE])
def test_footage_that_may_not_be_looked_at_counts_as_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    theirs, ours, out = tmp_path / "theirs" / "x.mp4", tmp_path / "x.mp4", tmp_path / "out"
    health = health_of(ours)
    write_result(MatchResult(theirs, health=health), out / "x", formats=["json"])
    # Whoever may look sees that it is gone, and that this is what it was.
    assert folders([ours], out, health) == [out / "x"]
    look = Path.stat

    def refused(path: Path, **more: Any) -> os.stat_result:
        if "theirs" in path.parts:
            raise OSError(number, os.strerror(number), str(path))
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", refused)
    assert folders([ours], out, health) != [out / "x"]


@pytest.mark.parametrize("skip_done", [False, True])
def test_a_folder_that_may_not_be_entered_costs_its_own_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skip_done: bool
) -> None:
    matches = [write_levels(tmp_path / f"{name}.mp4", [20] * 32 + [235] * 16) for name in "xy"]
    options, out = DetectOptions(hop_s=0.25, device="cpu"), tmp_path / "out"
    list(detect_all(matches, brightness_model(), out, options))
    look = Path.stat

    def refused(path: Path, **more: Any) -> os.stat_result:
        if path.parent == out / "x":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, **more)

    def no_writing(folder: Path, *_: Any) -> None:
        if folder == out / "x":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(Path, "stat", refused)
    monkeypatch.setattr(batch, "_set_aside", no_writing)
    x, y = detect_all(matches, brightness_model(), out, options, skip_done=skip_done)
    assert "Permission denied" in str(x.error)
    assert y.error is None


def test_a_link_to_itself_costs_itself(tmp_path: Path) -> None:
    loop, match = tmp_path / "loop.mp4", write_levels(tmp_path / "match.mp4", [20] * 32)
    loop.symlink_to(loop)
    options = DetectOptions(hop_s=0.25, device="cpu")
    bad, good = detect_all([loop, match], brightness_model(), tmp_path / "out", options)
    assert bad.error is not None
    assert good.error is None
