"""X.npz: what is read, and the one line that everything else gets."""

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf_datasets import file_task

X, Y = np.arange(12.0).reshape(6, 2), np.arange(6)


def test_reads_vectors_and_matrices(tmp_path):
    np.savez(tmp_path / "a.npz", X=X.astype(np.float32), y=Y)
    task = file_task(tmp_path / "a.npz")
    assert (task.inputs, task.outputs, task.name) == (2, 1, "data")
    np.testing.assert_array_equal(task.data[0], X)
    assert task.data[1].dtype == np.float64
    assert task.parameters["file"] == "a.npz"
    assert len(task.parameters["sha256"]) == 64


BAD = {
    "missing key": ({"X": X}, "y is missing"),
    "lengths differ": ({"X": X, "y": Y[:4]}, r"got \(6, 2\) and \(4, 1\)"),
    "X is a vector": ({"X": Y, "y": Y}, "shape"),
    "empty": ({"X": X[:0], "y": Y[:0]}, "shape"),
    "text": ({"X": X, "y": np.array(list("abcdef"))}, "real numbers"),
    "complex": ({"X": X * 1j, "y": Y}, "real numbers"),
    "nan": ({"X": np.where(X == 3, np.nan, X), "y": Y}, "X has NaN entries"),
    "infinite": ({"X": X, "y": np.where(Y == 3, np.inf, Y)}, "y has infinite entries"),
    "objects": ({"X": X, "y": np.array([{}] * 6, dtype=object)}, "plain arrays"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(tmp_path, case):
    arrays, message = BAD[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        file_task(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 truncated"])
def test_refuses_files_that_are_no_npz(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz"):
        file_task(tmp_path / "x.npz")
    np.save(tmp_path / "single.npy", X)
    with pytest.raises(InputError, match="single array"):
        file_task(tmp_path / "single.npy")
    with pytest.raises(InputError, match="no such file"):
        file_task(tmp_path / "none.npz")
