"""Documents: the texts to learn from, read piece by piece, and split as a whole."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from touchline.models.errors import TextError
from touchline.pipeline.files import files_below
from touchline.pipeline.questions.commentary import read_commentary

PLAIN, SUBTITLES, ROWS = (".txt", ".md"), (".srt", ".vtt"), (".jsonl", ".ndjson")

PIECE_CHARS = 1 << 16
MAX_ROW_CHARS = 1 << 24


@dataclass(frozen=True)
class Document:
    """A text that is learnt from or held out as a whole, for example one match.

    Attributes:
        path: Its file.
        match: In JSON lines: the rows with this `match` belong to it. None: the whole file does.
        num_bytes: Its length as UTF-8.
        digest: SHA-256 of the text.
    """

    path: Path
    match: str | None
    num_bytes: int = field(compare=False)
    digest: str = field(compare=False)

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path) if self.match is None else f"{self.path}, match {self.match}"


def read_documents(paths: Iterable[Path]) -> tuple[list[Document], list[str]]:
    """Read the texts once, to know the documents and that all of them can be read.

    Args:
        paths: Files, or folders with files in them: plain text, SRT, WebVTT, or JSON lines with
            `text`, and perhaps `match`.

    Returns:
        The documents, and a message for each that was left out because it repeats another.

    Raises:
        TextError: A text cannot be read, or there is none.
    """
    documents: dict[str, Document] = {}
    left_out = []
    for path in text_files(paths):
        lengths: dict[str | None, int] = {}
        digests: dict[str | None, hashlib._Hash] = {}
        for match, piece in pieces(path):
            raw = piece.encode()
            lengths[match] = lengths.get(match, 0) + len(raw)
            digests.setdefault(match, hashlib.sha256()).update(raw)
        if not lengths:
            raise TextError(path, "holds no text. Leave it out")
        for match, length in lengths.items():
            document = Document(path, match, length, digests[match].hexdigest())
            first = documents.setdefault(document.digest, document)
            if first is not document:
                left_out.append(f"{document.name} is left out: the same text as {first.name}")
    return list(documents.values()), left_out


def text_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files that paths name, each once; of folders the files with text in them.

    Raises:
        TextError: A path does not exist, or a folder holds no text.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = [
                file
                for file in files_below(path)
                if file.suffix.lower() in (*PLAIN, *SUBTITLES, *ROWS)
            ]
            if not inside:
                raise TextError(
                    path, f"holds no text ({', '.join((*PLAIN, *SUBTITLES, *ROWS))}). Name files"
                )
        elif path.is_file():
            inside = [path]
        else:
            raise TextError(path, "no such file or folder")
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def pieces(path: Path) -> Iterator[tuple[str | None, str]]:
    """Read a file piece by piece: the match of each piece (None: the file is one), and its text.

    Raises:
        TextError: The file is no text, or a row of it cannot be used.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in SUBTITLES:
            # Its times are not learnt: a model would make up others.
            yield None, "".join(f"{line.text}\n" for line in read_commentary(path))
        elif suffix in ROWS:
            yield from _rows(path)
        else:
            yield from ((None, piece) for piece in _plain(path))
    except UnicodeDecodeError:
        raise TextError(path, "is not UTF-8 text. Save it as UTF-8") from None
    except OSError as error:
        raise TextError(path, f"cannot be read ({error.strerror})") from None


def _plain(path: Path) -> Iterator[str]:
    kept = ""
    with path.open(encoding="utf-8-sig") as file:
        while read := file.read(PIECE_CHARS):
            if "\0" in read:
                raise TextError(path, "is a binary file, not text")
            kept += read
            # A piece ends with a line; in a line without end, with a word.
            end = (kept.rfind("\n") if "\n" in kept else kept.rfind(" ")) + 1
            if end or len(kept) > 2 * PIECE_CHARS:
                end = end or len(kept)
                yield from _some(kept[:end])
                kept = kept[end:]
    yield from _some(kept)


def _some(piece: str) -> Iterator[str]:
    """The piece, unless it is blank."""
    if piece.strip():
        yield piece


def _rows(path: Path) -> Iterator[tuple[str | None, str]]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        while row := file.readline(MAX_ROW_CHARS):
            number += 1
            if not row.strip():
                continue
            try:
                value = json.loads(row)
                text, match = value["text"], value.get("match")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                text = match = None
            if not isinstance(text, str) or not isinstance(match, str | int | None):
                raise TextError(
                    path,
                    f'line {number} must be a JSON object with "text", such as '
                    '{"match": "final", "text": "And that is a goal!"}',
                )
            if text.strip():
                # Half a surrogate pair is no text; JSON can hold one.
                clean = text.encode("utf-8", "replace").decode()
                yield None if match is None else str(match), f"{clean}\n"


def split_documents(
    documents: Sequence[Document], *, val_share: float, seed: int
) -> tuple[list[Document], list[Document]]:
    """Divide documents into those to learn from and those to hold out; none is cut.

    Args:
        documents: At least two.
        val_share: Share of the bytes to hold out, in (0, 1). One document is held out at least.
        seed: Of the choice.

    Raises:
        TextError: There is only one document.
    """
    if len(documents) < 2:
        raise TextError(
            documents[0].path,
            "is one document, and a document is learnt from or held out as a whole. Add texts, "
            'give JSON lines with "match", or name a text to measure on with --val',
        )
    order = sorted(documents, key=lambda document: document.digest)
    random.Random(seed).shuffle(order)
    wanted = val_share * sum(document.num_bytes for document in documents)
    held: set[str] = set()
    num_bytes = 0
    for document in order[:-1]:
        # The first that is taken may be too long; others are only taken if they fit.
        if not held or num_bytes + document.num_bytes <= wanted:
            held.add(document.digest)
            num_bytes += document.num_bytes
    return (
        [document for document in documents if document.digest not in held],
        [document for document in documents if document.digest in held],
    )


def texts_of(documents: Sequence[Document]) -> Iterator[tuple[Document, Iterator[str]]]:
    """Read documents again: each with its pieces, which must be read before the next document is.

    A match whose rows are apart comes several times.
    """
    wanted = {(document.path, document.match): document for document in documents}
    for path in dict.fromkeys(document.path for document in documents):
        for match, run in groupby(pieces(path), key=lambda read: read[0]):
            if (path, match) in wanted:
                yield wanted[path, match], (piece for _, piece in run)
