"""Random planted dictionaries with a known number of atoms, and networks of fewer atoms that come close to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cases import ANALYSED
from sparsemf.measures import Gaussian, Network
from sparsemf.symmetry import disguise

Array = NDArray[np.float64]

KINDS = ("separated", "near-duplicates", "dipole", "shared direction", "cloud")


@dataclass(frozen=True, eq=False)
class PlantedCase:
    """``network`` is a disguise (or a noisy cloud) of ``truth``, which has ``atoms`` atoms."""

    label: str
    kind: str
    truth: Network
    network: Network
    exact: bool

    @property
    def atoms(self) -> int:
        """The number of planted atoms."""
        return self.truth.width


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
    activation = str(rng.choice([name for name in ANALYSED if name not in ("linear",)]))
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
    width = int(atoms + rng.integers(0, 3 * atoms + 20))
    network = disguise(truth, rng, width)
    exact = kind != "cloud"
    if kind == "cloud":
        noise = 10.0 ** rng.uniform(-6, -2)
        network = network.with_(inner=network.inner * (1 + noise * rng.standard_normal(network.inner.shape)))
    label = f"{activation} {kind} d={d} S={atoms} m={outputs} bias={bias} width={width}"
    return PlantedCase(label, kind, truth, network, exact)


def smaller(case: PlantedCase, size: int, rng: np.random.Generator) -> list[Network]:
    """Networks of ``size`` < S atoms near the planted one: the heaviest atoms, and the closest pairs merged, both with
    coefficients and affine part refitted by least squares on random inputs."""
    f = case.truth
    x = rng.standard_normal((max(2000, 20 * (size + f.d + 1)), f.d))
    y = f(x)
    found = []
    weight = np.linalg.norm(f.alpha, axis=1)
    points = np.concatenate([f.inner, f.bias[:, None]], axis=1)
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
        phi = f.activation.value(x @ chosen[:, :-1].T + chosen[:, -1])
        design = np.concatenate([phi, x, np.ones((x.shape[0], 1))], axis=1)
        solution = np.linalg.lstsq(design, y, rcond=None)[0]
        k = chosen.shape[0]
        found.append(
            Network(
                solution[:k], chosen[:, :-1], chosen[:, -1], f.activation, affine=solution[k:-1].T, offset=solution[-1]
            )
        )
    return found


def law_of(case: PlantedCase) -> Gaussian:
    """N(0, I)."""
    return Gaussian.standard(case.truth.d)
