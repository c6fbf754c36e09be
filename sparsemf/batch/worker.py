"""One job: all matching blocks of one file, in a process of its own.  Failures are results, not exceptions."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsemf import atomic
from sparsemf.batch.jobs import Settings, result_id
from sparsemf.exceptions import InputError


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ids of new results, ids found already done, failures (one record each)."""

    path: str
    done: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    failures: tuple[dict[str, Any], ...] = ()


def prepare(threads: int) -> None:
    """Called first in every worker, before numpy is imported: its threads, and a silent end on Ctrl-C."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = str(threads)


def run(path: str, settings: Settings, out: str) -> Outcome:
    """Analyze every matching block of ``path`` that has no result yet (and certify it against the reference)."""
    from sparsemf.checkpoints import load_blocks

    done, kept, failures = [], [], []
    results = Path(out) / "results"
    block = ""
    try:
        for network in load_blocks(path, settings.block, activation=settings.activation, map=settings.map):
            block = network.provenance.block
            name = result_id(Path(path).stem, block, network.provenance.sha256 or "", settings)
            if (results / f"{name}.json").exists():
                kept.append(name)
                continue
            try:
                document = _document(network, settings, Path(out), name)
            except (InputError, ValueError, ArithmeticError, RuntimeError, MemoryError) as error:
                # one block's failure must not cost the others: it is recorded with its kind
                failures.append(failure(path, block, error))
                continue
            atomic.write_json(results / f"{name}.json", document)
            done.append(name)
    except (InputError, OSError) as error:
        failures.append(failure(path, block, error))
    return Outcome(path, tuple(done), tuple(kept), tuple(failures))


def failure(path: str, block: str, error: BaseException | str) -> dict[str, Any]:
    """The record of a failure: the file's base name and where it was found, block, kind, one line."""
    kind = "bad input" if isinstance(error, InputError | OSError) else "internal"
    if isinstance(error, MemoryError):
        kind, error = "out of memory", "the block did not fit into memory"
    text = str(error) or type(error).__name__
    return {"path": Path(path).name, "file": path, "block": block, "kind": kind, "error": " ".join(text.split())}


def _document(network: Any, settings: Settings, out: Path, name: str) -> dict[str, Any]:
    from sparsemf.pipeline.analyze import analyze
    from sparsemf.pipeline.laws import law_of

    started = time.perf_counter()
    law = law_of(settings.rho, network)
    found = analyze(network, law, settings.rho, settings.eps, settings.rel_eps)
    document = {"id": name, **found.document()}
    if settings.reference is not None:
        try:
            document["pair"] = _against_reference(network, law, settings, out, name)
        except InputError as error:  # not comparable (another activation or shape): the analysis stands
            document["pair"] = {"verdict": None, "error": str(error)}
    document["timing_s"] = {**document["timing_s"], "job": time.perf_counter() - started}
    return document


def _against_reference(network: Any, law: Any, settings: Settings, out: Path, name: str) -> dict[str, Any]:
    """The verdict against the reference's block of the same name (or its only one); the certificate goes beside."""
    import glob

    from sparsemf.checkpoints import load_blocks
    from sparsemf.pipeline.certify import certify, document

    blocks = list(load_blocks(str(settings.reference), activation=settings.activation, map=settings.map))
    same = [b for b in blocks if b.provenance.block == network.provenance.block] or (blocks if len(blocks) == 1 else [])
    if not same:
        raise InputError(f"{Path(str(settings.reference)).name}: no block {glob.escape(network.provenance.block)!r}")
    verdict = certify(same[0], network, law, seed=settings.seed)
    names = {"map": settings.map, "activation_option": settings.activation}
    certificate = document(verdict, same[0], network, settings.rho, settings.seed, read_with=names)
    folder = out / "certificates"
    folder.mkdir(exist_ok=True)
    atomic.write_json(folder / f"{name}.json", certificate)
    return {
        "reference": certificate["inputs"]["a"],
        "verdict": verdict.verdict,
        "eps": verdict.eps,
        "bounds": certificate["bounds"],
        "certificate": f"certificates/{name}.json",
    }
