"""`sparsemf certify` and `sparsemf verify` on wide networks: time, memory and bounds against width, and two peers.

A has N He-scaled random neurons (d = m = 1024), in a float32 file.  B is

- copy: A with a tenth of its neurons split in two, half of all flipped (the polynomial paid into the affine part),
  scaled where the activation is homogeneous, and permuted; rounded to float32, so equal to some 1e-7;
- one: that with one neuron replaced;
- noise: A permuted, 1e-6 of noise on every weight (absolute; --noise).

Every command is a process of its own with two threads; times include reading and hashing the files, memory is that
process's peak.  Bounds and ε are in proportion to ‖f_A‖, estimated from samples.  Exit codes and verdicts must agree,
and every certificate must verify, or the run fails.

Peers, on A and a permuted copy (the only case that both speak of), and certify on the same two files:

- scipy's linear_sum_assignment on the full N × N matrix of squared distances of (w, b, α), the matrix included;
- rebasin's weight matching on a two-layer torch network (`pip install --no-deps rebasin torchview graphviz`, torch).

The last column is the share of neurons put into their place; neither peer proves anything.

    python benchmarks/equivalence.py [--quick] [--widths 2048 4096] [--activations gelu] [--no-peers]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CASES = {"copy": "equivalent", "one": "distinct", "noise": None}
"""The kinds of B, with the verdict that is wanted."""
_EXIT = {"equivalent": 0, "distinct": 1, "undecided": 3}
_THREADS = 2


def he_network(rng: np.random.Generator, activation: str, n: int, d: int, m: int):
    """N neurons with w of variance 2/d and α of variance 2/N per entry."""
    from sparsemf import Network

    inner = rng.standard_normal((n, d)) * np.sqrt(2 / d)
    return Network(rng.standard_normal((n, m)) * np.sqrt(2 / n), inner, 0.1 * rng.standard_normal(n), activation)


def copied(a, rng: np.random.Generator, split: float = 0.1):
    """The same function: split, flipped at a cost in the affine part, scaled where σ is homogeneous, permuted."""
    from sparsemf import Network

    relation, k = a.activation.relation, a.activation.homogeneous
    if relation is None or relation.quadratic:
        raise SystemExit(f"expected an activation with an affine flip relation, got {a.activation.name}")
    twice = rng.permutation(a.width)[: int(split * a.width)]
    owner = np.concatenate([np.arange(a.width), twice])
    portion = np.ones(owner.size)
    portion[a.width :] = rng.uniform(0.2, 0.8, twice.size)
    portion[twice] -= portion[a.width :]
    order = rng.permutation(owner.size)
    owner, portion = owner[order], portion[order]
    alpha, inner, bias = a.alpha[owner] * portion[:, None], a.inner[owner], a.bias[owner]
    turned = rng.random(owner.size) < 0.5
    # σ(z) = s·σ(−z) + p₀ + p₁z
    affine = a.affine + relation.linear * (alpha[turned].T @ inner[turned])
    offset = a.offset + alpha[turned].T @ (relation.constant + relation.linear * bias[turned])
    alpha[turned] *= relation.sign
    inner[turned] *= -1
    bias[turned] *= -1
    if k:
        stretch = np.exp(rng.normal(0.0, 1.0, owner.size))
        alpha, inner, bias = alpha / stretch[:, None] ** k, inner * stretch[:, None], bias * stretch
    return Network(alpha, inner, bias, a.activation, affine=affine, offset=offset)


def one_changed(b, rng: np.random.Generator):
    """One neuron's w replaced by another of the same length."""
    inner, i = b.inner.copy(), int(rng.integers(b.width))
    fresh = rng.standard_normal(b.d)
    inner[i] = fresh * np.linalg.norm(inner[i]) / np.linalg.norm(fresh)
    return b.with_(inner=inner)


def noisy(a, rng: np.random.Generator, size: float):
    """A permuted, every weight moved by ``size`` times a standard normal number."""
    order = rng.permutation(a.width)

    def moved(x):
        return (x + size * rng.standard_normal(x.shape))[order]

    return a.with_(outer=moved(a.outer), inner=moved(a.inner), bias=moved(a.bias))


def permuted(a, rng: np.random.Generator):
    """A in another order."""
    order = rng.permutation(a.width)
    return a.with_(outer=a.outer[order], inner=a.inner[order], bias=a.bias[order])


def write(folder: Path, activation: str, n: int, d: int, m: int, noise: float) -> dict[str, float]:
    """A and every B as float32 files in ``folder``; returns ‖f_A‖ under N(0, I), from samples."""
    import sparsemf

    rng = np.random.default_rng(n)
    a = he_network(rng, activation, n, d, m)
    b = copied(a, rng)
    kinds: dict[str, Callable[[], Any]] = {
        "a": lambda: a,
        "copy": lambda: b,
        "one": lambda: one_changed(b, rng),
        "noise": lambda: noisy(a, rng, noise),
        "permuted": lambda: permuted(a, rng),
    }
    for name, network in kinds.items():
        sparsemf.save(network(), folder / f"{name}.safetensors", dtype="float32")
    x = np.random.default_rng(9).standard_normal((256, d))
    return {"size": float(np.sqrt(np.mean(np.sum(a(x) ** 2, axis=1))))}


# --- one process each -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Used:
    """What a process took: exit code (None: stopped after its patience), wall and CPU seconds, peak memory in GiB."""

    code: int | None
    seconds: float
    cpu: float
    memory: float


def process(arguments: Sequence[str], stdout: Path | None = None, patience: float | None = None) -> Used:
    """Run a Python process with two threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(_THREADS))}
    with open(os.devnull if stdout is None else stdout, "wb") as sink:
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, *arguments], env=environment, stdout=sink)
        late = False
        while True:
            ended, status, used = os.wait4(child.pid, os.WNOHANG)
            seconds = time.perf_counter() - start
            if ended:
                break
            if patience is not None and seconds > patience and not late:
                late = True
                child.kill()
            time.sleep(0.02)
    child.returncode = os.waitstatus_to_exitcode(status)
    code = None if late else child.returncode
    return Used(code, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)


def command(*arguments: str | Path, stdout: Path | None = None, allowed: Sequence[int] = (0,)) -> Used:
    """Run ``sparsemf …``; ends the benchmark on any other exit code."""
    used = process(["-m", "sparsemf_cli", *map(str, arguments)], stdout)
    if used.code not in allowed:
        raise SystemExit(f"sparsemf {' '.join(map(str, arguments))}: exit code {used.code}, expected {tuple(allowed)}")
    return used


def certified(a: Path, b: Path, certificate: Path, *options: str) -> tuple[dict[str, Any], Used]:
    """certify A B: its document.  Verdict and exit code must agree."""
    exits = tuple(_EXIT.values())
    used = command("certify", a, b, "-q", "--json", "-o", certificate, *options, allowed=exits)
    document = json.loads(certificate.read_text(encoding="utf-8"))
    if "verdict" in document and used.code != _EXIT[document["verdict"]]:
        raise SystemExit(f"exit code {used.code} for the verdict {document['verdict']}")
    return document, used


def verified(a: Path, b: Path, certificate: Path) -> Used:
    """verify; ends the benchmark when the certificate is invalid."""
    return command("verify", certificate, "--a", a, "--b", b, "-q")


# --- peers ------------------------------------------------------------------------------------------------------


def assignment(folder: Path) -> dict[str, float]:
    """scipy: assignment of B's neurons to A's by the squared distances of (w, b, α)."""
    from scipy.optimize import linear_sum_assignment

    import sparsemf

    x, y = (_rows(sparsemf.load(folder / f"{name}.safetensors")) for name in ("a", "permuted"))
    start = time.perf_counter()
    cost = x @ y.T
    cost *= -2
    cost += np.einsum("ij,ij->i", x, x)[:, None]
    cost += np.einsum("ij,ij->i", y, y)[None, :]
    order = linear_sum_assignment(cost)[1]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "found": float(np.mean(np.all(x == y[order], axis=1)))}


def _rows(network) -> np.ndarray:
    return np.concatenate([network.inner, network.bias[:, None], network.alpha], axis=1)


def rebased(folder: Path) -> dict[str, float]:
    """rebasin: B's torch network permuted to match A's."""
    import torch

    import sparsemf

    models = []
    for name in ("a", "permuted"):
        network = sparsemf.load(folder / f"{name}.safetensors")
        activation = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU}[network.activation.name]()
        first, last = torch.nn.Linear(network.d, network.width), torch.nn.Linear(network.width, network.m)
        with torch.no_grad():
            first.weight.copy_(torch.tensor(network.inner))
            first.bias.copy_(torch.tensor(network.bias))
            last.weight.copy_(torch.tensor(network.alpha.T))
            last.bias.zero_()
        models.append(torch.nn.Sequential(first, activation, last))
    a, b = models
    start = time.perf_counter()
    matching = import_module("rebasin").PermutationCoordinateDescent(a, b, torch.zeros(1, a[0].in_features))
    matching.rebasin()
    seconds = time.perf_counter() - start
    same = (a[0].weight == b[0].weight).all(dim=1) & (a[2].weight == b[2].weight).all(dim=0)
    return {"seconds": seconds, "found": float(same.double().mean())}


_PEERS: dict[str, tuple[Callable[[Path], dict[str, float]], tuple[str, ...], str]] = {
    "linear_sum_assignment": (assignment, ("scipy",), "pip install scipy"),
    "rebasin": (
        rebased,
        ("torch", "rebasin", "torchview", "graphviz"),
        "pip install torch; pip install --no-deps rebasin torchview graphviz",
    ),
}


# --- tables -----------------------------------------------------------------------------------------------------


def show_cases(folder: Path, activation: str, n: int, size: float, out: Callable[[str], Any]) -> None:
    """The rows of one activation and width."""
    a, certificate = folder / "a.safetensors", folder / "certificate.json"
    for case, wanted in CASES.items():
        b = folder / f"{case}.safetensors"
        document, proving = certified(a, b, certificate)
        checking = verified(a, b, certificate)
        lower, upper = document["bounds"]["lower"], document["bounds"]["upper"]
        verdict = document["verdict"] + ("" if wanted in (None, document["verdict"]) else " (!)")
        out(
            f" {activation:<5} {n:>6} {case:<5} {verdict:<14} "
            f"{lower / size:>8.1e} {np.inf if upper is None else upper / size:>8.1e} {document['eps'] / size:>8.1e} "
            f"{document['matching']['matched']:>6} {proving.seconds:>9.1f} {proving.cpu:>6.1f} {proving.memory:>5.2f} "
            f"{checking.seconds:>9.1f} {checking.cpu:>6.1f} {checking.memory:>5.2f} "
            f"{certificate.stat().st_size / 1e6:>6.2f}\n"
        )


def show_peers(folder: Path, activation: str, n: int, patience: float, out: Callable[[str], Any]) -> None:
    """Certify and the peers on a permuted copy."""
    certificate, result = folder / "certificate.json", folder / "peer.json"
    document, proving = certified(folder / "a.safetensors", folder / "permuted.safetensors", certificate)
    share = document["matching"]["matched"] / n
    line = f" {activation:<5} {n:>6} "
    title = f"certify: {document['verdict']}"
    out(f"{line}{title:<22} {proving.seconds:>8.1f} {proving.memory:>6.2f}     1.00 {share:>7.1%}\n")
    for name, (_, modules, remedy) in _PEERS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            out(f"{line}{name:<22} not installed ({', '.join(missing)}): {remedy}\n")
            continue
        used = process([__file__, "--peer", name, "--folder", str(folder)], result, patience)
        if used.code is None:
            ratio = patience / proving.seconds
            out(f"{line}{name:<22} > {patience:>6.0f} {used.memory:>6.2f} > {ratio:>6.2f}       –\n")
        elif used.code:
            out(f"{line}{name:<22} failed with exit code {used.code} after {used.seconds:.1f} s\n")
        else:
            row = json.loads(result.read_text(encoding="utf-8").splitlines()[-1])
            ratio = row["seconds"] / proving.seconds
            out(f"{line}{name:<22} {row['seconds']:>8.1f} {used.memory:>6.2f} {ratio:>8.2f} {row['found']:>7.1%}\n")


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--widths", type=int, nargs="+", default=None)
    parser.add_argument("--activations", nargs="+", default=["gelu", "relu"])
    parser.add_argument("--dimension", type=int, default=1024, help="d = m")
    parser.add_argument("--noise", type=float, default=1e-6)
    parser.add_argument("--no-cases", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds that a peer may take")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    out, d = sys.stdout.write, options.dimension
    if options.write:
        activation, n = options.write
        out(json.dumps(write(options.folder, activation, int(n), d, d, options.noise)) + "\n")
        return
    if options.peer:
        out(json.dumps(_PEERS[options.peer][0](options.folder)) + "\n")
        return
    widths = options.widths or ([256, 512] if options.quick else [2048, 4096, 8192, 16384])
    if not options.no_cases:
        out(f"d = m = {d}, N(0, I), relative ε = 1e-3, two threads; bounds and ε over ‖f_A‖, certificate in MB\n")
        out(" σ          N B     verdict           lower    upper        ε matched certify s    CPU   GiB")
        out("  verify s    CPU   GiB     MB\n")
        for activation, n, folder, size in written(options.activations, widths, d, options.noise):
            show_cases(folder, activation, n, size, shown)
    if not options.no_peers:
        out("\nA and a permuted copy: seconds, peak GiB, time over certify's, neurons put into their place\n")
        for activation, n, folder, _ in written(options.activations, widths, d, options.noise):
            show_peers(folder, activation, n, options.patience, shown)


def written(
    activations: Sequence[str], widths: Sequence[int], d: int, noise: float
) -> Iterator[tuple[str, int, Path, float]]:
    """(activation, N, a folder with the networks' files while it lasts, ‖f_A‖)."""
    for activation in activations:
        for n in widths:
            with tempfile.TemporaryDirectory() as name:
                folder, facts = Path(name), Path(name) / "facts.json"
                arguments = ["--write", activation, str(n), "--folder", name]
                arguments += ["--dimension", str(d), "--noise", repr(noise)]
                if process([__file__, *arguments], facts).code:
                    raise SystemExit(f"the networks of width {n} could not be written")
                yield activation, n, folder, json.loads(facts.read_text(encoding="utf-8"))["size"]


def shown(line: str) -> None:
    """Print at once."""
    sys.stdout.write(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
