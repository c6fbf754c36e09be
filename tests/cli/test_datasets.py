"""Names of shipped measures on the command line, written suites, completion of shells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sparsemf_cli.main import cli


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_names_stand_for_files(tmp_path: Path) -> None:
    code, out, _ = run("inspect", "dataset:relu-teacher", "--json")
    assert code == 0
    assert json.loads(out)["blocks"][0]["width"] == 512
    target = tmp_path / "mine.safetensors"
    assert run("datasets", "relu-teacher", "-o", str(target))[0] == 0
    code, out, _ = run("certify", "dataset:relu-teacher", str(target), "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "equivalent")
    code, out, err = run("analyze", "dataset:nothing", "--json")
    assert (code, out) == (4, "")
    assert "known: relu-teacher" in err


def test_list_and_suites(tmp_path: Path) -> None:
    code, out, _ = run("datasets", "--json")
    listed = json.loads(out)
    assert code == 0
    assert {row["name"] for row in listed["suites"]} == {"planted", "copies"}
    assert all(len(row["sha256"]) == 64 for row in listed["measures"])
    code, out, _ = run("datasets", "copies", "-o", str(tmp_path / "c"), "--count", "3", "--json")
    assert (code, json.loads(out)["files"]) == (0, 3)
    assert len(list((tmp_path / "c").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("datasets", "copies"), 2, "-o OUT"),
        (("datasets", "-o", "x"), 2, "NAME"),
        (("datasets", "nothing", "-o", "x"), 4, "known: relu-teacher"),
        (("datasets", "digits", "-o", "x", "--count", "3"), 2, "suite"),
        (("completion", "tcsh"), 2, "bash"),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], code: int, words: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def completed(*words: str) -> list[str]:
    """What bash is told for the last word."""
    environment = {
        **os.environ,
        "_SPARSEMF_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["sparsemf", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = "from sparsemf_cli.main import entry; entry()"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return [line.partition(",")[2] for line in found.stdout.splitlines()]


def test_shells_complete_commands_options_and_names() -> None:
    assert "analyze" in completed("an")
    assert "--rel-eps" in completed("analyze", "--rel")
    assert "dataset:relu-warm" in completed("analyze", "dataset:relu-w")
    code, out, _ = run("completion", "zsh")
    assert code == 0
    assert "_SPARSEMF_COMPLETE=zsh_complete" in out
