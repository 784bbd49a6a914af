"""Shirt numbers in a picture: text is found, read as digits, and the shirt around it looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from touchline.pipeline.scoreboard.recognise import Recogniser
from touchline.pipeline.types import Float32, UInt8

DIGITS = "0123456789"
READ_WIDTH_PX = 320

LEAST_HEIGHT_PX = 12
"""Lower digits are not read."""

# The detector's own settings (rapidocr 3.10.0): threshold of its map, of a box, and how far a box
# grows, in areas per perimeter. Its pictures have sides that are multiples of 32.
_MAP, _BOX, _GROW, _STEP = 0.3, 0.5, 1.6, 32
_DETECT_PX = 736

_NUMBER = re.compile(r"\d{1,2}")
# How far the shirt around a number is looked at, in heights of the number.
_AROUND = 0.5
# CIELAB units between a pixel and the shirt's own colour that still count as the shirt.
_SAME = 22.0
_LEAST_SAME = 0.5


@dataclass(frozen=True)
class ShirtNumber:
    """A number on something of one colour.

    Attributes:
        number: Its digits, without leading zeros.
        score: How sure the reading is, in [0, 1].
        height_px: Height of the number.
        colour: Colour around the number, CIELAB.
        box: Left, top, right and bottom in the picture.
    """

    number: str
    score: float
    height_px: int
    colour: tuple[float, float, float]
    box: tuple[int, int, int, int]


class NumberReader:
    """Finds and reads numbers with the networks of RapidOCR (PP-OCR), run by ONNX Runtime.

    Args:
        detector: The ONNX file that finds text.
        recogniser: The ONNX file that reads it.
        threads: Threads; None: as many as ONNX Runtime takes.
    """

    def __init__(self, detector: Path, recogniser: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._detector = onnxruntime.InferenceSession(
            str(detector), options, providers=["CPUExecutionProvider"]
        )
        self._input: str = self._detector.get_inputs()[0].name
        self._recogniser = Recogniser(
            recogniser, threads=threads, signs=DIGITS, width_px=READ_WIDTH_PX
        )

    def numbers(self, picture: UInt8) -> list[ShirtNumber]:
        """Return the numbers of one or two digits in a picture (H, W, 3) RGB."""
        boxes = [box for box in self._boxes(picture) if box[3] - box[1] >= LEAST_HEIGHT_PX]
        if not boxes:
            return []
        crops = [np.ascontiguousarray(picture[y0:y1, x0:x1]) for x0, y0, x1, y1 in boxes]
        lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
        found = []
        for box, (text, score) in zip(boxes, self._recogniser.read_scored(crops), strict=True):
            colour = colour_around(lab, box)
            if _NUMBER.fullmatch(text) and colour is not None:
                number = str(int(text))
                found.append(ShirtNumber(number, score, box[3] - box[1], colour, box))
        return found

    def _boxes(self, picture: UInt8) -> list[tuple[int, int, int, int]]:
        """Where text is: left, top, right, bottom."""
        H, W = picture.shape[:2]
        scale = max(1.0, _DETECT_PX / min(H, W))
        h, w = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in (H, W))
        scaled = cv2.resize(picture, (w, h)).astype(np.float32) / 127.5 - 1
        (answer,) = self._detector.run(
            None, {self._input: scaled[:, :, ::-1].transpose(2, 0, 1)[None].copy()}
        )
        return text_boxes(answer[0, 0], W, H)


def text_boxes(probs: Float32, width: int, height: int) -> list[tuple[int, int, int, int]]:
    """Return upright boxes around the islands of a map of text, in pixels of the picture.

    Args:
        probs: (h, w) probability of text.
        width: Of the picture.
        height: Of the picture.
    """
    h, w = probs.shape
    mask = cv2.dilate((probs > _MAP).astype(np.uint8), np.ones((2, 2), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    boxes = []
    for k in range(1, count):
        x, y, bw, bh = (int(v) for v in stats[k][:4])
        if min(bw, bh) < 3:
            continue
        inside = labels[y : y + bh, x : x + bw] == k
        if float(probs[y : y + bh, x : x + bw][inside].mean()) < _BOX:
            continue
        grow = _GROW * bw * bh / (2 * (bw + bh))
        left, right = (x - grow) * width / w, (x + bw + grow) * width / w
        top, bottom = (y - grow) * height / h, (y + bh + grow) * height / h
        box = max(0, left), max(0, top), min(width, right), min(height, bottom)
        x0, y0, x1, y1 = (round(v) for v in box)
        if x1 - x0 >= 2 and y1 - y0 >= 2:
            boxes.append((x0, y0, x1, y1))
    return boxes


def colour_around(
    lab: npt.NDArray[Any], box: tuple[int, int, int, int]
) -> tuple[float, float, float] | None:
    """Return the colour around a number; None if there is no one colour there.

    Args:
        lab: The picture (H, W, 3) in CIELAB.
        box: Left, top, right and bottom of the number.
    """
    x0, y0, x1, y1 = box
    H, W = lab.shape[:2]
    reach = max(2, round(_AROUND * (y1 - y0)))
    left, top, right, bottom = x0 - reach, y0 - reach // 2, x1 + reach, y1 + reach // 2
    left, top, right, bottom = max(0, left), max(0, top), min(W, right), min(H, bottom)
    region = lab[top:bottom, left:right]
    ring = np.ones(region.shape[:2], dtype=np.bool_)
    ring[y0 - top : y1 - top, x0 - left : x1 - left] = False
    pixels = region[ring]
    if len(pixels) < 20:
        return None
    middle = np.median(pixels, axis=0)
    same = np.linalg.norm(pixels - middle, axis=1) < _SAME
    if same.mean() < _LEAST_SAME:
        return None
    L, a, b = (float(v) for v in pixels[same].mean(axis=0))
    return L, a, b
