"""Read digits in small pictures with the recogniser of RapidOCR (PP-OCR), run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from touchline.pipeline.types import Float32, UInt8

HEIGHT_PX = 48
# A wider picture is squeezed. Time grows with the width.
WIDTH_PX = 192
SIGNS = "0123456789:+."
_BATCH = 16


class Recogniser:
    """Reads digits, colons and plus signs; every other letter is left out.

    Args:
        path: The ONNX file.
        threads: Threads of a reading; None: as many as ONNX Runtime takes.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        letters = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        # Column 0 is the blank.
        self._columns = [0, *(letters.index(sign) + 1 for sign in SIGNS)]
        self._input: str = self._session.get_inputs()[0].name

    def read(self, pictures: Sequence[UInt8]) -> list[str]:
        """Return the text of each picture (H, W, 3) RGB."""
        texts: list[str] = []
        for begin in range(0, len(pictures), _BATCH):
            batch = np.stack([prepared(one) for one in pictures[begin : begin + _BATCH]])
            (scores,) = self._session.run(None, {self._input: batch})
            texts += [self._text(row) for row in scores]
        return texts

    def _text(self, scores: Any) -> str:
        """Greedy decoding of (T, letters) over the wanted columns only."""
        best = scores[:, self._columns].argmax(axis=1)
        kept = [k for k, before in zip(best, [0, *best[:-1]], strict=True) if k and k != before]
        return "".join(SIGNS[k - 1] for k in kept)


def prepared(picture: UInt8) -> Float32:
    """(3, HEIGHT_PX, WIDTH_PX) in [-1, 1], BGR, padded on the right."""
    H, W = picture.shape[:2]
    width = min(WIDTH_PX, max(1, round(W * HEIGHT_PX / H)))
    scaled = cv2.resize(picture, (width, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    padded = np.zeros((3, HEIGHT_PX, WIDTH_PX), np.float32)
    padded[:, :, :width] = scaled[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    return padded
