"""The reference holds every public name, the page of errors only messages that the code has."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import touchline.pipeline as touchline

ROOT = Path(__file__).parents[2]


def test_every_public_name_is_once_in_the_reference() -> None:
    pages = [page.read_text(encoding="utf-8") for page in (ROOT / "docs/reference").glob("*.rst")]
    names = Counter(re.findall(r"^\.\. auto(?:function|class):: (\w+)$", "\n".join(pages), re.M))
    assert names == Counter(touchline.__all__)


def test_every_error_explained_is_one_that_the_code_has() -> None:
    page = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    texts = {text for folder in ("models", "pipeline", "tools") for text in _texts(ROOT / folder)}
    headings = re.findall(r"^### `(.+)`$", page, re.M)
    assert len(headings) > 40
    missing = [heading for heading in headings if not any(_says(t, heading) for t in texts)]
    assert missing == []


def _texts(folder: Path) -> set[str]:
    """Every string of the code, with `...` for what is filled in."""
    texts = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.add("".join(_fixed(value) for value in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
    return texts


def _fixed(value: ast.expr) -> str:
    return str(value.value) if isinstance(value, ast.Constant) else "..."


def _says(text: str, heading: str) -> bool:
    """Whether the parts of the heading stand in the text in their order."""
    parts = [re.escape(part.strip()) for part in heading.split("...")]
    return re.search(".*".join(parts), text, re.S) is not None
