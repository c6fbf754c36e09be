"""Random networks for depths, with the answer where it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsemf.activations import get
from sparsemf.measures import Network


@dataclass(frozen=True, eq=False)
class DepthCase:
    """A network in a family, and the generic D_var and D_orb where they are known."""

    network: Network
    bias: bool
    free: str
    variety: int | None = None
    orbit: int | None = None

    @property
    def label(self) -> str:
        """For messages."""
        f = self.network
        return f"{f.activation.name}, S {f.width}, d {f.d}, m {f.m}, bias {self.bias}, free {self.free}"


def atoms(
    rng: np.random.Generator, name: str, n: int, d: int, m: int, bias: bool, lengths: tuple[float, float] = (0.6, 2.4)
) -> Network:
    """Uniform directions; lengths 1 for homogeneous σ."""
    w = rng.standard_normal((n, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    if get(name).homogeneous is None:
        w *= rng.uniform(*lengths, (n, 1))
    return Network(rng.standard_normal((n, m)), w, rng.uniform(-1, 1, n) if bias else np.zeros(n), name)


def random_case(rng: np.random.Generator, activations: tuple[str, ...]) -> DepthCase:
    """Any family with irreducible atoms."""
    name = str(rng.choice(activations))
    n, d = int(rng.integers(1, 9)), int(rng.integers(1, 17))
    m, bias = int(rng.choice([1, 3])), bool(rng.integers(2))
    free = str(rng.choice(["none", "offset", "affine"]))
    if d == 1 and get(name).homogeneous is not None and not bias:
        n = 1
    return DepthCase(atoms(rng, name, n, d, m, bias), bias, free)


def known_case(rng: np.random.Generator) -> DepthCase:
    """A family whose depths are known by hand (see docs/depths.md)."""
    kind = int(rng.integers(11))
    n, m = int(rng.integers(2, 6)), 1
    d = int(rng.integers(n, 11))

    def case(name: str, bias: bool, free: str, variety: int, orbit: int, **sizes: int) -> DepthCase:
        found = {"n": n, "d": d, "m": m, **sizes}
        return DepthCase(atoms(rng, name, found["n"], found["d"], found["m"], bias), bias, free, variety, orbit)

    if kind == 0:
        return case(str(rng.choice(["erf", "tanh", "sin", "normal_cdf"])), False, "offset", 3, 3)
    if kind == 1:
        return case(str(rng.choice(["relu", "leaky_relu", "abs"])), False, "affine", 4, 4)
    if kind == 2:
        return case(str(rng.choice(["relu", "leaky_relu", "abs"])), True, "affine", 3, 3, m=int(rng.integers(1, 3)))
    if kind == 3:
        return case("quadratic", bool(rng.integers(2)), str(rng.choice(["none", "offset", "affine"])), 2, 2)
    if kind == 4:
        return case("cubic", False, str(rng.choice(["none", "offset", "affine"])), 3, 3)
    if kind == 5:
        return case("cos", False, "affine", 4, 4)
    if kind == 6:
        k = int(rng.integers(1, 4))
        return case("exp", True, "none", 2 * k - 1, 2 * k - 1, n=k, d=1)
    if kind == 7:
        k = int(rng.integers(1, 4))
        return case("relu", True, "affine", 2 * k + 1, 2 * k + 1, n=k, d=1)
    if kind == 8:
        # c₂/c₁ takes each value twice for ‖w‖ > 0.79; c₄ tells the two apart
        return DepthCase(atoms(rng, "gelu", 1, d, 1, False, (1.0, 2.4)), False, "offset", 2, 4)
    if kind == 9:
        return case("sin", True, "affine", 4, 4)
    k = int(rng.integers(1, 4))
    return case("erf", False, "none", 4 * k - 1, 4 * k - 1, n=k, d=1)
