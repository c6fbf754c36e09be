"""A checkpoint kept open: its blocks by name, one of them in memory at a time, in any order."""

from __future__ import annotations

import os

from sparsemf.checkpoints.formats import open_file
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.loading import _matching, _network
from sparsemf.measures.network import Network


class OpenCheckpoint:
    """The blocks of one file (``layouts``, by name); :meth:`load` reads one.  A context manager.

    Opening reads names and shapes only; the file is hashed once, at the first :meth:`load`.  Arguments and errors
    as in :func:`sparsemf.checkpoints.load`.
    """

    def __init__(self, path: str | os.PathLike[str], *, activation: str | None = None, map: str | None = None) -> None:
        self._activation = activation
        self._file = open_file(path)
        try:
            self.layouts: dict[str, Layout] = {layout.name: layout for layout in _matching(self._file, None, map)}
        except BaseException:
            self._file.close()
            raise

    def load(self, name: str) -> Network:
        """The network of the block ``name``."""
        layout = self.layouts[name]
        return _network(self._file, layout, self._activation, self._file.sha256(layout.sources))

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
