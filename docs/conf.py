"""The docs site: `make docs` builds it into build/site."""

import subprocess
import sys

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

project = "Touchline"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

# Docstrings write `code`; Markdown headings can be linked to.
default_role = "literal"
smartquotes = False
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
add_module_names = False
python_use_unqualified_type_names = True
# The signature has the types.
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
maximum_signature_line_length = 80

html_theme = "furo"
html_title = "Touchline"
html_domain_indices = False
html_copy_source = False
html_show_copyright = False


def _add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the help of every command behind the page's own text."""
    if page == "reference/commands":
        command = [sys.executable, "-m", "typer", "touchline.tools.cli", "utils", "docs"]
        done = subprocess.run(
            [*command, "--name", "touchline"], check=True, capture_output=True, text=True
        )
        _, _, commands = done.stdout.partition("**Commands**")
        source[0] += commands[commands.index("\n## ") :]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _add_commands)
    app.add_lexer("csv", TextLexer)  # which Pygments lacks
