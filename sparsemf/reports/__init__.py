"""Reports: a result document → one HTML page that opens without a network.

    page = reports.render(reports.read("out.json"))
    reports.write(document, "out.html")

This room reads result documents (plain dictionaries) and knows nothing of how they were computed.
"""

from __future__ import annotations

from sparsemf.reports.documents import kind_of, read
from sparsemf.reports.notebook import Embedded, embedded
from sparsemf.reports.page import render, write
from sparsemf.reports.training import training_curves

__all__ = ["Embedded", "embedded", "kind_of", "read", "render", "training_curves", "write"]
