"""Texts as tokens: on disk, so that memory does not limit their length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from touchline.pipeline.language.documents import Document, texts_of
from touchline.pipeline.types import Int64

Tokens = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class TokenStream:
    """The tokens of documents in a file, with a separator before each.

    Attributes:
        path: The file, of uint32.
        starts: (N + 1,) where each document's separator is, and the number of all tokens.
        separator: The token between documents.
        num_bytes: Length of the text as UTF-8.
        digest: SHA-256 of the tokens.
    """

    path: Path
    starts: Int64
    separator: int
    num_bytes: int
    digest: str

    def __len__(self) -> int:
        return int(self.starts[-1])

    def tokens(self) -> Tokens:
        """All tokens, as a map of the file."""
        return np.memmap(self.path, dtype=np.uint32, mode="r", shape=(len(self),))


@dataclass(frozen=True)
class HeldOutText:
    """The beginning of a document to measure on.

    Attributes:
        tokens: (n,) its tokens; the separator is not one of them.
        num_bytes: How many bytes of UTF-8 they stand for.
    """

    tokens: Tokens
    num_bytes: int


def write_tokens(documents: Sequence[Document], tokenizer: Any, path: Path) -> TokenStream:
    """Write documents as tokens to a file.

    Args:
        documents: What to write.
        tokenizer: A fast tokenizer of transformers.
        path: The file to write.

    Raises:
        OSError: It cannot be written; the error names it.
    """
    separator = separator_of(tokenizer)
    starts, length = [], 0
    digest = hashlib.sha256()
    try:
        with path.open("wb") as file:
            for _, text in texts_of(documents):
                starts.append(length)
                lead = [separator]
                for piece in text:
                    tokens = [*lead, *_encoded(piece, tokenizer)["input_ids"]]
                    raw = np.array(tokens, np.uint32).tobytes()
                    digest.update(raw)
                    file.write(raw)
                    length += len(tokens)
                    lead = []
    except OSError as error:
        # A full disk names no file.
        error.filename = error.filename or str(path)
        raise
    return TokenStream(
        path,
        np.array([*starts, length], np.int64),
        separator,
        sum(document.num_bytes for document in documents),
        digest.hexdigest(),
    )


def held_out_texts(
    documents: Sequence[Document], tokenizer: Any, *, max_tokens: int
) -> list[HeldOutText]:
    """Return the beginning of each document, with its length in bytes.

    Args:
        documents: What is held out.
        tokenizer: A fast tokenizer of transformers.
        max_tokens: The most tokens of all documents together (at least one of each).
    """
    share = max(1, max_tokens // len(documents))
    left = dict.fromkeys(documents, share)
    texts = []
    for document, text in texts_of(documents):
        tokens, num_bytes = [], 0
        for piece in text:
            found, ends = _with_bytes(piece, tokenizer)
            part = found[: left[document]]
            if len(part):
                tokens.append(part)
                num_bytes += int(ends[len(part) - 1])
                left[document] -= len(part)
            if not left[document]:
                break
        if tokens:
            texts.append(HeldOutText(np.concatenate(tokens), num_bytes))
    return texts


def separator_of(tokenizer: Any) -> int:
    """Return the token that ends a text, which stands between documents."""
    for token in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id):
        if token is not None:
            return int(token)
    raise ValueError("the tokenizer has no token that ends a text. Use another model")


def _encoded(piece: str, tokenizer: Any, *, offsets: bool = False) -> Any:
    # Text that looks like a control token of the model must stay text.
    return tokenizer(
        piece,
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=offsets,
        verbose=False,
    )


def _with_bytes(piece: str, tokenizer: Any) -> tuple[Tokens, Int64]:
    """A piece as tokens, and how many bytes of it the tokens up to each one stand for."""
    found = _encoded(piece, tokenizer, offsets=True)
    lengths = [len(character.encode()) for character in piece]
    bytes_before = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    last = np.array([end for _, end in found["offset_mapping"]], np.int64)
    ends = bytes_before[np.maximum.accumulate(last)]
    if len(ends):
        ends[-1] = bytes_before[-1]
    return np.array(found["input_ids"], np.uint32), ends
