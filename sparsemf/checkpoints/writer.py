"""Write a network in the project's own format: safetensors, or npz with the same names.  Bytes are reproducible."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from sparsemf.atomic import write_bytes
from sparsemf.checkpoints.native import FORMAT_VERSION
from sparsemf.exceptions import InputError
from sparsemf.measures.network import Network

_SAFETENSORS_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16"}
_HEADER_ALIGNMENT = 8
_FIELDS = ("outer", "inner", "bias", "affine", "offset", "quadratic", "gate", "gate_bias")
_OPTIONAL = ("affine", "offset", "quadratic")


def save(network: Network, path: str | os.PathLike[str], *, dtype: str = "float64") -> None:
    """Write ``network`` to ``path`` (``.safetensors`` or ``.npz``), atomically.

    With ``dtype="float64"`` (default) :func:`~sparsemf.checkpoints.load` gives the same numbers bit for bit;
    "float32" and "float16" round them.  Affine part, offset and quadratic part are written when they are not zero.
    The same network gives the same bytes.  Raises :class:`~sparsemf.exceptions.InputError` for another suffix or
    dtype, a network without neurons, and numbers beyond the range of ``dtype``.
    """
    target = Path(path)
    if dtype not in _SAFETENSORS_DTYPES:
        raise InputError(f"dtype: expected {', '.join(_SAFETENSORS_DTYPES)}, got {dtype!r}")
    if network.width == 0:
        raise InputError("width 0: a checkpoint needs at least one neuron, the network is an affine function")
    arrays = _arrays(network, dtype)
    metadata = {
        "activation": network.activation.name,
        "format_version": str(FORMAT_VERSION),
        "scale": repr(network.scale),
    }
    if target.suffix == ".safetensors":
        write_bytes(target, _safetensors(arrays, metadata))
    elif target.suffix == ".npz":
        write_bytes(target, _npz(arrays, metadata))
    else:
        raise InputError(f"{target.name}: expected the suffix .safetensors or .npz; rename the target")


def _arrays(network: Network, dtype: str) -> dict[str, np.ndarray]:
    fields = {name: getattr(network, name) for name in _FIELDS}
    arrays: dict[str, np.ndarray] = {}
    for name, values in fields.items():
        if values is None or (name in _OPTIONAL and not (values.any() or np.signbit(values).any())):
            continue
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(values, dtype=np.dtype(dtype).newbyteorder("<"))
        if not np.isfinite(array).all():
            raise InputError(f"{name}: an entry of size {np.abs(values).max():.3g} is beyond {dtype}")
        arrays[name] = array
    return arrays


def _safetensors(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The format by hand: the library orders the metadata at random, and equal networks must give equal bytes."""
    header: dict[str, object] = {"__metadata__": metadata}
    position = 0
    for name, array in arrays.items():
        end = position + array.nbytes
        code = _SAFETENSORS_DTYPES[array.dtype.newbyteorder("=").name]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *(array.tobytes() for array in arrays.values())])


def _npz(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """numpy's own writer stamps the time of day; this one does not."""
    scalars = {
        "activation": np.array(metadata["activation"]),
        "scale": np.array(float(metadata["scale"])),
        "format_version": np.array(int(metadata["format_version"])),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (arrays | scalars).items():
            member = io.BytesIO()
            npy.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    return buffer.getvalue()
