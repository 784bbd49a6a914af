"""Build the pages from the files in `page/`. Each page is one HTML file that needs no other file.

File names and labels are escaped: in HTML by jinja2's autoescape, in the JSON for the page's script
by escaping < > & and '. A content security policy allows only the page's own script and style.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.metadata import version
from importlib.resources import files

import jinja2

# Style and script of each page are made of these files, in this order.
STYLES = {
    "report": ("page", "match", "report"),
    "index": ("page", "index"),
    "suspects": ("page", "suspects"),
}
SCRIPTS = {
    "report": ("theme", "common", "state", "player", "list", "timeline", "truth", "report"),
    "index": ("theme",),
    "suspects": ("theme",),
}


def page_html(name: str, **values: object) -> str:
    """The page `name` with these values filled in, its script and style included."""
    return _template(f"{name}.html.jinja").render(values | _assets(name))


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(page_file),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template(name)


def page_file(name: str) -> str:
    """The text of a file of `page/`."""
    return files("touchline.pipeline.report").joinpath("page", name).read_text(encoding="utf-8")


def _assets(name: str) -> dict[str, str]:
    """Style and script of a page, and the policy that allows only these."""
    css = "".join(page_file(f"{part}.css") for part in STYLES[name])
    js = join_scripts([page_file(f"{part}.js") for part in SCRIPTS[name]])
    policy = (
        "default-src 'none'; img-src data:; media-src 'self' file: blob:; "
        f"style-src '{_digest(css)}'; script-src '{_digest(js)}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return {"css": css, "js": js, "policy": policy, "version": version("touchline")}


def join_scripts(parts: list[str]) -> str:
    """One strict script in which the parts share their names."""
    return f'"use strict";\n(() => {{\n{"".join(parts)}}})();\n'


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
