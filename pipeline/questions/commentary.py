"""Commentary with times: read it, and quote what was said. A quotation is never a fact."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from touchline.models.errors import LabelsError
from touchline.pipeline.questions.query import RefusalError
from touchline.pipeline.questions.vocabulary import split_words
from touchline.pipeline.timecode import parse_time, timecode
from touchline.pipeline.types import Event

MAX_BYTES = 64 * 1024 * 1024

# A commentator speaks of an event when it happens or soon after.
BEFORE_S, AFTER_S = 5.0, 45.0

_CUE = re.compile(r"((?:\d+:)?\d\d:\d\d[.,]\d{3})\s*-->")
_TAG = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_SAID = re.compile(
    r"\s*(?:please )?(?:what (?:was said|did (?:they|the commentators?) say) about|quote)\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_SMALL_WORDS = frozenset(
    ("a", "an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "was", "with")
)


@dataclass(frozen=True)
class Line:
    """What was said from some time on.

    Attributes:
        start_s: Seconds in the file.
        text: The words, on one line.
    """

    start_s: float
    text: str

    def quoted(self) -> str:
        """Return the line as a quotation with its time."""
        at = timecode(round(self.start_s)).removesuffix(".000")
        return f"Commentary at {at}: “{self.text}”"


def read_commentary(path: str | os.PathLike[str]) -> list[Line]:
    """Read commentary from SRT, WebVTT, or JSON lines with `text` and `start_s`.

    Raises:
        LabelsError: The file cannot be read, is too large, or holds no text with times.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LabelsError(path, f"is larger than {MAX_BYTES // 2**20} MiB, too large to read")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelsError(path, f"cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise LabelsError(path, "is not UTF-8 text. Save it as UTF-8") from None
    found = _json_lines(text, path) if text.lstrip().startswith("{") else _cues(text)
    lines = sorted((line for line in found if line.text), key=lambda line: line.start_s)
    if not lines:
        raise LabelsError(
            path,
            "holds no commentary with times. Give SRT, WebVTT, or JSON lines such as "
            '{"start_s": 812.4, "text": "..."}.',
        )
    return lines


def _cues(text: str) -> Iterator[Line]:
    """The cues of SRT and WebVTT."""
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        rows = block.strip().split("\n")
        for k, row in enumerate(rows[:2]):
            if cue := _CUE.match(row.strip()):
                start_s = parse_time(cue[1].replace(",", "."))
                yield Line(start_s, _one_line(" ".join(rows[k + 1 :])))
                break


def _json_lines(text: str, path: Path) -> Iterator[Line]:
    for number, row in enumerate(text.splitlines(), start=1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
            said, start_s = value["text"], _seconds(value)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise LabelsError(
                path, f"line {number} must be an object with text and start_s"
            ) from None
        if not isinstance(said, str) or not 0 <= start_s < 1e9:
            raise LabelsError(path, f"line {number} must be an object with text and start_s")
        yield Line(start_s, _one_line(said))


def _seconds(value: dict[str, Any]) -> float:
    name = next((name for name in ("start_s", "start", "time") if name in value), "start_s")
    start = value[name]
    return parse_time(start) if isinstance(start, str) else float(start)


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", _TAG.sub("", text)).strip()


class Commentary:
    """Commentary that can be searched. Needs the library bm25s."""

    def __init__(self, lines: Sequence[Line]) -> None:
        from bm25s import BM25

        self.lines = tuple(lines)
        words = [split_words(line.text) or [""] for line in lines]
        self._known = {word for row in words for word in row}
        self._index = BM25()
        self._index.index(words, show_progress=False)

    def search(self, words: Iterable[str], *, most: int = 3) -> list[Line]:
        """Return the lines that fit the words best, best first; none without a common word.

        Args:
            words: What to look for.
            most: How many lines to return at most.
        """
        scores = self._scores(words)
        order = np.argsort(-scores, kind="stable")[:most]
        return [self.lines[k] for k in order if scores[k] > 0]

    def about(self, event: Event, words: Iterable[str]) -> Line | None:
        """Return the line near an event that fits it best; None if none has one of its words.

        Args:
            event: The event.
            words: Words for it, in addition to its attributes.
        """
        known = (value for _, value in event.attributes)
        scores = self._scores([*words, *(w for value in known for w in split_words(value))])
        starts = np.array([line.start_s for line in self.lines])
        near = (starts >= event.peak_s - BEFORE_S) & (starts <= event.peak_s + AFTER_S)
        scores = np.where(near, scores, 0)
        best = int(np.argmax(scores))
        return self.lines[best] if scores[best] > 0 else None

    def said_about(self, question: str) -> list[Line] | None:
        """Answer "what was said about ..."; None if the question is another one.

        Raises:
            RefusalError: A word of it does not occur in the commentary.
        """
        asked = _SAID.fullmatch(question.rstrip(" ?!.\n"))
        if asked is None:
            return None
        words = [w for w in split_words(asked[1]) if w not in _SMALL_WORDS]
        missing = tuple(dict.fromkeys(w for w in words if w not in self._known))
        if missing or not words:
            named = ", ".join(f'"{word}"' for word in missing)
            raise RefusalError(f"The commentary does not have: {named or 'any word'}.", missing)
        return self.search(words)

    def _scores(self, words: Iterable[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        wanted = [word for word in dict.fromkeys(words) if word in self._known]
        if not wanted:
            return np.zeros(len(self.lines), np.float32)
        return np.asarray(self._index.get_scores(wanted), np.float32)
