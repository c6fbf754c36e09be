"""Sphinx configuration: the site builds in `make test` with warnings as errors."""

from __future__ import annotations

from importlib.metadata import version as _version

project = "sparsemf"
author = "The sparsemf developers"
copyright = "The sparsemf developers, Apache-2.0"
release = _version("sparsemf")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
# the examples run when the site is built; reports in them are frames, nothing is drawn by a plotting library
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "examples",
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (),
    "reset_modules": (),
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": 1e6,
    "abort_on_example_error": True,
}
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "gallery"]
html_theme = "furo"
html_title = "sparsemf"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
napoleon_google_docstring = False
# shapes such as (n, d) in docstrings look like names that several classes have
suppress_warnings = ["ref.python"]


def _escape(_app, _what, _name, _obj, _options, lines) -> None:
    """Docstrings write |x| for absolute values; reStructuredText would read a substitution."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def setup(app) -> None:
    """Register the docstring filter before napoleon's (priority 500)."""
    app.connect("autodoc-process-docstring", _escape, priority=400)
