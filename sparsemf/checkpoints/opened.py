"""A checkpoint kept open: its blocks by name, one of them in memory at a time, in any order."""

from __future__ import annotations

import os

from sparsemf.checkpoints.formats import open_file
from sparsemf.checkpoints.gates import resolve
from sparsemf.checkpoints.layouts import Layout
from sparsemf.checkpoints.loading import _matching, _network
from sparsemf.measures.network import Network


class OpenCheckpoint:
    """The blocks of one file (``layouts``, by name); :meth:`load` reads one.  A context manager.

    Opening reads names and shapes only; the file is hashed once, at the first :meth:`load`.  ``block`` is a glob over
    the names (None: all of them).  Arguments and errors as in :func:`sparsemf.checkpoints.load`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        activation: str | None = None,
        map: str | None = None,
        block: str | None = None,
    ) -> None:
        self._activation = activation
        self._file = open_file(path)
        try:
            self.layouts: dict[str, Layout] = {layout.name: layout for layout in _matching(self._file, block, map)}
        except BaseException:
            self._file.close()
            raise

    def load(self, name: str, sha256: str | None = None) -> Network:
        """The network of the block ``name``; ``sha256`` spares the hashing where the content's hash is known."""
        return _network(self._file, self.layouts[name], self._activation, sha256 or self.sha256(name))

    def sha256(self, name: str) -> str:
        """The hash of the file's content (of a sharded file: of the index and the shards that hold the block)."""
        return self._file.sha256(self.layouts[name].sources)

    def activation(self, name: str) -> str:
        """The name of the block's activation as :meth:`load` resolves it; the same errors."""
        return resolve(self._file, self.layouts[name], self._activation).name

    def __enter__(self) -> OpenCheckpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
