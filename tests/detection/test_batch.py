"""Many files in one run: what one of them or one format costs."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import brightness_model, write_levels

from touchline.pipeline.detection import batch
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.outputs.match_result import MatchResult
from touchline.pipeline.outputs.writers import WRITERS
from touchline.pipeline.types import Event


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_what_is_done_is_all_there_and_of_this_footage(tmp_path: Path) -> None:
    model, options = brightness_model(), DetectOptions(hop_s=0.25, device="cpu")
    for name in "AB":
        (tmp_path / name).mkdir()
    first = write_levels(tmp_path / "A" / "half.mp4", [20] * 48 + [235] * 32)
    out = tmp_path / "out"
    started: list[Path] = []

    def run(path: Path, **more: Any) -> list[Event]:
        (result,) = detect_all(
            [path], model, out, options, skip_done=True, on_start=started.append, **more
        )
        return list(result.candidates)

    of_first = run(first, report=True)
    assert run(first, report=True) == of_first
    assert started == [first]
    # Another one takes its place, which is older than what was found in the first.
    second = write_levels(tmp_path / "B" / "half.mp4", [235] * 40 + [20] * 40)
    os.utime(second, (1e9, 1e9))
    second = second.replace(first)
    of_second = run(second)
    assert of_second != of_first
    assert started == [first, second]
    assert run(second) == of_second
    assert len(started) == 2
    # Outputs that were not asked for before are written, and so are missing ones.
    for more in ({"report": True}, {"report": True, "formats": ["csv", "json", "vtt"]}):
        run(second, **more)
        run(second, **more)
    assert len(started) == 4
    (out / "half" / "report.html").unlink()
    run(second, report=True)
    assert len(started) == 5


def test_footage_replaced_by_an_older_file_is_analysed_again(tmp_path: Path) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options, started = DetectOptions(hop_s=0.25, device="cpu"), []

    def run() -> float:
        (result,) = detect_all(
            [match], brightness_model(), tmp_path, options, skip_done=True,
            on_start=started.append,
        )  # fmt: skip
        assert result.health is not None
        return result.health.duration_s

    assert run() == 5.0
    other = write_levels(tmp_path / "other.mp4", [20] * 48 + [235] * 80)
    os.utime(other, (1e9, 1e9))
    other.replace(match)
    assert run() == 8.0
    # Files of before sizes were kept are judged by their age alone.
    events = tmp_path / "match" / "events.json"
    document = json.loads(events.read_text())
    assert document["footage"].pop("size_bytes") == match.stat().st_size
    events.write_text(json.dumps(document))
    assert run() == 8.0
    assert started == [match, match]


@pytest.mark.parametrize("formats", [["csv"], ["vtt"], []])
def test_events_json_is_always_left_and_tells_what_is_done(
    tmp_path: Path, formats: list[str]
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options = DetectOptions(hop_s=0.25, device="cpu")
    started: list[Path] = []
    results = [
        result
        for _ in range(2)
        for result in detect_all(
            [match], brightness_model(), tmp_path, options, formats=formats, skip_done=True,
            on_start=started.append,
        )
    ]  # fmt: skip
    assert started == [match]
    assert results[0].candidates == results[1].candidates
    assert {p.name for p in (tmp_path / "match").iterdir()} == {
        *("events.json", "scores.npz"),
        *(WRITERS[name].file_name for name in formats),
    }


def test_a_run_cut_short_leaves_nothing_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options = DetectOptions(hop_s=0.25, device="cpu")
    list(detect_all([match], brightness_model(), tmp_path, options, report=True))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "write_report", interrupted)
    other = replace(options, hop_s=0.5)
    with pytest.raises(KeyboardInterrupt):
        list(detect_all([match], brightness_model(), tmp_path, other, report=True))
    assert {n for n in names(tmp_path / "match") if n.endswith(".html")} == set()
    monkeypatch.undo()
    started: list[Path] = []
    list(
        detect_all(
            [match], brightness_model(), tmp_path, other, report=True, skip_done=True,
            on_start=started.append,
        )
    )  # fmt: skip
    assert started == [match]
    assert names(tmp_path / "match") == {"events.csv", "events.json", "scores.npz", "report.html"}


def test_a_format_that_refuses_the_footage_costs_itself_not_the_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)

    def refuse(sheet: object) -> str:
        raise ValueError("no timecode at 16 frames per second")

    monkeypatch.setitem(WRITERS, "edl", replace(WRITERS["edl"], text=refuse))
    formats = ["edl", "csv", "json", "vtt"]
    (result,) = detect_all(
        [match],
        brightness_model(),
        tmp_path,
        DetectOptions(hop_s=0.25, device="cpu"),
        formats=formats,
        report=True,
    )
    assert result.error is None
    assert result.unwritten == {"edl": "no timecode at 16 frames per second"}
    assert {p.name for p in (tmp_path / "match").iterdir()} == {
        *("scores.npz", "events.csv", "events.json", "report.html", "events.vtt")
    }


def test_a_format_that_cannot_hold_the_footage_is_reported_before_decoding(tmp_path: Path) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)  # 16 frames per second
    told: list[str] = []

    def run() -> MatchResult:
        (result,) = detect_all(
            [match],
            brightness_model(),
            tmp_path,
            DetectOptions(hop_s=0.25, device="cpu"),
            formats=["edl", "vtt", "fcpxml"],
            skip_done=True,
            on_start=lambda path: told.append("started"),
            on_unwritable=lambda path, name, reason: told.append(f"{name}: {reason}"),
        )
        return result

    assert list(run().unwritten) == ["edl"]
    assert names(tmp_path / "match") == {
        *("events.json", "scores.npz", "events.vtt", "events.fcpxml")
    }
    assert told[0].startswith("edl: ")
    assert told[0].endswith(
        "there is no timecode at 16 frames per second. Write it at another rate with touchline "
        "export --to edl --rate 48."
    )
    assert told[1:] == ["started"]
    # It is done although there is no EDL, so that nothing is computed again.
    assert list(run().unwritten) == ["edl"]
    assert told.count("started") == 1


def test_a_match_that_fails_leaves_no_results_of_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options, model = DetectOptions(hop_s=0.25, device="cpu"), brightness_model()
    list(detect_all([match], model, tmp_path, options, formats=["csv", "vtt"], report=True))
    folder = tmp_path / "match"
    made = names(folder)
    other = replace(options, hop_s=0.5)
    # An option that does not fit the footage says nothing against what was found with others.
    (failed,) = detect_all([match], model, tmp_path, replace(other, stream=7))
    assert str(failed.error).startswith("stream is 7; ")
    assert names(folder) == made

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch, "detect", fails)
    (failed,) = detect_all([match], model, tmp_path, other)
    assert str(failed.error).endswith(f"Earlier results in {folder} are now called *.old")
    # Set aside, not lost: no command reads them there.
    assert names(folder) == {f"{n}.old" for n in made}
    monkeypatch.undo()
    (done,) = detect_all([match], model, tmp_path, other)
    assert done.error is None
    assert names(folder) == {"events.csv", "events.json", "scores.npz", "events.vtt.old"}


def test_exports_of_an_earlier_run_are_set_aside_and_kept_until_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options, model, folder = (
        DetectOptions(hop_s=0.25, device="cpu"), brightness_model(), tmp_path / "match"
    )  # fmt: skip
    results = {"events.csv", "events.json", "scores.npz"}

    def run(*formats: str) -> MatchResult:
        (result,) = detect_all([match], model, tmp_path, options, formats=["csv", *formats])
        return result

    made = {WRITERS[name].file_name for name in WRITERS}
    run()
    for name in made - results:
        (folder / name).write_text("worked on by hand")
    run("srt")
    # An editor would take them for the new events.
    assert names(folder) == results | {"events.srt"} | {
        f"{name}.old" for name in made - results - {"events.srt"}
    }
    assert (folder / "events.llc.old").read_text() == "worked on by hand"
    run("losslesscut")
    assert {"events.llc", "events.srt.old"} < names(folder)
    assert "events.llc.old" not in names(folder)

    # What a format refuses does not replace what was made in it.
    def refuse(sheet: object) -> str:
        raise ValueError("no such characters")

    monkeypatch.setitem(WRITERS, "srt", replace(WRITERS["srt"], text=refuse))
    assert run("srt").unwritten == {"srt": "no such characters"}
    assert names(folder) & {"events.srt", "events.srt.old"} == {"events.srt.old"}


def test_a_match_that_fails_keeps_results_of_the_same_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options, model = DetectOptions(hop_s=0.25, device="cpu"), brightness_model()
    list(detect_all([match], model, tmp_path, options))
    made = names(tmp_path / "match")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch, "detect", fails)
    (failed,) = detect_all([match], model, tmp_path, options)
    assert "out of memory" in str(failed.error)
    assert names(tmp_path / "match") == made
    # A drive that is not there says nothing against what was found on it.
    match.rename(tmp_path / "away.mp4")
    list(detect_all([match], model, tmp_path, options, skip_done=True))
    assert names(tmp_path / "match") == made
    # What is there now is not what they are of.
    match.write_bytes(b"not a video")
    list(detect_all([match], model, tmp_path, options, skip_done=True))
    assert names(tmp_path / "match") == {f"{name}.old" for name in made}


def test_results_that_cannot_be_written_leave_the_earlier_ones_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options, model = DetectOptions(hop_s=0.25, device="cpu"), brightness_model()
    list(detect_all([match], model, tmp_path, options))
    made = {path.name: path.read_bytes() for path in (tmp_path / "match").iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "events.json")

    monkeypatch.setattr(batch, "write_result", full)
    (failed,) = detect_all([match], model, tmp_path, replace(options, hop_s=0.5))
    assert "No space left" in str(failed.error)
    left = {path.name: path.read_bytes() for path in (tmp_path / "match").glob("*.old")}
    assert left == {f"{name}.old": content for name, content in made.items()}


def test_an_interrupted_match_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = write_levels(tmp_path / "match.mp4", [20] * 48 + [235] * 32)
    options = DetectOptions(hop_s=0.25, device="cpu")
    list(detect_all([match], brightness_model(), tmp_path, options))
    made = names(tmp_path / "match")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "detect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(detect_all([match], brightness_model(), tmp_path, replace(options, hop_s=0.5)))
    assert names(tmp_path / "match") == made
