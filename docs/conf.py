"""How Sphinx builds these pages: `make docs`, into build/docs. Warnings are errors."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "sphinx")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "jaxprotect"
author = "the jaxprotect authors"
project_copyright = "the jaxprotect authors, Apache-2.0"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "docstrings",
    "command_help",
    "notebook_copies",
    "mathml",
]
exclude_patterns = ["sphinx", "generated/*.md"]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are kept with their outputs, and run by the tests

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes")]

html_theme = "furo"
html_title = "jaxprotect"
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["sphinx/static"]
html_css_files = ["tables.css"]
