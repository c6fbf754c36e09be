"""``sparsemf verify CERT.json``: does the claim follow from the checkpoints?  No solver is asked."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from sparsemf_cli.checkpoint import CHECKPOINT
from sparsemf_cli.common import OutputOptions, emit, output_options

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import Console

    from sparsemf.measures import Empirical, Network


@click.command()
@click.argument("certificate", metavar="CERT.json")
@click.option(
    "--a", "path_a", type=CHECKPOINT, metavar="A", help="The first checkpoint, when it is not beside the certificate."
)
@click.option("--b", "path_b", type=CHECKPOINT, metavar="B", help="The second checkpoint, likewise.")
@click.option(
    "--data", "path_data", metavar="DATA.npz", help="The data of an empirical law or a convex program, likewise."
)
@output_options()
def verify(
    certificate: str, path_a: str | None, path_b: str | None, path_data: str | None, output: OutputOptions
) -> int:
    """Check a certificate of `certify`, `analyze --cert`, `depth --cert` or a convex program.

    Exit 0 valid, 1 invalid.
    """
    from sparsemf import atomic

    path = Path(certificate)
    wrapper, documents = _read(path)
    results = [
        {"block": _block(document), **_one(document, path.parent, {"a": path_a, "b": path_b}, path_data)}
        for document in documents
    ]
    whole = _whole(wrapper)
    valid = all(result["valid"] for result in results) and (whole is None or whole["valid"])
    summary = {
        **atomic.header("verify", 1),
        "certificate": path.name,
        "valid": valid,
        "several": whole,
        "results": results,
    }
    emit(output, summary, lambda console: _render(console, path.name, whole, results))
    return 0 if valid else 1


def _block(document: dict[str, Any]) -> str | None:
    """The name of the block (of A) that a certificate is about, where it says one."""
    inputs = document.get("inputs")
    entry = inputs.get("a") if isinstance(inputs, dict) else None
    name = entry.get("block") if isinstance(entry, dict) else None
    return name.encode("utf-8", "replace").decode() if isinstance(name, str) and name else None


def _whole(wrapper: dict[str, Any] | None) -> dict[str, Any] | None:
    """Whether a document of several certificates is whole; None for a single one."""
    from sparsemf.certificates.checker.document import check_wrapper

    if wrapper is None:
        return None
    found = check_wrapper(wrapper)
    return {"valid": found.valid, "reason": found.reason}


def _read(path: Path) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """(the document of several certificates or None, the certificates)."""
    from sparsemf.certificates.checker.check import SCHEMAS
    from sparsemf.exceptions import InputError

    if not path.exists():
        raise InputError(f"{path.name}: no such certificate")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise InputError(f"{path.name}: expected a JSON certificate: {error}") from None
    results = document.get("results", [document]) if isinstance(document, dict) else None
    if not isinstance(results, list) or not results or not all(isinstance(r, dict) for r in results):
        raise InputError(f"{path.name}: expected a certificate (a JSON object), got something else")
    if not any(isinstance(r.get("schema"), str) and r["schema"] in SCHEMAS for r in results):
        raise InputError(
            f"{path.name}: expected a certificate of {' or '.join(SCHEMAS)}, got {document.get('schema')!r}; "
            "make one with `sparsemf certify -o`, `sparsemf analyze --cert`, `sparsemf depth --cert` or a "
            "convex program's result.certificate()"
        )
    return (document if "results" in document else None), results


def _one(document: dict[str, Any], folder: Path, given: dict[str, str | None], path_data: str | None) -> dict[str, Any]:
    from sparsemf.pipeline.verify import verify as run

    if (problem := _malformed(document)) is not None:
        return {"valid": False, "reason": f"malformed certificate: {problem}", "facts": {}}
    names = [name for name in ("a", "b") if isinstance(document.get("inputs"), dict) and name in document["inputs"]]
    networks: dict[str, Network] = {}
    for name in names:
        entry = document["inputs"][name]
        loaded = _load(entry, folder, given[name], name, document)
        if isinstance(loaded, str):
            return {"valid": False, "reason": loaded, "facts": {}}
        networks[name] = loaded
    about = document["inputs"].get("data")
    data = _rows(about, document, folder, path_data) if about is not None else _data(document, folder, path_data)
    if isinstance(data, str):
        return {"valid": False, "reason": data, "facts": {}}
    found = run(document, networks, data)
    reason = found.reason.encode("utf-8", "replace").decode()
    if found.valid and document.get("activation_option"):
        reason += f" (activation {document['activation_option']} given by option, not by the files)"
    return {"valid": found.valid, "reason": reason, "facts": found.facts}


def _malformed(document: dict[str, Any]) -> str | None:
    """What is wrong with the fields that are read before the checker sees them."""
    inputs = document.get("inputs")
    if not isinstance(inputs, dict) or not all(isinstance(entry, dict) for entry in inputs.values()):
        return "the inputs are not described"
    for name in ("map", "activation_option"):
        if not isinstance(document.get(name), str | None):
            return f"{name} is not a text"
    config = document.get("config")
    if isinstance(config, dict) and config.get("rho") == "empirical" and type(inputs.get("a", {}).get("d")) is not int:
        return "input a has no dimension"
    return None


def _load(entry: Any, folder: Path, given: str | None, name: str, document: dict[str, Any]) -> Network | str:
    """The input network, or the reason why the certificate is invalid for it.

    The activation is what the file says; only a certificate that records an ``activation_option`` overrides it.
    Native files are read a second time by the checker's own reader.
    """
    from dataclasses import replace

    from sparsemf.certificates.checker import raw
    from sparsemf.checkpoints import file_sha256, load
    from sparsemf.exceptions import InputError

    if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
        return f"malformed certificate: no input {name}"
    path = Path(given) if given is not None else folder / Path(entry["path"]).name
    if not path.exists():
        raise InputError(
            f"input {name}: {path.name} is not in the certificate's folder; give it with --{name}"
            if given is None
            else f"--{name} {given}: no such file"
        )
    # the hash of an index covers the shards of the block, which the reader knows
    sharded, stated = path.name.endswith(".index.json"), entry.get("sha256")
    other = f"input {name}: the SHA-256 of {path.name} is not the one in the certificate"
    if stated is not None and not sharded and file_sha256(path) != stated:
        return other
    block = glob.escape(str(entry["block"])) if entry.get("block") else None
    network = load(path, block, activation=document.get("activation_option"), map=document.get("map"))
    if stated is not None and network.provenance.sha256 != stated:
        return other
    if network.activation.name != entry.get("activation"):
        return f"input {name}: {path.name} holds {network.activation.name}, the certificate says another"
    try:
        own = raw.read(path)
    except raw.Unreadable:
        return network  # not a native file: converted by the readers, then hashed
    if replace(own, activation=network.activation.name).sha256 != entry.get("arrays_sha256"):
        return f"input {name}: the arrays of {path.name} are not those that were certified"
    return network


def _data(document: dict[str, Any], folder: Path, given: str | None) -> Empirical | str | None:
    import hashlib

    import numpy as np

    from sparsemf.exceptions import InputError
    from sparsemf.pipeline.laws import empirical_law

    config = document.get("config")
    if not isinstance(config, dict) or config.get("rho") != "empirical":
        return None
    path = Path(given) if given is not None else folder / Path(str(config.get("data"))).name
    if not path.exists():
        raise InputError(f"data: {path.name} is not in the certificate's folder; give it with --data")
    law = empirical_law(path, int(document["inputs"]["a"]["d"]))
    if hashlib.sha256(np.ascontiguousarray(law.x).tobytes()).hexdigest() != config.get("rows_sha256"):
        return f"the rows of {path.name} are not those in the certificate"
    return law


def _rows(
    about: dict[str, Any], document: dict[str, Any], folder: Path, given: str | None
) -> NDArray[Any] | str | None:
    """The data (X, y) of a convex program side by side, where the certificate only names them."""
    import zipfile

    import numpy as np

    from sparsemf.exceptions import InputError

    if document.get("data") is not None:
        return None
    if not isinstance(about.get("path"), str) or type(about.get("d")) is not int:
        return "malformed certificate: the data are neither held nor named"
    path = Path(given) if given is not None else folder / Path(about["path"]).name
    if not path.exists():
        raise InputError(f"data: {path.name} is not in the certificate's folder; give it with --data")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            x, y = (np.asarray(arrays[name], dtype=np.float64) for name in ("X", "y"))
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path.name}: expected an npz file with numeric arrays X (n, d) and y: {error}") from None
    y = y[:, None] if y.ndim == 1 else y
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or x.shape[1] != about["d"]:
        return f"the arrays of {path.name} are not those in the certificate"
    return np.concatenate([x, y], axis=1)


def _render(console: Console, name: str, whole: dict[str, Any] | None, results: list[dict[str, Any]]) -> None:
    for result in [*([] if whole is None else [{**whole, "facts": {}}]), *results]:
        word = "[green]valid[/green]" if result["valid"] else "[red]invalid[/red]"
        console.print(f"{name}: " if not result.get("block") else f"{name}, {result['block']}: ", end="", markup=False)
        console.print(f"{word}: ", end="")
        console.print(result["reason"], markup=False)
        for key, value in result["facts"].items():
            console.print(f"  proved here: {key} = {value:.6g}", markup=False)
