"""The contract of every command: exit codes, one document on stdout, help without heavy imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sparsemf import atomic
from sparsemf_cli.main import COMMANDS, cli

# stands in for a command module; what a solver might do to stdout, at Python and at C level
COMMAND = '''
import ctypes, os, sys, types, warnings
import rich_click as click
from sparsemf_cli import common, main

@click.command()
@click.argument("mode")
@common.checkpoint_options
@common.output_options()
def tasks(mode, source, output):
    """Stand-in."""
    print("banner")
    ctypes.CDLL(None).printf(b"banner\\n")
    os.write(1, b"banner\\n")
    warnings.warn("a warning")
    if mode == "bug":
        raise ZeroDivisionError("a\\nbug")
    if mode == "interrupt":
        raise KeyboardInterrupt
    if mode == "saved":
        raise main.Interrupted("state saved in RUN/")
    if mode == "missing":
        open("/no/such/file")
    if mode == "disk":
        raise OSError(28, "No space left on device")
    rows = 100_000 if mode == "long" else 2
    document = {"b": [1.5, float("nan"), float("inf")], "a": {"rows": [["x"]] * rows}, "seed": output.seed}
    common.emit(output, document, lambda console: console.print("\\n".join(["a line"] * rows)))
    print("banner")
    ctypes.CDLL(None).printf(b"banner\\n")
    return 3 if mode == "undecided" else None

module = types.ModuleType("sparsemf_cli.commands.tasks")
module.tasks = tasks
sys.modules[module.__name__] = module
if __name__ == "__main__":
    main.entry()
'''


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "stand_in.py"
    path.write_text(COMMAND)
    return path


def process(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(path), "tasks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("mode", "code", "line"),
    [
        ("ok", 0, ""),
        ("undecided", 3, ""),
        ("missing", 4, "error: /no/such/file: No such file or directory\n"),
        ("bug", 70, "internal error: ZeroDivisionError: a bug (run again with --debug for the traceback)\n"),
        ("disk", 70, None),
        ("interrupt", 130, "interrupted\n"),
        ("saved", 130, "interrupted; state saved in RUN/\n"),
    ],
)
def test_exit_codes_and_clean_streams(stand_in, mode, code, line):
    run = process(stand_in, mode, "--json")
    assert run.returncode == code, run.stderr
    if line is not None:
        assert run.stderr == line
    if code in (0, 3):
        expected = {"b": [1.5, None, None], "a": {"rows": [["x"], ["x"]]}, "seed": 0}
        assert json.loads(run.stdout) == expected
        assert list(json.loads(run.stdout)) == list(expected)
    else:
        assert run.stdout == ""


def test_without_json_the_result_is_drawn_and_banners_are_dropped(stand_in):
    assert process(stand_in, "ok").stdout == "a line\na line\n"


def test_debug_shows_the_traceback_and_the_banners_on_stderr(stand_in):
    run = process(stand_in, "bug", "--debug", "--json")
    assert run.returncode == 70
    assert run.stdout == ""
    assert run.stderr.count("banner") == 3
    assert "Traceback" in run.stderr


def test_file_and_stdout_are_the_same_bytes(stand_in, tmp_path):
    target = tmp_path / "out.json"
    run = process(stand_in, "ok", "--json", "-o", str(target), "--seed", "7")
    assert target.read_text() == run.stdout
    assert json.loads(run.stdout)["seed"] == 7
    silent = process(stand_in, "bug", "-o", str(tmp_path / "none.json"))
    assert silent.returncode == 70
    assert os.listdir(tmp_path) == ["out.json"]


@pytest.mark.parametrize("options", [["--json"], []])
def test_a_reader_that_leaves_early_changes_nothing(stand_in, options):
    with subprocess.Popen(
        [sys.executable, str(stand_in), "tasks", "long", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        [],
        ["--nonsense"],
        ["inspect"],
        ["inspect", "a", "--device", "tpu"],
        ["inspect", "a", "--seed", "x"],
    ],
)
def test_option_syntax_is_2(arguments):
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")


def test_version_and_help():
    result = CliRunner().invoke(cli, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"sparsemf {atomic.tool_version()}\n")
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)
    result = CliRunner().invoke(cli, ["inspect", "--help"])
    assert result.exit_code == 0
    assert "--activation" in result.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    heavy = ("numpy", "torch", "scipy", "cvxpy", "matplotlib", "sklearn", "networkx", "pyarrow")
    program = (
        "import sys\nfrom sparsemf_cli.main import cli\n"
        f"code = cli.main({arguments!r}, standalone_mode=False)\n"
        f"loaded = [name for name in {heavy!r} if name in sys.modules]\n"
        "sys.exit(f'{loaded}' if loaded else code)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


def test_help_is_quick():
    """What takes time at the start is imports; 246 modules take about 0.27 s of processor time."""
    program = (
        "import sys\nfrom sparsemf_cli.main import cli\ncli.main(['--help'], standalone_mode=False)\n"
        "sys.exit(len(sys.modules) > 300)\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


class Colour(Enum):
    RED = "red"


def test_json_text_is_exact_and_plain():
    values = {"x": np.float64(0.1), "n": np.int64(3), "a": np.eye(2), "e": Colour.RED, "p": Path("a/b"), "t": (1, True)}
    text = atomic.json_text(values | {"nan": np.nan, "inf": np.array([np.inf, 1 / 3]), "α": "é"})
    assert json.loads(text) == {
        "x": 0.1,
        "n": 3,
        "a": [[1.0, 0.0], [0.0, 1.0]],
        "e": "red",
        "p": "a/b",
        "t": [1, True],
        "nan": None,
        "inf": [None, 1 / 3],
        "α": "é",
    }
    assert '"inf": [null, 0.3333333333333333]' in text
    with pytest.raises(TypeError, match="cannot hold object"):
        atomic.json_text({"a": object()})


def test_atomic_writes_replace_or_leave(tmp_path):
    target = tmp_path / "a.txt"
    atomic.write_text(target, "old")
    target.chmod(0o640)
    atomic.write_text(target, "new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    with suppress(RuntimeError), atomic.replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]
