"""A document of several certificates is sealed as a whole."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from sparsemf.certificates.checker.document import check_wrapper, seal, wrapper_seal
from sparsemf_cli.main import cli

Document = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four blocks of which one fails and one has no partner, compared and analyzed."""
    path = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(81)
    state: dict[str, Any] = {}
    for layer in range(4):
        d = 4 if layer < 3 else 5
        for name, shape in (("intermediate.dense", (6, d)), ("output.dense", (d, 6))):
            state[f"encoder.layer.{layer}.{name}.weight"] = rng.standard_normal(shape).astype(np.float32)
            state[f"encoder.layer.{layer}.{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    save_file(state, path / "a.safetensors")
    other = {key: x for key, x in state.items() if "layer.3" not in key}
    other["encoder.layer.1.output.dense.weight"] = 1.1 * other["encoder.layer.1.output.dense.weight"]
    for layer, d in ((2, 5), (7, 4)):
        for name, shape in (("intermediate.dense", (6, d)), ("output.dense", (d, 6))):
            other[f"encoder.layer.{layer}.{name}.weight"] = rng.standard_normal(shape).astype(np.float32)
            other[f"encoder.layer.{layer}.{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    save_file(other, path / "b.safetensors")
    return path


@pytest.fixture(scope="module")
def several(folder: Path) -> Document:
    code, _ = _run(folder, "certify", "a.safetensors", "b.safetensors", "--activation", "gelu", "-o", "pair.json")
    assert code == 1
    document = json.loads((folder / "pair.json").read_text())
    assert len(document["results"]) >= 2
    assert document["unmatched"] != {"a": [], "b": []} or document["failed"]
    return document


def _run(folder: Path, *args: str) -> tuple[int, Document | None]:
    import os

    before = Path.cwd()
    os.chdir(folder)
    try:
        code = cli.main([*args, "-q"], standalone_mode=False)
    finally:
        os.chdir(before)
    return code, None


def _verified(folder: Path, document: Document) -> tuple[int, Document]:
    (folder / "changed.json").write_text(json.dumps(document))
    code, _ = _run(folder, "verify", "changed.json", "-o", "verified.json")
    return code, json.loads((folder / "verified.json").read_text())


def test_honest(folder: Path, several: Document) -> None:
    code, found = _verified(folder, several)
    assert code == 0
    assert found["several"]["valid"]
    assert [r["block"] for r in found["results"]] == [r["inputs"]["a"]["block"] for r in several["results"]]


def _drop(document: Document) -> None:
    del document["results"][0]


def _twice(document: Document) -> None:
    document["results"].append(document["results"][0])


def _inside(document: Document) -> None:
    """One block's claim made weaker, and sealed well."""
    block = document["results"][0]
    block["separation_degree"] = None
    block["bounds"]["lower"] *= 0.5
    block["config"]["seed"] = 1
    block["seal"] = seal(block)


CHANGES: dict[str, Callable[[Document], Any]] = {
    "a block left out": _drop,
    "a block twice": _twice,
    "reordered": lambda document: document["results"].reverse(),
    "a block changed and sealed": _inside,
    "failed": lambda document: document["failed"].append({"block": "x", "reason": "y"}),
    "failed emptied": lambda document: document.update(failed=[{"block": "none", "reason": ""}]),
    "unmatched": lambda document: document["unmatched"].update(a=["encoder.layer.9"]),
    "unmatched gone": lambda document: document.pop("unmatched"),
    "something added": lambda document: document.update(verdict="equivalent"),
    "no seal": lambda document: document.pop("seal"),
    "schema": lambda document: document.update(schema="sparsemf/sparsity/2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_refused(change: str, folder: Path, several: Document) -> None:
    document = copy.deepcopy(several)
    CHANGES[change](document)
    code, found = _verified(folder, document)
    assert code == 1
    assert not found["several"]["valid"]
    if "block" not in change and change != "schema":
        assert all(result["valid"] for result in found["results"])


def test_a_changed_block_that_is_not_sealed_is_named(folder: Path, several: Document) -> None:
    document = copy.deepcopy(several)
    document["results"][1]["verdict"] = "undecided"
    code, found = _verified(folder, document)
    assert code == 1
    assert [result["valid"] for result in found["results"]][:2] == [True, False]


def test_a_lying_prover_cannot_hide_a_false_block(folder: Path, several: Document) -> None:
    """Block and list sealed well: the claim itself is refused."""
    document = copy.deepcopy(several)
    block = document["results"][1]
    block |= {"verdict": "equivalent", "bounds": {"lower": 0.0, "upper": 0.0}, "witness": None}
    block["seal"] = seal(block)
    document["seal"] = wrapper_seal(document)
    code, found = _verified(folder, document)
    assert code == 1
    assert found["several"]["valid"]
    assert not found["results"][1]["valid"]


@pytest.mark.parametrize(
    "wrapper", [None, [], {}, {"results": []}, {"results": [1]}, {"results": [{}]}, {"results": 3}]
)
def test_what_is_no_list_of_certificates(wrapper: Any) -> None:
    assert not check_wrapper(wrapper).valid


def test_sparsity_of_several_blocks(folder: Path) -> None:
    code, _ = _run(
        folder, "analyze", "a.safetensors", "--activation", "gelu", "--block", "*layer.[01]*", "--cert", "s.json"
    )
    assert code == 0
    document = json.loads((folder / "s.json").read_text())
    assert _verified(folder, document)[0] == 0
    document["results"].reverse()
    code, found = _verified(folder, document)
    assert code == 1
    assert not found["several"]["valid"]
