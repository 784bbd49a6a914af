"""A small model of two events, and clips it has scored, for the tests of calibration."""

import numpy as np
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel
from touchline.pipeline.score_clips import ClipScores
from touchline.pipeline.types import Example

LABELS = ("background", "goal", "card")
RECORD = {"groups": {"train": ["A"], "val": ["B"], "excluded": []}}


def two_event_model():
    torch.manual_seed(0)
    backbone = build_backbone("motion_net", 3, ClipSpec(num_frames=4, rate_hz=8.0, size_px=32))
    return TrainedModel(backbone.eval(), "motion_net", LABELS, record=RECORD)


def scores_of(truth, margin=3.0):
    """Clips in one window each, all classified right with this margin."""
    truth = np.array(truth)
    logits = np.zeros((len(truth), 1, 3), dtype=np.float32)
    logits[np.arange(len(truth)), 0, truth] = margin
    examples = tuple(Example("x.mp4", LABELS[k], f"B{n}") for n, k in enumerate(truth))
    return ClipScores(examples, logits, truth)
