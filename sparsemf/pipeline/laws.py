"""The input law that ``--rho`` names."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf.exceptions import InputError
from sparsemf.measures import Empirical, Gaussian, InputLaw, Network


def law_of(rho: str, network: Network) -> InputLaw:
    """``gaussian``: N(0, I); ``layernorm``: N(β, diag γ²) of the block's own LayerNorm; else an npz file with ``X``."""
    if rho == "gaussian":
        return Gaussian.standard(network.d)
    if rho == "layernorm":
        found = network.provenance.extra.get("layernorm")
        if found is None:
            raise InputError(
                f"{network.provenance.source}: no LayerNorm was found in front of block "
                f"{network.provenance.block!r}; use --rho gaussian or --rho DATA.npz"
            )
        return Gaussian.layernorm(found["gain"], found["shift"])
    return empirical_law(Path(rho), network.d)


def empirical_law(path: Path, d: int) -> Empirical:
    """The rows of ``X`` (n, d) in an npz file; no pickles."""
    if not path.exists():
        raise InputError(f"--rho {path.name}: expected gaussian, layernorm or an npz file with X; no such file")
    try:
        with np.load(path, allow_pickle=False) as data:
            x = np.asarray(data["X"], dtype=np.float64)
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        # numpy takes any other file for a pickle, and advises to load it
        reason = "it is no npz file, or X holds objects" if "pickle" in str(error) else error
        raise InputError(f"--rho {path.name}: expected an npz file with a numeric array X (n, d): {reason}") from None
    law = Empirical.of(x, "empirical")
    if law.d != d:
        raise InputError(f"--rho {path.name}: expected X with {d} columns, got {law.d}")
    return law


def describe(law: InputLaw, rho: str) -> dict[str, Any]:
    """The law for a document's ``config``; data files by base name and hash of their rows."""
    if isinstance(law, Empirical):
        rows = hashlib.sha256(np.ascontiguousarray(law.x).tobytes()).hexdigest()
        return {"rho": "empirical", "data": Path(rho).name, "rows": int(law.x.shape[0]), "rows_sha256": rows}
    return {"rho": law.name}
