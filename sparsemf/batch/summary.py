"""The summary table of a result store, as Parquet and CSV, written atomically.

One row for every file and block of the present work list that has a result, in the list's order: results of an earlier
list, of a file's earlier content or of other options stay in the store, but not in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparsemf import atomic

_COLUMNS = (
    "id", "path", "file", "sha256", "block", "activation", "width", "d", "m", "active_width", "quotient_width",
    "s_star", "certified", "s_star_lower", "s_star_upper", "eps_low", "eps_high", "strength", "function_norm",
    "affine_share", "verdict", "distance_lower", "distance_upper", "class", "seconds",
)  # fmt: skip


def row(document: dict[str, Any]) -> dict[str, Any]:
    """One row of the summary from a result document; ``path``, ``file`` and ``class`` are the caller's to fill."""
    entry, star, pair = document["input"], document["s_star"], document.get("pair") or {}
    energy = document.get("energy") or {}
    bounds = pair.get("bounds") or {}
    return {
        "id": document["id"],
        "path": entry["path"],
        "file": None,
        "sha256": entry["sha256"],
        "block": entry["block"],
        "activation": entry["activation"],
        "width": entry["width"],
        "d": entry["d"],
        "m": entry["m"],
        "active_width": document["active"]["width"],
        "quotient_width": document["quotient"]["width"],
        "s_star": star["value"],
        "certified": star["certified"],
        "s_star_lower": star["lower"],
        "s_star_upper": star["upper"],
        "eps_low": star["eps"][0],
        "eps_high": star["eps"][1],
        "strength": star["strength"],
        "function_norm": document["function_norm"],
        "affine_share": energy["constant"] + energy["linear"] if energy else None,
        "verdict": pair.get("verdict"),
        "distance_lower": bounds.get("lower"),
        "distance_upper": bounds.get("upper"),
        "class": None,
        "seconds": document["timing_s"].get("job"),
    }


def write_summary(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Rewrite ``summary.parquet`` and ``summary.csv``."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    integers = {"width", "d", "m", "active_width", "quotient_width", "s_star", "s_star_lower", "s_star_upper", "class"}
    texts = {"id", "path", "file", "sha256", "block", "activation", "verdict"}

    def kind(name: str) -> pa.DataType:
        if name == "certified":
            return pa.bool_()
        return pa.string() if name in texts else pa.int64() if name in integers else pa.float64()

    schema = pa.schema([(name, kind(name)) for name in _COLUMNS])
    table = pa.Table.from_pylist([_printable(entry) for entry in rows], schema=schema)
    with atomic.replacing(out / "summary.parquet") as temporary:
        parquet.write_table(table, temporary)
    with atomic.replacing(out / "summary.csv") as temporary:
        csv.write_csv(table, temporary)


def _printable(entry: dict[str, Any]) -> dict[str, Any]:
    """File names that are no UTF-8 are shown with escapes."""
    return {
        key: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for key, value in entry.items()
    }
