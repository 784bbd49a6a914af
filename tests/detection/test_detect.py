import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from footage_made import write_video
from tiny import brightness_model, write_levels

from touchline.models.errors import FootageError
from touchline.pipeline.decoding.probe import probe_footage
from touchline.pipeline.detection import batch
from touchline.pipeline.detection.batch import detect_all
from touchline.pipeline.detection.detect import detect, thresholds_of
from touchline.pipeline.detection.folders import output_folders
from touchline.pipeline.detection.options import DetectOptions
from touchline.pipeline.files import safe_name
from touchline.pipeline.outputs.events_json import read_events_json
from touchline.pipeline.outputs.score_track import load_track
from touchline.pipeline.scoring.options import EventOptions

OPTIONS = DetectOptions(hop_s=0.25, device="cpu")


def test_events_come_out_where_they_happened(match):
    result = detect(match, brightness_model(), OPTIONS)
    first, second = result.accepted
    assert (first.label, second.label) == ("bright", "bright")
    assert first.start_s == pytest.approx(3.0, abs=0.6)
    assert first.end_s == pytest.approx(5.0, abs=0.6)
    assert 3.0 <= first.peak_s <= 5.0
    assert second.peak_s == pytest.approx(8.75, abs=0.5)
    assert result.error is None
    assert set(result.accepted) <= set(result.candidates)


@pytest.mark.parametrize("spots", [False, True])
def test_no_event_ends_after_the_footage(spots, tmp_path):
    # The last sample at 8 Hz is at 4.625 s and stands for an eighth of a second.
    path = write_levels(tmp_path / "match.mp4", [20] * 56 + [235] * 19)
    options = replace(OPTIONS, events=EventOptions(spots=spots))
    result = detect(path, brightness_model(), options)
    assert result.health.duration_s == 4.6875
    assert result.track.end_s[-1] == 4.75
    ends = [event.end_s for event in result.candidates]
    assert max(ends) <= 4.6875
    assert spots or [event.end_s for event in result.accepted] == [4.6875]
    assert set(result.accepted) <= set(result.candidates)


def test_health_tells_what_was_really_read(match):
    health = detect(match, brightness_model(), OPTIONS).health
    assert health.codec == "h264"
    assert health.num_frames == 192
    assert health.duration_s == pytest.approx(12.0)
    assert health.damaged_s == ()


@pytest.mark.parametrize("variable", [False, True])
def test_a_wrong_declared_rate_is_reported_and_replaced_as_probe_does(tmp_path, variable):
    # The file declares 25 frames a second. Most are a fiftieth of a second apart.
    stamps = [Fraction(k, 50) + (Fraction(k // 20, 10) if variable else 0) for k in range(160)]
    path = write_video(
        tmp_path / "a.mkv", indices=range(160), stamps=stamps, time_base=Fraction(1, 1000)
    )
    found = detect(path, brightness_model(), OPTIONS).health
    probed = probe_footage(path, depth="frames")
    assert found.warnings == probed.warnings
    assert (found.frame_rate, found.variable_rate) == (probed.frame_rate, probed.variable_rate)
    assert found.frame_rate == (None if variable else "50/1")


def test_progress_ends_at_the_end(match):
    told = []
    detect(match, brightness_model(), OPTIONS, on_time=lambda *at: told.append(at))
    assert told[-1] == (pytest.approx(12.0), pytest.approx(12.0))


def test_a_threshold_asked_for_outweighs_the_calibrated_one():
    model = replace(brightness_model(), thresholds={"bright": 0.7})
    assert thresholds_of(model, OPTIONS) == {"bright": 0.7}
    assert thresholds_of(model, replace(OPTIONS, threshold=0.9)) == {"bright": 0.9}
    assert thresholds_of(brightness_model(), OPTIONS) == {"bright": 0.5}


@pytest.mark.parametrize("threshold", [0, -1, 1.5])
def test_a_threshold_outside_its_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"must be in \(0, 1\]"):
        DetectOptions(threshold=threshold)


def test_less_than_one_decoding_process_is_refused():
    with pytest.raises(ValueError, match="decode_workers is 0; it must be 1 or more"):
        DetectOptions(decode_workers=0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"floor": 2.0}, r"in \(0, 1\]"),
        ({"decoder": "pyva"}, "one of pyav"),
        ({"hop_s": 9.0}, "hop_s"),
    ],
)
def test_an_unusable_option_is_reported_once_before_anything_is_decoded(
    match, tmp_path, monkeypatch, option, message
):
    monkeypatch.setattr(batch, "detect", None)
    with pytest.raises(ValueError, match=message):
        list(detect_all([match], brightness_model(), tmp_path, replace(OPTIONS, **option)))


@pytest.mark.parametrize("out", ["file", "file/out"])
def test_a_place_that_is_no_folder_is_reported_once_before_anything_is_decoded(
    match, tmp_path, monkeypatch, out
):
    monkeypatch.setattr(batch, "detect", None)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError) as caught:
        run([match], tmp_path / out)
    assert caught.value.filename == str(tmp_path / out)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_written_to_is_reported_before_anything_is_decoded(
    match, tmp_path, monkeypatch
):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch, "detect", None)
    monkeypatch.setattr("touchline.pipeline.outputs.writers.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        run([match], tmp_path / "out")
    assert Path(caught.value.filename).parent == tmp_path / "out"
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_footage_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FootageError, match=r"gone\.mp4"):
        detect(tmp_path / "gone.mp4", brightness_model(), OPTIONS)


def run(paths, out, **options):
    return list(detect_all(paths, brightness_model(), out, OPTIONS, **options))


def test_every_input_has_one_result_and_a_bad_one_costs_only_itself(match, tmp_path):
    text = tmp_path / "notes.mp4"
    text.write_text("not a video")
    paths = [tmp_path / "gone.mp4", text, match, tmp_path]
    results = run(paths, tmp_path / "out")
    assert [r.path for r in results] == paths
    assert [r.error is None for r in results] == [False, False, True, False]
    assert len(results[2].accepted) == 2
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["match"]


def test_outputs_hold_all_candidates_and_the_scores(match, tmp_path):
    (result,) = run([match], tmp_path, model_path="m", model_sha256="ab")
    folder = tmp_path / "match"
    assert sorted(p.name for p in folder.iterdir()) == ["events.csv", "events.json", "scores.npz"]
    read = read_events_json(folder / "events.json")
    assert len(read.accepted) == 2
    assert len(read.candidates) == len(result.candidates)
    document = json.loads((folder / "events.json").read_text())
    assert document["model"]["sha256"] == "ab"
    assert document["options"]["hop_s"] == 0.25
    assert document["footage"]["frame_rate"] == "16/1"
    track = load_track(folder / "scores.npz")
    assert track.labels == ("background", "bright")
    assert len((folder / "events.csv").read_text().splitlines()) == 3


def test_inputs_of_one_stem_get_folders_of_their_own(tmp_path):
    paths = [Path("a/match.mp4"), Path("b/match.mp4"), Path("b/other.mp4")]
    first, second, third = output_folders(paths, tmp_path)
    assert first != second
    assert first.name.startswith("match-")
    assert third == tmp_path / "other"
    assert output_folders(paths[1:2], tmp_path)[0] == tmp_path / "match"


def test_stems_that_differ_only_in_case_do_not_collide(tmp_path):
    first, second = output_folders([Path("Match.mp4"), Path("match.mp4")], tmp_path)
    assert first.name.casefold() != second.name.casefold()


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("..", "footage"),
        ("a/b", "a_b"),
        ("q?", "q_"),
        ("Final (1st half) ", "Final (1st half)"),
        ("NUL", "NUL_"),
        ("con.tar", "con.tar_"),
        ("\udcff", "_"),
        ("進" * 84, "進" * 40),
    ],
)
def test_output_names_are_safe_and_never_leave_their_folder(stem, name, tmp_path):
    assert safe_name(stem, fallback="footage") == name
    (tmp_path / name).mkdir()
    assert output_folders([Path(f"x/{stem}.mp4")], tmp_path)[0].parent == tmp_path


def test_skip_done_passes_over_what_is_there_until_something_changes(match, tmp_path):
    started = []
    run([match], tmp_path)
    (again,) = run([match], tmp_path, skip_done=True, on_start=started.append)
    assert not started
    assert len(again.accepted) == 2
    other = replace(OPTIONS, threshold=0.9)
    list(
        detect_all(
            [match], brightness_model(), tmp_path, other, skip_done=True, on_start=started.append
        )
    )
    assert started == [match]
    run([match], tmp_path, skip_done=True, model_sha256="other", on_start=started.append)
    assert started == [match, match]
