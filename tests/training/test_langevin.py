"""The law of the update: noise √(2τη) (not √(2τηN)), decay λθ (not λθ/N), stationary Ornstein-Uhlenbeck variance."""

import math

import numpy as np
import pytest
import torch

from sparsemf.training import Schedule, TrainConfig, train
from sparsemf.training.particles import langevin_step
from training.support import SilentTask

N = 200_000


def step(flat, *, step_size, temperature, weight_decay, seed=0):
    g = torch.Generator().manual_seed(seed)
    langevin_step(flat, torch.zeros_like(flat), torch.empty_like(flat), g, step_size, temperature, weight_decay)
    return flat


def test_noise_of_one_step_has_variance_2_tau_eta():
    flat = step(torch.zeros(N, dtype=torch.float64), step_size=0.1, temperature=0.7, weight_decay=0.0)
    expected = 2 * 0.7 * 0.1
    assert abs(float(flat.var()) - expected) < 5 * expected * math.sqrt(2 / N)
    assert abs(float(flat.mean())) < 5 * math.sqrt(expected / N)


def test_decay_acts_on_every_particle_in_full():
    flat = step(torch.ones(N, dtype=torch.float64), step_size=0.1, temperature=0.0, weight_decay=0.3)
    torch.testing.assert_close(flat, torch.full_like(flat, 1 - 0.1 * 0.3), rtol=1e-15, atol=0)


def test_no_random_numbers_are_drawn_at_zero_temperature():
    g = torch.Generator().manual_seed(3)
    before = g.get_state()
    langevin_step(torch.ones(4), torch.zeros(4), torch.empty(4), g, 0.1, 0.0, 0.1)
    assert torch.equal(before, g.get_state())


@pytest.mark.parametrize("width", [100, 10_000])
@pytest.mark.parametrize(("step_size", "weight_decay", "temperature"), [(0.5, 1.0, 0.3), (0.05, 2.0, 0.01)])
def test_stationary_variance_without_data(width, step_size, weight_decay, temperature):
    """The data say nothing (all inputs 0, σ(0) = 0): θ is an AR(1) chain of variance τ/(λ(1 − ηλ/2)).

    Through the whole trainer, at two widths: a factor N anywhere would show.
    """
    config = TrainConfig(
        "tanh",
        width=width,
        steps=400,
        sampling="full",
        step_size=Schedule(step_size),
        weight_decay=Schedule(weight_decay),
        temperature=Schedule(temperature),
        precision="float64",
        metrics_every=400,
    )
    run = train(SilentTask(), config)
    theta = np.concatenate([run.network.outer.ravel(), run.network.inner.ravel()])
    expected = temperature / (weight_decay * (1 - step_size * weight_decay / 2))
    assert abs(theta.var() - expected) < 5 * expected * math.sqrt(2 / theta.size)


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
