"""The verdict on simulated records: false alarms, power, every reason it can give, several chains."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf.training import Schedule
from sparsemf.training.stationarity import (
    MIN_ESS,
    QUANTITIES,
    balance_series,
    balance_test,
    diagnose,
    diagnose_chains,
    one_sided,
    two_sided,
    window_difference,
    window_test,
)
from training.simulated import autoregressive, record, records, run, settings


def one_quantity(values, begin=0):
    """Records of ``loss`` only: the others are constant, their tests pass."""
    rest = {name: np.ones(len(values)) for name in ("m2", "m4")}
    return records(begin=begin, loss=values, **rest)


@pytest.mark.parametrize("phi", [-0.5, 0.0, 0.5, 0.9])
def test_a_stationary_run_is_stationary_and_says_with_what_figures(phi):
    tau = (1 + phi) / (1 - phi)
    length = 4 * round(100 * max(tau, 1))
    verdict = diagnose(run(length, phi, np.random.default_rng(1), spread=0.05), settings(length))
    assert verdict.stationary == "yes", verdict.reasons
    assert verdict.reasons == ()
    assert [t.quantity for t in verdict.tests] == list(QUANTITIES)
    half, middle = length // 2, 3 * length // 4
    assert verdict.windows == ((half + 1, middle), (middle + 1, length))
    assert verdict.relaxation_times == pytest.approx(length / 4, rel=0.02)
    for test in verdict.tests:
        assert test.tau_int == pytest.approx(max(tau, 0.5), rel=0.6)
        assert test.ess == pytest.approx(half / test.tau_int)
        assert test.r_hat < 1.05
        assert abs(test.second - test.first) <= test.threshold
        assert test.shift <= test.margin == pytest.approx(0.1, rel=0.05)


def test_false_alarms_stay_below_the_stated_rate():
    """150 whole verdicts of five independent quantities: below 7 "no" with probability 99.9 % at a rate of 1 %.

    At a rate of 10 % they would be 15 ± 4.  More runs: benchmarks/stationarity.py.
    """
    rng = np.random.default_rng(2)
    no = 0
    for phi in (0.0, 0.5, 0.7):
        half = 4 * math.ceil(30 * (1 + phi) / (1 - phi))
        config = settings(2 * half)
        for _ in range(50):
            found = run(half, phi, rng, spread=0.05, begin=half, make=SimpleNamespace)
            verdict = diagnose(found, config)
            no += verdict.stationary == "no"
    assert no < 7


def test_false_alarms_of_one_window_test_in_2000_series():
    """Rule 4 at level 5 %, 500 series at each φ: below 8 %, 5 % and three standard deviations."""
    rng = np.random.default_rng(3)
    for phi in (-0.5, 0.0, 0.5, 0.9):
        n = 4 * math.ceil(25 * max((1 + phi) / (1 - phi), 1))
        seen = []
        for x in autoregressive(phi, (500, n), rng):
            (first, second), _, threshold = window_difference(x, 0.05)
            seen.append(abs(second - first) > threshold)
        assert np.mean(seen) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 500)


@pytest.mark.parametrize("kind", ["ramp", "jump", "decay"])
def test_motion_of_one_quantity_is_seen(kind):
    """Three or four standard deviations in all over the last half, at 200 effective samples: seen in all of 20 runs.

    A relative change of 3 %, so that the resolution of 10 % does not help.
    """
    rng = np.random.default_rng(4)
    x = np.linspace(0, 1, 600)
    shape = {"ramp": 3 * x, "jump": 3.0 * (x > 0.5), "decay": 4 * np.exp(-3 * x)}[kind]
    for _ in range(20):
        verdict = diagnose(run(600, 0.5, rng, spread=0.01, shape=shape, moving=("m4",), begin=600), settings(1200))
        assert verdict.stationary == "no"
        assert [reason.split()[0].rstrip(":") for reason in verdict.reasons] == ["m4"]


def test_windows_that_differ_by_the_margin_pass_at_most_at_the_stated_rate():
    """10 % of the mean apart, with so much noise that rule 4 sees little: rule 5 lets below 5 % through."""
    rng = np.random.default_rng(5)
    jump = np.where(np.arange(400) < 200, 0.0, 0.1 / 0.9 / 0.35)
    passed = 0
    for x in autoregressive(0.3, (300, 400), rng):
        tail = [SimpleNamespace(step=i, loss=v) for i, v in enumerate(1 + 0.35 * (x + jump))]
        passed += window_test("loss", tail, 0.01 / 6, 0.05).passed
    assert passed / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_small_difference_passes_however_well_it_is_resolved():
    """0.05 % of the mean, a hundred standard errors."""
    values = 1 + 1e-6 * np.random.default_rng(6).standard_normal(200) + 5e-4 * (np.arange(200) >= 100)
    assert window_test("loss", [record(step=i, loss=v) for i, v in enumerate(values)], 0.01, 0.05).passed


def test_slow_records_are_not_believed():
    """φ = 0.99 with 400 records in the last half: two effective samples."""
    x = autoregressive(0.99, (400,), np.random.default_rng(7))
    verdict = diagnose(one_quantity(1 + 0.001 * x, begin=400), settings(800))
    assert verdict.stationary == "no"
    assert "loss: cannot see" in verdict.reasons[0]
    assert verdict.tests[0].ess < MIN_ESS


def test_noise_above_the_resolution_is_not_stationarity():
    x = np.random.default_rng(8).standard_normal(100)
    verdict = diagnose(one_quantity(1 + 0.7 * x, begin=100), settings(200))
    assert verdict.stationary == "no"
    assert "loss: not resolved" in verdict.reasons[0]


def test_free_energy_is_measured_against_the_energy():
    """A free energy about 0: relative to itself nothing would be resolved."""
    rng = np.random.default_rng(9)
    tail = [record(step=i, energy=1.0, free_energy=v) for i, v in enumerate(0.05 * rng.standard_normal(200))]
    test = window_test("free_energy", tail, 0.01, 0.05)
    assert test.passed
    assert test.margin == pytest.approx(0.1)


def test_quantities_that_were_not_recorded_are_skipped_and_sparse_ones_need_enough():
    rng = np.random.default_rng(10)
    found = run(200, 0.0, rng, spread=0.02, begin=200)
    plain = [replace(r, energy=None, free_energy=None) for r in found]
    verdict = diagnose(plain, settings(400))
    assert verdict.stationary == "yes"
    assert [t.quantity for t in verdict.tests] == ["loss", "m2", "m4"]
    every = [replace(r, free_energy=r.free_energy if i % 4 == 0 else None) for i, r in enumerate(found)]
    assert diagnose(every, settings(400)).stationary == "yes"
    rare = [replace(r, free_energy=r.free_energy if i % 10 == 0 else None) for i, r in enumerate(found)]
    assert diagnose(rare, settings(400)).reasons == (
        "free_energy was recorded 20 times in the last half, at least 40 are needed",
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad):
    found = run(100, 0.0, np.random.default_rng(11), spread=0.02, begin=100)
    found[50] = replace(found[50], m2=bad, drift=bad)
    verdict = diagnose(found, settings(200))
    assert verdict.reasons == ("m2 is not finite", "the drift-noise balance is not finite")
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_short_unfinished_and_annealed_runs():
    config = settings(400)
    found = run(400, 0.0, np.random.default_rng(12), spread=0.02)
    assert diagnose([], config).reasons == ("fewer than 40 records in the last half",)
    assert diagnose(found[:399], config).reasons == ("the run has not finished",)
    assert diagnose(found, config).stationary == "yes"
    assert diagnose(found[:320], config, end=320).stationary == "yes"  # stopped on purpose
    assert diagnose(found[-30:], config).reasons == ("fewer than 40 records in the last half",)
    moving = settings(400, temperature=Schedule(1.0, 0.5, "linear", 0.0, 0.6))
    assert diagnose(found, moving).reasons == ("the temperature was still annealed",)
    done = settings(400, temperature=Schedule(1.0, 0.5, "linear", 0.0, 0.5))
    assert diagnose(found, done).stationary == "yes"
    assert diagnose(found[:320], done, end=320).reasons == ("the temperature was still annealed",)


def test_a_window_must_last_ten_relaxation_times():
    found = run(100, 0.0, np.random.default_rng(13), spread=0.02)
    slow = [replace(r, step_size=0.5, weight_decay=0.5) for r in found]
    verdict = diagnose(slow, settings(100))
    assert verdict.relaxation_times == pytest.approx(6.25, rel=0.05)
    assert any("relaxation times" in reason for reason in verdict.reasons)


def balanced(excess):
    return records(loss=np.ones(len(excess)), m2=np.ones(len(excess)), m4=np.ones(len(excess)), excess=excess)


def test_the_balance_must_be_consistent_with_zero_and_not_only_small():
    """2 % off with noise of 5 % a record: below 10 %, and twenty standard errors from 0."""
    noise = np.random.default_rng(14).standard_normal(4000)
    assert diagnose(balanced(0.1 * noise), settings(4000)).stationary == "yes"
    verdict = diagnose(balanced(0.04 + 0.1 * noise), settings(4000))
    assert verdict.balance == pytest.approx(0.02, abs=0.005)
    assert "the drift-noise balance is off by 0.0" in verdict.reasons[0]
    assert len(verdict.reasons) == 1


def test_a_balance_that_is_not_known_is_not_zero():
    noise = np.random.default_rng(15).standard_normal(200)
    verdict = diagnose(balanced(1.5 * noise), settings(200))
    assert len(verdict.reasons) == 1
    assert "balance is known to" in verdict.reasons[0]


def test_the_balance_is_a_ratio_of_means():
    """Numerator and divisor move together: the mean of their ratio is −5 %, that of the numerator 0."""
    rng = np.random.default_rng(16)
    n = 20_000
    excess = 0.5 * rng.choice([-1.0, 1.0], n)
    tail = [record(step=i, drift=2 + e, noise=2.0, weight_decay=0.0, m2=1.0) for i, e in enumerate(excess)]
    ratios = [e / (4 + e) for e in excess]
    assert np.mean(ratios) < -0.01
    test = balance_test(tail, 0.01 / 6)
    assert test.passed
    np.testing.assert_allclose(balance_series(tail), excess / 4, rtol=0.01)


def test_records_without_the_identity_have_no_balance():
    found = run(100, 0.0, np.random.default_rng(17), spread=0.02)
    verdict = diagnose([replace(r, drift=None) for r in found], settings(100))
    assert (verdict.stationary, verdict.balance, verdict.balance_test) == ("yes", None, None)


def test_quantiles_of_student_s_law():
    from scipy.stats import t

    assert two_sided(0.01, 7.5) == pytest.approx(t.isf(0.005, 7.5))
    assert one_sided(0.002, 3.0) == pytest.approx(t.isf(0.002, 3.0))


# ---- several chains


def four(rng, length=600, phi=0.4, **options):
    return [run(length, phi, rng, spread=0.05, begin=length, **options) for _ in range(4)]


def test_chains_of_one_law_are_stationary_together():
    chains = four(np.random.default_rng(18))
    config = settings(1200)
    verdict = diagnose_chains(chains, [replace(config, seed=i) for i in range(4)])
    assert verdict.stationary == "yes", verdict.reasons
    assert len(verdict.chains) == 4
    assert [t.quantity for t in verdict.agreement] == list(QUANTITIES)
    for test in verdict.agreement:
        assert test.r_hat < 1.02
        assert test.ess == pytest.approx(2400 * 0.6 / 1.4, rel=0.4)
    assert verdict.to_dict() == diagnose_chains(chains, config).to_dict()
    json.dumps(verdict.to_dict(), allow_nan=False)


def test_false_alarms_of_four_chains():
    rng = np.random.default_rng(19)
    no = sum(diagnose_chains(four(rng), settings(1200)).stationary == "no" for _ in range(10))
    assert no <= 2  # at 1 % with probability above 99.9 %


def test_chains_that_are_each_stationary_and_disagree():
    rng = np.random.default_rng(20)
    chains = four(rng)
    chains[2] = run(600, 0.4, rng, spread=0.05, begin=600, shape=np.full(600, 0.6), moving=("m2",))
    verdict = diagnose_chains(chains, settings(1200))
    assert all(v.stationary == "yes" for v in verdict.chains)
    assert len(verdict.reasons) == 1
    assert "m2: the chains disagree" in verdict.reasons[0]


def test_a_chain_of_another_spread_is_seen_by_r_hat():
    rng = np.random.default_rng(21)
    chains = [one_quantity(1 + s * rng.standard_normal(600), begin=600) for s in (0.02, 0.02, 0.02, 0.1)]
    verdict = diagnose_chains(chains, settings(1200))
    assert all(v.stationary == "yes" for v in verdict.chains)
    assert len(verdict.reasons) == 1
    assert "loss: R̂ = 1." in verdict.reasons[0]


def test_chains_with_few_effective_samples_cannot_see():
    rng = np.random.default_rng(22)
    chains = [one_quantity(1 + 0.02 * autoregressive(0.5, (180,), rng), begin=180) for _ in range(3)]
    verdict = diagnose_chains(chains, settings(360))
    assert all("loss: cannot see" in reason for reason in verdict.reasons)
    assert len(verdict.reasons) == 1


def test_one_bad_chain_is_named():
    rng = np.random.default_rng(23)
    chains = four(rng)
    chains[1] = run(600, 0.4, rng, spread=0.05, begin=600, shape=np.linspace(0, 4, 600), moving=("loss",))
    reasons = diagnose_chains(chains, settings(1200)).reasons
    assert any(reason.startswith("chain 1: loss") for reason in reasons)
    assert not any(reason.startswith(("chain 0", "chain 2", "chain 3")) for reason in reasons)


def test_chains_that_cannot_be_compared():
    rng = np.random.default_rng(24)
    chains = four(rng, length=100)
    config = settings(200)
    with pytest.raises(InputError, match="at least two"):
        diagnose_chains(chains[:1], config)
    with pytest.raises(InputError, match="4 chains and 2 configurations"):
        diagnose_chains(chains, [config, config])
    with pytest.raises(InputError, match="one configuration but for the seed, got width = 1024 and 7"):
        diagnose_chains(chains[:2], [config, replace(config, width=7)])
    with pytest.raises(InputError, match="one metrics_every"):
        diagnose_chains([chains[0], chains[1][1:]], config)
    unfinished = diagnose_chains([chains[0], chains[1][:-1]], config)
    assert unfinished.reasons == ("chain 1: the run has not finished",)
    assert unfinished.agreement == ()
