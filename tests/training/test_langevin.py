"""The laws of the updates against closed forms, through the trainer's own loop: noise √(2τη) (not √(2τηN)), decay λθ
(not λθ/N), and the stationary measures of cases that can be written down."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import cumulative_trapezoid

from sparsemf.exceptions import InputError
from sparsemf.training import Schedule, TrainConfig, train
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.records import energy_balance
from sparsemf.training.system import System
from training.support import ArrayTask, SilentTask

CPU = torch.device("cpu")


def silent(**options) -> TrainConfig:
    defaults = {"width": 1000, "steps": 400, "sampling": "full", "precision": "float64", "metrics_every": 400}
    return TrainConfig("tanh", **(defaults | options))


def advanced(task, configs, steps):
    system = System(task, configs, CPU)
    system.start()
    for _ in range(steps):
        system.advance()
    return system


def test_noise_of_one_step_has_variance_2_tau_eta():
    config = silent(width=50_000, step_size=0.1, temperature=0.7, weight_decay=0.0)
    system = System(SilentTask(), [config], CPU)
    system.advance()  # from θ = 0, not from the initial law
    flat = system.particles.flat
    expected = 2 * 0.7 * 0.1
    assert abs(float(flat.var()) - expected) < 5 * expected * math.sqrt(2 / flat.numel())
    assert abs(float(flat.mean())) < 5 * math.sqrt(expected / flat.numel())


def test_decay_acts_on_every_particle_in_full():
    system = System(SilentTask(), [silent(step_size=0.1, temperature=0.0, weight_decay=0.3)], CPU)
    system.particles.flat.fill_(1.0)
    system.advance()
    expected = torch.full_like(system.particles.flat, 1 - 0.1 * 0.3)
    torch.testing.assert_close(system.particles.flat, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("width", [100, 10_000])
@pytest.mark.parametrize(("step_size", "weight_decay", "temperature"), [(0.5, 1.0, 0.3), (0.05, 2.0, 0.01)])
def test_euler_has_the_variance_of_its_autoregression(width, step_size, weight_decay, temperature):
    """The data say nothing (all inputs 0, σ(0) = 0): θ is an AR(1) chain of variance τ/(λ(1 − ηλ/2)).

    Through the whole trainer, at two widths: a factor N anywhere would show.
    """
    config = silent(width=width, step_size=step_size, weight_decay=weight_decay, temperature=temperature)
    run = train(SilentTask(), config)
    theta = np.concatenate([run.network.outer.ravel(), run.network.inner.ravel()])
    expected = temperature / (weight_decay * (1 - step_size * weight_decay / 2))
    assert abs(theta.var() - expected) < 5 * expected * math.sqrt(2 / theta.size)


@pytest.mark.parametrize(("step", "friction"), [(0.3, 1.0), (1.2, 0.4), (1.7, 3.0)])
def test_baoab_is_exact_for_a_quadratic_potential(step, friction):
    """Var θ = τ/λ for every step size; Var v = τ(1 − h²λ/4), Cov = 0."""
    config = silent(
        width=20_000, integrator="baoab", friction=friction, step_size=step, weight_decay=1.3, temperature=0.2
    )
    system = advanced(SilentTask(), [config], 200)
    theta, velocity = system.particles.flat.numpy(), system.integrator.tensors["velocity"].numpy()
    error = 5 * math.sqrt(2 / theta.size)
    assert theta.var() == pytest.approx(0.2 / 1.3, rel=error)
    assert velocity.var() == pytest.approx(0.2 * (1 - step * step * 1.3 / 4), rel=error)
    assert abs(np.corrcoef(theta, velocity)[0, 1]) < error


def linear_task():
    """E x² = a and E xy = b for f(x) = X̄x: the drift is aX̄ − b + κX_i (theory §7)."""
    return ArrayTask(np.array([[1.0], [-0.6]]), np.array([[0.9], [0.1]]))


A, B, KAPPA, TAU = (1.0 + 0.36) / 2, (0.9 - 0.06) / 2, 0.8, 0.3


def linear_configs(width, replicas, **options):
    config = TrainConfig(
        "linear",
        width=width,
        sampling="full",
        outer="fixed",
        init_outer="one",
        init_scale=1.0,
        temperature=TAU,
        weight_decay=KAPPA,
        precision="float64",
        **options,
    )
    return [replace(config, first_particle=r * width) for r in range(replicas)]


@pytest.mark.parametrize(("width", "replicas"), [(64, 1000), (256, 400), (1024, 160)])
@pytest.mark.parametrize("integrator", ["euler", "baoab"])
def test_linear_scalar_model_coupled_to_its_limit(width, replicas, integrator):
    """E(X̄ − m)² = τ/(N r) and E(X_i − Y_i)² = a²τ/(N r κ(κ + r)), r = a + κ, within three standard errors.

    Y_i is the limit's particle, moved here by the same noise, looked up by its address.  The discrete chain's own
    closed form for Euler: u = X_i − Y_i and v = X̄ − m obey u ← (1 − ηκ)u − ηav, v ← (1 − ηr)v + √(2τη/N)ξ̄.
    """
    step = 0.05 if integrator == "euler" else 0.3
    steps = 120 if integrator == "euler" else 60
    system = System(linear_task(), linear_configs(width, replicas, step_size=step, integrator=integrator), CPU)
    system.start()
    total = replicas * width
    x = system.particles.inner[:, :, 0]
    y = x.reshape(-1).clone()
    mean, speed, r = 0.0, 0.0, A + KAPPA
    noise = torch.empty(total, 2, dtype=torch.float64)
    if integrator == "baoab":
        velocity = normals(0, Stream.VELOCITY, 0, 0, noise)[:, 1] * math.sqrt(TAU)
        keep = math.exp(-step)
    for n in range(steps):
        normals(0, Stream.NOISE, n, 0, noise)
        if integrator == "euler":
            y -= step * (A * mean - B + KAPPA * y)
            y += math.sqrt(2 * TAU * step) * noise[:, 1]
            mean -= step * (r * mean - B)
        else:
            velocity -= 0.5 * step * (A * mean - B + KAPPA * y)
            speed -= 0.5 * step * (r * mean - B)
            y += 0.5 * step * velocity
            mean += 0.5 * step * speed
            velocity = keep * velocity + math.sqrt(TAU * (1 - keep * keep)) * noise[:, 1]
            speed *= keep
            y += 0.5 * step * velocity
            mean += 0.5 * step * speed
            velocity -= 0.5 * step * (A * mean - B + KAPPA * y)
            speed -= 0.5 * step * (r * mean - B)
        system.advance()
    centre = (x.mean(dim=1) - mean).square().numpy()
    apart = (x - y.view(replicas, width)).square().mean(dim=1).numpy()
    if integrator == "euler":
        v = 2 * TAU * step / width / (1 - (1 - step * r) ** 2)
        c = -step * A * (1 - step * r) * v / (1 - (1 - step * KAPPA) * (1 - step * r))
        u = (step * step * A * A * v - 2 * step * A * (1 - step * KAPPA) * c) / (1 - (1 - step * KAPPA) ** 2)
    else:
        v = TAU / (width * r)
        u = None  # the coupled distance of the underdamped pair has another law than the overdamped one
    for found, expected in ((centre, v), (apart, u)):
        if expected is not None:
            assert abs(found.mean() - expected) < 3 * found.std(ddof=1) / math.sqrt(replicas)
    if integrator == "euler":  # and the continuous formulas, to the order of the step
        assert v == pytest.approx(TAU / (width * r), rel=step)
        assert u == pytest.approx(A * A * TAU / (width * r * KAPPA * (KAPPA + r)), rel=2 * step)


@pytest.mark.parametrize(("integrator", "step"), [("euler", 0.02), ("baoab", 0.15)])
def test_gibbs_law_of_a_double_well(integrator, step):
    """One particle, f = w², label 1: U = ½(w² − 1)² + (λ/2)w²; its density by quadrature, 5,000 chains."""
    task = ArrayTask(np.ones((1, 1)), np.ones((1, 1)))
    config = TrainConfig(
        "quadratic",
        width=1,
        sampling="full",
        outer="fixed",
        init_outer="one",
        integrator=integrator,
        step_size=step,
        temperature=0.25,
        weight_decay=0.1,
        precision="float64",
    )
    configs = [replace(config, first_particle=r) for r in range(5000)]
    system = advanced(task, configs, int(12 / step))
    w = system.particles.inner.reshape(-1).numpy()
    grid = np.linspace(-4, 4, 20_001)
    density = np.exp(-(0.5 * (grid**2 - 1) ** 2 + 0.05 * grid**2) / 0.25)
    mass = cumulative_trapezoid(density, grid, initial=0)
    assert stats.kstest(w, lambda t: np.interp(t, grid, mass / mass[-1])).pvalue > 1e-3
    # it could fail: at twice the temperature, or with the noise of another scaling, it does
    wrong = cumulative_trapezoid(density**0.5, grid, initial=0)
    assert stats.kstest(w, lambda t: np.interp(t, grid, wrong / wrong[-1])).pvalue < 1e-3


def test_minibatch_noise_breaks_the_law_and_the_control_variate_mends_it():
    """One linear particle: w ← (1 − η(x² + κ))w + ηxy + √(2τη)ξ with (x, y) a random sample.

    Plain: the variance of an AR(1) chain with random coefficients, far above full batch; with anchors that of full
    batch, up to the spread of x² times the distance from the anchor.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 1)), rng.normal(size=(64, 1)) + 0.5
    eta, tau, kappa = 0.05, 0.004, 0.5
    common = {
        "width": 1,
        "outer": "fixed",
        "init_outer": "one",
        "step_size": eta,
        "temperature": tau,
        "weight_decay": kappa,
        "precision": "float64",
        "batch": 1,
    }

    def variance(**options):
        """Over 24 chains and 700 steps after 150, with the standard error of the chains' own variances."""
        config = TrainConfig("linear", **(common | options))
        system = advanced(ArrayTask(x, y), [replace(config, seed=r) for r in range(24)], 150)
        path = []
        for _ in range(700):
            system.advance()
            path.append(system.particles.inner.reshape(-1).clone().numpy())
        own = np.square(np.array(path) - np.mean(path)).mean(axis=0)
        return own.mean(), own.std(ddof=1) / math.sqrt(24)

    coefficient, constant = 1 - eta * (x**2 + kappa), eta * x * y
    mean = constant.mean() / (1 - coefficient.mean())
    second = ((2 * coefficient * constant).mean() * mean + (constant**2).mean() + 2 * tau * eta) / (
        1 - (coefficient**2).mean()
    )
    rate = (x**2).mean() + kappa
    exact = tau / (rate * (1 - eta * rate / 2))
    plain, error = variance(sampling="minibatch")
    # epochs without replacement take a little of the noise away, never add to it
    assert plain < second - mean**2 + 3 * error
    assert plain > 1.5 * exact
    full, error = variance(sampling="full")
    assert abs(full - exact) < 3 * error
    reduced, error = variance(sampling="minibatch", anchor_every=8)
    assert abs(reduced - exact) < 3 * error + 0.1 * exact
    assert reduced < plain - 3 * error


def test_energy_balance_closes_at_stationarity():
    """E Δm₂ = 0: drift = discretisation + noise, without data up to sampling error."""
    config = TrainConfig(
        "tanh",
        width=20_000,
        steps=600,
        sampling="full",
        step_size=0.2,
        weight_decay=1.0,
        temperature=0.1,
        metrics_every=2,
    )
    run = train(SilentTask(), config)
    tail = run.records[150:]
    assert abs(np.mean([r.balance for r in tail])) < 0.01
    assert np.mean([r.noise for r in tail]) == pytest.approx(0.1 * 4)
    assert run.records[0].balance > 0.05  # the O(1) initialisation is still cooling
    assert run.stationarity.stationary == "yes", run.stationarity.reasons


def test_student_initialisation_has_its_law():
    config = silent(width=20_000, init_tail=3, init_scale=math.sqrt(3))
    system = System(SilentTask(), [config], CPU)
    system.start()
    for column in (system.particles.outer[0, :, 0], system.particles.inner[0, :, 1]):
        assert stats.kstest(column.numpy(), stats.t(3).cdf).pvalue > 1e-3


def test_schedules_reach_the_update():
    """The temperature is 0 in the second half: nothing but decay happens there."""
    config = silent(steps=4, step_size=0.1, temperature=Schedule(1.0, 0.0, "linear", 0.0, 0.25), weight_decay=0.5)
    system = advanced(SilentTask(), [config], 3)
    before = system.particles.flat.clone()
    system.advance()
    torch.testing.assert_close(system.particles.flat, before * 0.95, rtol=1e-15, atol=0)


def test_a_coarse_run_moves_on_the_brownian_path_of_the_fine_one():
    """Additive noise: the strong error of Euler's method is O(η); with noise of its own a coarse run is O(1) away."""
    rng = np.random.default_rng(0)
    task = ArrayTask(rng.normal(size=(16, 2)), rng.normal(size=(16, 1)))
    config = TrainConfig("tanh", width=400, sampling="full", temperature=0.2, weight_decay=0.3, precision="float64")

    def end(division, **options):
        own = replace(config, step_size=0.01 * division, **options)
        return advanced(task, [own], 256 // division).particles.flat

    fine = end(1)
    apart = [float((end(m, noise_substeps=m) - fine).norm() / fine.norm()) for m in (2, 4, 8)]
    slopes = np.diff(np.log([a / (m - 1) for a, m in zip(apart, (2, 4, 8), strict=True)])) / math.log(2)
    # order 1: drift errors add up to (m − 1)η_fine, those of the noise within a step to √(m² − 1)η_fine
    assert slopes.min() > -0.45
    assert slopes.max() < 0.05
    assert apart[-1] < 0.05
    assert float((end(8) - fine).norm() / fine.norm()) > 0.5
    with pytest.raises(InputError, match="noise_substeps: expected integrator euler"):
        replace(config, noise_substeps=2, integrator="baoab")


def test_the_balance_of_baoab_is_exact_at_large_steps():
    """Drift = noise + discretisation at h = 0.8, where the virial identity alone fails."""
    task = ArrayTask(np.full((1, 1), 2.0), np.full((1, 1), 2.0))
    h, tau, friction, decay = 0.8, 0.25, 1.0, 0.3
    config = TrainConfig(
        "tanh",
        width=1,
        sampling="full",
        outer="fixed",
        init_outer="one",
        integrator="baoab",
        step_size=h,
        friction=friction,
        temperature=tau,
        weight_decay=decay,
        precision="float64",
    )
    system = advanced(task, [replace(config, first_particle=r) for r in range(8000)], 60)
    excess, virial = np.zeros(8000), np.zeros(8000)
    share = (0.5 + 0.5 * math.exp(-h * friction)) ** 2
    times = 80
    for _ in range(times):
        system.advance()
        w, v = (system.particles.split(t)[1].reshape(-1).numpy() for t in (system.particles.flat, velocity_of(system)))
        g = 2 * (np.tanh(2 * w) - 2) * (1 - np.tanh(2 * w) ** 2) + decay * w
        own = w * g - tau - share * ((v - h / 2 * g) ** 2 - tau)
        excess += own / times
        virial += (w * g - tau) / times
    balance = energy_balance(
        torch.from_numpy(w)[:, None],
        torch.from_numpy(g - decay * w)[:, None],
        w.size,
        h,
        tau,
        decay,
        total=lambda sums: sums,
        velocity=(torch.from_numpy(v)[:, None], friction),
    )
    assert balance["drift"] - balance["discretisation"] - balance["noise"] == pytest.approx(own.mean(), rel=1e-10)
    assert abs(excess.mean()) < 3 * excess.std(ddof=1) / math.sqrt(8000)
    assert abs(virial.mean()) > 6 * virial.std(ddof=1) / math.sqrt(8000)


def velocity_of(system: System) -> torch.Tensor:
    return system.integrator.tensors["velocity"]
