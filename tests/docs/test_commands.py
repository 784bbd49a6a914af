"""Every command that README.md and docs/ print is run here, or marked as not run with a reason.

A block of commands may stand below `<!-- not run: REASON -->`. The other blocks of a page in docs/
run in the page's order, and its Python too. `<!-- file: NAME -->` makes the block below it a file.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from docs_material import make_docs_folder

from touchline.tools.cli import app, main, spread_lists

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SLOW = {"researcher.md"}
PROGRAMS = ("touchline ", "make ", "python", "torchrun ")

# The kick-offs of a whole match, in the footage of 20 s that the pages run with.
SHORT_MATCH = {"1=0:02:10": "1=0:00:02", "2=1:04:55": "2=0:00:12"}

MARK = r"<!-- (?P<mark>not run|file): (?P<why>[^\n]+) -->\n"
BLOCK = re.compile(rf"^(?:{MARK})?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """A fenced block: the mark above it, `why` it is not run or the file's name, its text."""

    mark: str | None
    why: str | None
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines, continued ones joined; none where it is no block of commands."""
        if self.language not in ("", "bash", "console"):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        if not any(
            line.startswith(("touchline ", "make ", "python", "torchrun ")) for line in lines
        ):
            return []
        return [line for line in lines if line.strip()]


def blocks(page: Path) -> list[Block]:
    return [Block(**m.groupdict()) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def touchline_words(line: str) -> list[str] | None:
    """What stands behind `touchline` in a line that runs it, up to a shell's own sign."""
    begin = re.match(r"touchline |torchrun .* touchline\.tools\.cli ", line)
    if begin is None:
        return None
    words = shlex.split(line[begin.end() :], comments=True)
    ends = [k for k, word in enumerate(words) if word in ("&", "&&", "|", ">", "2>")]
    return words[: min(ends, default=len(words))]


TOUCHLINE_LINES = [
    pytest.param(words, id=f"{page.name}: {shlex.join(words)}")
    for page in PAGES
    for block in blocks(page)
    for words in map(touchline_words, block.commands)
    if words is not None
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_commands_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    marked = [block for block in blocks(page) if block.mark]
    assert text.count("<!-- not run") + text.count("<!-- file") == len(marked), "a mark too many"
    for block in blocks(page):
        if block.commands and not block.mark:
            assert page.name != "README.md", f"mark it, and run it in test_readme: {block.text}"
            assert all(line.startswith("touchline ") for line in block.commands), block.text


@pytest.mark.parametrize("words", TOUCHLINE_LINES)
def test_the_command_line_knows_every_option(words: list[str]) -> None:
    command, name, words = typer.main.get_command(app), "touchline", spread_lists(words)
    while words and words[0] in getattr(command, "commands", {}):
        name, words = words[0], words[1:]
        command = command.commands[name]
    try:
        command.make_context(name, list(words))
    except typer.Exit:
        assert set(words) & {"--version", "--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_text_names_options_that_exist(page: Path) -> None:
    known = set(options_of(typer.main.get_command(app)))
    spans = re.findall(r"`((?:--|touchline )[^`\n]+)`", page.read_text(encoding="utf-8"))
    named = {name for span in spans for name in re.findall(r"--[a-z][a-z0-9-]*", span)}
    assert named - known == {"--help"} & named


def options_of(command: Any) -> Iterator[str]:
    """Every option of a command and of those below it."""
    for param in command.params:
        yield from (*param.opts, *param.secondary_opts)
    for below in getattr(command, "commands", {}).values():
        yield from options_of(below)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.slow] * (page.name in SLOW))
        for page in PAGES[1:]
        if any((b.commands and not b.mark) or b.language == "python" for b in blocks(page))
    ],
)
def test_what_a_page_prints_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_docs_folder(tmp_path, monkeypatch)
    for block in blocks(page):
        if block.mark == "file":
            (tmp_path / str(block.why)).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), {})
        elif block.mark is None:
            for line in block.commands:
                run(line, monkeypatch)
    named = re.findall(r"`((?:out|run)/[\w/]+\.\w+)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (tmp_path / name).is_file()] == []


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as a shell would start it, patterns of file names filled in."""
    words = [
        name
        for word in shlex.split(line, comments=True)
        for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
    ]
    monkeypatch.setattr(sys, "argv", [SHORT_MATCH.get(word, word) for word in words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code in (0, None), line
