"""What a worker does with one request.  Pure: it reads checkpoints and answers; the caller alone writes the store.

A request and its reply are JSON objects, whatever carries them (a pipe, a Dask task): {"task", "version", …} and
{"ok": …} or {"failure": {"kind", "error"}}.  Failures are replies, not exceptions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from sparsemf.atomic import plain, tool_version
from sparsemf.batch.files import Stamp, stamp
from sparsemf.batch.jobs import Settings
from sparsemf.exceptions import InputError

Request = dict[str, Any]
Reply = dict[str, Any]


def answer(request: Request) -> Reply:
    """The reply to a request; every exception becomes a failure with its kind."""
    try:
        if request["version"] != tool_version():
            raise InputError(
                f"expected sparsemf {request['version']} on the worker, got {tool_version()}; install the same version"
            )
        return {"ok": plain(_TASKS[request["task"]](request))}
    except Exception as error:
        return {"failure": failure(error)}


def failure(error: BaseException) -> dict[str, str]:
    """The kind and the one line of an error."""
    kind = "bad input" if isinstance(error, InputError | OSError) else "internal"
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        kind, text = "out of memory", "the block did not fit into memory; run again with fewer --jobs"
    elif kind == "internal":
        text = f"{type(error).__name__}: {text}"
    return {"kind": kind, "error": " ".join(text.split())}


def _list(request: Request) -> dict[str, Any]:
    """The blocks of a file, from names and shapes only, with the hash of its content.

    {"stamp", "blocks": [{name, sha256, activation, d, m, gated}], "problems": [{block, kind, error}]}.
    """
    from sparsemf.checkpoints import OpenCheckpoint

    path = Path(request["path"])
    settings = Settings(**request["settings"])
    try:
        before = stamp(path)
    except OSError:
        before = None  # the reader says what is wrong
    blocks, problems = [], []
    with OpenCheckpoint(path, activation=settings.activation, map=settings.map, block=settings.block) as file:
        for name, layout in file.layouts.items():
            try:
                entry = {"name": name, "sha256": file.sha256(name), "activation": file.activation(name)}
                blocks.append({**entry, "d": layout.d, "m": layout.m, "gated": layout.gated})
            except InputError as error:
                problems.append({"block": name, **failure(error)})
    _unchanged(path, before)
    return {"stamp": before, "blocks": blocks, "problems": problems}


def _unchanged(path: Path, before: Stamp | None) -> None:
    """What was read must be what was hashed."""
    if before is None or stamp(path) != before:
        raise InputError(f"{path.name}: expected a file that nobody writes to, it changed meanwhile; run again")


def _load(entry: dict[str, Any], settings: Settings) -> Any:
    """The network of {"path", "block", "sha256", "stamp"}, which must be as it was listed."""
    from sparsemf.checkpoints import OpenCheckpoint

    path = Path(entry["path"])
    _unchanged(path, entry["stamp"])
    with OpenCheckpoint(path, activation=settings.activation, map=settings.map) as file:
        network = file.load(entry["block"], entry["sha256"])
    _unchanged(path, entry["stamp"])
    if (name := path.name.encode("utf-8", "backslashreplace").decode()) != path.name:
        return network.tagged(source=name)  # documents are UTF-8, names of files need not be
    return network


def _analyze(request: Request) -> dict[str, Any]:
    """{"document", "certificate" (against the reference) or None}."""
    from sparsemf.pipeline.analyze import analyze
    from sparsemf.pipeline.laws import law_of

    started = time.perf_counter()
    settings = Settings(**request["settings"])
    network = _load(request["entry"], settings)
    law = law_of(settings.rho, network)
    found = analyze(network, law, settings.rho, settings.eps, settings.rel_eps, affine=settings.affine)
    document = {"id": request["id"], **found.document()}
    certificate = None
    if settings.reference is not None:
        try:
            certificate = _against_reference(network, law, settings, request["reference"])
        except InputError as error:  # not comparable (another activation or shape): the analysis stands
            document["pair"] = {"verdict": None, "error": str(error)}
        else:
            document["pair"] = {
                "reference": certificate["inputs"]["a"],
                **{key: certificate[key] for key in ("verdict", "eps", "bounds")},
                "certificate": f"certificates/{request['id']}.json",
            }
    document["timing_s"] = {**document["timing_s"], "job": time.perf_counter() - started}
    return {"document": document, "certificate": certificate}


def _against_reference(network: Any, law: Any, settings: Settings, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """The certificate against the reference's block of the same name, or against its only one."""
    name = network.provenance.block
    same = [e for e in entries if e["block"] == name] or (entries if len(entries) == 1 else [])
    if not same:
        raise InputError(f"{Path(str(settings.reference)).name}: no block {name!r}")
    return _certificate(_load(same[0], settings), network, law, settings, None)


def _certify(request: Request) -> dict[str, Any]:
    """The certificate of ‖f_a − f_b‖ against ε = ``rel_eps``·‖f_a‖, both under the law of a."""
    from sparsemf.pipeline.laws import law_of

    settings = Settings(**request["settings"])
    a, b = (_load(request[side], settings) for side in "ab")
    return _certificate(a, b, law_of(settings.rho, a), settings, request["rel_eps"])


def _certificate(a: Any, b: Any, law: Any, settings: Settings, rel_eps: float | None) -> dict[str, Any]:
    from sparsemf.pipeline.certify import certify, document

    started = time.perf_counter()
    found = certify(a, b, law, rel_eps=rel_eps, seed=settings.seed)
    names = {"map": settings.map, "activation_option": settings.activation}
    return document(found, a, b, settings.rho, settings.seed, started, names)


def _invariants(request: Request) -> dict[str, Any]:
    from sparsemf.batch.invariants import invariants
    from sparsemf.pipeline.laws import law_of

    settings = Settings(**request["settings"])
    network = _load(request["entry"], settings)
    return invariants(network, law_of(settings.rho, network)).document()


_TASKS = {"list": _list, "analyze": _analyze, "certify": _certify, "invariants": _invariants}
