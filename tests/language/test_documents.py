"""Texts become documents, and a document is on one side of the split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_language import write_matches

from touchline.models.errors import LabelsError, TextError
from touchline.pipeline.language.documents import (
    PIECE_CHARS,
    pieces,
    read_documents,
    split_documents,
    text_files,
    texts_of,
)


def texts(path: Path) -> str:
    return "".join(piece for _, piece in pieces(path))


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_subtitles_are_read_without_times_and_numbers(tmp_path: Path) -> None:
    srt = tmp_path / "match.srt"
    srt.write_text(
        "1\n00:00:01,000 --> 00:00:02,000\nHere we go.\n\n"
        "2\n00:00:03,000 --> 00:00:04,000\n<i>What a goal!</i>\n"
    )
    assert texts(srt) == "Here we go.\nWhat a goal!\n"


def test_rows_of_one_match_are_a_document(tmp_path: Path) -> None:
    rows = [
        {"match": "A", "text": "one", "start_s": 3},
        {"match": "B", "text": "two"},
        {"match": "A", "text": "three"},
        {"match": 7, "text": "four"},
    ]
    path = write_rows(tmp_path / "season.jsonl", rows)
    documents, left_out = read_documents([path])
    assert [(d.match, d.num_bytes) for d in documents] == [("A", 10), ("B", 4), ("7", 5)]
    assert left_out == []
    runs = [(d.match, "".join(run)) for d, run in texts_of([documents[0], documents[2]])]
    assert runs == [("A", "one\n"), ("A", "three\n"), ("7", "four\n")]


def test_a_long_text_is_read_in_pieces_that_end_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    text = "".join(f"line {k} of a long text\n" for k in range(20_000))
    path.write_text(text)
    read = [piece for _, piece in pieces(path)]
    assert len(read) > 3
    assert all(piece.endswith("\n") and len(piece) < 1.1 * PIECE_CHARS for piece in read)
    assert "".join(read) == text


def test_a_text_of_one_line_is_cut_at_a_space_or_anywhere(tmp_path: Path) -> None:
    for text in ("word " * 100_000, "x" * 400_000):
        path = tmp_path / "line.txt"
        path.write_text(text)
        read = [piece for _, piece in pieces(path)]
        assert "".join(read) == text
        assert max(map(len, read)) <= 3 * PIECE_CHARS


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("seed", range(5))
def test_no_document_is_on_both_sides(tmp_path: Path, share: float, seed: int) -> None:
    rows = [{"match": k % 9, "text": f"line {k} " * (k % 7 + 1)} for k in range(100)]
    path = write_rows(tmp_path / "season.jsonl", rows)
    documents, _ = read_documents([path, write_matches(tmp_path / "more", 5, num_lines=4)])
    train, held_out = split_documents(documents, val_share=share, seed=seed)
    assert train
    assert held_out
    assert set(train) & set(held_out) == set()
    assert sorted(d.name for d in [*train, *held_out]) == sorted(d.name for d in documents)
    total = sum(d.num_bytes for d in documents)
    assert len(held_out) == 1 or sum(d.num_bytes for d in held_out) <= share * total
    # All rows of a match come from its own side again.
    seen = set()
    for document, run in texts_of(held_out):
        if document.match is not None:
            numbers = [int(line.split()[1]) for line in "".join(run).splitlines()]
            assert {number % 9 for number in numbers} == {int(document.match)}
            seen.add(int(document.match))
    assert seen == {int(d.match) for d in held_out if d.match is not None}


def test_the_same_text_twice_is_one_document(tmp_path: Path) -> None:
    folder = write_matches(tmp_path / "matches", 3)
    (folder / "copy.txt").write_text((folder / "match_1.txt").read_text())
    documents, left_out = read_documents([folder, folder / "match_0.txt"])
    assert len(documents) == 3
    assert len(left_out) == 1
    assert "match_1.txt is left out: the same text as" in left_out[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "holds no text"),
        ("blank.txt", b" \n\n \n", "holds no text"),
        ("picture.txt", b"\x89PNG\r\n\x1a\n\0\0\0", "is not UTF-8 text"),
        ("zeros.txt", b"abc\0def", "is a binary file"),
        ("latin.txt", "T\u00e4ter".encode("latin-1"), "is not UTF-8 text"),
        ("rows.jsonl", b'{"text": "good"}\n{"text": 3}\n', "line 2 must be a JSON object"),
        ("rows.jsonl", b'\n{"text": "good"}\n{"text": \n', "line 3 must be a JSON object"),
        ("rows.jsonl", b'{"said": "good"}\n', "line 1 must be a JSON object"),
        ("rows.jsonl", b'["text"]\n', "line 1 must be a JSON object"),
        ("rows.jsonl", b'{"text": "good", "match": [1]}\n', "line 1 must be a JSON object"),
        ("rows.jsonl", b"[" * 100_000, "line 1 must be a JSON object"),
        ("match.srt", b"no cue in here\n", "holds no commentary"),
    ],
)
def test_what_is_no_text_is_an_error_that_names_the_file(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises((TextError, LabelsError), match=message) as error:
        read_documents([path])
    assert error.value.path == str(path)


def test_a_missing_file_and_a_folder_without_text_are_errors(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(TextError, match="holds no text"):
        text_files([tmp_path])
    with pytest.raises(TextError, match="no such file"):
        text_files([tmp_path / "nothing.txt"])


def test_one_document_cannot_be_split(tmp_path: Path) -> None:
    documents, _ = read_documents([write_matches(tmp_path / "matches", 1)])
    with pytest.raises(TextError, match=r"is one document.*--val"):
        split_documents(documents, val_share=0.1, seed=0)
