"""When a run may stop: the looks, and how often a look stops too early."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf.training.stopping import (
    ERROR,
    GROWTH,
    LOOKS,
    first_stationary,
    look_times,
    should_stop,
    should_stop_chains,
)
from training.simulated import run, settings


@pytest.mark.parametrize(("budget", "every"), [(100_000, 1), (100_000, 100), (20_000, 7), (500, 10), (1, 1), (90, 1)])
def test_looks_grow_geometrically_and_end_at_the_budget(budget, every):
    looks = look_times(budget, every)
    assert looks[-1] == budget
    assert len(looks) <= LOOKS
    assert all(t % every == 0 for t in looks[:-1])
    assert all(80 * every <= t for t in looks[:-1])
    ratios = [b / a for a, b in pairwise(looks)]
    assert all(1 < r <= GROWTH + every / 80 for r in ratios)
    if budget == 100_000 and every == 1:
        assert len(looks) == LOOKS
        assert looks[-2] == 80_000


def test_a_budget_and_a_step_that_make_no_sense():
    with pytest.raises(InputError, match="expected a budget and a cadence ≥ 1"):
        look_times(0)
    with pytest.raises(InputError, match=r"step 999 is not a look of this budget, expected one of .*800, 1000"):
        should_stop([], settings(1000), 999)
    assert not should_stop([], settings(1000), 1000).stop


def transient(budget, amplitude, spread, time):
    """A e^{−t/T} in units of ``spread``; at every look the difference of the window means or, if larger, the rest."""
    shape = amplitude / spread * np.exp(-np.arange(budget) / time)
    moved = {}
    for look in look_times(budget):
        first = 1 + spread * shape[look // 2 : look - look // 4].mean()
        second = 1 + spread * shape[look - look // 4 : look].mean()
        moved[look] = max(abs(second - first) / first, second - 1)
    return shape, moved


def test_it_stops_after_the_transient_and_not_before():
    """Noise of 10 % in every record, a transient of 5 times the mean: early stops below the stated rate, then soon."""
    rng = np.random.default_rng(0)
    budget, spread = 2000, 0.1
    config = settings(budget)
    shape, moved = transient(budget, 5.0, spread, 40)
    settled = min(t for t, m in moved.items() if m <= 0.1)
    looks = []
    for _ in range(40):
        records = run(budget, 0.3, rng, spread=spread, shape=shape, make=SimpleNamespace)
        looks.append(first_stationary(records, config))
    assert all(look is not None for look in looks)
    early = sum(moved[look.step] > 0.1 for look in looks)
    assert early <= 7  # 40 runs at 5 %: above with probability below 0.1 %
    assert np.median([look.step for look in looks]) <= 3 * settled
    for look in looks:
        assert look.verdict.stationary == "yes"
        assert look.reasons == ()
        assert look.level == pytest.approx(ERROR / len(look_times(budget)))


def test_a_run_that_never_settles_uses_its_budget():
    rng = np.random.default_rng(1)
    ramp = np.linspace(0, 50, 1000)
    assert first_stationary(run(1000, 0.3, rng, shape=ramp), settings(1000)) is None
    assert first_stationary([], settings(1000)) is None


def test_one_moving_quantity_is_enough_to_go_on():
    rng = np.random.default_rng(2)
    shape = np.linspace(0, 20, 1000)
    look = should_stop(run(1000, 0.0, rng, spread=0.05, shape=shape, moving=("free_energy",)), settings(1000), 1000)
    assert not look.stop
    assert all(reason.startswith("free_energy") for reason in look.reasons)
    assert look.to_dict()["stop"] is False


def test_a_look_sees_nothing_after_its_step_and_agrees_with_the_replay():
    records = run(1000, 0.0, np.random.default_rng(3), spread=0.05)
    config = settings(1000)
    first = first_stationary(records, config)
    assert first is not None
    assert first.step < 400
    assert should_stop(records[: first.step], config, first.step) == first
    earlier = [t for t in look_times(1000) if t < first.step]
    assert not any(should_stop(records, config, t).stop for t in earlier)


def test_replicas_stop_together():
    rng = np.random.default_rng(4)
    config = settings(1000)
    chains = [run(1000, 0.0, rng, spread=0.02) for _ in range(3)]
    assert should_stop_chains(chains, config, 1000).stop
    chains[1] = run(1000, 0.0, rng, spread=0.02, shape=np.full(1000, 10.0), moving=("m2",))
    look = should_stop_chains(chains, config, 1000)
    assert not look.stop
    assert "m2: the chains disagree" in look.reasons[0]
    assert should_stop(chains[1], config, 1000).stop  # alone it is stationary
