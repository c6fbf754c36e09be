"""Certificates about a block of a sharded checkpoint: its hash is that of the index and of the block's shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from sparsemf_cli.main import cli


def sharded(folder: Path) -> Path:
    """Two blocks, each in a shard of its own; returns the index."""
    folder.mkdir()
    where: dict[str, str] = {}
    for layer in range(2):
        rng = np.random.default_rng(layer)
        tensors = {
            f"encoder.layer.{layer}.intermediate.dense.weight": rng.standard_normal((4, 3)),
            f"encoder.layer.{layer}.output.dense.weight": rng.standard_normal((3, 4)),
        }
        name = f"model-{layer + 1:05d}-of-00002.safetensors"
        save_file(tensors, folder / name)
        where |= dict.fromkeys(tensors, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    (folder / "config.json").write_text('{"hidden_act": "relu"}')
    return index


def test_verify_hashes_what_the_block_is_made_of(tmp_path: Path) -> None:
    a, b = sharded(tmp_path / "a"), sharded(tmp_path / "b")
    certificate = str(tmp_path / "c.json")

    def verified() -> int:
        return cli.main(["verify", certificate, "--a", str(a), "--b", str(b)], standalone_mode=False)

    arguments = ["certify", str(a), str(b), "--block", "encoder.layer.0", "-o", certificate]
    assert cli.main(arguments, standalone_mode=False) == 0
    assert verified() == 0
    shards = sorted(b.parent.glob("*.safetensors"))
    shards[1].write_bytes(shards[1].read_bytes()[:-8] + bytes(8))
    assert verified() == 0  # of the other block
    shards[0].write_bytes(shards[0].read_bytes()[:-8] + bytes(8))
    assert verified() == 1
