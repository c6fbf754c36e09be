"""Bad files through the command line: exit 4, one clear line on stderr, nothing on stdout, nothing executed."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from sparsemf_cli.main import cli

GOOD = {"outer": np.ones((3, 2)), "inner": np.ones((3, 4)), "bias": np.ones(3)}


def safetensors(path: Path, activation: str | None = "relu", **changes: np.ndarray) -> None:
    save_file(GOOD | changes, path, metadata={"activation": activation} if activation else None)


def header(path: Path, length: int, body: bytes = b"{}") -> None:
    path.write_bytes(struct.pack("<Q", length) + body)


def spoiled(value: float) -> np.ndarray:
    array = np.ones((3, 4))
    array[1, 2] = value
    return array


def truncated(path: Path, suffix: str, keep: float) -> None:
    whole = path.with_name("whole" + suffix)
    if suffix == ".safetensors":
        safetensors(whole)
    elif suffix == ".npz":
        np.savez(whole, **GOOD, activation="relu")
    else:
        torch.save({k: torch.tensor(v) for k, v in GOOD.items()}, whole)
    data = whole.read_bytes()
    whole.unlink()
    path.write_bytes(data[: int(len(data) * keep)])


def zip_bomb(path: Path) -> None:
    size = 1 << 27
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("inner.npy", "w") as member:
        member.write(npy.getvalue())
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))


def lying_npz(path: Path) -> None:
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.npy", npy.getvalue())
        archive.writestr("outer.npy", npy.getvalue())


def repeated_names(path: Path) -> None:
    npy = io.BytesIO()
    np.save(npy, np.ones((3, 4)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inner.npy", npy.getvalue())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("inner.npy", npy.getvalue())


def nested_beyond_reason(path: Path) -> None:
    value: object = torch.ones(1)
    for _ in range(40):
        value = {"a": value, "b": value}  # 2^40 leaves by reference
    torch.save(value, path)


# name of the file -> (how to write it, what the message must say)
BAD = {
    "empty.safetensors": (lambda p: p.write_bytes(b""), "an empty file"),
    "empty.pt": (lambda p: p.write_bytes(b""), "an empty file"),
    "text.safetensors": (lambda p: p.write_text("Not Found. Please log in.\n" * 9), "got text"),
    "pointer.bin": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "got text"),
    "noise.npz": (lambda p: p.write_bytes(bytes(range(200, 256)) * 9), "no known format"),
    "noise.safetensors": (lambda p: p.write_bytes(bytes(range(200, 256)) * 9), "broken one"),
    "half.safetensors": (lambda p: truncated(p, ".safetensors", 0.7), "expected a whole safetensors file"),
    "half.npz": (lambda p: truncated(p, ".npz", 0.7), "expected a whole archive"),
    "half.pt": (lambda p: truncated(p, ".pt", 0.7), "expected a whole archive"),
    "cut.safetensors": (lambda p: truncated(p, ".safetensors", 0.05), "expected a whole safetensors file"),
    "huge_header.safetensors": (lambda p: header(p, 1 << 60), "header too large"),
    "long_header.safetensors": (lambda p: header(p, 90_000_000), "expected a whole safetensors file"),
    "no_tensors.safetensors": (lambda p: header(p, 2), "no tensors"),
    "nan.safetensors": (lambda p: safetensors(p, inner=spoiled(np.nan)), "got 1 NaN of 12 entries"),
    "infinite.safetensors": (lambda p: safetensors(p, inner=spoiled(-np.inf)), "got 1 infinite of 12 entries"),
    "nan.npz": (lambda p: np.savez(p, **GOOD | {"bias": np.full(3, np.nan)}, activation="relu"), "got 3 NaN"),
    "shape.safetensors": (lambda p: safetensors(p, outer=np.ones((5, 2))), "got (3, 4) and (5, 2)"),
    "bias.safetensors": (lambda p: safetensors(p, bias=np.ones(4)), "bias: expected shape (3,), got (4,)"),
    "affine.npz": (lambda p: np.savez(p, **GOOD, affine=np.ones((4, 2)), activation="relu"), "affine: expected shape"),
    "cube.npz": (lambda p: np.savez(p, **GOOD | {"inner": np.ones((3, 4, 2))}, activation="relu"), "expected inner"),
    "no_outer.npz": (lambda p: np.savez(p, inner=np.ones((3, 4)), activation="relu"), "found no outer"),
    "width_0.safetensors": (
        lambda p: safetensors(p, outer=np.ones((0, 2)), inner=np.ones((0, 4)), bias=np.ones(0)),
        "width 0",
    ),
    "unknown.safetensors": (lambda p: safetensors(p, activation="sine_wave"), "unknown activation 'sine_wave'"),
    "gated.safetensors": (lambda p: safetensors(p, gate=np.ones((3, 5))), "gate: expected shape (3, 4), got (3, 5)"),
    "quadratic.npz": (lambda p: np.savez(p, **GOOD, quadratic=np.ones((2, 4, 5)), activation="relu"), "quadratic: "),
    "version.npz": (lambda p: np.savez(p, **GOOD, activation="relu", format_version=9), "expected format_version 1"),
    "scale.npz": (lambda p: np.savez(p, **GOOD, activation="relu", scale=np.nan), "scale: expected a finite number"),
    "integers.npz": (lambda p: np.savez(p, **GOOD | {"inner": np.ones((3, 4), int)}, activation="relu"), "got int64"),
    "complex.npz": (lambda p: np.savez(p, **GOOD | {"inner": np.ones((3, 4), complex)}), "got complex128"),
    "bomb.npz": (zip_bomb, "refused as a zip bomb"),
    "lying.npz": (lying_npz, "does not fit"),
    "twice.npz": (repeated_names, "repeated ones"),
    "other.npz": (lambda p: zipfile.ZipFile(p, "w").writestr("readme.txt", "x"), "a zip archive without arrays"),
    "one.npy.npz": (lambda p: p.write_bytes(_npy(np.ones(3))), "a single .npy array"),
    "tensor.pt": (lambda p: torch.save(torch.ones(3), p), "got one tensor"),
    "number.pt": (lambda p: torch.save(3, p), "expected a state dict, got int"),
    "nested.pt": (nested_beyond_reason, "nesting"),
    "module.pt": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "needs code (torch.nn.modules.linear.Linear)"),
    "index.safetensors.index.json": (lambda p: p.write_text('{"meta":{}}'), "weight_map"),
    "broken.safetensors.index.json": (lambda p: p.write_text('{"weight_map": {'), "not JSON"),
    "model.gguf.bin": (lambda p: p.write_bytes(b"GGUF" + bytes(99)), "a GGUF file"),
}  # fmt: skip


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def refused(path: Path, *options: str) -> str:
    """Run ``sparsemf inspect`` and return its one line."""
    return one_line("inspect", str(path), *options)


def one_line(*arguments: str) -> str:
    """Run a command that must end with exit code 4, one line on stderr and nothing on stdout, within 5 s."""
    start = time.perf_counter()
    result = CliRunner().invoke(cli, list(arguments))
    assert result.exit_code == 4, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert time.perf_counter() - start < 5
    return result.stderr


@pytest.mark.parametrize("name", BAD)
def test_bad_file(tmp_path, name):
    write, message = BAD[name]
    path = tmp_path / name
    write(path)
    options = ["--json"] if name.startswith("no_") else []
    if name == "no_tensors.safetensors":  # readable, only nothing to load: inspect shows it
        options += ["--block", "*"]
    line = refused(path, *options)
    assert message in line
    assert line.startswith(f"error: {name}: ")


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["analyze", "certify"])
def test_bad_file_in_every_command(tmp_path, name, command):
    path, good = tmp_path / name, tmp_path / "good.safetensors"
    BAD[name][0](path)
    safetensors(good)
    if command == "certify":
        assert one_line("certify", str(good), str(path)) == one_line("certify", str(path), str(good), "--json")
    else:
        assert one_line("analyze", str(path), "--json", "-o", str(tmp_path / "out.json"))
        assert not (tmp_path / "out.json").exists()


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def _evil_npz(path: Path, evil: Evil) -> None:
    with path.open("wb") as file:
        np.savez(file, inner=np.array([evil], dtype=object), outer=np.ones((1, 1)))


MALICIOUS = {
    "bare.pkl": lambda p, e: p.write_bytes(pickle.dumps(e)),
    "bare_0.pt": lambda p, e: p.write_bytes(pickle.dumps(e, protocol=0)),
    "bare.pt": lambda p, e: p.write_bytes(pickle.dumps({"inner": e})),
    "renamed.safetensors": lambda p, e: p.write_bytes(pickle.dumps(e)),
    "zipped.pt": lambda p, e: torch.save({"inner": torch.ones(3, 4), "outer": e}, p),
    "zipped.safetensors": lambda p, e: torch.save(e, p),
    "legacy.pth": lambda p, e: torch.save({"a": e}, p, _use_new_zipfile_serialization=False),
    "objects.npz": _evil_npz,
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_no_code_runs(tmp_path, name):
    mark, path = tmp_path / "executed", tmp_path / name
    MALICIOUS[name](path, Evil(mark))
    line = refused(path)
    assert "never" in line
    assert "save" in line
    for command in (
        ["analyze", str(path)],
        ["certify", str(path), str(path)],
        ["analyze", str(path), "--rho", str(path)],
    ):
        one_line(*command)
    assert not mark.exists()


def test_not_a_file(tmp_path):
    assert "no such file" in refused(tmp_path / "missing.pt")
    (tmp_path / "a.npz").touch()
    assert "expected a file, got a folder; give one of its files: a.npz" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.pt")
    assert "expected a regular file" in refused(tmp_path / "pipe.pt")
    assert "expected a regular file" in refused(Path("/dev/zero"))


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    safetensors(path)

    def deny(self, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", deny)
    assert refused(path) == f"error: {path}: Permission denied\n"


def test_options_that_do_not_fit(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors(path)
    assert "no block matches 'x*'; expected one of: main" in refused(path, "--block", "x*")
    assert "unknown activation 'foo'" in refused(path, "--activation", "foo")
    assert "no tensor 'a'" in refused(path, "--map", "inner=a,outer=outer")
    assert "does not exist" in refused(path, "-o", str(tmp_path / "no" / "out.json"))
    assert "expected a file to write, got a folder" in refused(path, "-o", str(tmp_path))


def test_a_name_cannot_break_the_line(tmp_path):
    path = tmp_path / "two\nlines\x1b[31m.npz"
    path.write_bytes(b"x")
    assert "\x1b" not in refused(path)


@pytest.mark.parametrize("name", ["zipped.pt", "nan.safetensors", "empty.pt"])
def test_the_real_process(tmp_path, name):
    path, mark = tmp_path / name, tmp_path / "executed"
    if name in MALICIOUS:
        MALICIOUS[name](path, Evil(mark))
    else:
        BAD[name][0](path)
    command = [sys.executable, "-m", "sparsemf_cli", "inspect", str(path), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (4, "")
    assert run.stderr.count("\n") == 1
    assert not mark.exists()


def test_a_good_file_passes(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors(path)
    result = CliRunner().invoke(cli, ["inspect", str(path), "--json", "-o", str(tmp_path / "out.json")])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (tmp_path / "out.json").read_text()
    document = json.loads(result.stdout)
    assert document["schema"] == "sparsemf/inspect/1"
    assert document["blocks"][0]["name"] == "main"
    assert document["input"]["path"] == "a.safetensors"
