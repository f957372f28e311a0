"""How Sphinx builds these pages: `sphinx-build -W -n -b html docs OUT`."""

# ruff: noqa: INP001 - Sphinx reads this file, nobody imports it

from importlib import metadata

project = "aiosupervise"
author = "The aiosupervise authors"
copyright = author  # noqa: A001 - Sphinx's own name for it
release = metadata.version("aiosupervise")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"aiosupervise {release}"
exclude_patterns = ["_build", "explanation/benchmarks/*.md"]  # those are parts of a page

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
default_role = "code"  # a docstring's `name` is code

autodoc_typehints = "none"  # the docstrings say in words what each argument may be
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
napoleon_use_ivar = True

# Their type variables and the standard library are in no index here: a build needs no network.
nitpick_ignore_regex = [("py:.*", r"(.*\.)?(T|I)(_co)?"), ("py:.*", r"(collections\.abc|asyncio)\..*")]
