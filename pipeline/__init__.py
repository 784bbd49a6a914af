"""Footage to events, one file per stage: knows files and time.

The names in `__all__` are the public ones. Each is imported when it is first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from touchline.models.checkpoint import TrainedModel, save_checkpoint
    from touchline.models.load import load_model
    from touchline.pipeline.batch import detect_all
    from touchline.pipeline.cuts import Cut, plan_reel
    from touchline.pipeline.decode import decode, probe_footage
    from touchline.pipeline.detect import DetectOptions, detect
    from touchline.pipeline.evaluate import EvaluateOptions, Evaluation, evaluate_events
    from touchline.pipeline.event_sets import EventSet, pair_videos, read_event_set
    from touchline.pipeline.events import (
        EventOptions,
        OperatingPoint,
        find_candidates,
        find_events,
        operating_points,
    )
    from touchline.pipeline.finetune import FineTuneResult, TrainOptions, fine_tune
    from touchline.pipeline.labels import read_labels, split_by_group
    from touchline.pipeline.render import Rendered, RenderOptions, cut_clips, cut_reel, render_cuts
    from touchline.pipeline.report import Truth, write_index, write_report
    from touchline.pipeline.results import read_results, read_truth
    from touchline.pipeline.sample import sliding_windows
    from touchline.pipeline.score import score_footage
    from touchline.pipeline.timing import MatchClock
    from touchline.pipeline.types import (
        Clip,
        Event,
        Example,
        FootageHealth,
        Frames,
        MatchResult,
        ScoreTrack,
    )
    from touchline.pipeline.write import load_track, read_events_json, save_track, write_result

_HOMES = {
    "touchline.models.checkpoint": "TrainedModel save_checkpoint",
    "touchline.models.load": "load_model",
    "touchline.pipeline.batch": "detect_all",
    "touchline.pipeline.cuts": "Cut plan_reel",
    "touchline.pipeline.decode": "decode probe_footage",
    "touchline.pipeline.detect": "DetectOptions detect",
    "touchline.pipeline.evaluate": "EvaluateOptions Evaluation evaluate_events",
    "touchline.pipeline.event_sets": "EventSet pair_videos read_event_set",
    "touchline.pipeline.events": (
        "EventOptions OperatingPoint find_candidates find_events operating_points"
    ),
    "touchline.pipeline.finetune": "FineTuneResult TrainOptions fine_tune",
    "touchline.pipeline.labels": "read_labels split_by_group",
    "touchline.pipeline.render": "Rendered RenderOptions cut_clips cut_reel render_cuts",
    "touchline.pipeline.report": "Truth write_index write_report",
    "touchline.pipeline.results": "read_results read_truth",
    "touchline.pipeline.sample": "sliding_windows",
    "touchline.pipeline.score": "score_footage",
    "touchline.pipeline.timing": "MatchClock",
    "touchline.pipeline.types": "Clip Event Example FootageHealth Frames MatchResult ScoreTrack",
    "touchline.pipeline.write": "load_track read_events_json save_track write_result",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
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
    "MatchClock",
    "MatchResult",
    "OperatingPoint",
    "RenderOptions",
    "Rendered",
    "ScoreTrack",
    "TrainOptions",
    "TrainedModel",
    "Truth",
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
    "write_index",
    "write_report",
    "write_result",
]


class _Package(ModuleType):
    """The package with its public names found on first use (PEP 562)."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME[name]), name)
        super().__setattr__(name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # Importing the submodule `detect` binds it here under the name of the public function.
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
