"""The programs over measures against two public solvers, in one run, as ratios.

1. pyscnn (`ConvexReLU`, augmented Lagrangian) on relu teachers, n = 200, d = 3, equal λ: both minimise
   (1/2n)‖y − f(X)‖² + λ Σ|α_i||w_i|; objectives are recomputed here from the returned weights.
2. celer's Lasso on 20,000 tanh atoms drawn on |w| = R, n = 500, d = 5, 5 neurons, equal λ: the same objective, on
   a grid.

    python benchmarks/convex.py [--quick] [--peers PYTHON]

The peers live in an environment of their own with pinned versions; without ``--peers`` it is made by this script in the
user's cache folder.  ``--peers none`` leaves them out.  Times are CPU seconds of the solver alone, one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

PINNED = ("pyscnn==0.0.10", "celer==0.7.4", "torch==2.14.1", "numpy==2.4.6", "scikit-learn==1.9.1")
ONE_THREAD: dict[str, str] = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def peer_scnn(x, y, lam: float, gates: int) -> dict[str, object]:
    """Runs inside the peers' environment; the weights as returned."""
    from scnn.activations import sample_gate_vectors  # pyright: ignore[reportMissingImports]
    from scnn.metrics import Metrics  # pyright: ignore[reportMissingImports]
    from scnn.models import ConvexReLU  # pyright: ignore[reportMissingImports]
    from scnn.optimize import optimize_model  # pyright: ignore[reportMissingImports]
    from scnn.regularizers import NeuronGL1  # pyright: ignore[reportMissingImports]
    from scnn.solvers import AL  # pyright: ignore[reportMissingImports]

    model = ConvexReLU(sample_gate_vectors(1, x.shape[1], gates))
    start = time.process_time()
    found, _ = optimize_model(
        model, AL(model), Metrics(), x, y, regularizer=NeuronGL1(lam), unitize_data=False, dtype="float64"
    )
    seconds = time.process_time() - start
    inner, outer = found.parameters[:2]
    return {"w": np.asarray(inner).tolist(), "alpha": np.asarray(outer)[0].tolist(), "seconds": seconds}


def peer_celer(features, y, lam: float) -> dict[str, object]:
    """Runs inside the peers' environment."""
    from celer import Lasso  # pyright: ignore[reportMissingImports]

    start = time.process_time()
    model = Lasso(alpha=lam, fit_intercept=False, tol=1e-9, max_iter=200).fit(features, y)
    return {"alpha": model.coef_.tolist(), "seconds": time.process_time() - start}


def peers_python(choice: str | None, out) -> str | None:
    """The interpreter of the peers' environment, made when it does not exist; None when that fails or is declined."""
    if choice == "none":
        return None
    if choice:
        return choice
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sparsemf-peers-convex"
    python = home / "bin" / "python"
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", *PINNED], check=True)
        subprocess.run([str(python), "-c", "import scnn, celer"], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        out(f"the peers' environment could not be made ({error}); their columns are left out\n")
        return None
    return str(python)


def ask(python: str | None, what: str, **arrays) -> dict[str, object] | None:
    """One peer on arrays, in its own process."""
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, **arrays)
        done = subprocess.run(
            [python, __file__, "--peer", what, str(path)], capture_output=True, text=True, env=os.environ | ONE_THREAD
        )
    if done.returncode:
        raise RuntimeError(f"{what} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def answer(what: str, path: str) -> None:
    """The peer's side of :func:`ask`."""
    data = np.load(path)
    lam = float(data["lam"])
    found = (
        peer_scnn(data["x"], data["y"], lam, int(data["gates"]))
        if what == "scnn"
        else peer_celer(data["features"], data["y"], lam)
    )
    sys.stdout.write("\n" + json.dumps(found) + "\n")


def against_scnn(python: str | None, seeds: int, lams: tuple[float, ...], out) -> None:
    """Part 1."""
    from sparsemf.certificates.convex import blasso_on_data

    out("relu teachers of 3 neurons, n = 200, d = 3, no bias; objective (1/2n)‖y − f‖² + λ Σ|α||w|\n")
    out(" seed     λ  objective  atoms  violation  gap/value  CPU s |")
    out(" pyscnn objective  ratio  returned  ratio  above 1e-6 of the mass  ratio  CPU s  ratio\n")
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, w = rng.standard_normal((200, 3)), rng.standard_normal((3, 3))
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        y = np.maximum(x @ w.T, 0) @ (rng.choice([-1.0, 1.0], 3) * rng.uniform(0.5, 1.5, 3))
        for lam in lams:
            start = time.process_time()
            mine = blasso_on_data(x, y, lam, bias=False)
            seconds = time.process_time() - start
            violation = (mine.supremum.upper or np.nan) - 1
            out(
                f"{seed:>5} {lam:>5} {mine.value:>10.6f} {mine.size:>6} {violation:>10.1e} "
                f"{mine.rel_gap or np.nan:>10.1e} {seconds:>6.2f} |"
            )
            other = ask(python, "scnn", x=x, y=y[:, None], lam=lam, gates=100)
            if other is None:
                out("\n")
                continue
            inner, alpha = np.array(other["w"]), np.array(other["alpha"])
            mass = np.abs(alpha) * np.linalg.norm(inner, axis=1)
            value = 0.5 * np.mean((np.maximum(x @ inner.T, 0) @ alpha - y) ** 2) + lam * np.sum(mass)
            returned, neurons = int(np.sum(mass > 0)), int(np.sum(mass > 1e-6 * np.sum(mass)))
            theirs = float(str(other["seconds"]))
            out(
                f" {value:>16.6f} {mine.value / value:>6.4f} {returned:>9} {mine.size / returned:>6.2f} "
                f"{neurons:>23} {mine.size / neurons:>6.2f} "
                f"{theirs:>6.2f} {seconds / theirs:>6.3f}\n"
            )


def against_celer(python: str | None, seeds: int, regions: int, out) -> None:
    """Part 2."""
    from sparsemf.certificates.convex import Effort, blasso_on_data

    lam, radius = 0.01, 1.0
    out(
        f"\ntanh, 5 neurons on |w| = {radius:g}, n = 500, d = 5, λ = {lam:g}, Θ = {{|w| ≤ {radius:g}}}; "
        "celer: 20,000 atoms on |w| = R\n"
    )
    out(" seed  objective  atoms  sup|η| − 1 ≤  gap/value    boxes  CPU s | celer objective  ratio − 1  atoms  CPU s\n")
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, w = rng.standard_normal((500, 5)), rng.standard_normal((5, 5))
        w *= radius / np.linalg.norm(w, axis=1, keepdims=True)
        y = np.tanh(x @ w.T) @ (rng.choice([-1.0, 1.0], 5) * rng.uniform(0.5, 1.5, 5))
        start = time.process_time()
        effort = Effort(tolerance=1e-6, regions=regions)
        mine = blasso_on_data(x, y, lam, "tanh", bias=False, radius=radius, effort=effort)
        seconds = time.process_time() - start
        out(
            f"{seed:>5} {mine.value:>10.7f} {mine.size:>6} {(mine.supremum.upper or np.nan) - 1:>13.1e} "
            f"{mine.rel_gap or np.nan:>10.1e} {mine.supremum.regions:>8} {seconds:>6.1f} |"
        )
        grid = rng.standard_normal((20_000, 5))
        grid *= radius / np.linalg.norm(grid, axis=1, keepdims=True)
        features = np.tanh(x @ grid.T)
        other = ask(python, "celer", features=features, y=y, lam=lam)
        if other is None:
            out("\n")
            continue
        alpha = np.array(other["alpha"])
        value = 0.5 * np.mean((features @ alpha - y) ** 2) + lam * np.sum(np.abs(alpha))
        theirs = float(str(other["seconds"]))
        out(f" {value:>15.7f} {mine.value / value - 1:>10.1e} {int(np.sum(alpha != 0)):>6} {theirs:>6.1f}\n")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers", help="interpreter of an environment with the peers, or none")
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        answer(*options.peer)
        return
    os.environ.update(ONE_THREAD)  # for children
    threadpool_limits(1)
    out = sys.stdout.write
    python = peers_python(options.peers, out)
    against_scnn(python, 1 if options.quick else 3, (0.05,) if options.quick else (0.02, 0.05), out)
    against_celer(python, 1 if options.quick else 3, 100_000 if options.quick else 2_000_000, out)


if __name__ == "__main__":
    main()
