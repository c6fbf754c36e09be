"""Random planted dictionaries with a known number of atoms, and networks of fewer atoms that come close to them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cases import ANALYSED
from sparsemf.measures import Gaussian, Network
from sparsemf.measures.gaussian import free_degree
from sparsemf.symmetry import disguise

Array = NDArray[np.float64]

KINDS = ("separated", "near-duplicates", "dipole", "shared direction", "cloud")
OTHER_ACTIVATIONS = (
    "relu2", "exp", "relu6", "hardtanh", "hard_sigmoid", "quadratic", "cubic", "hermite(2)", "hermite(3)", "hermite(4)",
)  # fmt: skip
"""Beside :data:`cases.ANALYSED`; drawn by :func:`other_case`, so that the seeds of :func:`random_case` stay."""
GATES = ("silu", "gelu", "relu", "sigmoid", "tanh", "softplus", "leaky_relu(0.2)", "erf", "sin")


@dataclass(frozen=True, eq=False)
class PlantedCase:
    """``network`` is a disguise (or a noisy cloud) of ``truth``, which has ``atoms`` atoms, ``own`` of them in its
    quadratic part."""

    label: str
    kind: str
    truth: Network
    network: Network
    exact: bool
    own: int = 0

    @property
    def atoms(self) -> int:
        """The number of planted atoms."""
        return self.truth.width + self.own


def directions(rng: np.random.Generator, count: int, d: int) -> Array:
    """Unit vectors, as far apart as rejection finds them quickly; the largest |cos| is relaxed when it does not."""
    found, largest, tries = [], 0.6 if count <= d else 0.75, 0
    while len(found) < count:
        w = rng.standard_normal(d)
        w /= np.linalg.norm(w)
        tries += 1
        if all(abs(w @ v) <= largest for v in found):
            found.append(w)
        elif tries % 200 == 0:
            largest = min(largest + 0.02, 0.97)
    return np.array(found)


def random_case(rng: np.random.Generator) -> PlantedCase:
    """All activations that ``analyze`` takes a staircase of, d from 2 to 64, S from 1 to 24, m 1 or 4, with and without
    biases; ``separated`` ones are those that S* should be certified for."""
    return _case(rng, str(rng.choice(list(ANALYSED))))


def other_case(rng: np.random.Generator) -> PlantedCase:
    """The same for relu², exp, ramps and polynomials, a quarter of them (and of those with any other activation) with a
    quadratic part.

    The planted number bounds S* from above; ramps and polynomials of few inputs may need fewer.
    """
    if rng.random() < 0.8:
        case = _case(rng, str(rng.choice(OTHER_ACTIVATIONS)))
        if rng.random() < 0.75:
            return case
    else:
        case = _case(rng, str(rng.choice(list(ANALYSED))))
    f = case.truth
    forms = f.activation.polynomial_degree == 2
    # beside atoms that are forms themselves it counts, with its rank
    factors = rng.standard_normal((f.d, 1 if forms else f.d)) / f.d
    part = np.einsum("ir,jr,o->oij", factors, factors, rng.standard_normal(f.m))

    def added(network: Network) -> Network:
        own = 0.0 if network.quadratic is None else network.quadratic
        return network.with_(quadratic=own + 0.5 * (part + part.transpose(0, 2, 1)))

    return replace(
        case,
        label=case.label + " quadratic part",
        truth=added(f),
        network=added(case.network),
        own=1 if forms else 0,
    )


def charged_case(rng: np.random.Generator) -> PlantedCase:
    """:func:`random_case` without affine part, disguised with paid flips in half of the exact cases: the affine part
    that they leave in the file is no part of the function, S* is the planted number where it is charged, too."""
    return _case(rng, str(rng.choice(list(ANALYSED))), charged=True)


def gated_case(rng: np.random.Generator) -> PlantedCase:
    """Gated blocks without polynomial part, disguised by what costs nothing; ``shared direction``: two gates on one
    line, ``near-duplicates``: gates and factors close to others, ``cloud``: noise on every gate."""
    kind = str(rng.choice(["separated", "near-duplicates", "shared direction", "cloud"], p=[0.6, 0.15, 0.1, 0.15]))
    d = int(2 ** rng.uniform(1, 5))
    atoms = int(rng.integers(1, {2: 2, 3: 3}.get(d, min(12, d)) + 1))
    outputs, bias = int(rng.choice([1, 4])), bool(rng.integers(2))
    gate = directions(rng, atoms, d) * rng.uniform(1.0, 2.0, (atoms, 1))
    inner = directions(rng, atoms, d) * rng.uniform(0.7, 1.5, (atoms, 1))
    shift, height = (rng.normal(0.0, 0.5, atoms) * bias for _ in range(2))
    if kind in ("near-duplicates", "shared direction") and atoms >= 2:
        gap = 10.0 ** rng.uniform(-8, -1)
        if kind == "shared direction":
            gate[1], shift[1] = gate[0] * rng.uniform(0.5, 2.0), shift[0] + rng.uniform(-1, 1)
        else:
            gate[1], inner[1] = gate[0] + gap * rng.standard_normal(d), inner[0] + gap * rng.standard_normal(d)
            shift[1], height[1] = shift[0], height[0]
    activation = str(rng.choice(GATES))
    size = rng.uniform(0.5, 1.5, (atoms, outputs)) * rng.choice([-1.0, 1.0], (atoms, outputs))
    truth = Network(size, inner, height, activation, gate=gate, gate_bias=shift)
    network = disguise(truth, rng, int(atoms + rng.integers(0, 2 * atoms + 10)), flips=False)
    if kind == "cloud":
        noise = 1 + 10.0 ** rng.uniform(-6, -2) * rng.standard_normal((network.width, d))
        network = network.with_(gate=np.asarray(network.gate) * noise)
    label = f"{activation} gates, {kind} d={d} S={atoms} m={outputs} bias={bias} width={network.width}"
    return PlantedCase(label, kind, truth, network, kind != "cloud")


def shared_case(rng: np.random.Generator) -> PlantedCase:
    """One-kink atoms of one output on one to four directions, two to four on each; d 1 … 16, kinks −b/‖w‖ in
    [−1.5, 1.5] and at least 0.3 apart.  ``kind`` says the directions and the most atoms on one of them."""
    activation = str(rng.choice(["relu", "leaky_relu(0.2)", "abs"]))
    d = int(rng.integers(1, 17))
    lines = 1 if d == 1 else int(rng.integers(1, 5))
    w, b, most = [], [], 0
    for line in directions(rng, lines, d) if d > 1 else np.ones((1, 1)):
        count = int(rng.integers(2, 5))
        most = max(most, count)
        kinks = np.sort(rng.uniform(-1.5, 1.5, count))
        while np.min(np.diff(kinks)) < 0.3:
            kinks = np.sort(rng.uniform(-1.5, 1.5, count))
        length = rng.uniform(0.5, 2.0, count) * rng.choice([-1.0, 1.0], count)
        w.append(length[:, None] * line)
        b.append(-kinks * length)
    inner, bias = np.concatenate(w), np.concatenate(b)
    size = rng.uniform(0.5, 1.5, (bias.size, 1)) * rng.choice([-1.0, 1.0], (bias.size, 1))
    truth = Network(size, inner, bias, activation, affine=0.3 * rng.standard_normal((1, d)), offset=np.zeros(1))
    network = disguise(truth, rng, int(bias.size + rng.integers(0, 3 * bias.size + 20)))
    label = f"{activation} d={d} directions={lines} S={bias.size}"
    return PlantedCase(label, f"{lines} directions, up to {most} on one", truth, network, True)


def _case(rng: np.random.Generator, activation: str, charged: bool = False) -> PlantedCase:
    kind = str(rng.choice(KINDS, p=[0.5, 0.15, 0.1, 0.1, 0.15]))
    d = int(2 ** rng.uniform(1, 6))
    most = {2: 2, 3: 4, 4: 6}.get(d, min(24, 2 * d if d < 12 else 24))
    atoms = int(rng.integers(1, most + 1))
    outputs = int(rng.choice([1, 4]))
    bias = bool(rng.integers(2))
    size = rng.uniform(0.5, 1.5, (atoms, outputs)) * rng.choice([-1.0, 1.0], (atoms, outputs))
    w = directions(rng, atoms, d) * rng.uniform(1.0, 2.0, (atoms, 1))
    b = rng.normal(0.0, 0.5, atoms) if bias else np.zeros(atoms)
    if kind != "separated" and kind != "cloud" and atoms >= 2:
        i, j = 0, 1
        gap = 10.0 ** rng.uniform(-8, -1)
        if kind == "shared direction":
            w[j], b[j] = w[i] * rng.uniform(0.5, 2.0), b[i] + rng.uniform(-1, 1)
        else:
            side = rng.standard_normal(d)
            w[j], b[j] = w[i] + gap * np.linalg.norm(w[i]) * side / np.linalg.norm(side), b[i] + gap * float(bias)
        if kind == "dipole":
            size[i] *= min(1 / gap, 1e6)
            size[j] = -size[i] * (1 + gap * rng.uniform(-1, 1))
    truth = Network(size, w, b, activation, affine=0.3 * rng.standard_normal((outputs, d)), offset=np.zeros(outputs))
    if charged:
        truth = truth.with_(affine=np.zeros((outputs, d)))
    width = int(atoms + rng.integers(0, 3 * atoms + 20))
    network = disguise(truth, rng, width, flips=not charged or (kind != "cloud" and bool(rng.integers(2))))
    exact = kind != "cloud"
    if kind == "cloud":
        noise = 10.0 ** rng.uniform(-6, -2)
        network = network.with_(inner=network.inner * (1 + noise * rng.standard_normal(network.inner.shape)))
    label = f"{activation} {kind} d={d} S={atoms} m={outputs} bias={bias} width={width}"
    return PlantedCase(label, kind, truth, network, exact)


def smaller(case: PlantedCase, size: int, rng: np.random.Generator, free: int | None = None) -> list[Network]:
    """Networks of ``size`` < S atoms near the planted one: the heaviest atoms, and the closest pairs merged, both with
    coefficients and the free polynomial part (default: what is free beside f) refitted by least squares on random
    inputs."""
    f = case.truth
    free = free_degree(f) if free is None else free
    first, second = np.triu_indices(f.d if free == 2 else 0)
    x = rng.standard_normal((max(2000, 20 * (size + f.d + 1), 3 * first.size), f.d))
    y = f(x)
    found = []
    weight = np.linalg.norm(f.alpha, axis=1)
    points = np.concatenate([f.inner, f.bias[:, None]], axis=1)
    if f.gate is not None and f.gate_bias is not None:
        points = np.concatenate([points, f.gate, f.gate_bias[:, None]], axis=1)
    merged = points.copy()
    mass, alive = weight.copy(), list(range(f.width))
    while len(alive) > size:
        best = min(
            ((i, j) for k, i in enumerate(alive) for j in alive[k + 1 :]),
            key=lambda ij: np.linalg.norm(merged[ij[0]] - merged[ij[1]]) * min(mass[ij[0]], mass[ij[1]]),
            default=(alive[0], alive[0]),
        )
        i, j = best
        if i == j:
            alive.remove(i)
            continue
        merged[i] = (mass[i] * merged[i] + mass[j] * merged[j]) / (mass[i] + mass[j])
        mass[i] += mass[j]
        alive.remove(j)
    for chosen in (points[np.argsort(-weight)[:size]], merged[alive]):
        own, gates = chosen[:, : f.d + 1], chosen[:, f.d + 1 :] if f.gated else None
        phi = x @ own[:, :-1].T + own[:, -1]
        phi = f.activation.value(phi) if gates is None else phi * f.activation.value(x @ gates[:, :-1].T + gates[:, -1])
        # columns of 0 get no coefficient
        line, one = x * float(free > 0), np.full((x.shape[0], 1), float(free >= 0))
        design = np.concatenate([phi, line, one, x[:, first] * x[:, second]], axis=1)
        if first.size > 200:  # thousands of columns: the normal equations, which are all but orthogonal
            normal = design.T @ design
            normal[np.diag_indices_from(normal)] *= 1 + 1e-12
            solution = np.linalg.solve(normal, design.T @ y)
        else:
            solution = np.linalg.lstsq(design, y, rcond=None)[0]
        k = chosen.shape[0]
        form = None
        if free == 2:
            form = np.zeros((f.m, f.d, f.d))
            form[:, first, second] = 0.5 * solution[k + f.d + 1 :].T
            form = form + form.transpose(0, 2, 1)
        found.append(
            Network(
                solution[:k],
                own[:, :-1],
                own[:, -1],
                f.activation,
                gate=None if gates is None else gates[:, :-1],
                gate_bias=None if gates is None else gates[:, -1],
                affine=solution[k : k + f.d].T,
                offset=solution[k + f.d],
                quadratic=form,
            )
        )
    return found


def law_of(case: PlantedCase) -> Gaussian:
    """N(0, I)."""
    return Gaussian.standard(case.truth.d)
