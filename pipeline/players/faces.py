"""Faces in a picture, found by CenterFace (Xu et al. 2019), which OpenCV runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from touchline.pipeline.types import Float32, UInt8

SEARCHED_PX = 480
"""Larger pictures are searched with their shorter side scaled down to this many pixels."""

LONGEST_PX = 4 * SEARCHED_PX
"""A longer side is scaled down to this many pixels, so that a narrow picture needs no gigabytes."""

MIN_SCORE = 0.5

AROUND = 1.5
"""The side of what is cut out, in heights of the face: hair, ears and chin are in it."""

# The network's pictures have sides that are multiples of 32. Of two faces that share more of their
# area than this, the surer one stays.
_STEP, _SHARED = 32, 0.3
# The last one holds eyes, nose and corners of the mouth.
_OUTPUTS = ("537", "538", "539", "540")


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        box: Left, top, right and bottom, in pixels; inside the picture.
        score: How sure the detector is, in [0, 1].
    """

    box: tuple[int, int, int, int]
    score: float

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        x0, y0, x1, y1 = self.box
        return x1 - x0, y1 - y0


FindFaces = Callable[[UInt8], list[Face]]
"""A picture (3, H, W) RGB -> the faces in it, the largest first."""


class FaceFinder:
    """Finds faces that look towards the camera, or to the side.

    Args:
        path: The ONNX file.
    """

    def __init__(self, path: Path) -> None:
        self._net = cv2.dnn.readNetFromONNX(str(path))

    def faces(self, picture: UInt8) -> list[Face]:
        """Return the faces in a picture (3, H, W) RGB, the largest first."""
        _, H, W = picture.shape
        h, w = searched_size(H, W)
        shown = np.ascontiguousarray(picture.transpose(1, 2, 0))
        scaled = cv2.resize(shown, (w, h), interpolation=cv2.INTER_AREA)
        self._net.setInput(cv2.dnn.blobFromImage(scaled))
        scores, sizes, offsets, _ = self._net.forward(_OUTPUTS)
        return faces_in(scores[0, 0], sizes[0], offsets[0], W, H)


def searched_size(height: int, width: int) -> tuple[int, int]:
    """Return the height and width at which a picture is searched, multiples of 32.

    Args:
        height: Of the picture, in pixels.
        width: Of the picture.
    """
    sides = height, width
    scale = min(1.0, SEARCHED_PX / min(sides), LONGEST_PX / max(sides))
    h, w = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in sides)
    return h, w


def faces_in(
    scores: Float32, sizes: Float32, offsets: Float32, width: int, height: int
) -> list[Face]:
    """Return the faces that the maps of the network show, the largest first.

    Args:
        scores: (h, w) that the middle of a face is in a cell.
        sizes: (2, h, w) logarithm of its height and width, in cells.
        offsets: (2, h, w) from the middle of the cell, down and right, in cells.
        width: Of the picture, in pixels.
        height: Of the picture.
    """
    rows, columns = np.nonzero(scores >= MIN_SCORE)
    if not len(rows):
        return []
    at = np.stack([rows, columns])
    middle = at + 0.5 + offsets[:, rows, columns]  # (2, N), in cells
    side = np.exp(sizes[:, rows, columns])
    cell = np.array([[height / scores.shape[0]], [width / scores.shape[1]]])
    low, high = (middle - side / 2) * cell, (middle + side / 2) * cell
    boxes = np.concatenate([low[::-1], (high - low)[::-1]]).T  # left, top, width, height
    found = scores[rows, columns].tolist()
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), found, MIN_SCORE, _SHARED)
    faces = []
    for k in map(int, kept):
        left, top = max(0, round(low[1, k])), max(0, round(low[0, k]))
        right, bottom = min(width, round(high[1, k])), min(height, round(high[0, k]))
        if right > left and bottom > top:
            faces.append(Face((left, top, right, bottom), found[k]))
    return sorted(faces, key=lambda face: face.size[0] * face.size[1], reverse=True)


def cut_out(picture: UInt8, face: Face) -> UInt8:
    """Return the square around a face, as far as it is inside the picture.

    Args:
        picture: (3, H, W) RGB.
        face: One of its faces.
    """
    _, H, W = picture.shape
    x0, y0, x1, y1 = face.box
    reach = AROUND * max(face.size) / 2
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    left, top = max(0, round(x - reach)), max(0, round(y - reach))
    right, bottom = min(W, round(x + reach)), min(H, round(y + reach))
    return np.ascontiguousarray(picture[:, top:bottom, left:right])
