"""Build a backbone by its name. To add a backbone, add one line here."""

from __future__ import annotations

from collections.abc import Callable

from touchline.models.backbone import Backbone, ClipSpec
from touchline.models.networks import pytorchvideo
from touchline.models.networks.c3d import c3d
from touchline.models.networks.cnn_lstm import (
    cnn_lstm,
    cnn_lstm_lite0,
    cnn_lstm_lite1,
    cnn_lstm_lite2,
    cnn_lstm_r50,
)
from touchline.models.networks.i3d import i3d
from touchline.models.networks.mobilenet3d import mobilenet3d
from touchline.models.networks.motion_net import motion_net
from touchline.models.networks.pose import pose
from touchline.models.spelling import did_you_mean

# Each takes (num_classes, spec). spec None: the clip of the published training.
BACKBONES: dict[str, Callable[[int, ClipSpec | None], Backbone]] = {
    "cnn_lstm": cnn_lstm,
    "cnn_lstm_r50": cnn_lstm_r50,
    "cnn_lstm_lite0": cnn_lstm_lite0,
    "cnn_lstm_lite1": cnn_lstm_lite1,
    "cnn_lstm_lite2": cnn_lstm_lite2,
    "pose": pose,
    "mobilenet3d": mobilenet3d,
    "c3d": c3d,
    "i3d": i3d,
    "i3d_r50": pytorchvideo.i3d_r50,
    "c2d_r50": pytorchvideo.c2d_r50,
    "slow_r50": pytorchvideo.slow_r50,
    "slowfast_r50": pytorchvideo.slowfast_r50,
    "x3d_xs": pytorchvideo.x3d_xs,
    "x3d_s": pytorchvideo.x3d_s,
    "x3d_m": pytorchvideo.x3d_m,
    "x3d_l": pytorchvideo.x3d_l,
    "r2plus1d_r50": pytorchvideo.r2plus1d_r50,
    "csn_r101": pytorchvideo.csn_r101,
    "mvit_b_16x4": pytorchvideo.mvit_b_16x4,
    "mvit_b_32x3": pytorchvideo.mvit_b_32x3,
    "motion_net": motion_net,
}


def build_backbone(name: str, num_classes: int, spec: ClipSpec | None = None) -> Backbone:
    """Build a backbone with random weights.

    Args:
        name: A name in BACKBONES.
        num_classes: K, the number of logits, background included.
        spec: The clip it takes. None: the clip of the published training.

    Raises:
        ValueError: The name is unknown, or the backbone cannot take the clip.
    """
    if name not in BACKBONES:
        known = f"The backbones are {', '.join(BACKBONES)}."
        raise ValueError(f"no backbone {name!r}. {did_you_mean(name, BACKBONES) or known}")
    return BACKBONES[name](num_classes, spec)
