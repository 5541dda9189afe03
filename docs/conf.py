"""The documentation as a site: ``make docs`` builds it into ``runs/docs`` with Sphinx, MyST and the PyData theme.

The source folder is the repository, so that every page is also read as a plain file, with the same links. A line
``{modules} common.nn`` in a fence of its own stands for the reference of that package, and notebooks are pages too.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), *(str(path) for path in sorted((ROOT / "bundles").iterdir()))]

project = "Ultrasound-text bundles"
author = "the authors"
version = re.findall(r'__version__ = "(.*)"', (ROOT / "common" / "__init__.py").read_text(encoding="utf-8"))[0]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
root_doc = "docs/index"
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
include_patterns = ["*.md", "docs/**", "bundles/*/docs/*.md"]
exclude_patterns = ["runs", "dist", ".*", "docs/theme", "**/__pycache__"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]
highlight_language = "text"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "special-members": "__call__"}
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["theme"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "redirect.html"}
templates_path = ["theme"]
html_show_sourcelink = False
ALONE = (
    "README",
    "CONTRIBUTING",
    "CHANGELOG",
    *(f"docs/{name}" for name in ["data", "usage", "recipes", "scale", "serving", "rest", "how"]),
)
html_sidebars: dict[str, list[str]] = {name: [] for name in ALONE}  # they have no pages below
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}

MODULES = re.compile(r"^```\{modules\} (\S+)\n```$", re.MULTILINE)
logging.getLogger("matplotlib").setLevel(logging.ERROR)


def modules_of(package: str) -> list[str]:
    """Modules of ``package`` that hold something public of their own, and its subpackages'."""
    found = importlib.import_module(package)
    if not hasattr(found, "__path__"):
        return [package]
    names = [module.name for module in pkgutil.walk_packages(found.__path__, f"{package}.") if not module.ispkg]
    return [name for name in sorted(names) if any(inspect.getmodule(part) is not None and _own(part, name)
            for part in vars(importlib.import_module(name)).values())]  # fmt: skip


def _own(part: object, module: str) -> bool:
    public = not getattr(part, "__name__", "_").startswith("_")
    return (inspect.isclass(part) or inspect.isfunction(part)) and part.__module__ == module and public


def reference_of(package: str) -> str:
    """Autodoc's directive for each module of ``package``, below a heading where there are several, as MyST."""
    names = modules_of(package)
    headings = [f"## `{name}`\n\n" if len(names) > 1 else "" for name in names]
    return "\n\n".join(
        f"{heading}```{{eval-rst}}\n.. automodule:: {name}\n```" for heading, name in zip(headings, names, strict=True)
    )


def page_of(notebook: str) -> str:
    """A notebook's cells as Markdown."""
    pages = []
    for cell in json.loads(notebook)["cells"]:
        text = "".join(cell["source"])
        pages.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    return "\n\n".join(pages)


def read_source(app: Sphinx, name: str, content: list[str]) -> None:
    """Sphinx's event: a page's text, before it is parsed."""
    if app.env.doc2path(name).suffix == ".ipynb":
        content[0] = page_of(content[0])
    content[0] = MODULES.sub(lambda found: reference_of(found[1]), content[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry."""
    app.connect("source-read", read_source)
    return {"parallel_read_safe": True}
