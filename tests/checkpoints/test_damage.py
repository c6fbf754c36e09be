"""Random damage: a file loads or is refused with one line; nothing else is ever raised, nothing large allocated."""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from sparsemf import checkpoints
from sparsemf.exceptions import InputError

ARRAYS = {
    "outer": np.ones((3, 2)),
    "inner": np.ones((3, 4)),
    "bias": np.ones(3),
    "gate": np.ones((3, 4)),
    "gate_bias": np.ones(3),
    "quadratic": np.ones((2, 4, 4)),
}
GROWTH = 64 << 20
"""A file of a few kB must not make the process grow by more than this."""

repeatable = settings(max_examples=150, deadline=None, derandomize=True)


def _torch(path: Path, zipped: bool) -> None:
    state = {name: torch.tensor(values) for name, values in ARRAYS.items()}
    torch.save({"model": state, "activation": "silu"}, path, _use_new_zipfile_serialization=zipped)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.safetensors": lambda p: save_file(ARRAYS, p, metadata={"activation": "silu"}),
    "a.npz": lambda p: np.savez(p, **ARRAYS, activation="silu"),
    "compressed.npz": lambda p: np.savez_compressed(p, **ARRAYS, activation="silu"),
    "a.pt": lambda p: _torch(p, True),
    "legacy.pt": lambda p: _torch(p, False),
    "a.index.json": lambda p: p.write_text(json.dumps({"weight_map": dict.fromkeys(ARRAYS, "a.safetensors")})),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, tuple[Path, bytes]]:
    """Path and bytes of one good file of each kind; the tests overwrite them."""
    folder = tmp_path_factory.mktemp("whole")
    found = {}
    for name, write in WRITERS.items():
        write(folder / name)
        found[name] = (folder / name, (folder / name).read_bytes())
        assert checkpoints.load(folder / name, activation="silu").gated
    return found


def peak() -> int:
    """The largest size of the process so far, in bytes (0 where the system does not say)."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def loads_or_is_refused(path: Path) -> bool:
    """Whether it loaded; the refusal is one line that starts with the file's name."""
    before = peak()
    try:
        for call in (checkpoints.load, checkpoints.inspect):
            call(path, activation="silu")
    except InputError as error:
        assert str(error).startswith(path.name)  # noqa: PT017 - both outcomes are right
        assert "\n" not in str(error)  # noqa: PT017
        return False
    finally:
        assert peak() - before < GROWTH
    return True


edits = st.lists(
    st.tuples(
        st.sampled_from(["set", "flip", "delete", "insert", "cut", "repeat"]), st.floats(0, 1), st.integers(0, 255)
    ),
    min_size=1,
    max_size=6,
)


def damaged(data: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    """Bytes set, flipped, deleted, inserted, repeated, or the file cut."""
    result = bytearray(data)
    for kind, where, value in changes:
        if not result:
            break
        at = min(int(where * len(result)), len(result) - 1)
        if kind == "set":
            result[at] = value
        elif kind == "flip":
            result[at] ^= 1 << (value % 8)
        elif kind == "delete":
            del result[at : at + 1 + value % 8]
        elif kind == "insert":
            result[at:at] = bytes([value]) * (1 + value % 8)
        elif kind == "repeat":
            result[at:at] = result[at : at + value]
        else:
            del result[at:]
    return bytes(result)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_load_or_are_refused(whole, name):
    path, data = whole[name]

    @repeatable
    @given(changes=edits)
    def check(changes: list[tuple[str, float, int]]) -> None:
        path.write_bytes(damaged(data, changes))
        try:
            loads_or_is_refused(path)
        finally:
            path.write_bytes(data)

    check()


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_structure_loads_or_is_refused(whole, name):
    """Damage aimed at what describes the arrays: header, pickle, directory of the archive."""
    path, data = whole[name]
    if name.endswith((".npz", "a.pt")):
        spots = [i for key in (b"NUMPY", b"PK\x01\x02", b"data.pkl") for i in _all(data, key)]
    else:
        spots = [0, 8, 16, 40]

    @repeatable
    @given(spot=st.sampled_from(spots), offset=st.integers(0, 120), replacement=st.binary(min_size=1, max_size=8))
    def check(spot: int, offset: int, replacement: bytes) -> None:
        at = min(spot + offset, len(data) - 1)
        path.write_bytes(data[:at] + replacement + data[at + len(replacement) :])
        try:
            loads_or_is_refused(path)
        finally:
            path.write_bytes(data)

    check()


def _all(data: bytes, key: bytes) -> list[int]:
    found, at = [], data.find(key)
    while at >= 0:
        found.append(at)
        at = data.find(key, at + 1)
    return found


sizes = st.one_of(st.integers(0, 5), st.sampled_from([-1, 2**31, 10**12, 2**63, 2**64 - 1, 10**30]))
shapes = st.lists(sizes, max_size=4)
names = st.one_of(
    st.sampled_from([*ARRAYS, "fc1.weight", "fc2.weight", "mlp.Wi.weight", "mlp.Wo.weight"]), st.text(max_size=5)
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "X"]),
        "shape": shapes,
        "data_offsets": st.lists(st.one_of(st.integers(0, 300), sizes), min_size=2, max_size=2),
    }
)
odd = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda s: st.lists(s, max_size=3))


@repeatable
@given(header=st.dictionaries(names, st.one_of(entries, odd), max_size=4), tail=st.integers(0, 400))
def test_random_safetensors_headers(tmp_path_factory, header, tail):
    path = tmp_path_factory.getbasetemp() / "header.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(tail))
    loads_or_is_refused(path)


@repeatable
@given(
    claims=st.dictionaries(st.sampled_from(["inner", "outer", "gate"]), shapes, min_size=1),
    length=st.one_of(st.integers(0, 200), st.integers(0, 2**64 - 1)),
)
def test_a_consistent_header_over_too_few_bytes(tmp_path_factory, claims, length):
    """Offsets that agree with the claimed shapes, 10¹² elements and more."""
    header, position = {}, 0
    for name, shape in claims.items():
        end = position + 8 * int(np.prod([int(n) for n in shape], dtype=object))
        header[name] = {"dtype": "F64", "shape": shape, "data_offsets": [position, end]}
        position = end
    text = json.dumps(header).encode()
    path = tmp_path_factory.getbasetemp() / "claims.safetensors"
    for size in (len(text), length):
        path.write_bytes(struct.pack("<Q", size) + text + bytes(64))
        if position > 64:
            assert not loads_or_is_refused(path)
        else:
            loads_or_is_refused(path)


def _npy(shape: object, descr: object, order: object, payload: int, version: tuple[int, int]) -> bytes:
    text = repr({"descr": descr, "fortran_order": order, "shape": shape}).encode("latin1", "replace") + b"\n"
    length = struct.pack("<H", len(text)) if version == (1, 0) else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + bytes(payload)


@repeatable
@given(
    members=st.dictionaries(
        st.sampled_from(["inner", "outer", "gate", "activation", "scale"]),
        st.tuples(
            st.one_of(shapes.map(tuple), odd),
            st.one_of(
                st.sampled_from(["<f8", ">f4", "<f2", "|O", "<U3", "<c16", [("a", "<f8")], "<f16", "<M8[s]"]), odd
            ),
            st.one_of(st.booleans(), odd),
            st.integers(0, 200),
            st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]),
        ),
        min_size=1,
    ),
    compress=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_random_npy_headers(tmp_path_factory, members, compress):
    path = tmp_path_factory.getbasetemp() / "header.npz"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        for name, member in members.items():
            archive.writestr(f"{name}.npy", _npy(*member))
    path.write_bytes(buffer.getvalue())
    loads_or_is_refused(path)


class _Storage:
    """Pickles as the persistent id of a torch storage that claims ``numel`` elements."""

    def __init__(self, key: str, numel: int) -> None:
        self.id = ("storage", torch.FloatStorage, key, "cpu", numel)


class _Claim:
    """Pickles as the tensor of ``shape`` and ``stride`` over a storage."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.arguments = (storage, offset, shape, stride, False, {})

    def __reduce__(self) -> tuple[object, ...]:
        return torch._utils._rebuild_tensor_v2, self.arguments


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return obj.id if isinstance(obj, _Storage) else None


@repeatable
@given(
    claims=st.lists(st.tuples(sizes, sizes, shapes, shapes), min_size=1, max_size=2),
    held=st.integers(0, 200),
    compress=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_torch_tensors_that_claim_what_is_not_there(tmp_path_factory, claims, held, compress):
    state = {
        name: _Claim(_Storage(str(k), numel), offset, tuple(shape), tuple(stride))
        for k, (name, (numel, offset, shape, stride)) in enumerate(zip(("inner", "outer"), claims, strict=False))
    }
    content = io.BytesIO()
    _Pickler(content, protocol=2).dump(state)
    path = tmp_path_factory.getbasetemp() / "claims.pt"
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("a/data.pkl", content.getvalue())
        archive.writestr("a/byteorder", "little")
        for k in range(len(state)):
            archive.writestr(f"a/data/{k}", bytes(held))
        archive.writestr("a/version", "3\n")
    loads_or_is_refused(path)


@pytest.mark.parametrize("claimed", [10**6, 10**9, 2**31 - 1])
def test_legacy_storages_that_claim_what_is_not_there(tmp_path, claimed):
    """Whether the pickle, the length before the numbers, or both say so."""
    path = tmp_path / "a.pt"
    torch.save({"inner": torch.ones(50, 2), "outer": torch.ones(50, 1)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    opcode, length = (b"K\x64", b"J" + struct.pack("<i", claimed)), (struct.pack("<q", 100), struct.pack("<q", claimed))
    assert opcode[0] in data
    assert length[0] in data
    for changed in (data.replace(*opcode), data.replace(*length), data.replace(*opcode).replace(*length)):
        path.write_bytes(changed)
        assert not loads_or_is_refused(path)


@repeatable
@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\x03\x04", b"{", b"\x80\x02", b"\x93NUMPY", b"GGUF"])
)
def test_random_bytes_are_refused(tmp_path_factory, data, start):
    for suffix in ("safetensors", "npz", "pt", "index.json"):
        path = tmp_path_factory.getbasetemp() / f"random.{suffix}"
        path.write_bytes(start + data)
        assert not loads_or_is_refused(path)


def test_names_do_not_break_the_line(tmp_path):
    """Line breaks and terminal codes in a tensor's name are shown as escapes."""
    save_file({"a\n\x1b[31mb.inner": np.ones((3, 2))}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\\n\\x1b\[31mb|found no outer") as caught:
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
    assert str(caught.value).isprintable()
    save_file({"a\nb": np.ones((3, 2))}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a\\nb") as caught:
        checkpoints.load(tmp_path / "a.safetensors", activation="relu")
    assert str(caught.value).isprintable()


def test_errors_survive_the_way_from_a_worker_process(tmp_path):
    with pytest.raises(InputError) as caught:
        checkpoints.load(tmp_path / "missing.pt")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert str(again) == str(caught.value)
