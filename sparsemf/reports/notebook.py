"""A report inside a notebook or another page: a frame of its own, so that neither style nor script meets the host's."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from sparsemf.reports.page import render


def embedded(document: Mapping[str, Any], height: int = 640) -> str:
    """An ``<iframe>`` that holds the whole page of ``document``, ``height`` pixels high; it scrolls and loads nothing.

    Raises :class:`~sparsemf.exceptions.InputError` as :func:`~sparsemf.reports.render` does.
    """
    page = html.escape(render(document), quote=True)
    style = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:6px"
    return f'<iframe title="sparsemf report" style="{style}" srcdoc="{page}"></iframe>'


class Embedded:
    """A document that a notebook shows as its report: ``Embedded(document)`` as the last line of a cell."""

    def __init__(self, document: Mapping[str, Any], height: int = 640) -> None:
        self._html = embedded(document, height)

    def _repr_html_(self) -> str:
        return self._html
