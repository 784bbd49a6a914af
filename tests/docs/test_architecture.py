"""docs/architecture.md names files that exist and every package of the pipeline."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_file_it_names_exists() -> None:
    missing = []
    folder = ""
    for name in re.findall(r"`((?:\w+/)*\w+\.py|(?:pipeline|models|tools|tests)/[\w/]*)`", PAGE):
        folder = name.rpartition("/")[0] if "/" in name else folder
        path = name if "/" in name else f"{folder}/{name}"
        if not (ROOT / path).exists():
            missing.append(path)
    assert missing == []


def test_every_package_of_the_pipeline_is_in_the_picture() -> None:
    picture = PAGE.split("```")[1]
    packages = [path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")]
    assert [name for name in packages if not re.search(rf"\b{name}\b", picture)] == []
