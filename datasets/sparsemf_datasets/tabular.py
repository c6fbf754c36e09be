"""Data sets that come with scikit-learn (no download), and the user's own npz files."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsemf.exceptions import InputError
from sparsemf_datasets.tasks import DataTask

Array = NDArray[np.float64]


def standardised(x: Array) -> Array:
    """Columns of mean 0 and variance 1; constant columns become 0."""
    centred = x - x.mean(axis=0)
    spread = centred.std(axis=0)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-12 * np.abs(x).max(initial=1.0))


def digits_task() -> DataTask:
    """1797 images of 8 × 8 pixels, ten outputs: standardised inputs, one-hot labels minus their mean."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    x, one_hot = np.asarray(inputs, dtype=np.float64), np.eye(10)[np.asarray(labels, dtype=np.int64)]
    return DataTask("digits", {}, (standardised(x), one_hot - one_hot.mean(axis=0)), activation="relu")


def diabetes_task() -> DataTask:
    """442 patients, ten measurements, one disease-progression score: inputs and output standardised."""
    from sklearn.datasets import load_diabetes

    inputs, labels = load_diabetes(return_X_y=True)
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    return DataTask("diabetes", {}, (standardised(x), standardised(y[:, None])), activation="relu")


def file_task(path: str | os.PathLike[str]) -> DataTask:
    """The arrays ``X`` (n, d) and ``y`` (n,) or (n, m) of an npz file, as they are; never unpickles.

    Raises :class:`InputError` when the file, a key, a shape, the type or an entry is not as expected.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{path}: expected an npz file with arrays X and y; there is no such file")
    try:
        content = source.read_bytes()
        loaded = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise InputError(f"{path}: expected an npz archive with arrays X and y, got a single array")
        with loaded as archive:
            if missing := [key for key in ("X", "y") if key not in archive]:
                found = ", ".join(archive.files[:8]) or "none"
                raise InputError(f"{path}: expected arrays X and y; {missing[0]} is missing (found: {found})")
            x, y = archive["X"], archive["y"]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a readable npz file with plain arrays X and y ({reason})") from None
    x, y = _real(path, "X", x), _real(path, "y", y)
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0] or min(*x.shape, *y.shape) < 1:
        shapes = f"{x.shape} and {y.shape}"
        raise InputError(f"{path}: expected X of shape (n, d) and y of shape (n,) or (n, m), got {shapes}")
    digest = hashlib.sha256(content).hexdigest()
    return DataTask("data", {"file": source.name, "sha256": digest}, (x, y))


def _real(path: str | os.PathLike[str], name: str, array: np.ndarray) -> Array:
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: {name} must hold real numbers, got dtype {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        kind = "NaN" if np.isnan(array).any() else "infinite"
        raise InputError(f"{path}: {name} has {kind} entries; remove or impute those rows")
    return array
