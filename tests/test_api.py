"""The public names of touchline.pipeline: locked, lazy, the same in whatever order one imports."""

import pkgutil
import subprocess
import sys

import pytest

import touchline.pipeline as touchline

LOCKED = """
Chat ChatOptions Clip Cut DetectOptions EvaluateOptions Evaluation Event EventOptions EventSet
Example FineTuneResult FootageHealth Frames KeepScores LanguageOptions MatchClock MatchResult
Naming OperatingPoint PeakWidths PlayersOptions RenderOptions Rendered ScoreTrack TextFigures
TrainOptions TrainedLanguage TrainedModel TrainedPlayers Truth WriteOptions cut_clips cut_reel
decode detect detect_all evaluate_events find_candidates find_events fine_tune load_model
load_track name_players operating_points pair_videos plan_reel probe_footage read_event_set
read_events_json read_labels read_results read_truth render_cuts save_checkpoint save_track
score_footage sliding_windows split_by_group train_language train_players write_index
write_report write_result
"""
NAMES = LOCKED.split()


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_the_public_names_are_these() -> None:
    assert touchline.__all__ == NAMES
    assert set(NAMES) <= set(dir(touchline))


def test_every_public_name_is_there() -> None:
    for name in NAMES:
        assert callable(getattr(touchline, name)), name


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = run_python(
        "import touchline.pipeline, sys; "
        "print([m for m in ('torch', 'av', 'numpy', 'cv2') if m in sys.modules])"
    )
    assert loaded == "[]"


def test_no_module_or_package_hides_a_public_name() -> None:
    modules = {module.name for module in pkgutil.iter_modules(touchline.__path__)}
    assert modules.isdisjoint(NAMES)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'touchline\.pipeline' has no attribute 'nothing'"):
        touchline.nothing  # noqa: B018
