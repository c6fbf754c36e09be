"""``sparsemf verify`` on certificates of optimality of the convex programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from certificates.convex.programs import solved
from certificates.convex.test_population import solved as population_solved
from sparsemf.certificates.checker.document import seal
from sparsemf_cli.main import cli

FACTS = {"value", "dual_value", "gap", "sup_minus_1", "atoms"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate that holds its data, and one that names them."""
    path = tmp_path_factory.mktemp("optimality")
    result, doc = solved("tanh d=2")
    (path / "held.json").write_text(json.dumps(doc))
    (path / "named.json").write_text(json.dumps(result.certificate(data="D.npz")))
    observation: Any = result.observation
    np.savez(path / "D.npz", X=observation.x, y=observation.raw[:, 0])
    np.savez(path / "other.npz", X=observation.x, y=observation.raw[:, 0] + 1e-9)
    np.savez(path / "bad.npz", X=observation.x)
    lie = {**doc, "claim": {**doc["claim"], "value": 0.9 * doc["claim"]["value"]}}
    (path / "lie.json").write_text(json.dumps({**lie, "seal": seal(lie)}))
    shutil.copy(path / "named.json", path.parent / "moved.json")
    return path


def _verify(*arguments: str | Path) -> tuple[int, str]:
    found = CliRunner().invoke(cli, ["verify", *map(str, arguments), "--json"])
    return found.exit_code, found.output


@pytest.mark.parametrize("name", ["held.json", "named.json"])
def test_valid(folder: Path, name: str) -> None:
    code, output = _verify(folder / name)
    assert code == 0
    (result,) = json.loads(output)["results"]
    assert result["valid"]
    assert set(result["facts"]) == FACTS
    shown = CliRunner().invoke(cli, ["verify", str(folder / name)])
    assert shown.exit_code == 0
    assert all(fact in shown.output for fact in FACTS)


def test_a_population_target(tmp_path: Path) -> None:
    _, doc = population_solved("mish, free affine part")
    (tmp_path / "held.json").write_text(json.dumps(doc))
    code, output = _verify(tmp_path / "held.json")
    assert code == 0
    assert set(json.loads(output)["results"][0]["facts"]) == FACTS
    lie = {**doc, "claim": {**doc["claim"], "sup": 0.9}}
    (tmp_path / "lie.json").write_text(json.dumps({**lie, "seal": seal(lie)}))
    assert _verify(tmp_path / "lie.json")[0] == 1


def test_invalid(folder: Path) -> None:
    assert _verify(folder / "lie.json")[0] == 1
    assert _verify(folder / "named.json", "--data", folder / "other.npz")[0] == 1
    changed = (folder / "held.json").read_text().replace('"lam": 0.15', '"lam": 0.16')
    (folder / "changed.json").write_text(changed)
    assert _verify(folder / "changed.json")[0] == 1


def test_inputs(folder: Path) -> None:
    moved = folder.parent / "moved.json"
    assert _verify(moved)[0] == 4
    assert _verify(moved, "--data", folder / "D.npz")[0] == 0
    assert _verify(moved, "--data", folder / "bad.npz")[0] == 4
    assert _verify(moved, "--data", folder / "absent.npz")[0] == 4


@pytest.mark.parametrize("about", [None, {}, {"data": None}, {"data": {}}, {"data": {"path": 1}}, {"data": [1]}])
def test_malformed_inputs(folder: Path, about: Any) -> None:
    doc = {**json.loads((folder / "named.json").read_text()), "inputs": about}
    (folder / "malformed.json").write_text(json.dumps({**doc, "seal": seal(doc)}))
    code, output = _verify(folder / "malformed.json")
    assert code == 1
    assert "malformed" in json.loads(output)["results"][0]["reason"]
