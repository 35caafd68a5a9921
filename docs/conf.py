"""The site of `make docs`: Sphinx reads the Markdown pages as they are, from the root of the repository.

So the links between README, docs and results are the same on the site and in the repository.
"""

from __future__ import annotations

from sphinx.application import Sphinx

project = "QMP suite"
author = "the QMP suite authors"
copyright = author

extensions = ["myst_parser"]
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md"]
root_doc = "docs/index"
myst_heading_anchors = 3
pygments_style = "friendly"

html_theme = "alabaster"
html_theme_options = {
    "description": "Multi-task reinforcement learning with shared behaviors",
    "fixed_sidebar": True,
    "page_width": "1150px",
}
html_show_sphinx = False
html_show_sourcelink = False

# The pages, in the order of the menu; Sphinx wants every page in one.
MENU = """
```{toctree}
:hidden:

../README
guides/first-run
guides/task-set
guides/behavior
guides/cluster
guides/report
guides/paper
guide
envs/index
methods/index
cli
engines
logging
report
results
results-schema
versions
performance
benchmarks
files
compatibility
known-upstream-issues
../CONTRIBUTING
../CHANGELOG
```
"""
FOLDER = """
```{toctree}
:hidden:
:glob:

*
```
"""


def add_menu(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the menus, which the pages in the repository do not have."""
    menus = {"docs/index": MENU, "docs/envs/index": FOLDER, "docs/methods/index": FOLDER}
    source[0] += menus.get(page, "")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_menu)
