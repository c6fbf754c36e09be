"""The a-priori moment bounds against chains that come as near to them as they can, and against closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import gammaln

from sparsemf.activations import get
from sparsemf.exceptions import InputError
from sparsemf.training.balls import precision
from sparsemf.training.drift import DriftBound, drift_bound
from sparsemf.training.gradient import MeanFieldGradient
from sparsemf.training.initial_law import GaussianBlocks, StudentT
from sparsemf.training.lyapunov import (
    GaussianTail,
    _one_step,
    _one_step_odd,
    continuous_bound,
    discrete_bound,
    discrete_recursion,
    energy_bound,
)
from sparsemf.training.lyapunov_run import noise_tail, run_bound
from sparsemf.training.membership import Weights, decide

AT_REST = [0.0] * 12


def log_gaussian(k, dimension):
    return 0.5 * k * math.log(2) + gammaln(0.5 * (k + dimension)) - gammaln(0.5 * dimension)


def outward_chain(rates, g0, g1, dimension, particles, orders, seed, start=0.0):
    """max over n of the sample moments of θ ← (1−κη)θ + η(G0 + G1|θ|)θ/|θ| + √(2τη) ξ, and their standard errors.

    The drift points outward, the worst that |g| ≤ G0 + G1|θ| allows.
    """
    rng = np.random.default_rng(seed)
    theta = np.zeros((particles, dimension))
    theta[:, 0] = start
    norms = np.linalg.norm(theta, axis=1, keepdims=True)
    best, error = np.zeros(len(orders)), np.zeros(len(orders))
    for eta, tau, kappa in rates:
        direction = np.divide(theta, norms, out=np.eye(1, dimension).repeat(particles, 0), where=norms > 0)
        sign = 1.0 if 1.0 - kappa * eta >= 0 else -1.0  # past κη = 1 the step overshoots: outward is the other way
        theta = (1 - kappa * eta) * theta + sign * eta * (g0 + g1 * norms) * direction
        theta += math.sqrt(2 * tau * eta) * rng.standard_normal(theta.shape)
        norms = np.linalg.norm(theta, axis=1, keepdims=True)
        powers = norms ** np.array(orders)
        mean, deviation = powers.mean(0), powers.std(0) / math.sqrt(particles)
        better = mean > best
        best, error = np.where(better, mean, best), np.where(better, deviation, error)
    return best, error


def stationary_moments(kappa, g, tau, eta, orders):
    """Of |θ| for the outward chain in R, by Gauss-Legendre quadrature of its Markov kernel (smooth on r > 0)."""
    nodes, weights = np.polynomial.legendre.leggauss(400)
    end = 12.0
    r, w = 0.5 * end * (nodes + 1), 0.5 * end * weights
    s = math.sqrt(2 * tau * eta)
    y = (1 - kappa * eta) * r + eta * g
    kernel = stats.norm.pdf(r[:, None] - y, scale=s) + stats.norm.pdf(r[:, None] + y, scale=s)
    density = np.exp(-r * r)
    for _ in range(400):
        density = kernel @ (w * density)
        density /= w @ density
    return np.array([w @ (density * r**k) for k in orders])


def test_euler_steps_leave_the_bound_of_the_flow_and_stay_below_the_chains():
    truth = stationary_moments(1.0, 1.0, 0.3, 0.5, [1, 2, 3, 4, 5, 6])
    flow = continuous_bound(6, 1.0, 1.0, 0.3, 1, AT_REST)
    assert flow.bound[3] == pytest.approx(3.674, abs=1e-3)
    assert truth[3] == pytest.approx(3.985, abs=1e-3)
    assert truth[3] > flow.bound[3]
    chain = discrete_bound(6, 1.0, 1.0, 0.3, 1, AT_REST, 0.5)
    sharp = discrete_recursion(6, 1.0, 1.0, 0.3, 1, AT_REST, 0.5)
    assert (truth <= sharp.bound).all()
    assert (np.array(sharp.bound) <= chain.bound).all()
    assert sharp.bound[3] < 1.15 * truth[3]
    assert chain.bound[3] == pytest.approx((1 + math.sqrt(0.3 / 0.75) * 3**0.25) ** 4, rel=1e-12)


def test_flow_formula_by_hand():
    """D = 3, κ = 2, G = 0.5, τ = 0.7, from m_k(0) = 1.5^k."""
    start = [1.5**k for k in range(1, 6)]
    m2 = max(start[1], ((0.5 + math.sqrt(0.25 + 4 * 2 * 0.7 * 3)) / 4) ** 2)
    m1 = math.sqrt(m2)
    m3 = max(start[2], (0.5 * m2 + 0.7 * 4 * m1) / 2)
    m4 = max(start[3], (0.5 * m3 + 0.7 * 5 * m2) / 2)
    m5 = max(start[4], (0.5 * m4 + 0.7 * 6 * m3) / 2)
    found = continuous_bound(5, 2.0, 0.5, 0.7, 3, start)
    np.testing.assert_allclose(found.bound, [m1, m2, m3, m4, m5], rtol=1e-12)
    assert found.holds
    assert found.horizon is None


@pytest.mark.parametrize("dimension", [1, 4])
@pytest.mark.parametrize("eta", [0.05, 0.6, 0.98, 1.0, 1.4])
def test_chains_with_the_worst_drift_stay_below(dimension, eta):
    orders = [1, 2, 3, 4, 6, 8]
    kappa, g, tau = 1.0, 0.8, 0.25
    steps = 200 if eta < 0.1 else 40
    rates = np.tile([eta, tau, kappa], (steps, 1))
    found, error = outward_chain(rates, g, 0.0, dimension, 20_000, orders, seed=3)
    sharp = np.array(discrete_recursion(8, kappa, g, tau, dimension, AT_REST, eta).bound)[np.array(orders) - 1]
    own = np.array(run_bound(8, rates, DriftBound.constant(g), dimension, AT_REST).bound)[np.array(orders) - 1]
    assert (found - 5 * error <= sharp).all()
    assert (found - 5 * error <= own).all()
    assert sharp[1] <= 1.15 * found[1]  # the second moment has little room
    assert (own <= 4.0 ** np.array(orders) * found).all()


@pytest.mark.parametrize("k", [2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_one_step_weights(k, dimension):
    """Σ a_i r^i against E‖y + sξ‖^k at |y| = ρr + c: equal for even k, above for odd k."""
    rho, kick, variance = 0.7, 0.3, 0.4
    with precision():
        step = _one_step if k % 2 == 0 else _one_step_odd
        order = k // 2 if k % 2 == 0 else k
        weights = [float(a.mid()) for a in step(order, dimension, *(map(_arb, (rho, kick, variance))))]
    for r in (0.0, 0.5, 3.0):
        y = rho * r + kick
        law = stats.ncx2(dimension, y * y / variance)
        nodes, mass = np.polynomial.legendre.leggauss(600)
        # substitute the square root, whose density is smooth
        u = 0.5 * 12.0 * (nodes + 1) + 1e-12
        truth = 6.0 * mass @ (law.pdf(u * u) * 2 * u * (math.sqrt(variance) * u) ** k)
        value = sum(a * r**i for i, a in enumerate(weights))
        if k % 2 == 0:
            assert value == pytest.approx(truth, rel=1e-6)
        else:
            assert truth * (1 - 1e-9) <= value <= 3.0 * truth


def _arb(x):
    from flint import arb

    return arb(x)


@given(
    eta=st.floats(0.01, 1.9),
    tau=st.floats(1e-4, 2.0),
    dimension=st.integers(1, 40),
    k=st.sampled_from([2, 4, 6, 10, 12]),
)
def test_without_drift_even_moments_are_exact(eta, tau, dimension, k):
    """The AR(1) chain from 0 tends to N(0, τ/(κ(1−κη/2)) I): sup E‖θ‖^k is that of its limit."""
    truth = 0.5 * k * math.log(tau / (1 - eta / 2)) + log_gaussian(k, dimension)
    found = discrete_recursion(12, 1.0, 0.0, tau, dimension, AT_REST, eta).log_bound[k - 1]
    assert truth - 1e-10 <= found <= truth + 1e-8


@given(g=st.floats(0.1, 10.0), kappa=st.floats(0.1, 2.0), eta=st.floats(0.05, 0.5))
def test_without_noise_the_bound_is_the_ball(g, kappa, eta):
    start = [0.0] * 6
    found = discrete_recursion(6, kappa, g, 0.0, 2, start, eta)
    np.testing.assert_allclose(found.log_bound, np.arange(1, 7) * math.log(g / kappa), atol=1e-9)
    steps = math.ceil(20 / (eta * kappa))
    own = run_bound(6, np.tile([eta, 0.0, kappa], (steps, 1)), DriftBound.constant(g), 2, start)
    np.testing.assert_allclose(own.log_bound, np.arange(1, 7) * math.log(g / kappa), atol=1e-6)


def test_small_steps_tend_to_the_flow():
    flow = np.array(continuous_bound(8, 1.0, 1.0, 0.3, 3, AT_REST).bound)
    chain = np.array(discrete_recursion(8, 1.0, 1.0, 0.3, 3, AT_REST, 1e-4).bound)
    np.testing.assert_allclose(chain, flow, rtol=0.01)


def test_high_orders_do_not_overflow():
    found = discrete_recursion(160, 1.0, 1e3, 10.0, 50, GaussianBlocks(((1.0, 50),)), 0.3)
    assert all(math.isfinite(v) for v in found.log_bound)
    assert found.bound[-1] == math.inf
    assert found.to_dict()["bound"][-1] is None
    roots = np.array(found.log_bound) / np.arange(1, 161)
    assert (np.diff(roots) >= -1e-9).all()  # Lyapunov: M_k^{1/k} increases


def test_a_schedule_of_rates_and_a_drift_that_grows():
    t = np.linspace(0, 1, 60)
    rates = np.stack([0.5 * (1 - 0.8 * t), 0.3 * np.exp(-4 * t), 0.8 * np.exp(-2 * t)], axis=1)
    orders = [1, 2, 3, 4, 6]
    for g1, dimension in itertools.product((0.0, 0.4), (1, 3)):
        drift = DriftBound(True, 0.5, g1)
        found, error = outward_chain(rates, 0.5, g1, dimension, 20_000, orders, seed=5, start=1.0)
        bound = run_bound(6, rates, drift, dimension, [1.0] * 6)
        top = np.array(bound.bound)[np.array(orders) - 1]
        assert bound.horizon == 60
        assert (found - 5 * error <= top).all()
        assert (top <= 2.2 ** np.array(orders) * found).all()


def test_gronwall_is_attained_without_noise():
    """θ ← (1 − κη + ηG1)θ + ηG0 from |θ_0| = 2: the bound is the path itself."""
    eta, kappa, g0, g1, steps = 0.1, 0.3, 0.7, 0.9, 50
    theta = 2.0
    for _ in range(steps):
        theta = (1 - kappa * eta + eta * g1) * theta + eta * g0
    # θ_0 enters through P_n only, so start at the fixed part
    law = GaussianBlocks((), fixed_square=4.0, fixed_dimension=3)
    rates = np.tile([eta, 0.0, kappa], (steps, 1))
    found = run_bound(5, rates, DriftBound(True, g0, g1), 3, law)
    np.testing.assert_allclose(np.array(found.log_bound) / np.arange(1, 6), math.log(theta), rtol=1e-9)
    assert discrete_recursion(5, kappa, DriftBound(True, g0, g1), 0.0, 3, law, eta).why_not is not None


def test_linear_drift_below_the_decay_has_a_bound_for_all_times():
    drift = DriftBound(True, 0.5, 0.3)
    rates = np.tile([0.4, 0.2, 1.0], (60, 1))
    orders = [1, 2, 3, 4, 6, 8]
    found, error = outward_chain(rates, 0.5, 0.3, 2, 20_000, orders, seed=7)
    bound = discrete_recursion(8, 1.0, drift, 0.2, 2, AT_REST, 0.4)
    top = np.array(bound.bound)[np.array(orders) - 1]
    assert bound.horizon is None
    assert (found - 5 * error <= top).all()
    assert top[1] <= 1.05 * found[1]


def test_gaussian_start_is_exact_in_a_run_without_drift():
    """Z_n stays Gaussian of variance P_n²v + V_n: the maximum over n is known."""
    rates = np.array([[0.5, 0.2, 0.4], [0.5, 1.0, 0.4], [0.1, 0.0, 3.0], [0.9, 0.01, 1.0]])
    variance, largest = 0.6, 0.6
    for eta, tau, kappa in rates:
        variance = (1 - eta * kappa) ** 2 * variance + 2 * tau * eta
        largest = max(largest, variance)
    found = run_bound(8, rates, DriftBound.constant(0.0), 5, GaussianBlocks(((0.6, 5),)))
    for k in range(2, 9):
        truth = 0.5 * k * math.log(largest) + log_gaussian(k, 5)
        assert truth - 1e-12 <= found.log_bound[k - 1] <= truth + 1e-9
    assert found.tail is not None
    assert found.tail.lower <= math.sqrt(largest) <= found.tail.upper
    assert found.tail.upper - found.tail.lower < 1e-9


def test_heavy_tailed_starts_have_no_bound_from_their_degrees_on():
    law = StudentT(4.5, 3)
    for found in (
        discrete_recursion(7, 1.0, 1.0, 0.1, 3, law, 0.2),
        run_bound(7, np.tile([0.2, 0.1, 1.0], (5, 1)), DriftBound.constant(1.0), 3, law),
        continuous_bound(7, 1.0, 1.0, 0.1, 3, law),
    ):
        assert all(math.isfinite(v) for v in found.log_bound[:4])
        assert all(v == math.inf for v in found.log_bound[4:])


def test_impossible_parameters_are_refused():
    with pytest.raises(InputError, match="κη ≤ 1"):
        discrete_bound(4, 2.0, 1.0, 0.1, 1, AT_REST, 0.6)
    with pytest.raises(InputError, match="decay"):
        continuous_bound(4, 0.0, 1.0, 0.1, 1, AT_REST)
    with pytest.raises(InputError, match="rates"):
        run_bound(4, np.array([[0.1, -1.0, 0.1]]), DriftBound.constant(1.0), 1, AT_REST)
    assert not discrete_recursion(4, 2.0, 1.0, 0.1, 1, AT_REST, 1.0).holds  # κη = 2


# --- the drift of the trainer


def particle_gradients(sigma, alpha, inner, x, y, radius, loss, delta=None):
    """N∇_{(α, w̃)} R_N of every particle, shape (N, m + k), by the formula itself."""
    a = radius * np.tanh(alpha / radius)
    z = x @ inner.T
    value, slope = sigma.value(z), sigma.derivative(z)
    f = value @ a / alpha.shape[0]
    if loss == "square":
        r = f - y
    elif loss == "huber":
        r = np.clip(f - y, -delta, delta)
    elif loss == "logistic":
        r = 1 / (1 + np.exp(-f)) - y
    else:
        e = np.exp(f - f.max(1, keepdims=True))
        r = e / e.sum(1, keepdims=True) - y
    g_alpha = (value.T @ r) / x.shape[0] * (1 - (a / radius) ** 2)
    g_inner = ((r @ a.T) * slope).T @ x / x.shape[0]
    return np.concatenate([g_alpha, g_inner], axis=1), (a, r)


def labels(loss, rows, outputs, rng):
    if loss == "softmax":
        return np.eye(outputs)[rng.integers(outputs, size=rows)]
    if loss == "logistic":
        return rng.integers(2, size=(rows, outputs)).astype(float)
    return rng.standard_normal((rows, outputs))


@pytest.mark.parametrize(
    ("name", "loss"),
    list(itertools.product(["tanh", "erf", "sigmoid", "relu"], ["square", "huber", "logistic", "softmax"])),
)
def test_drift_bound_against_a_search_for_the_largest_gradient(name, loss):
    rng = np.random.default_rng(11)
    sigma, radius, delta, outputs = get(name), 1.7, 0.6, 3
    x = np.concatenate([rng.standard_normal((6, 2)) * [3.0, 0.5], np.ones((6, 1))], axis=1)
    y = labels(loss, 6, outputs, rng)
    found = drift_bound(sigma, x, y, outer="bounded", outer_bound=radius, loss=loss, huber_delta=delta)
    part = drift_bound(sigma, x, y, outer="bounded", outer_bound=radius, loss=loss, huber_delta=delta, batch=2)
    if name == "relu" and loss == "square":
        assert not found.holds
        assert "Huber" in (found.why_not or "")
        return
    assert (found.g1 > 0) == (name == "relu")
    assert part.g0 >= found.g0
    worst = worst_part = 0.0
    for trial in range(300):
        # one block of equal particles, so that the residual is as large as it can be; weights of every size
        scale = 10.0 ** rng.uniform(-2, 1.5, 2)
        alpha = np.tile(scale[0] * rng.standard_normal(outputs), (4, 1))
        inner = np.tile(scale[1] * rng.standard_normal(3), (4, 1))
        rows = np.arange(6) if trial % 2 else rng.permutation(6)[:2]
        g, _ = particle_gradients(sigma, alpha, inner, x[rows], y[rows], radius, loss, delta)
        norm = np.linalg.norm(np.concatenate([alpha, inner], axis=1), axis=1)
        bound = found if trial % 2 else part
        ratio = float((np.linalg.norm(g, axis=1) / (bound.g0 + bound.g1 * norm)).max())
        if trial % 2:
            worst = max(worst, ratio)
        else:
            worst_part = max(worst_part, ratio)
    assert worst <= 1
    assert worst_part <= 1
    assert max(worst, worst_part) > 0.15  # not a bound of another size


def test_drift_bound_against_the_trainers_own_gradient():
    rng = np.random.default_rng(2)
    sigma, radius, width = get("tanh"), 2.0, 256
    x = np.concatenate([rng.standard_normal((40, 5)), np.ones((40, 1))], axis=1)
    y = rng.standard_normal((40, 2))
    found = drift_bound(sigma, x, y, outer="bounded", outer_bound=radius)
    risk = MeanFieldGradient(sigma, 1 << 16)
    tensors = [torch.from_numpy(v) for v in (x, y)]
    for scale in (0.1, 1.0, 5.0):
        alpha, inner = scale * rng.standard_normal((width, 2)), scale * rng.standard_normal((width, 6))
        a = radius * np.tanh(alpha / radius)
        grad_outer, grad_inner = torch.empty(width, 2, dtype=torch.float64), torch.empty(width, 6, dtype=torch.float64)
        risk(torch.from_numpy(a), torch.from_numpy(inner), *tensors, grad_outer, grad_inner)
        g = np.concatenate([grad_outer.numpy() * (1 - (a / radius) ** 2), grad_inner.numpy()], axis=1)
        own, _ = particle_gradients(sigma, alpha, inner, x, y, radius, "square")
        np.testing.assert_allclose(own, g, atol=1e-12)
        assert np.linalg.norm(g, axis=1).max() <= found.g0


def test_the_trainers_own_chain_stays_below_its_bound():
    """Bounded outer weights, minibatches, schedules, noise: mean moments of 12 runs of 512 particles."""
    rng = np.random.default_rng(8)
    sigma, radius, width, steps = get("tanh"), 1.5, 512, 60
    x = np.concatenate([rng.standard_normal((24, 3)), np.ones((24, 1))], axis=1)
    y = rng.standard_normal((24, 2))
    t = np.linspace(0, 1, steps)
    rates = np.stack([0.4 - 0.3 * t, 0.1 * np.exp(-3 * t), 0.4 * np.exp(-2 * t)], axis=1)
    law = GaussianBlocks(((1.0, 2), (1 / 3, 4)))
    bound = run_bound(8, rates, drift_bound(sigma, x, y, outer="bounded", outer_bound=radius, batch=4), 6, law)
    totals = np.zeros((steps + 1, 8))
    for _ in range(12):
        theta = rng.standard_normal((width, 6)) * np.sqrt([1.0, 1.0, *[1 / 3] * 4])
        for n in range(steps + 1):
            totals[n] += np.mean(np.linalg.norm(theta, axis=1)[:, None] ** np.arange(1, 9), axis=0) / 12
            if n == steps:
                break
            rows = rng.permutation(24)[:4]
            g, _ = particle_gradients(sigma, theta[:, :2], theta[:, 2:], x[rows], y[rows], radius, "square")
            eta, tau, kappa = rates[n]
            theta = (1 - eta * kappa) * theta - eta * g + math.sqrt(2 * tau * eta) * rng.standard_normal(theta.shape)
    highest = totals.max(0)
    assert bound.holds
    assert (highest * 0.97 <= bound.bound).all()
    assert (np.array(bound.log_bound) / np.arange(1, 9) <= np.log(highest) / np.arange(1, 9) + math.log(100)).all()


def test_one_aligned_neuron_nearly_attains_the_drift_bound():
    """One sample, y = −Y far below: r ≈ −Y…, σ = erf at its steepest gives |g_w| ≈ |r| R sup|σ′| ‖x‖."""
    sigma, radius, y = get("erf"), 1.0, -1e4
    x = np.array([[30.0, 40.0]])
    found = drift_bound(sigma, x, np.array([[y]]), outer="bounded", outer_bound=radius)
    g, _ = particle_gradients(sigma, np.full((1, 1), 30.0), np.zeros((1, 2)), x, np.array([[y]]), radius, "square")
    assert 0.999 * found.g0 <= np.linalg.norm(g) <= found.g0


def test_no_drift_bound_says_why():
    x, y = np.ones((3, 2)), np.ones((3, 1))
    free = drift_bound(get("tanh"), x, y)
    fresh = drift_bound(get("tanh"), None, None, outer="bounded", outer_bound=1.0)
    steep = drift_bound(get("relu2"), x, y, outer="bounded", outer_bound=1.0, loss="logistic")
    assert [b.holds for b in (free, fresh, steep)] == [False, False, False]
    assert "free" in (free.why_not or "")
    assert "expectation" in (fresh.why_not or "")
    assert "infinite" in (steep.why_not or "")
    assert not run_bound(4, np.ones((1, 3)), free, 2, AT_REST).holds
    with pytest.raises(InputError, match="R > 0"):
        drift_bound(get("tanh"), x, y, outer="bounded")
    with pytest.raises(InputError, match="simplex"):
        drift_bound(get("tanh"), x, 2 * y, outer="bounded", outer_bound=1.0, loss="softmax")


def test_energy_bounds_the_second_moment_of_the_flow():
    """Gradient flow of a small tanh network by short steps, free outer weights."""
    rng = np.random.default_rng(4)
    sigma, decay, width = get("tanh"), 0.05, 8
    x, y = rng.standard_normal((20, 3)), 3.0 * rng.standard_normal((20, 1))
    theta = rng.standard_normal((width, 4))

    def risk_and_gradient(theta):
        a, w = theta[:, :1], theta[:, 1:]
        value, slope = sigma.value(x @ w.T), sigma.derivative(x @ w.T)
        r = value @ a / width - y
        g = np.concatenate([value.T @ r, ((r @ a.T) * slope).T @ x], axis=1) / x.shape[0]
        return 0.5 * float((r * r).sum(1).mean()), g

    def second(theta):
        return float((theta**2).sum(1).mean())

    initial = second(theta)
    bound = energy_bound(initial, risk_and_gradient(theta)[0], decay).bound
    highest = initial
    for _ in range(4000):
        theta = theta - 0.01 * (risk_and_gradient(theta)[1] + decay * theta)
        highest = max(highest, second(theta))
    assert initial < 1.1 * initial < highest <= bound[1]


# --- growth as k → ∞


@pytest.mark.parametrize(
    ("text", "scale", "verdict"),
    [
        ("factorial^-0.6", 5.0, "member"),
        ("factorial^-0.4", 0.1, "not a member"),
        ("factorial^-0.5", 0.9, "member"),
        ("factorial^-0.5", 1.1, "not a member"),
        ("geometric 0.01", 1.0, "not a member"),
        ("gaussian 2", 1.9, "member"),
        ("gaussian 2", 2.1, "not a member"),
    ],
)
def test_proofs_agree_with_the_moments_of_a_gaussian(text, scale, verdict):
    """M_k = scale^k E‖ξ‖^k in closed form: log w_kM_k at large k goes where the proof says."""
    dimension = 3
    weights = Weights.parse(text)
    proved, _ = decide(weights, GaussianTail(scale, scale))
    assert proved == verdict
    orders = np.array([1e12, 2e12])  # (k/e)^0.1 has overtaken every constant here
    w = {
        "factorial": -weights.parameter * gammaln(orders + 1.0),
        "geometric": orders * math.log(weights.parameter),
        "gaussian": -(orders * math.log(weights.parameter) + log_gaussian(orders, dimension)),
    }[weights.form]
    product = w + orders * math.log(scale) + log_gaussian(orders, dimension)
    assert (product[1] < product[0]) == (verdict == "member")


def test_what_the_growth_does_not_decide_stays_open():
    assert decide(Weights.parse("factorial^-0.5"), GaussianTail(0.9, 1.1))[0] is None
    assert decide(Weights.parse("factorial^-0.8"), GaussianTail(1.0, math.inf))[0] is None
    assert decide(Weights.parse("1,0.5"), GaussianTail(1.0, 1.0))[0] is None
    assert decide(Weights.parse("gaussian 1"), None)[0] is None
    assert decide(Weights.parse("geometric 0.5"), GaussianTail(0.0, 0.0, 2.0))[0] == "member"
    assert decide(Weights.parse("geometric 0.6"), GaussianTail(0.0, 0.0, 2.0))[0] is None
    assert decide(Weights.parse("factorial^-0.1"), GaussianTail(0.0, 0.0, 2.0))[0] == "member"


def test_noise_bounds_the_growth_from_below_without_any_drift_bound():
    rates = np.array([[0.1, 0.2, 0.0], [0.5, 0.4, 0.0]])
    tail = noise_tail(rates, None)
    assert tail.lower == pytest.approx(math.sqrt(0.4), rel=1e-9)
    assert tail.upper == math.inf
    assert decide(Weights.parse("geometric 0.001"), tail)[0] == "not a member"
    assert noise_tail(rates, GaussianBlocks(((1.0, 2),))).lower == pytest.approx(1.0, rel=1e-9)
