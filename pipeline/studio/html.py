"""The page of the studio, put together from the files in `page/` and those it shares."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files

import jinja2

SHARED_SCRIPTS = ("theme", "common")
SCRIPTS = (
    "state", "server", "player", "marks", "classes", "proposals", "lanes", "timeline", "status",
    "questions", "studio",
)  # fmt: skip
SHARED_STYLES = ("page", "match")


def page_html(name: str) -> str:
    """Return the HTML of the page of a project.

    Args:
        name: The project, as the title says it.
    """
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        _own("studio.html.jinja")
    )
    return template.render(name=name, version=version("touchline"))


def page_script() -> str:
    """Return the script of the page: all its files, as one."""
    parts = [_shared(f"{part}.js") for part in SHARED_SCRIPTS]
    parts += [_own(f"{part}.js") for part in SCRIPTS]
    return '"use strict";\n(() => {\n' + "".join(parts) + "})();\n"


def page_style() -> str:
    """Return the style of the page."""
    return "".join(_shared(f"{part}.css") for part in SHARED_STYLES) + _own("studio.css")


def _own(name: str) -> str:
    return files("touchline.pipeline.studio").joinpath("page", name).read_text(encoding="utf-8")


def _shared(name: str) -> str:
    return files("touchline.pipeline.report").joinpath("page", name).read_text(encoding="utf-8")
