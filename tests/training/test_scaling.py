"""The μP check: exponents against theory and closed forms, the optimum of synthetic losses, resume, the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsemf.exceptions import InputError
from sparsemf.training import TrainConfig
from sparsemf.training import system as system_module
from sparsemf.training.coordinate_check import coordinate_check, coordinate_times, probe_inputs
from sparsemf.training.rate_sweep import (
    Sweep,
    best_rate,
    final_risks,
    searched,
    slope_of_best_rates,
    typical_losses,
)
from sparsemf.training.scaling import PARAMETRISATIONS, ScalingConfig, scaling_check
from sparsemf.training.scaling_laws import Slope, predicted_best_rate, predicted_size, slope_over_seeds
from sparsemf.training.system import System
from sparsemf_cli.main import cli
from sparsemf_datasets import load_task
from training.support import ArrayTask

CPU = torch.device("cpu")
TASK = load_task("planted-tanh", outputs=2)
WIDTHS = (128, 512, 2048)


def config(width, parametrisation, integrator="euler", **options):
    base = {"temperature": 0.0, "weight_decay": 0.0, "step_size": 0.05, "batch": 32, "bias": True}
    return TrainConfig("tanh", width=width, parametrisation=parametrisation, integrator=integrator, **(base | options))


def slopes(parametrisation, integrator, times, seeds=8):
    measured = [coordinate_check(TASK, config(n, parametrisation, integrator), seeds, times, 24, CPU) for n in WIDTHS]
    return {
        (name, t): slope_over_seeds(WIDTHS, np.stack([c.sizes[name][place] for c in measured]))
        for name in measured[0].sizes
        for place, t in enumerate(times)
        if t or not name.startswith("d")
    }


@pytest.mark.parametrize("parametrisation", PARAMETRISATIONS)
@pytest.mark.parametrize("integrator", ["euler", "adam"])
def test_sizes_scale_as_predicted(parametrisation, integrator):
    found = slopes(parametrisation, integrator, (0, 1, 6))
    compared = 0
    for (name, t), slope in found.items():
        if (predicted := predicted_size(integrator, parametrisation, name, t)) is not None:
            assert slope.value == pytest.approx(predicted, abs=0.15), (name, t)
            assert slope.agrees(predicted) is not False, (name, t)
            compared += 1
    # z, σ and f at the start, then Δz, Δf, Δa, Δw; at t = 6 only where f stays bounded
    bounded = predicted_size(integrator, parametrisation, "df", 6) is not None
    assert compared == (3 + 6 + 6 if bounded else 3 + 4)


def test_mean_field_with_the_multipliers_of_the_standard_parametrisation_is_found_drifting(monkeypatch):
    monkeypatch.setattr(system_module, "multipliers_of", lambda c: (float(c.width), 1.0 / c.width))
    found = slopes("mean-field", "euler", (1,))
    assert found["df", 1].agrees(0.0) is False
    assert found["df", 1].verdict == "drifts"
    # a is O(1) here, not √N: the inner update is N^{−1} and not N^{−1/2}
    assert found["dz", 1].value == pytest.approx(-1.0, abs=0.15)


def test_the_best_rate_of_a_wrong_mean_field_drifts_and_that_of_the_right_one_does_not(monkeypatch):
    options = {"widths": (32, 256), "steps": 40, "seeds": 4, "parametrisations": ("mean-field",), "batch": 32}
    check = ScalingConfig("tanh", coordinate_steps=1, test_samples=256, rates=(0.5, 4.0), **options)
    right = scaling_check(TASK, check).rate_slopes()[0]
    assert abs(right.slope.value) < 0.25
    monkeypatch.setattr(system_module, "multipliers_of", lambda c: (float(c.width), 1.0 / c.width))
    wrong = scaling_check(TASK, check).rate_slopes()[0]
    assert wrong.slope.value == pytest.approx(-1.0, abs=0.3)
    assert "drifts by N^-" in wrong.sentence


def test_sizes_at_one_width_are_those_of_autograd():
    """After one update in float64, with the root mean squares written out."""
    c = config(7, "mean-field", precision="float64", sampling="full", samples=20)
    measured = coordinate_check(TASK, c, 1, (0, 1), 5, CPU)
    system = System(TASK, [c], CPU)
    system.start()
    x, y = (part[0] for part in system.batch(0))
    a, w = (t[0].clone().requires_grad_() for t in (system.particles.outer, system.particles.inner))
    loss = 0.5 * (torch.tanh(x @ w.T) @ a / 7 - y).square().sum(1).mean()
    grad_a, grad_w = torch.autograd.grad(7 * loss, (a, w))
    probes = probe_inputs(TASK, c, 5, system.like)
    a1, w1 = (a - 0.05 * grad_a).detach(), (w - 0.05 * grad_w).detach()

    def rms(t):
        return float(t.detach().square().mean().sqrt())

    def f(a, w):
        return torch.tanh(probes @ w.T) @ a / 7

    expected = {
        "z": (rms(probes @ w.T), rms(probes @ w1.T)),
        "dz": (0.0, rms(probes @ w1.T - probes @ w.T)),
        "activation": (rms(torch.tanh(probes @ w.T)), rms(torch.tanh(probes @ w1.T))),
        "f": (rms(f(a, w)), rms(f(a1, w1))),
        "df": (0.0, rms(f(a1, w1) - f(a, w))),
        "da": (0.0, rms(a1 - a) / rms(a)),
        "dw": (0.0, rms(w1 - w) / rms(w)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(measured.sizes[name][:, 0], values, rtol=1e-10, atol=1e-15, err_msg=name)


def test_blocks_of_particles_do_not_change_the_sizes():
    times = (0, 2)
    whole = coordinate_check(TASK, config(50, "standard"), 2, times, 6, CPU)
    cut = coordinate_check(TASK, config(50, "standard", block=6 * 7), 2, times, 6, CPU)
    for name, values in whole.sizes.items():
        np.testing.assert_allclose(cut.sizes[name], values, rtol=1e-10)


def test_times_and_probes_of_data():
    assert coordinate_times(1) == (0, 1)
    assert coordinate_times(12) == (0, 1, 2, 4, 8, 12)
    assert coordinate_times(16) == (0, 1, 2, 4, 8, 16)
    data = ArrayTask(np.arange(20.0)[:, None], np.zeros((20, 1)))
    probes = probe_inputs(data, TrainConfig("tanh", bias=True), 3, torch.empty(0))
    assert probes.tolist() == [[0.0, 1.0], [9.0, 1.0], [19.0, 1.0]]


def test_exponents_of_exact_power_laws():
    sizes = np.outer(np.array(WIDTHS, dtype=float) ** -0.5, [1.0, 2.0, 5.0])
    slope = slope_over_seeds(WIDTHS, sizes)
    assert slope.value == pytest.approx(-0.5, abs=1e-12)
    assert slope.high - slope.low == pytest.approx(0.0, abs=1e-12)
    assert slope.verdict == "drifts"
    # slopes −1/2 and 0 of two seeds: mean −1/4, half width t₁(0.975)·sd/√2 = 12.706·(0.5/√2)/√2
    sizes = np.stack([np.array(WIDTHS, dtype=float) ** -0.5, np.ones(3)], axis=1)
    slope = slope_over_seeds(WIDTHS, sizes)
    assert slope.high == pytest.approx(-0.25 + 12.7062 * 0.25, rel=1e-4)
    assert (slope.verdict, slope.agrees(-0.5), slope.agrees(9.0)) == ("undecided", None, False)
    assert slope_over_seeds(WIDTHS, np.full((3, 2), np.inf)).value is None
    assert Slope(0.0, -0.1, 0.1).verdict == "stable"
    assert Slope(0.2, 0.1, 0.3).verdict == "undecided"


def test_an_ideal_rate_keeps_the_output_change_bounded():
    """η ∝ N^{−s} where Δf at a fixed η ∝ N^s."""
    for integrator in ("euler", "adam"):
        for name in PARAMETRISATIONS:
            assert predicted_best_rate(integrator, name) == -predicted_size(integrator, name, "df", 1)


@pytest.mark.parametrize("optimum", [-1.13, 0.0, 0.4])
def test_the_vertex_of_a_parabola_is_found_exactly(optimum):
    x = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 4.0])  # unequal distances
    losses = np.exp(0.3 * (x - optimum) ** 2 - 2.0)[:, None] * np.array([1.0, 2.0])
    found = best_rate(x, losses)
    assert found.how == "parabola"
    assert found.log_rate == pytest.approx(optimum, abs=1e-12)
    assert found.bounds[0] <= x[np.argmin(losses[:, 0])] <= found.bounds[1]


def test_divergence_is_an_infinite_loss():
    x = np.arange(5.0)
    falling = np.exp(-x)[:, None] * np.ones(3)
    falling[4, 1] = np.inf  # one seed of the last rate
    assert best_rate(x, falling).how == "edge"
    assert (best_rate(x, falling).log_rate, best_rate(x, falling).bounds) == (3.0, (2.5, 3.5))
    assert typical_losses(falling)[4] == np.inf
    assert best_rate(x[:4], falling[:4]).how == "open"
    assert best_rate(x, np.full((5, 3), np.inf)).how == "none"


@pytest.mark.parametrize("optimum", [-37, -8, 1, 3, 20])
def test_the_ladder_reaches_the_optimum_from_anywhere(optimum):
    asked = []

    def losses_at(rungs):
        asked.extend(rungs)
        k = np.array(rungs, dtype=float)
        return np.where(k <= optimum + 4, np.exp(0.05 * (k - optimum) ** 2), np.inf)[:, None] * np.ones(2)

    rungs, losses = searched(losses_at, -4, 6)
    assert len(asked) == len(set(asked)) == len(rungs)
    assert rungs == sorted(rungs)
    found = best_rate(np.array(rungs) / 2, losses)
    assert found.how == "parabola"
    assert found.log_rate == pytest.approx(optimum / 2, abs=1e-9)
    assert {optimum - 1, optimum, optimum + 1} <= set(rungs)


def test_one_lucky_rate_does_not_end_the_search():
    def losses_at(rungs):
        k = np.array(rungs, dtype=float)
        y = 0.05 * (k + 12) ** 2
        lucky = np.where(k == -2, 0.05 * 8**2 - 0.01, y)  # a little below its left neighbour −4, the end
        return np.exp(lucky)[:, None] * np.ones(2)

    rungs, losses = searched(losses_at, -4, 6)
    assert best_rate(np.array(rungs) / 2, losses).log_rate == pytest.approx(-6.0, abs=1e-9)


def test_a_ladder_without_an_optimum_ends():
    rungs, losses = searched(lambda rungs: np.full((len(rungs), 2), np.inf), 0, 4)
    assert rungs[0] == -120
    assert np.isinf(losses).all()


def synthetic_sweeps(exponent, widths, noise, seed=0, edge=False, seeds=4):
    """Parabolas in log η around c·N^exponent whose place differs between seeds by ``noise``."""
    rng = np.random.default_rng(seed)
    sweeps = []
    for n in widths:
        x = np.log(2.0) * 0.5 * np.arange(-40, 10)
        centre = exponent * math.log(n) + noise * rng.standard_normal(seeds)
        losses = np.exp((x[:, None] - centre) ** 2)
        if edge:
            losses = np.where(x[:, None] > exponent * math.log(n) + 0.1, np.inf, np.exp(-x[:, None]) * np.ones(seeds))
        sweeps.append(Sweep("standard", n, tuple(np.exp(x)), losses))
    return sweeps


@pytest.mark.parametrize("exponent", [0.0, -0.5, -1.0])
def test_the_slope_of_best_rates_of_synthetic_parabolas(exponent):
    widths = (64, 256, 1024)
    slope, each = slope_of_best_rates(synthetic_sweeps(exponent, widths, 0.0), 0)
    assert slope.value == pytest.approx(exponent, abs=1e-9)
    assert each[1].value == pytest.approx(exponent * math.log(256), abs=1e-9)
    # at an edge of stability the optimum is known to half a rung, and the interval says so
    slope, each = slope_of_best_rates(synthetic_sweeps(exponent, widths, 0.0, edge=True), 0)
    assert slope.low < exponent < slope.high
    assert 0.25 * math.log(2) < each[0].high - each[0].value < math.log(2)


def test_intervals_of_the_slope_cover():
    """Exact parabolas: η* of S seeds is the mean of their centres, so the slope's law is known."""
    covered = sum(
        slope.low <= -1.0 <= slope.high
        for s in range(20)
        for slope, _ in [slope_of_best_rates(synthetic_sweeps(-1.0, (64, 256, 1024), 0.1, seed=s), 0)]
    )
    assert covered >= 16  # fewer with probability 0.3 % at a coverage of 95 %


def test_a_diverged_run_leaves_the_others_alone():
    c = config(40, "standard", steps=30, test_samples=64)
    together = final_risks(TASK, c, [0.001, 0.01, 1e4], 2, CPU)
    alone = final_risks(TASK, c, [0.001, 0.01], 2, CPU)
    assert np.isinf(together[2]).all()
    np.testing.assert_allclose(together[:2], alone, rtol=1e-5)
    assert (alone < 10).all()


def test_stopped_and_resumed_is_the_same_document(tmp_path):
    check = ScalingConfig("relu", widths=(8, 16), steps=6, seeds=2, coordinate_steps=40, test_samples=32, probes=4)
    task = load_task("planted-relu")
    whole = scaling_check(task, check).to_document()
    asked = []

    def interrupt():
        asked.append(1)
        return len(asked) > 200

    half = scaling_check(task, check, tmp_path / "out", interrupt=interrupt)
    assert half.status == "interrupted"
    assert 0 < len(half.points) < 4
    shown = []
    again = scaling_check(task, check, tmp_path / "out", progress=lambda *a: shown.append(a))
    assert shown[-1] == ("done", 4, 4)
    on_disk = json.loads((tmp_path / "out" / "scaling.json").read_text())
    assert again.to_document() == on_disk
    del whole["timing_s"], on_disk["timing_s"]
    assert whole == on_disk
    # another width: only that one is measured, the others come from the folder
    wider = replace(check, widths=(8, 16, 24))
    assert len(scaling_check(task, wider, tmp_path / "out").points) == 6
    with pytest.raises(InputError, match="holds a check with another steps"):
        scaling_check(task, replace(check, steps=7), tmp_path / "out")
    (tmp_path / "out" / "points" / "standard-8.json").write_text("{")
    with pytest.raises(InputError, match=r"standard-8.json: expected a point of a scaling check"):
        scaling_check(task, check, tmp_path / "out")


def run(capfd, *arguments):
    code = cli.main([str(a) for a in arguments], standalone_mode=False)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


def test_the_command(tmp_path, capfd):
    x = np.random.default_rng(0).standard_normal((30, 3))
    np.savez(tmp_path / "points.npz", X=x, y=np.tanh(x))
    options = ("--data", tmp_path / "points.npz", "--activation", "tanh", "--widths", "8,32", "--steps", 8)
    options += ("--seeds", 2, "--coordinate-steps", 4, "--optimizer", "adam", "--rates", 0.05, 0.4, "--batch", 16)
    options += ("--parametrisation", "ntk", "--parametrisation", "mean-field", "-o", tmp_path / "out")
    code, out, err = run(capfd, "scaling", *options, "--json", "--plot", tmp_path / "s.svg")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert document["schema"] == "sparsemf/scaling/1"
    assert [r["parametrisation"] for r in document["rate_slopes"]] == ["ntk", "mean-field"]
    assert [r["predicted"] for r in document["rate_slopes"]] == [-0.5, 0.0]
    assert {s["width"] for s in document["sweeps"]} == {8, 32}
    assert document["task"]["outputs"] == 3
    svg = (tmp_path / "s.svg").read_text()
    assert svg.startswith("<svg ")
    for words in ("mean-field (μP)", "NTK", "theory N^-0.5", "best learning rate"):
        assert words in svg
    code, out, _ = run(capfd, "scaling", *options)
    assert code == 0
    assert "change Δz since t = 0" in out
    assert "mean-field: " in out


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--widths", "64"), 4, "widths: expected at least two different numbers"),
        (("--widths", "64,many"), 2, "expected numbers separated by commas"),
        (("--rates", "2", "1"), 4, "rates: expected 0 < LOW < HIGH, got 2 and 1"),
        (("--seeds", "1"), 4, "seeds: expected at least 2"),
        (("--activation", "nonsense"), 4, "nonsense"),
        (("--data", "x.npz", "--task", "digits"), 2, "expected either --task"),
        (("--plot", "nowhere/s.svg"), 4, "the folder nowhere does not exist"),
        (("--coordinate-rate", "-1"), 4, "coordinate_rate: expected a number > 0"),
        (("--steps", "0"), 4, "steps: expected an integer ≥ 1"),
    ],
)
def test_errors_are_one_line(capfd, options, code, message):
    found, out, err = run(capfd, "scaling", *options)
    assert (found, out) == (code, "")
    assert len(err.strip().splitlines()) == 1
    assert message in err
