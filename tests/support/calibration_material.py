"""A small model of two events, and clips it has scored, for the tests of calibration."""

import av
import numpy as np
import torch

from touchline.models.backbone import ClipSpec
from touchline.models.catalog import build_backbone
from touchline.models.checkpoint import TrainedModel, save_checkpoint
from touchline.models.training_record import TrainedGroups, TrainingRecord
from touchline.pipeline.scoring.score_clips import ClipScores
from touchline.pipeline.types import Example

LABELS = ("background", "goal", "card")
RECORD = TrainingRecord(groups=TrainedGroups(train=("A",), val=("B",)))


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


def make_footage(path, *, shade, seconds=2):
    """Footage at 8 Hz of one shade."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 48, 48
        picture = np.full((48, 48, 3), shade, dtype=np.uint8)
        for _ in range(8 * seconds):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())


def make_season(folder, model):
    """Clips of two classes in three matches, one of them trained on, and an untouched model."""
    rows = ["video,label,start_s,end_s,group"]
    for n, (label, group) in enumerate(
        (label, group) for group in "ABC" for label in ("goal", "card", "background")
    ):
        make_footage(folder / f"{n}.mp4", shade=30 * (n % 3) + 60)
        rows.append(f"{n}.mp4,{label},,,{group}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    make_footage(folder / "quiet.mp4", shade=10, seconds=4)
    save_checkpoint(folder / "model.safetensors", model)
    return folder
