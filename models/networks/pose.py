"""Posture of the main person of each picture as features: MoveNet's joints, and what is at them.

In a small clip of one player, the posture says more about the class than the whole picture. What
the hands hold is small in the picture, so an image network sees them magnified.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from touchline.models.backbone import ClipSpec, State
from touchline.models.networks.cnn_lstm import CNNLSTM
from touchline.models.networks.efficientnet_lite import LITE0, efficientnet_lite_stages
from touchline.models.networks.movenet import joints_of, movenet_stages

THUNDER = ClipSpec(16, 8.0, 256, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), fit="pad")

_SHOULDERS, _WRISTS, _HIPS = (5, 6), (9, 10), (11, 12)
# Joints whose surroundings are features too: nose, wrists, ankles. A ball is often at one of them.
_ENDS = (0, 9, 10, 15, 16)
# Elbows, knees, shoulders and hips: the joint in the middle has the angle.
_ANGLES = (
    *((5, 7, 9), (6, 8, 10), (11, 13, 15), (12, 14, 16)),
    *((7, 5, 11), (8, 6, 12), (5, 11, 13), (6, 12, 14)),
)
_NUM_POSTURE, _NUM_APPEARANCE, _NUM_HANDS = 200, 112 * len(_ENDS), 1280

# The square around a wrist: its side in sizes of the body, and what it is magnified to.
_HAND_SIDE, _HAND_PX = 1.3, 128

# Each kind of feature is scaled by about one over its usual spread, so that none drowns the others:
# the linear heads see features as they are. Appearance and hands have most numbers; in all, each
# counts like posture.
_LENGTH, _CONFIDENCE, _PLACE, _COSINE, _APPEARANCE, _HANDS = 4.0, 6.0, 16.0, 4.0, 0.6, 0.7


class Pose(CNNLSTM):
    """MoveNet on each frame, its joints and hands as features, then an LSTM in the head."""

    single_path = False

    def leave(self, x: State, batch: int) -> Tensor:
        """Joints, posture, maps, features of hands; B * T frames -> (B, D, T) float32."""
        joints, posture, coarse, hands = x
        features = torch.cat(
            [
                posture_features(posture, joints[..., 2]),
                appearance_at(coarse.float(), joints[:, _ENDS, :2]),
                _HANDS * hands.float(),
            ],
            dim=1,
        )
        return features.reshape(batch, -1, features.shape[1]).transpose(1, 2)


class _Hands(nn.Module):
    """Read the joints, and see both hands magnified with EfficientNet-Lite0."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(OrderedDict(efficientnet_lite_stages(LITE0)[0]))

    def forward(self, found: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Maps, features, pictures -> joints, posture, features, the hands' maximum (N, 1280)."""
        maps, coarse, pictures = found
        joints, posture = joints_of(maps)
        _, _, _, size = _body(posture)
        squares = torch.cat(
            [squares_at(pictures, joints[:, i, :2], _HAND_SIDE * size) for i in _WRISTS]
        )
        # From MoveNet's range to the one that EfficientNet-Lite0 was trained on.
        mean, std = (torch.tensor(x, device=maps.device).view(3, 1, 1) for x in _lite0_in_thunder())
        seen = self.network(((squares - mean) / std).to(pictures.dtype)).float().mean(dim=(2, 3))
        left, right = seen.chunk(2)
        return joints, posture, coarse, torch.maximum(left, right)


def _lite0_in_thunder() -> tuple[list[float], list[float]]:
    """Mean and deviation of EfficientNet-Lite0's pictures, in numbers of MoveNet's pictures."""
    ours = zip(LITE0.spec.mean, THUNDER.mean, THUNDER.std, strict=True)
    stds = zip(LITE0.spec.std, THUNDER.std, strict=True)
    return [(mean - m) / s for mean, m, s in ours], [std / s for std, s in stds]


def pose(num_classes: int, spec: ClipSpec | None = None) -> Pose:
    """Build the pose network: MoveNet Thunder per frame, EfficientNet-Lite0 per hand, LSTM(64)."""
    width = _NUM_POSTURE + _NUM_APPEARANCE + _NUM_HANDS
    stages = {**movenet_stages(), "hands": _Hands()}
    return Pose(stages, width, spec or THUNDER, num_classes)


def _body(posture: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Postures (N, 17, 2) -> middle (N, 2); trunk, spread and size of the body, each (N, 1)."""
    shoulders, hips = (posture[:, pair].mean(dim=1) for pair in (_SHOULDERS, _HIPS))
    trunk = torch.linalg.vector_norm(hips - shoulders, dim=1, keepdim=True)
    around = (posture - posture.mean(dim=1, keepdim=True)).flatten(1)
    spread = torch.linalg.vector_norm(around, dim=1, keepdim=True) / posture.shape[1] ** 0.5
    size = torch.maximum(trunk, 0.6 * spread).clamp(min=1e-6)
    return (shoulders + hips) / 2, trunk, spread, size


def posture_features(posture: Tensor, confidence: Tensor) -> Tensor:
    """Describe a body by 200 numbers of similar spread, mostly relative to its place and size.

    They are the joints relative to the trunk's middle (34), confidences (17), place and size in the
    picture (5), cosines of angles (8) and distances between any two joints (136). Lengths are in
    sizes of the body: the length of its trunk, or its spread where the trunk points at the camera.

    Args:
        posture: (N, 17, 2), y and x of the joints in the picture.
        confidence: (N, 17).
    """
    middle, trunk, spread, size = _body(posture)
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


def squares_at(pictures: Tensor, points: Tensor, side: Tensor) -> Tensor:
    """Cut squares around points out of pictures, magnified to (N, 3, 128, 128) float32.

    Args:
        pictures: (N, 3, H, W), normalised as MoveNet's; black around them is -1.
        points: (N, 2), y and x from 0 to 1 over the picture.
        side: (N, 1), of the square, as a share of the picture.
    """
    steps = (torch.arange(_HAND_PX, device=pictures.device) + 0.5) / _HAND_PX * 2 - 1
    y, x = ((points[:, i, None] * 2 - 1) + side * steps for i in (0, 1))  # each (N, 128)
    shape = (len(points), _HAND_PX, _HAND_PX)
    grid = torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=3)
    # Black is -1, and the padding is 0.
    return F.grid_sample(pictures.float() + 1, grid, align_corners=False) - 1
