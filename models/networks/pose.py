"""Posture of the main person of each picture as features: MoveNet's joints, and what is at them.

In a small clip of one player, the posture says more about the class than the whole picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from touchline.models.backbone import ClipSpec, State
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.models.networks.movenet import joints_of, movenet_stages

THUNDER = ClipSpec(16, 8.0, 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fit="pad")

_SHOULDERS, _HIPS = (5, 6), (11, 12)
# Joints whose surroundings are features too: nose, wrists, ankles. A ball is often at one of them.
_ENDS = (0, 9, 10, 15, 16)
# Elbows, knees, shoulders and hips: the joint in the middle has the angle.
_ANGLES = (
    *((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16)),
    *((7, 5, 11), (8, 6, 12), (5, 11, 13), (6, 12, 14)),
)
_NUM_POSTURE, _NUM_APPEARANCE = 200, 112 * len(_ENDS)

# Each kind of feature is scaled by about one over its usual spread, so that none drowns the others:
# the linear heads see features as they are. Appearance has most numbers; in all, it counts like
# posture.
_LENGTH, _CONFIDENCE, _PLACE, _COSINE, _APPEARANCE = 4.0, 6.0, 16.0, 4.0, 0.6


class Pose(CNNLSTM):
    """MoveNet on each frame, its joints as features, then an LSTM in the head."""

    single_path = False

    def leave(self, x: State, batch: int) -> Tensor:
        """Maps and features of B * T frames -> features (B, D, T) float32."""
        maps, coarse = x
        joints, posture = joints_of(maps)
        features = torch.cat(
            [
                posture_features(posture, joints[..., 2]),
                appearance_at(coarse.float(), joints[:, _ENDS, :2]),
            ],
            dim=1,
        )
        return features.reshape(batch, -1, features.shape[1]).transpose(1, 2)


def pose(num_classes: int, spec: ClipSpec | None = None) -> Pose:
    """Build the pose network: MoveNet Thunder per frame, LSTM(64)."""
    width = _NUM_POSTURE + _NUM_APPEARANCE
    return Pose(movenet_stages(), width, spec or THUNDER, num_classes)


def posture_features(posture: Tensor, confidence: Tensor) -> Tensor:
    """Describe a body by 200 numbers of similar spread, mostly relative to its place and size.

    They are the joints relative to the trunk's middle (34), confidences (17), place and size in the
    picture (5), cosines of angles (8) and distances between any two joints (136). Lengths are in
    sizes of the body: the length of its trunk, or its spread where the trunk points at the camera.

    Args:
        posture: (N, 17, 2), y and x of the joints in the picture.
        confidence: (N, 17).
    """
    shoulders, hips = (posture[:, pair].mean(dim=1) for pair in (_SHOULDERS, _HIPS))
    middle = (shoulders + hips) / 2
    trunk = torch.linalg.vector_norm(hips - shoulders, dim=1, keepdim=True)
    around = (posture - posture.mean(dim=1, keepdim=True)).flatten(1)
    spread = torch.linalg.vector_norm(around, dim=1, keepdim=True) / posture.shape[1] ** 0.5
    size = torch.maximum(trunk, 0.6 * spread).clamp(min=1e-6)
    body = (posture - middle[:, None]) / size[:, :, None]
    first, second = torch.triu_indices(17, 17, offset=1, device=posture.device)
    a, b, c = torch.tensor(_ANGLES, device=posture.device).T
    return torch.cat(
        [
            _LENGTH * body.flatten(1),
            _CONFIDENCE * confidence,
            *(_PLACE * place for place in (middle, size, trunk, spread)),
            _COSINE * F.cosine_similarity(body[:, a] - body[:, b], body[:, c] - body[:, b], dim=2),
            _LENGTH * torch.linalg.vector_norm(body[:, first] - body[:, second], dim=2),
        ],
        dim=1,
    )


def appearance_at(features: Tensor, points: Tensor) -> Tensor:
    """Read features (N, C, H, W) at points (N, P, 2), y and x from 0 to 1 -> scaled (N, P * C)."""
    grid = points.flip(2)[:, :, None] * 2 - 1  # x and y from -1 to 1
    found = F.grid_sample(features, grid, padding_mode="border", align_corners=False)
    return _APPEARANCE * found[..., 0].transpose(1, 2).flatten(1)
