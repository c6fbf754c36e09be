"""A checkpoint in shards with an ``index.json`` (``{"weight_map": {tensor: file}}``)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from sparsemf.checkpoints.files import Array, BadFile, TensorFile

_MAX_INDEX = 1 << 28


class ShardedFile(TensorFile):
    """All shards as one file; the shards must lie beside the index."""

    def __init__(self, path: Path, open_file: Callable[[Path], TensorFile]) -> None:
        self.path = path
        weight_map = _weight_map(path)
        self._shards: dict[str, TensorFile] = {}
        try:
            for shard in sorted(set(weight_map.values())):
                location = path.parent / shard
                if shard != location.name or shard in ("", ".", ".."):
                    raise BadFile(path, f"expected shards beside the index, got {shard!r}; put them in one folder")
                if not location.is_file():
                    raise BadFile(path, f"expected the shard {shard} beside it, found no such file; download it too")
                self._shards[shard] = open_file(location)
            weight_map = {self._spelled(name, shard): shard for name, shard in weight_map.items()}
            self._where = {name: self._shards[shard] for name, shard in weight_map.items()}
            for name, shard in weight_map.items():
                if name not in self._where[name].tensors:
                    raise BadFile(path, f"expected tensor {name} in {shard}, found none; download the shards again")
        except BaseException:
            self.close()
            raise
        self.format = "sharded " + "/".join(sorted({shard.format for shard in self._shards.values()}))
        self.tensors = {name: shard.tensors[name] for name, shard in self._where.items()}
        self.metadata = {}
        self.remarks = tuple(remark for shard in self._shards.values() for remark in shard.remarks)

    def _spelled(self, name: str, shard: str) -> str:
        """The name in the shard: Flax's index joins keys by slashes."""
        dotted = name.replace("/", ".")
        held = self._shards[shard].tensors
        return dotted if name not in held and dotted in held else name

    def _values(self, name: str) -> Array:
        return self._where[name]._values(name)

    def sha256(self, used: Iterable[str] | None = None) -> str:
        """Hash of the index's bytes followed by a line ``name hash`` for every used shard, in order of name."""
        names = self._where if used is None else self.parts(used)
        shards = {self._where[name].path for name in names}
        digest = hashlib.sha256(self.path.read_bytes())
        for shard in sorted(shards):
            digest.update(f"\n{shard.name} {self._shards[shard.name].sha256()}".encode())
        return digest.hexdigest()

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


def _weight_map(path: Path) -> dict[str, str]:
    expected = 'expected an index {"weight_map": {tensor: file}}'
    if path.stat().st_size > _MAX_INDEX:
        raise BadFile(path, f"{expected}, got a file above {_MAX_INDEX} bytes; give the checkpoint itself")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise BadFile(path, f"{expected}, got text that is not JSON; give the checkpoint itself") from None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise BadFile(path, f"{expected}, got other JSON; give the checkpoint itself")
    return weight_map
