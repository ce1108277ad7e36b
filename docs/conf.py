"""How the documentation site is built: `make docs`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(Path(__file__).parent / "_ext")]

from torchops import __version__  # noqa: E402 (a checkout is documented that need not be installed)

project = "torchops"
author = "The torchops developers"
copyright = author  # noqa: A001 (that is what Sphinx calls it)
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.linkcode",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "beside",
    "commands",
    "docstrings",
    "mathml",
]
exclude_patterns = ["_ext"]
# single backticks are code in docstrings, as they are in Markdown
default_role = "code"
# dashes alone: quotes stay as docstrings have them
smartquotes_action = "D"

myst_enable_extensions = ["attrs_block", "dollarmath"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto", "source")
# lessons begin at "1. Pixels", and headings may follow a table at any level
suppress_warnings = ["myst.header"]

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autosummary_generate = False
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = ["Memory", "Shape"]
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
# names of torch and of Python are not looked up: nothing is fetched to build the site
nitpick_ignore_regex = [("py:.*", r"(?!torchops\b).*")]
# a check of a lesson works with these, and nobody else
nitpick_ignore = [("py:class", "torchops.course.memory.Memory"), ("py:class", "torchops.course.lesson.Wrong")]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "torchops"
html_static_path = ["_static"]
html_css_files = ["torchops.css"]
html_js_files = [("from-files.js", {"priority": 300})]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def linkcode_resolve(domain: str, info: dict[str, Any]) -> str | None:
    """Where a documented name is defined: the page of that file."""
    if domain != "py" or info["module"] not in sys.modules:
        return None
    found: Any = sys.modules[info["module"]]
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    found = found.fget if isinstance(found, property) else inspect.unwrap(found) if callable(found) else None
    try:
        file, (lines, first) = Path(inspect.getsourcefile(found) or "").resolve(), inspect.getsourcelines(found)
    except (TypeError, OSError):
        return None
    return f"source:{file.relative_to(_ROOT).as_posix()}#L-{first}" if lines and file.is_relative_to(_ROOT) else None
