"""The journal: what is acknowledged is on disk, what a kill or a full disk leaves is mended."""

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest

from touchline.pipeline import line_file
from touchline.pipeline.teaching.journal import FORMAT, Journal, JournalError

HEADER = f'{{"format": "{FORMAT}"}}\n'.encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def entries(path: Path) -> list[dict[str, object]]:
    with Journal(path) as journal:
        return journal.entries


def test_what_was_appended_is_read_in_order(path):
    with Journal(path) as journal:
        assert journal.entries == []
        journal.append({"action": {"note": 'Zürich \u2028 \r\n "x"'}})
        journal.append({"n": 2})
    assert entries(path) == [{"action": {"note": 'Zürich \u2028 \r\n "x"'}}, {"n": 2}]
    assert path.read_bytes().startswith(HEADER)
    assert path.read_bytes().count(b"\n") == 3


def test_a_file_name_that_is_not_utf8_comes_back(path):
    name = os.fsdecode(b"caf\xe9.mp4")
    with Journal(path) as journal:
        journal.append({"path": name})
    assert entries(path) == [{"path": name}]


def test_an_entry_is_on_disk_before_append_returns(path, monkeypatch):
    seen = []

    def fsync(number: int) -> None:
        seen.append(path.read_bytes())

    monkeypatch.setattr(line_file.os, "fsync", fsync)
    with Journal(path) as journal:
        journal.append({"n": 1})
    assert seen == [HEADER, HEADER + b'{"n": 1}\n']


@pytest.mark.parametrize("kept", range(1, 9))
def test_a_torn_last_line_is_removed(path, kept):
    path.write_bytes(HEADER + b'{"n": 1}\n' + b'{"n": 2}\n'[:kept])
    with Journal(path) as journal:
        assert journal.entries == [{"n": 1}]
        journal.append({"n": 3})
    assert path.read_bytes() == HEADER + b'{"n": 1}\n{"n": 3}\n'


@pytest.mark.parametrize("kept", range(len(HEADER)))
def test_a_torn_first_line_is_written_anew(path, kept):
    path.write_bytes(HEADER[:kept])
    assert entries(path) == []
    assert path.read_bytes() == HEADER


@pytest.mark.parametrize("content", [b"shopping: milk", b"shopping: milk\neggs\n", b"[1]\n", b"\n"])
def test_a_file_that_is_no_journal_is_refused_and_kept(path, content):
    path.write_bytes(content)
    with pytest.raises(JournalError, match="line 1 is damaged"):
        Journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("rest", [b"", b'{"n": 1}\n', b"\x01\x02 packed lines\n", b'{"to'])
def test_a_journal_of_another_version_is_refused_and_kept(path, rest):
    content = b'{"format": "touchline-studio-2"}\n' + rest
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"another version.*touchline-studio-2"):
        Journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "line", [b'{"n": 1', b"\xff\xfe", b"[1]", b"", b"\x00" * 9, b"[" * 100_000]
)
def test_a_damaged_line_is_named_and_nothing_is_lost(path, line):
    content = HEADER + b'{"n": 1}\n' + line + b'\n{"n": 3}\n'
    path.write_bytes(content)
    with pytest.raises(JournalError, match="line 3 is damaged"):
        Journal(path)
    assert path.read_bytes() == content


def full(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_changes_nothing_and_later_entries_are_written(path, monkeypatch):
    with Journal(path) as journal:
        journal.append({"n": 1})
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(line_file.os, "fsync", full)
            for n in (2, 3):
                with pytest.raises(JournalError, match="No space left on device"):
                    journal.append({"n": n, "note": "x" * 100_000})
                assert path.read_bytes() == before
        journal.append({"n": 4})
    assert entries(path) == [{"n": 1}, {"n": 4}]


@pytest.fixture
def limit_bytes():
    """Limit the size of the files that this process writes, in bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before if size is None else (size, before[1]))

    yield limit
    limit(None)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [0, 1, 5, 9000])
def test_a_line_that_fits_in_part_is_taken_back(path, limit_bytes, room):
    with Journal(path) as journal:
        journal.append({"n": 1})
        before = path.read_bytes()
        limit_bytes(len(before) + room)
        for _ in range(3):
            with pytest.raises(JournalError, match="File too large"):
                journal.append({"n": 2, "note": "x" * 20_000})
            assert path.read_bytes() == before
        limit_bytes(None)
        journal.append({"n": 3})
    assert entries(path) == [{"n": 1}, {"n": 3}]


def test_a_disk_that_is_full_from_the_start_is_reported(path, limit_bytes):
    limit_bytes(10)
    with pytest.raises(JournalError, match="File too large"):
        Journal(path)
    limit_bytes(None)
    assert entries(path) == []


def test_a_value_that_json_lacks_is_refused_and_nothing_is_written(path):
    with Journal(path) as journal:
        for value in (float("nan"), {1, 2}):
            with pytest.raises((ValueError, TypeError)):
                journal.append({"n": value})
        journal.append({"n": 1})
    assert entries(path) == [{"n": 1}]


def test_a_journal_that_was_removed_takes_nothing_more(path):
    """Linux goes on writing to a file that has no name any more; nobody would find it again."""
    with Journal(path) as journal:
        journal.append({"n": 1})
        path.unlink()
        with pytest.raises(JournalError, match="removed"):
            journal.append({"n": 2})


def test_a_journal_that_was_moved_or_replaced_takes_nothing_more(path):
    with Journal(path) as journal:
        path.rename(path.with_name("moved.jsonl"))
        with pytest.raises(JournalError, match="removed or moved"):
            journal.append({"n": 1})
        path.write_bytes(HEADER)
        with pytest.raises(JournalError, match="removed or moved"):
            journal.append({"n": 1})


def test_a_journal_that_was_not_moved_takes_more(path, tmp_path, monkeypatch):
    """Neither another working folder nor a drive that does not answer means that it is gone."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with Journal(Path(path.name)) as journal:
        monkeypatch.chdir(tmp_path / "elsewhere")
        journal.append({"n": 1})
        with monkeypatch.context() as patched:

            def no_answer(*_: object) -> None:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

            patched.setattr(Path, "stat", no_answer)
            journal.append({"n": 2})
    assert entries(path) == [{"n": 1}, {"n": 2}]


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    with pytest.raises(JournalError, match="cannot be written: No such file"):
        Journal(tmp_path / "none" / "journal.jsonl")
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(JournalError, match="cannot be written: Is a directory"):
        Journal(tmp_path / "journal.jsonl")


def test_every_line_is_whole_json(path):
    with Journal(path) as journal:
        for n in range(20):
            journal.append({"n": n, "text": "\n\r\x85\u2028" * n})
    lines = path.read_bytes().split(b"\n")
    assert [json.loads(line).get("n") for line in lines[1:-1]] == list(range(20))
