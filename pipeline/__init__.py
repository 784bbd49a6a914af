"""Footage to events, one package per stage: knows files and time.

The names in `__all__` are the public ones. Each is imported when it is first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel, save_checkpoint
    from touchline.models.load import load_model
    from touchline.models.training_record import PeakWidths
    from touchline.pipeline.clips.windows import sliding_windows
    from touchline.pipeline.decoding.decode import decode
    from touchline.pipeline.decoding.probe import probe_footage
    from touchline.pipeline.detection.batch import detect_all
    from touchline.pipeline.detection.detect import detect
    from touchline.pipeline.detection.kept_scores import KeepScores
    from touchline.pipeline.detection.options import DetectOptions
    from touchline.pipeline.evaluation.evaluate import Evaluation, evaluate_events
    from touchline.pipeline.evaluation.event_sets import EventSet, pair_videos, read_event_set
    from touchline.pipeline.evaluation.options import EvaluateOptions
    from touchline.pipeline.labels.read import read_labels
    from touchline.pipeline.labels.split import split_by_group
    from touchline.pipeline.language.chat import Chat
    from touchline.pipeline.language.measure import TextFigures
    from touchline.pipeline.language.options import ChatOptions, LanguageOptions
    from touchline.pipeline.language.train import TrainedLanguage, train_language
    from touchline.pipeline.outputs.events_json import read_events_json
    from touchline.pipeline.outputs.match_result import MatchResult
    from touchline.pipeline.outputs.options import WriteOptions
    from touchline.pipeline.outputs.read_results import read_results
    from touchline.pipeline.outputs.score_track import load_track, save_track
    from touchline.pipeline.outputs.writers import write_result
    from touchline.pipeline.players.name import Naming, name_players
    from touchline.pipeline.players.options import PlayersOptions
    from touchline.pipeline.players.train import TrainedPlayers, train_players
    from touchline.pipeline.reels.options import RenderOptions
    from touchline.pipeline.reels.plan import Cut, plan_reel
    from touchline.pipeline.reels.render import Rendered, cut_clips, cut_reel, render_cuts
    from touchline.pipeline.report.match_page import write_report
    from touchline.pipeline.report.run_page import write_index
    from touchline.pipeline.report.truth import Truth, read_truth
    from touchline.pipeline.scoring.events import find_candidates, find_events, operating_points
    from touchline.pipeline.scoring.options import EventOptions, OperatingPoint
    from touchline.pipeline.scoring.score import score_footage
    from touchline.pipeline.timecode import MatchClock
    from touchline.pipeline.training.finetune import fine_tune
    from touchline.pipeline.training.options import TrainOptions
    from touchline.pipeline.training.result import FineTuneResult
    from touchline.pipeline.types import (
        Clip,
        Event,
        Example,
        FootageHealth,
        Frames,
        ScoreTrack,
    )

_HOMES = {
    "touchline.models.checkpoint": "TrainedModel save_checkpoint",
    "touchline.models.load": "load_model",
    "touchline.models.training_record": "PeakWidths",
    "touchline.pipeline.clips.windows": "sliding_windows",
    "touchline.pipeline.decoding.decode": "decode",
    "touchline.pipeline.decoding.probe": "probe_footage",
    "touchline.pipeline.detection.batch": "detect_all",
    "touchline.pipeline.detection.detect": "detect",
    "touchline.pipeline.detection.kept_scores": "KeepScores",
    "touchline.pipeline.detection.options": "DetectOptions",
    "touchline.pipeline.evaluation.evaluate": "Evaluation evaluate_events",
    "touchline.pipeline.evaluation.event_sets": "EventSet pair_videos read_event_set",
    "touchline.pipeline.evaluation.options": "EvaluateOptions",
    "touchline.pipeline.labels.read": "read_labels",
    "touchline.pipeline.labels.split": "split_by_group",
    "touchline.pipeline.language.chat": "Chat",
    "touchline.pipeline.language.measure": "TextFigures",
    "touchline.pipeline.language.options": "ChatOptions LanguageOptions",
    "touchline.pipeline.language.train": "TrainedLanguage train_language",
    "touchline.pipeline.outputs.events_json": "read_events_json",
    "touchline.pipeline.outputs.match_result": "MatchResult",
    "touchline.pipeline.outputs.options": "WriteOptions",
    "touchline.pipeline.outputs.read_results": "read_results",
    "touchline.pipeline.outputs.score_track": "load_track save_track",
    "touchline.pipeline.timecode": "MatchClock",
    "touchline.pipeline.outputs.writers": "write_result",
    "touchline.pipeline.players.name": "Naming name_players",
    "touchline.pipeline.players.options": "PlayersOptions",
    "touchline.pipeline.players.train": "TrainedPlayers train_players",
    "touchline.pipeline.reels.options": "RenderOptions",
    "touchline.pipeline.reels.plan": "Cut plan_reel",
    "touchline.pipeline.reels.render": "Rendered cut_clips cut_reel render_cuts",
    "touchline.pipeline.report.match_page": "write_report",
    "touchline.pipeline.report.run_page": "write_index",
    "touchline.pipeline.report.truth": "Truth read_truth",
    "touchline.pipeline.scoring.events": "find_candidates find_events operating_points",
    "touchline.pipeline.scoring.options": "EventOptions OperatingPoint",
    "touchline.pipeline.scoring.score": "score_footage",
    "touchline.pipeline.training.finetune": "fine_tune",
    "touchline.pipeline.training.options": "TrainOptions",
    "touchline.pipeline.training.result": "FineTuneResult",
    "touchline.pipeline.types": "Clip Event Example FootageHealth Frames ScoreTrack",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Chat",
    "ChatOptions",
    "Clip",
    "Cut",
    "DetectOptions",
    "EvaluateOptions",
    "Evaluation",
    "Event",
    "EventOptions",
    "EventSet",
    "Example",
    "FineTuneResult",
    "FootageHealth",
    "Frames",
    "KeepScores",
    "LanguageOptions",
    "MatchClock",
    "MatchResult",
    "Naming",
    "OperatingPoint",
    "PeakWidths",
    "PlayersOptions",
    "RenderOptions",
    "Rendered",
    "ScoreTrack",
    "TextFigures",
    "TrainOptions",
    "TrainedLanguage",
    "TrainedModel",
    "TrainedPlayers",
    "Truth",
    "WriteOptions",
    "cut_clips",
    "cut_reel",
    "decode",
    "detect",
    "detect_all",
    "evaluate_events",
    "find_candidates",
    "find_events",
    "fine_tune",
    "load_model",
    "load_track",
    "name_players",
    "operating_points",
    "pair_videos",
    "plan_reel",
    "probe_footage",
    "read_event_set",
    "read_events_json",
    "read_labels",
    "read_results",
    "read_truth",
    "render_cuts",
    "save_checkpoint",
    "save_track",
    "score_footage",
    "sliding_windows",
    "split_by_group",
    "train_language",
    "train_players",
    "write_index",
    "write_report",
    "write_result",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
