"""Blocks of two files: paired by name, prefix or order - and left alone where there is a choice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparsemf.checkpoints.opened import OpenCheckpoint
from sparsemf.checkpoints.pairing import pair_blocks
from sparsemf.exceptions import InputError


@dataclass(frozen=True)
class Block:
    name: str
    d: int = 4
    m: int = 4


def pairs(first, second):
    found = pair_blocks(*([b if isinstance(b, Block) else Block(b) for b in side] for side in (first, second)))
    return [(p.a, p.b, p.how) for p in found.pairs], found.only_a, found.only_b


def test_equal_names_in_natural_order():
    names = [f"h.{k}.mlp" for k in (10, 2, 0)]
    found, only_a, only_b = pairs(names, [*names[::-1], "h.11.mlp"])
    assert found == [(f"h.{k}.mlp", f"h.{k}.mlp", "name") for k in (0, 2, 10)]
    assert (only_a, only_b) == ((), ("h.11.mlp",))


def test_one_block_each_whatever_they_are_called():
    assert pairs(["main"], ["net.fc"]) == ([("main", "net.fc", "only")], (), ())
    assert pairs(["main"], ["main"])[0] == [("main", "main", "name")]


def test_a_change_of_prefix():
    names = [f"encoder.layer.{k}" for k in range(12)]
    found, only_a, only_b = pairs([f"bert.{n}" for n in names], names)
    assert found == [(f"bert.{n}", n, "suffix") for n in names]
    assert not only_a
    assert not only_b
    found, *_ = pairs([f"model.{n}" for n in names], [f"bert.{n}" for n in names[:5]])
    assert found == [(f"model.{n}", f"bert.{n}", "suffix") for n in names[:5]]


def test_two_towers_are_not_mixed_up():
    """text and vision have the same tails: the change of prefix that would cross them contradicts the other."""
    tails = [f"encoder.layers.{k}.mlp" for k in range(3)]
    towers = ("text_model", "vision_model")
    first = [f"{tower}.{tail}" for tower in towers for tail in tails]
    found, *_ = pairs([f"clip.{n}" for n in first], first)
    assert found == [(f"clip.{n}", n, "suffix") for n in first]
    found, only_a, only_b = pairs([f"x.{t}" for t in tails], first)
    assert found == []
    assert (len(only_a), len(only_b)) == (3, 6)


def test_a_number_in_the_prefix_must_explain_two_blocks():
    """h.0.mlp and h.1.mlp are other layers, not another prefix."""
    assert pairs(["h.0.mlp", "head.fc"], ["h.1.mlp", "top.out"])[0] == []
    found, *_ = pairs(["stage0.h.0.mlp", "stage0.h.1.mlp"], ["stage5.h.0.mlp", "stage5.h.1.mlp", "top.out"])
    assert found == [(f"stage0.h.{k}.mlp", f"stage5.h.{k}.mlp", "suffix") for k in range(2)]


def test_by_the_order_of_the_layers():
    found, only_a, only_b = pairs([f"h.{k}.mlp" for k in range(11)], [f"encoder.layer.{k}" for k in range(1, 12)])
    assert found == [(f"h.{k}.mlp", f"encoder.layer.{k + 1}", "order") for k in range(11)]
    assert not only_a
    assert not only_b


def test_no_order_where_shapes_or_counts_differ():
    first = [Block(f"h.{k}.mlp") for k in range(3)]
    for second in (
        [Block(f"layer.{k}") for k in range(4)],
        [Block(f"layer.{k}", d=5) for k in range(3)],
        [Block(f"{side}.{k}.ff") for side in ("x", "y") for k in range(3)],
    ):
        assert pairs(first, second)[0] == []


def test_of_files(tmp_path):
    arrays = {"inner": np.ones((3, 4)), "outer": np.ones((3, 2))}
    for file, prefix in (("a", "net."), ("b", "model.net.")):
        save_file(
            {f"{prefix}{k}.{n}": v for k in range(2) for n, v in arrays.items()}, tmp_path / f"{file}.safetensors"
        )
    with (
        OpenCheckpoint(tmp_path / "a.safetensors", activation="relu") as a,
        OpenCheckpoint(tmp_path / "b.safetensors", activation="tanh") as b,
    ):
        found = pair_blocks(a.layouts.values(), b.layouts.values())
        assert [p.title for p in found.pairs] == [f"net.{k} = model.net.{k}" for k in range(2)]
        assert (a.load("net.1").activation.name, b.load("model.net.1").activation.name) == ("relu", "tanh")
        assert a.load("net.1").provenance.block == "net.1"
    with pytest.raises(InputError, match="no such file"):
        OpenCheckpoint(tmp_path / "c.safetensors")
