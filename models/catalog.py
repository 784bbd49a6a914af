"""The backbones by name: a new one is one line here."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.cnn_lstm import cnn_lstm, cnn_lstm_r50
from touchline.models.motion_net import motion_net

# Each takes (num_classes, spec); spec None means the clip of the published training.
BACKBONES: dict[str, Callable[[int, ClipSpec | None], Backbone]] = {
    "cnn_lstm": cnn_lstm,
    "cnn_lstm_r50": cnn_lstm_r50,
    "motion_net": motion_net,
}


def build_backbone(name: str, num_classes: int, spec: ClipSpec | None = None) -> Backbone:
    """A backbone with random weights; ValueError with the nearest name for an unknown one."""
    if name not in BACKBONES:
        near = difflib.get_close_matches(name, BACKBONES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no backbone {name!r}{hint} There are: {', '.join(BACKBONES)}")
    return BACKBONES[name](num_classes, spec)
