"""A copy of a skops file: the arrays' members and, for another width, ``hidden_layer_sizes`` in the schema."""

from __future__ import annotations

import copy
import json
from itertools import count
from pathlib import Path
from typing import Any

from sparsemf.checkpoints.copies.base import Changes, Copy, Resized
from sparsemf.checkpoints.copies.npz_copy import npy_bytes, rewrite_archive
from sparsemf.checkpoints.skops_file import SkopsFile, _nodes


class SkopsCopy(Copy):
    """Nothing is built and nothing runs: the archive is edited."""

    suffixes = (".skops",)
    configured = False
    file: SkopsFile

    def advice(self, resized: tuple[Resized, ...]) -> tuple[str, ...]:
        return ("the state of the estimator's optimiser has the old width: predict works, partial_fit needs a new fit",)

    def write(self, path: Path, changes: Changes, resized: tuple[Resized, ...]) -> None:
        replaced = {f"{self.file.members[name]}.npy": npy_bytes(changes.array(name)) for name in changes}
        for block in resized:
            state = self.file.node["content"]["content"]
            state["hidden_layer_sizes"] = self._sizes(state["hidden_layer_sizes"], block.width)
            replaced["schema.json"] = json.dumps(self.file.schema, indent=2).encode()
        rewrite_archive(self.source, path, replaced)

    def _sizes(self, node: dict[str, Any], width: int) -> dict[str, Any]:
        """The node with another number and identities of its own: equal identities are read as one object."""
        used = {n.get("__id__") for n in _nodes(self.file.schema, 0)}
        fresh = (number for number in count(1) if number not in used)
        changed = copy.deepcopy(node)
        for item in _nodes(changed, 0):
            item["__id__"] = next(fresh)
            if item.get("is_json"):
                item["content"] = json.dumps(width)
        return changed
