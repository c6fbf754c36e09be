"""Gram forms and what lies beyond them, against tensors written out, iterated quadrature and closed conditional means.

Truths here integrate in the plane: kinks of the inner variable cut its panels, so that they are good to 1e-9.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flint import arb, ctx
from numpy.typing import NDArray
from scipy import special

from cases import planted_gated
from sparsemf.certificates.checker import gated, gated_series, hermite, series, tails
from sparsemf.certificates.checker.arithmetic import Arithmetic
from sparsemf.certificates.checker.catalogue import CORES
from sparsemf.certificates.checker.expansion import expanded
from sparsemf.certificates.equivalence import certify_pair, norm_for, raw_of
from sparsemf.measures import Gaussian, Network

Array = NDArray[np.float64]
FLOAT, BALLS = Arithmetic(0), Arithmetic(128)
SMOOTH = ("gelu", "silu", "tanh", "sigmoid", "softplus", "sin", "linear", "quadratic")
KINKED = ("relu", "leaky_relu(0.3)", "hardtanh", "elu", "softsign")
_RULE = np.polynomial.legendre.leggauss(12)


def panels(cuts: Array) -> tuple[Array, Array]:
    """Nodes and Gaussian weights of the panels between the cuts, along the last axis."""
    half, middle = 0.5 * np.diff(cuts, axis=-1), 0.5 * (cuts[..., 1:] + cuts[..., :-1])
    node = (middle[..., None] + half[..., None] * _RULE[0]).reshape(*cuts.shape[:-1], -1)
    weight = (half[..., None] * _RULE[1]).reshape(node.shape)
    return node, weight * np.exp(-0.5 * node * node) / np.sqrt(2 * np.pi)


def planar_norm(parts: list[tuple[Network, float]], law: Gaussian) -> float:
    """‖Σ sign·f‖ under a law on the plane, the gates' kinks at −4, …, 4 among the cuts."""
    root, mean = law.root, law.mean
    first, outer = panels(np.linspace(-9, 9, 97))
    cuts = [np.broadcast_to(np.linspace(-9, 9, 19), (first.size, 19))]
    for f, _ in parts:
        points, shift = (f.inner, f.bias) if f.gate is None or f.gate_bias is None else (f.gate, f.gate_bias)
        for w, b in zip(points @ root, shift + points @ mean, strict=True):
            if abs(w[1]) > 1e-12:
                kinks = (np.array([-1.0, 0.0, 1.0]) - b - w[0] * first[:, None]) / w[1]
                cuts.append(np.clip(kinks, -9, 9))
    second, inner = panels(np.sort(np.concatenate(cuts, axis=1), axis=1))
    total = 0.0
    for rows in np.array_split(np.arange(first.size), 24):
        g = np.stack([np.broadcast_to(first[rows, None], second[rows].shape), second[rows]], axis=-1).reshape(-1, 2)
        value = sum(sign * f(mean + g @ root.T) for f, sign in parts)
        total += float((outer[rows, None] * inner[rows]).ravel() @ np.sum(np.asarray(value) ** 2, axis=1))
    return float(np.sqrt(total))


def moved(f: Network, size: float, rng: np.random.Generator) -> Network:
    """Noise on every weight."""

    def noise(x: Array) -> Array:
        return x * (1 + size * rng.standard_normal(x.shape))

    changes: dict[str, Any] = {"outer": noise(f.outer), "inner": noise(f.inner), "bias": noise(f.bias)}
    if f.gate is not None and f.gate_bias is not None:
        changes |= {"gate": noise(f.gate), "gate_bias": noise(f.gate_bias)}
    return f.with_(**changes)


def laws(rng: np.random.Generator) -> tuple[Gaussian, Gaussian]:
    """The plane's standard law, and a correlated one off the origin."""
    root = 0.6 * rng.standard_normal((2, 2))
    return Gaussian.of(np.zeros(2), np.eye(2)), Gaussian.of(rng.normal(0, 0.4, 2), root @ root.T)


def gated_bounds(
    arith: Arithmetic, law: Gaussian, a: Network, b: Network | None, degree: int, paired: bool = True
) -> tuple[float, float]:
    norm = norm_for(law, None)
    with arith.precision(), np.errstate(all="ignore"):
        h = gated.expand(arith, (raw_of(a), 1.0), *(() if b is None else ((raw_of(b), -1.0),)))
        n = h.gates.core.size
        leader = np.tile(np.arange(n // 2), 2) if b is not None and paired else np.arange(n)
        t = gated_series.tensors(arith, norm, h, degree)
        return gated_series.gram(arith, norm, t, leader, np.ones(n, dtype=np.int64))


# --- gated blocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polynomial", [False, True])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_form_is_the_norm_of_the_tensors(name: str, polynomial: bool) -> None:
    """Lower² = Σ_{k ≤ K} ‖T_k‖², T_k by its components E f·he_i(x₁)he_j(x₂), i + j = k."""
    rng = np.random.default_rng([1, *name.encode()])
    f = planted_gated(rng, name, d=2, atoms=2, outputs=2, polynomial=polynomial)
    f = f.with_(gate=None if f.gate is None else 0.6 * f.gate)
    node, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    x = np.stack(np.meshgrid(node, node, indexing="ij"), axis=-1).reshape(-1, 2)
    value = f(x).reshape(80, 80, -1)
    basis = np.stack([special.eval_hermitenorm(k, node) / np.sqrt(special.factorial(k)) for k in range(7)], axis=0)
    table = np.einsum("im,jn,m,n,mno->ijo", basis, basis, weight, weight, value)
    energy = np.array([sum(float(np.sum(table[i, k - i] ** 2)) for i in range(k + 1)) for k in range(7)])
    law = Gaussian.of(np.zeros(2), np.eye(2))
    for degree in (2, 3, 6):
        for arith in (FLOAT, BALLS):
            low, high = gated_bounds(arith, law, f, None, degree)
            assert low == pytest.approx(np.sqrt(energy[: degree + 1].sum()), rel=1e-9)
            assert high >= float(np.sqrt(np.einsum("m,n,mno->", weight, weight, value**2))) * (1 - 1e-9)


@pytest.mark.parametrize("name", [*SMOOTH, *KINKED])
def test_gated_pairs_against_the_plane(name: str) -> None:
    rng = np.random.default_rng([2, *name.encode()])
    for case, law in enumerate(laws(rng)):
        a = planted_gated(rng, name, d=2, atoms=3, outputs=1 + case, polynomial=case == 1)
        b = moved(a, 10.0 ** rng.uniform(-2.5, -1), rng)
        own, truth = planar_norm([(a, 1.0)], law), planar_norm([(a, 1.0), (b, -1.0)], law)
        for degree in (2, 5, 40):
            for paired in (True, False):
                for arith in (FLOAT, BALLS) if degree == 5 else (FLOAT,):
                    low, high = gated_bounds(arith, law, a, b, degree, paired)
                    assert low <= truth * (1 + 1e-6)
                    assert high >= truth * (1 - 1e-6)
            low, high = gated_bounds(FLOAT, law, a, None, degree)
            assert low * (1 - 1e-6) <= own <= high * (1 + 1e-6)
        assert high <= (1.01 if name in SMOOTH else 1.1) * low
        low, high = gated_bounds(FLOAT, law, a, b, 40)
        # the tails of steep tanh, and of two relu kinks in one gate, weigh as much as the noise
        loose = {"tanh": 2.0, "hardtanh": 1.8}.get(name, 1.001 if name in SMOOTH else 1.05)
        assert high <= loose * low


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_noisy_gated_blocks_are_told_apart_and_together(name: str) -> None:
    """Width 48 in 16 dimensions, noise 1e-3: groups alone leave a factor of about 50."""
    rng = np.random.default_rng(3)
    n, d = 48, 16
    a = Network(
        rng.standard_normal((n, 3)) / 7,
        rng.standard_normal((n, d)) / 4,
        None,
        name,
        gate=rng.standard_normal((n, d)) / 4,
    )
    b = moved(a, 1e-3, rng)
    found = certify_pair(a, b, rel_eps=1e-8)
    assert found.verdict == "distinct"
    assert found.upper <= 1.01 * found.lower
    size = certify_pair(a, a.with_(outer=0 * a.outer), rel_eps=0.5)
    assert size.upper <= 1.001 * size.lower
    for factor, verdict in ((1.02, "equivalent"), (0.98, "distinct")):
        assert certify_pair(a, b, eps=factor * found.upper).verdict == verdict


@pytest.mark.parametrize("core", [core for core in CORES.values() if not core.power], ids=lambda core: core.name)
def test_weighted_energies(core: Any) -> None:
    """E g²σ(rg + b)², by panels cut at the kink."""
    for r, b in ((0.7, 0.0), (1.3, -1.1), (0.4, 2.0)):
        cuts: Array = np.array(sorted([*np.linspace(-13, 13, 261), -b / r]), dtype=np.float64)
        node, weight = panels(cuts)
        truth = float(weight @ (node * core.value(r * node + b)) ** 2)
        for arith in (FLOAT, BALLS):
            with arith.precision():
                found = hermite.energies(arith, core, arith.array([r]), arith.array([b]), True)[0]
                assert float(found.mid() if isinstance(found, arb) else found) == pytest.approx(truth, rel=1e-11)


# --- relu -----------------------------------------------------------------------------------------------------------


def relu_product(r: float, b: float, s: float, c: float, rho: float) -> float:
    """E relu(rg + b)relu(sg′ + c), corr(g, g′) = ρ: the mean over g′ given g in closed form, panels around its kink."""
    side = s * np.sqrt(max((1 - rho) * (1 + rho), 0.0))
    low = min(max(-b / r, -13.0), 13.0)
    kink = -c / (s * rho)
    near = kink + np.outer([-1, 0, 1], side / (s * abs(rho)) * 4.0 ** np.arange(-2, 4)).ravel()
    cuts = np.unique(np.clip(np.concatenate([np.linspace(low, 13, 40), near]), low, 13)).astype(np.float64)
    node, weight = panels(cuts)
    mean = s * rho * node + c
    inner = np.maximum(mean, 0)
    if side > 1e-14 * s:
        inner = mean * special.ndtr(mean / side) + side * np.exp(-0.5 * (mean / side) ** 2) / np.sqrt(2 * np.pi)
    return float(weight @ ((r * node + b) * inner))


def relu_energy(alpha: Array, w: Array, b: Array) -> float:
    """E‖Σ α_i relu(⟨w_i, x⟩ + b_i)‖²."""
    r = np.linalg.norm(w, axis=1)
    unit = w / r[:, None]
    rho = 1 - 0.5 * np.sum((unit[:, None] - unit) ** 2, axis=2)
    n = b.size
    product = np.array([[relu_product(r[i], b[i], r[j], b[j], rho[i, j]) for j in range(n)] for i in range(n)])
    return float(np.sum((alpha @ alpha.T) * product))


@pytest.mark.parametrize("case", range(30))
def test_relu_pairs_by_conditional_means(case: int) -> None:
    """Splits, flips, biases, noise at 10^[−3.5, 0], few degrees, senseless groupings: the truth lies inside."""
    rng = np.random.default_rng([4, case])
    d, m, n = int(rng.integers(2, 5)), int(rng.choice([1, 3])), int(rng.integers(1, 4))
    a = Network(
        rng.standard_normal((n, m)), rng.standard_normal((n, d)), rng.normal(0, rng.choice([0.0, 0.5, 2.0]), n), "relu"
    )
    b = moved(a, 10.0 ** rng.uniform(-3.5, 0), rng)
    truth = np.sqrt(
        relu_energy(
            np.concatenate([a.alpha, -b.alpha]), np.concatenate([a.inner, b.inner]), np.concatenate([a.bias, b.bias])
        )
    )
    turn = rng.random(n) < 0.3  # relu(z) = relu(−z) + z
    factor = np.exp(rng.standard_normal(n))
    sign = np.where(turn, -1.0, 1.0)
    b = Network(
        b.outer / factor[:, None], b.inner * (sign * factor)[:, None], b.bias * sign * factor, "relu",
        affine=b.outer[turn].T @ b.inner[turn], offset=b.outer[turn].T @ b.bias[turn],
    )  # fmt: skip
    right = (np.tile(np.arange(n), 2), np.concatenate([np.ones(n), sign]).astype(np.int64))
    wrong = (rng.choice(rng.integers(0, 2 * n, 2), 2 * n), rng.choice([-1, 1], 2 * n))
    norm = norm_for(Gaussian.standard(d), None)
    for arith in (FLOAT, BALLS) if case % 3 == 0 else (FLOAT,):
        with arith.precision(), np.errstate(all="ignore"):
            h = expanded(arith, (raw_of(a), 1.0), (raw_of(b), -1.0))
            for degree in (2, 4, 12):
                f = series.spectrum(arith, norm, h, degree)
                for leader, flip in (right, wrong, (np.arange(2 * n), np.ones(2 * n, dtype=np.int64))):
                    low, high = series.gram(arith, norm, h, f, leader, flip)
                    assert low <= truth * (1 + 1e-6)
                    assert high >= truth * (1 - 1e-6)


@pytest.mark.parametrize("distance", [1e-5, 1e-3, 1e-2, 0.3, 2.0])
def test_energies_of_relu_groups(distance: float) -> None:
    """Main part and rest of two neurons at an angle, against conditional means; the rest known to 12 % where the
    kinks' offset is that of the angle, to 1e-3 without one."""
    rng = np.random.default_rng(5)
    for shift in (0.0, distance, -3 * distance):
        r, b = np.array([0.5, 1.0]), np.array([0.1875, 0.375 + shift])
        unit = np.array([[1.0, 0.0], [np.cos(distance), np.sin(distance)]])
        alpha = rng.standard_normal((2, 2))
        truth = relu_energy(alpha, r[:, None] * unit, b)
        for arith in (FLOAT, BALLS):
            with arith.precision(), np.errstate(all="ignore"):
                c = hermite.coefficients(arith, CORES["relu"], arith.array(r), arith.array(b), 1)[0]
                main, low, high, error = tails.relu_energies(
                    arith, arith.array(alpha), arith.array(r), arith.array(b), c, arith.array(unit),
                    np.linalg.norm(alpha, axis=1) * (1 + 1e-15), np.zeros(1, dtype=np.int64),
                )  # fmt: skip
            plain = tails.middle(arith, c)
            known = np.sum((plain[:, 0] @ alpha) ** 2) + np.sum((alpha.T @ (plain[:, 1:] * unit)) ** 2)
            value = float(tails.middle(arith, main)[0]) + known
            assert value + low[0] - error[0] <= truth + 1e-12
            assert value + high[0] + error[0] >= truth - 1e-12
            rest = abs(float(alpha[0] @ alpha[1])) * distance**3
            assert high[0] - low[0] <= (1e-3 if shift == 0.0 and distance < 1 else 0.12) * rest
            assert error[0] < 1e-11


def test_cross_tails_of_dipoles() -> None:
    """Σ_{k > K} |⟨T_k, T′_k⟩| of two near-dipoles, summed to degree 400; of the size of their lengths' product."""
    rng = np.random.default_rng(6)
    first, last = 13, 400
    for cosine, size in ((0.2, 1e-3), (0.6, 1e-3), (0.6, 1e-2), (0.8, 1e-4), (-0.8, 1e-3)):
        head = np.array([[1.0, 0, 0, 0], [cosine, np.sqrt(1 - cosine**2), 0, 0]])
        w = np.repeat(head, 2, axis=0) + size * rng.standard_normal((4, 4))
        r = np.linalg.norm(w, axis=1)
        unit = w / r[:, None]
        with BALLS.precision():
            c = hermite.coefficients(BALLS, CORES["relu"], BALLS.array(r), BALLS.array(0.3 + 0 * r), last)[0]
        c = tails.middle(BALLS, c)
        alpha = np.array([[1.0], [-1.0], [1.0], [-1.0]])
        gram = np.einsum("ik,jk,ij->ijk", c, c, alpha @ alpha.T) * (unit @ unit.T)[:, :, None] ** np.arange(last + 1)
        block = gram.reshape(2, 2, 2, 2, -1).sum(axis=(1, 3))
        truth = float(np.sum(np.abs(block[0, 1, first:]))) + float(np.sum(np.abs(block[1, 0, first:])))
        single = np.sqrt(np.sum(c[:, first:] ** 2, axis=1)) * 1.02
        chi = np.linalg.norm(unit - unit[[0, 0, 2, 2]], axis=1)
        flat = np.sqrt(np.sum((c[::2, first:] - c[1::2, first:]) ** 2, axis=1)) * 1.02
        z = flat / first + 0.5 * (single * chi**2).reshape(2, 2).sum(axis=1)
        y = (single * chi).reshape(2, 2).sum(axis=1)
        starts, never = np.array([0, 2]), np.full(2, np.inf)
        bound = tails.between(
            FLOAT, unit, starts, np.full(4, 1e150), never, first, dipole=(z, y, chi.reshape(2, 2).max(axis=1))
        )
        assert truth <= bound
        assert bound <= 2e2 * size**2


@pytest.mark.parametrize("r", [0.02, 0.7, 3.0, 9.0])
def test_high_degrees_of_the_trapezoidal_rule(r: float) -> None:
    """erf(rg + b) has c_k = (2/√π)(r/√k)E[e^{−z²}he_{k−1}] = (2r/√(πkv))e^{−b²/v}(−t)^{k−1}he_{k−1}(√2b/√v), with
    v = 1 + 2r² and t = √2r/√v, here with 3,000 bits."""
    b, degree, before = np.array([-1.3, 0.0, 0.4]), 1024, ctx.prec
    with FLOAT.precision():
        found, error = hermite.coefficients(FLOAT, CORES["erf"], np.full(3, r), b, degree)
    ctx.prec = 3000
    try:
        v = 1 + 2 * arb(r) ** 2
        t = (2 / v).sqrt() * arb(r)
        for i, shift in enumerate(b.tolist()):
            x, previous, current = arb(shift) * (2 / v).sqrt(), arb(0), arb(1)
            factor = 2 * arb(r) / (arb.pi() * v).sqrt() * (-(arb(shift) ** 2) / v).exp()
            c = [(arb(shift) / v.sqrt()).erf()]
            for k in range(1, degree + 1):
                c.append(factor * (-t) ** (k - 1) * current / arb(k).sqrt())
                previous, current = current, (x * current - arb(k - 1).sqrt() * previous) / arb(k).sqrt()
            exact = np.array([float(value.mid()) for value in c])
            assert np.linalg.norm(found[i] - exact) <= error[i] <= 1e-10
    finally:
        ctx.prec = before


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_clouds_of_smooth_neurons_are_measured(name: str) -> None:
    """Particles around steep atoms are no copies of them: only high degrees bound what is left on both sides."""
    rng = np.random.default_rng(5)
    atoms = np.array([[2.5, 0.4], [-0.6, 3.0], [1.8, -1.9]])
    inner = np.repeat(atoms, 20, axis=0) + 0.05 * rng.standard_normal((60, 2))
    cloud = Network(inner=inner, outer=rng.uniform(0.5, 1.5, (60, 1)) / 20, activation=name)
    means = Network(inner=atoms, outer=cloud.outer.reshape(3, 20, 1).sum(axis=1), activation=name)
    law = Gaussian(np.zeros(2), np.eye(2))
    truth = planar_norm([(cloud, 1.0), (means, -1.0)], law)
    found = certify_pair(cloud, means, law, eps=1.05 * truth)
    assert found.verdict == "equivalent"
    assert found.lower * (1 - 1e-6) <= truth <= found.upper * (1 + 1e-6)
    assert found.upper <= 1.1 * found.lower
    narrow = certify_pair(cloud, means, law, eps=0.9 * truth)
    assert narrow.verdict == "distinct"
