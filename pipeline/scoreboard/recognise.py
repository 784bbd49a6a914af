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
    """Reads the letters it is given, such as digits; every other letter is left out.

    Args:
        path: The ONNX file.
        threads: Threads of a reading; None: as many as ONNX Runtime takes.
        signs: The letters that it may read.
        width_px: A wider picture is squeezed, a narrower one padded on the right.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        signs: str = SIGNS,
        width_px: int = WIDTH_PX,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        letters = self._session.get_modelmeta().custom_metadata_map["character"].splitlines()
        # Column 0 is the blank.
        self._columns = [0, *(letters.index(sign) + 1 for sign in signs)]
        self._signs = signs
        self._width_px = width_px
        self._input: str = self._session.get_inputs()[0].name

    def read(self, pictures: Sequence[UInt8]) -> list[str]:
        """Return the text of each picture (H, W, 3) RGB."""
        return [text for text, _ in self.read_scored(pictures)]

    def read_scored(self, pictures: Sequence[UInt8]) -> list[tuple[str, float]]:
        """Return the text of each picture (H, W, 3) RGB, and the least probability of a letter.

        The probability is that among all letters the recogniser knows; 0 for no text.
        """
        found: list[tuple[str, float]] = []
        for begin in range(0, len(pictures), _BATCH):
            batch = np.stack(
                [prepared(one, self._width_px) for one in pictures[begin : begin + _BATCH]]
            )
            (scores,) = self._session.run(None, {self._input: batch})
            found += [self._text(row) for row in scores]
        return found

    def _text(self, scores: Any) -> tuple[str, float]:
        """Greedy decoding of (T, letters) over the wanted columns only."""
        wanted = scores[:, self._columns]
        best = wanted.argmax(axis=1)
        kept = [t for t, before in enumerate([0, *best[:-1]]) if best[t] and best[t] != before]
        text = "".join(self._signs[best[t] - 1] for t in kept)
        return text, float(min((wanted[t, best[t]] for t in kept), default=0.0))


def prepared(picture: UInt8, width_px: int = WIDTH_PX) -> Float32:
    """(3, HEIGHT_PX, width_px) in [-1, 1], BGR, padded on the right."""
    H, W = picture.shape[:2]
    width = min(width_px, max(1, round(W * HEIGHT_PX / H)))
    scaled = cv2.resize(picture, (width, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)
    padded = np.zeros((3, HEIGHT_PX, width_px), np.float32)
    padded[:, :, :width] = scaled[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
    return padded
