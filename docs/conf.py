"""How the documentation site is built: `make docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from torchops import __version__

project = "torchops"
author = "The torchops developers"
copyright = author
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "mathml"]
exclude_patterns = ["_ext"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
default_role = "code"
html_theme = "furo"
html_title = "torchops"
html_math_renderer = "mathml"
