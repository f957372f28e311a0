"""How Sphinx builds these pages: `sphinx-build -W -n -b html docs OUT`."""

# ruff: noqa: INP001 - Sphinx reads this file, nobody imports it

import tomllib
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

project = "aiosupervise"
author = "The aiosupervise authors"
copyright = author  # noqa: A001 - Sphinx's own name for it
release = metadata.version("aiosupervise")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxext.opengraph",
]
html_theme = "furo"
pygments_dark_style = "github-dark"  # furo's own underlines the names of modules as if they were links
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"aiosupervise {release}"
exclude_patterns = ["_build", "explanation/benchmarks/*.md"]  # those are parts of a page

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # a docstring's `name` is code

# Code is copied without prompts, and what a program prints is not copied.
copybutton_selector = "div:not(.highlight-output):not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# What a link to a page looks like in a chat or a search engine.
ogp_site_url = "https://aiosupervise.readthedocs.io/en/stable/"
ogp_site_name = "aiosupervise"
ogp_image = "_static/card.png"
ogp_image_alt = "aiosupervise: retries, limits, outcomes and supervisors for asyncio"
ogp_social_cards = {"enable": False}

autodoc_typehints = "none"  # the docstrings say in words what each argument may be
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
napoleon_use_ivar = True

# Their type variables and the standard library are in no index here: a build needs no network.
nitpick_ignore_regex = [("py:.*", r"(.*\.)?(T|I)(_co)?"), ("py:.*", r"(collections\.abc|asyncio)\..*")]

# The terms that people search for, by the page that answers them: the search ranks index entries first.
DOCS = Path(__file__).parent
SUBJECTS = tomllib.loads((DOCS / "subjects.toml").read_text("utf-8"))


def add_subjects(app: Sphinx, document: nodes.document) -> None:
    """Add the terms of a page to the index of the search, as an index directive at its top would."""
    entries = [("single", term, "", "main", None) for term in SUBJECTS.get(app.env.docname, ())]
    if entries:
        document.insert(0, addnodes.index(entries=entries))


def setup(app: Sphinx) -> None:
    """Register the function above."""
    if unknown := [page for page in SUBJECTS if not (DOCS / f"{page}.md").is_file()]:
        raise ExtensionError(f"subjects.toml must name pages of the documentation; got {', '.join(unknown)}")
    app.connect("doctree-read", add_subjects)
