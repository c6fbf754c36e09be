"""``sparsemf depth``: documents, certificates, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import sparsemf
from sparsemf.measures import Network
from sparsemf_cli.main import cli


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    sparsemf.save(Network([[1.0]], [[3.0, 0.0, 0.0]], None, "gelu", offset=[0.5]), path)
    return path


def test_document_certificate_and_verify(checkpoint: Path) -> None:
    runner, cert = CliRunner(), checkpoint.parent / "c.json"
    out = checkpoint.parent / "o.json"
    result = runner.invoke(cli, ["depth", str(checkpoint), "--json", "-o", str(out), "--cert", str(cert)])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document == json.loads(out.read_text())
    assert document["schema"] == "sparsemf/depth/1"
    assert (document["d_var"]["generic"]["lower"], document["d_orb"]["near"]["lower"]) == (2, 4)
    assert document["config"]["free"] == "offset"
    assert runner.invoke(cli, ["verify", str(cert)]).exit_code == 0
    changed = json.loads(cert.read_text())
    changed["claim"]["orbit"]["near"] = [2, 2]
    cert.write_text(json.dumps(changed))
    assert runner.invoke(cli, ["verify", str(cert)]).exit_code == 1


def test_table_names_the_box_and_the_other_solution(checkpoint: Path) -> None:
    result = CliRunner().invoke(cli, ["depth", str(checkpoint), "--scales", "0.5", "8"])
    assert result.exit_code == 0
    assert "‖w‖ in [0.5, 8]" in result.stdout
    assert "0.919218" in result.stdout


def test_exit_codes(checkpoint: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(cli, ["depth", str(checkpoint), "--scales", "2", "1"]).exit_code == 2
    assert runner.invoke(cli, ["depth", str(checkpoint), "--free", "none"]).exit_code == 4
    assert runner.invoke(cli, ["depth", str(tmp_path / "none.npz")]).exit_code == 4
    rows = tmp_path / "x.npz"
    np.savez(rows, X=np.zeros((4, 3)))
    result = runner.invoke(cli, ["depth", str(checkpoint), "--rho", str(rows), "--json"])
    assert (result.exit_code, result.stdout) == (4, "")
