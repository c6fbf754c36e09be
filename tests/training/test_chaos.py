"""Propagation of chaos: the linear scalar model in closed form, exact coupling, slopes, resume, the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsemf.exceptions import InputError
from sparsemf.reports.figures.chaos import chaos_figure
from sparsemf.training import TrainConfig
from sparsemf.training.chaos import propagation_of_chaos, time_grid
from sparsemf.training.chaos_slopes import Slopes, effective_systems, fit_slopes
from sparsemf.training.chaos_store import stored_chaos
from sparsemf.training.system import System
from sparsemf_cli.main import cli
from sparsemf_datasets import load_task
from training.support import ArrayTask

A, B, KAPPA, TAU, ETA = 1.44, 0.6, 0.5, 0.3, 0.25


def scalar_model():
    """f(x) = x·mean(w) on one sample x = √A, y = B/√A: N∇_w R = A·mean(w) − B, the linear scalar model."""
    task = ArrayTask(np.array([[math.sqrt(A)]]), np.array([[B / math.sqrt(A)]]))
    config = TrainConfig(
        "linear", outer="fixed", init_outer="one", sampling="full", steps=24, step_size=ETA, temperature=TAU,
        weight_decay=KAPPA, precision="float64",
    )  # fmt: skip
    return task, config


def closed_form(step):
    """(u, v) with E(X_i − Y_i)² = δu and E(X̄ − Ȳ)² = δv after ``step`` updates, by powers of the 2 × 2 chain."""
    alpha, rho = 1 - ETA * KAPPA, 1 - ETA * (A + KAPPA)
    move = np.array([[alpha, -ETA * A], [0.0, rho]])  # of (D_i, e)
    covariance = np.array([[0.0, 0.0], [0.0, 1.0]])  # e(0): draws of variance 1
    for _ in range(step):
        covariance = move @ covariance @ move.T + np.array([[0.0, 0.0], [0.0, 2 * TAU * ETA]])
    return covariance[0, 0], covariance[1, 1]


def test_the_closed_form_of_long_times():
    u, v = closed_form(2000)
    r, alpha, rho = A + KAPPA, 1 - ETA * KAPPA, 1 - ETA * (A + KAPPA)
    assert v == pytest.approx(TAU / (r * (1 - ETA * r / 2)), rel=1e-12)
    assert u == pytest.approx((ETA * A) ** 2 * v * (1 + alpha * rho) / ((1 - alpha * rho) * (1 - alpha**2)), rel=1e-12)


def test_linear_scalar_model_has_its_closed_form_at_every_time_and_width():
    """Each width against δu(t), A·δv(t) with δ = 1/N − 1/N_ref, within 3 standard errors over references."""
    task, config = scalar_model()
    widths, reference, seeds = [4, 16, 64, 128], 256, range(50)
    found = propagation_of_chaos(task, config, widths, reference, seeds, [1, 3, 8, 24])
    assert found.systems == (64, 16, 4, 2)
    for k, width in enumerate(widths):
        delta = 1 / width - 1 / reference
        for t, step in enumerate((0, *found.times)):
            u, v = closed_form(step)
            pairs = [(found.function[:, k, t], A * v * delta)]
            if t:
                pairs.append((found.coupled[:, k, t - 1], u * delta))
            for values, expected in pairs:
                error = values.std(ddof=1) / math.sqrt(len(values))
                assert abs(values.mean() - expected) < 3 * error, (width, step)
                assert error < 0.3 * expected
    # the finite reference is seen: at N = 128 of 256 the uncorrected law is twice too large
    u, _ = closed_form(24)
    assert found.coupled[:, -1, -1].mean() < 0.7 * u / 128
    assert found.spread.mean() == pytest.approx(A, rel=0.05)
    for quantity in ("coupled", "function", "initial"):
        slopes = found.slopes(quantity)
        assert all(lo < -1 < hi for lo, hi in zip(slopes.band_low, slopes.band_high, strict=True))


def test_slices_of_a_reference_count_as_derived():
    """Var of the mean of R Gaussian squares with the correlations of slices is 2/w, against brute force."""
    reference, width = 24, 4
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((200_000, reference))
    slices = draws.reshape(-1, 6, width).mean(axis=2) - draws.mean(axis=1, keepdims=True)
    for systems in (1, 2, 5, 6):
        square = (slices[:, :systems] ** 2).mean(axis=1) / (1 / width - 1 / reference)
        assert square.mean() == pytest.approx(1.0, abs=0.02)
        assert 2 / square.var() == pytest.approx(effective_systems(width, systems, reference), rel=0.03)


@pytest.mark.parametrize("options", [{"bias": True}, {"integrator": "baoab"}, {"sampling": "fresh", "samples": None}])
def test_the_reference_coupled_with_itself_is_at_distance_0(options):
    task = load_task("planted-tanh", d=2, outputs=2)
    settings = {"sampling": "full", "samples": 8, "temperature": 0.0, "steps": 6, "test_samples": 16, "batch": 8}
    config = TrainConfig("tanh", **(settings | options))
    found = propagation_of_chaos(task, config, [8, 64], 64, [0, 1], [1, 6])
    assert (found.coupled[:, 1] == 0).all()
    assert (found.function[:, 1] == 0).all()
    assert (found.coupled[:, 0] > 0).all()
    assert (found.function[:, 0] > 0).all()


def test_distances_are_those_of_systems_run_by_hand():
    """Two systems of five and a reference of twelve, moved by the trainer's own system, one after the other."""
    rng = np.random.default_rng(1)
    task = ArrayTask(rng.normal(size=(9, 2)), rng.normal(size=(9, 3)))
    config = TrainConfig(
        "erf", bias=True, sampling="full", steps=7, step_size=0.2, temperature=0.1, precision="float64"
    )
    found = propagation_of_chaos(task, config, [5], 12, [3], [2, 7])
    assert found.systems == (2,)

    def states(width, first):
        system = System(task, [replace(config, width=width, first_particle=first, seed=3)], torch.device("cpu"))
        system.start()
        x = torch.tensor(np.hstack([task.x, np.ones((9, 1))]))
        out = []
        for step in range(8):
            theta = torch.cat([system.particles.outer[0], system.particles.inner[0]], dim=1).numpy().copy()
            if step in (0, 2, 7):
                f = torch.erf(x @ system.particles.inner[0].T).numpy() @ theta[:, :3] / width
                out.append((theta, f))
            system.advance()
        return out

    whole, parts = states(12, 0), [states(5, 0), states(5, 5)]
    for t in range(3):
        near = [((part[t][0] - whole[t][0][5 * j : 5 * j + 5]) ** 2).sum() / 5 for j, part in enumerate(parts)]
        far = [((part[t][1] - whole[t][1]) ** 2).sum() / 9 for part in parts]
        assert found.function[0, 0, t] == pytest.approx(np.mean(far), rel=1e-9)
        if t:
            assert found.coupled[0, 0, t - 1] == pytest.approx(np.mean(near), rel=1e-9)
    z = np.hstack([task.x, np.ones((9, 1))]) @ whole[0][0][:, 3:].T
    neurons = torch.erf(torch.tensor(z)).numpy()[:, :, None] * whole[0][0][:, :3]  # (samples, particles, outputs)
    assert found.spread[0] == pytest.approx(neurons.var(axis=1, ddof=1).sum(axis=1).mean(), rel=1e-9)


def synthetic(rng, seeds, widths, reference, times):
    """Squared Gaussian fluctuations of slices, correlated in time: slope −1; each reference has a size of its own."""
    out = np.empty((seeds, len(widths), times))
    for s in range(seeds):
        size = math.exp(0.3 * rng.standard_normal())
        noise = np.empty((times, reference))
        noise[0] = rng.standard_normal(reference)
        for t in range(1, times):
            noise[t] = 0.8 * noise[t - 1] + 0.6 * rng.standard_normal(reference)
        for k, width in enumerate(widths):
            e = noise.reshape(times, -1, width).mean(axis=2) - noise.mean(axis=1, keepdims=True)
            out[s, k] = size * (e**2).mean(axis=1)
    return out


def test_bands_cover_the_true_slope_and_exclude_a_wrong_one():
    rng = np.random.default_rng(5)
    widths, reference, times, trials, seeds = [4, 8, 16, 32, 64], 512, 6, 200, 12
    systems = [reference // n for n in widths]
    steps = list(range(times))
    flatter = np.array([1 / n - 1 / reference for n in widths])[:, None] ** -0.2
    alone = together = wrong = 0
    for trial in range(trials):
        values = synthetic(rng, seeds, widths, reference, times)
        fit = fit_slopes(values, widths, systems, reference, steps)
        alone += fit.low[2] <= -1 <= fit.high[2]
        together += fit.excluding == 0
        if trial % 5 == 0:  # the same fluctuations around a slope of -0.8
            other = fit_slopes(values * flatter, widths, systems, reference, steps)
            assert other.slope == pytest.approx(np.array(fit.slope) + 0.2, abs=1e-9)
            assert other.uniform != "yes"
            assert other.excluding > 0
            wrong += not other.low[2] <= -1 <= other.high[2]
    # 95 % of 200 trials: standard deviation 1.5 %
    assert 0.905 <= alone / trials <= 0.99
    assert 0.905 <= together / trials <= 0.995
    assert wrong / (trials / 5) > 0.9  # at one time, by its own interval


def slopes_with(band):
    low, high = zip(*band, strict=True)
    middle = tuple((a + b) / 2 for a, b in band)
    return Slopes(tuple(range(1, len(band) + 1)), middle, middle, low, high, low, high, 2.0, 8)


def test_verdicts():
    sure = slopes_with([(-1.02, -0.99), (-1.04, -1.01)])
    assert (sure.uniform, sure.worst, sure.excluding) == ("yes", 1, 1)
    assert "-1 itself lies outside the band at 1 of 2 times" in sure.words()
    assert slopes_with([(-1.02, -0.99), (-1.06, -1.0)]).uniform == "undecided"
    assert slopes_with([(-1.02, -0.99), (-0.94, -0.9)]).uniform == "no"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [8, 4]}, "widths: expected increasing numbers"),
        ({"widths": [8, 128]}, "from 1 to the reference 64, got 8,128"),
        ({"seeds": [1, 1]}, "seeds: expected different numbers"),
        ({"times": [0, 3]}, "times: expected increasing steps from 1 to 6"),
        ({"systems": 0}, "systems: expected at least 1"),
        ({"config": {"parametrisation": "ntk"}}, "expected parametrisation mean-field"),
        ({"config": {"samples": None}}, "needs a number of samples"),
        ({"config": {"step_size": 1e12, "weight_decay": 0.0}}, "take a smaller step size"),
        ({"resume": True}, "expected the folder of an experiment"),
    ],
)
def test_what_cannot_work_is_refused(change, message):
    values = {"sampling": "full", "samples": 8, "steps": 6, "test_samples": 16, **change.pop("config", {})}
    given = {"widths": [4, 8], "reference": 64, "seeds": [0, 1], "times": [1, 6], **change}
    with pytest.raises(InputError, match=message):
        propagation_of_chaos(load_task("planted-relu", d=2), TrainConfig("relu", **values), **given)


def test_slopes_need_widths_references_and_distances():
    values = np.ones((3, 2, 1))
    with pytest.raises(InputError, match="at least 2 references"):
        fit_slopes(values[:1], [4, 8], [2, 1], 16, [1])
    with pytest.raises(InputError, match="at least 2 widths below"):
        fit_slopes(values, [4, 16], [4, 1], 16, [1])
    values[:, 1] = 0
    with pytest.raises(InputError, match="the distance of width 8 at step 1 is 0"):
        fit_slopes(values, [4, 8], [4, 2], 16, [1])
    with pytest.raises(InputError, match="finite distances"):
        fit_slopes(values * np.nan, [4, 8], [4, 2], 16, [1])


def test_a_grid_of_times_ends_at_the_last_step():
    assert time_grid(50, 12) == [1, 2, 3, 5, 6, 8, 11, 15, 20, 27, 37, 50]
    assert time_grid(5, 12) == [1, 2, 3, 4, 5]
    assert time_grid(1, 12) == [1]
    assert time_grid(70, 1) == [70]
    assert len(time_grid(100_000, 20)) <= 20
    with pytest.raises(InputError, match="at least one step"):
        time_grid(0, 3)


@pytest.mark.parametrize("stop_at", [3, 17, 40])
def test_an_interrupted_experiment_resumes_to_the_same_document(tmp_path, stop_at):
    task = load_task("planted-tanh", d=2)
    config = TrainConfig("tanh", sampling="full", samples=8, steps=6, test_samples=16, temperature=0.1)
    given = (task, config, [4, 8, 16], 64, [0, 1], [1, 3, 6])
    whole = propagation_of_chaos(*given).to_document()
    asked = []

    def interrupt():
        asked.append(1)
        return len(asked) == stop_at

    half = propagation_of_chaos(*given, out=tmp_path / "out", interrupt=interrupt)
    assert half.status == "interrupted"
    assert stored_chaos(tmp_path / "out").setup == half.setup
    with pytest.raises(InputError, match="already holds an experiment"):
        propagation_of_chaos(*given, out=tmp_path / "out")
    with pytest.raises(InputError, match="another widths"):
        propagation_of_chaos(task, config, [4, 8], 64, [0, 1], [1, 3, 6], out=tmp_path / "out", resume=True)
    done = []
    again = propagation_of_chaos(
        *given, out=tmp_path / "out", resume=True, progress=lambda at, total: done.append(at / total)
    )
    assert done[-1] == 1.0
    document = again.to_document()
    for each in (whole, document):
        each.pop("timing_s")
    assert document == whole
    assert propagation_of_chaos(*given, out=tmp_path / "out", resume=True).seconds == again.seconds


def test_a_damaged_or_foreign_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected the folder of an experiment"):
        stored_chaos(tmp_path)
    (tmp_path / "chaos.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not an experiment"):
        stored_chaos(tmp_path)


def run(capfd, *arguments):
    code = cli.main([str(a) for a in arguments], standalone_mode=False)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


SMALL = ("--widths", "4,8,16", "--reference", 64, "--seeds", 3, "--steps", 8, "--times", 3, "--samples", 8)


def test_the_command_writes_document_state_and_picture(tmp_path, capfd):
    import xml.etree.ElementTree as ElementTree

    options = ("--task", "planted-erf", "--set", "d=2", *SMALL, "--seed", 5)
    code, out, err = run(capfd, "chaos", *options, "--json", "-o", tmp_path / "out", "--plot", tmp_path / "chaos.svg")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert out == (tmp_path / "out" / "chaos.json").read_text()
    assert document["schema"] == "sparsemf/chaos/1"
    assert document["seeds"] == [5, 6, 7]
    assert document["config"]["activation"] == "erf"
    assert document["relaxation_times"][-1] == pytest.approx(8 * 0.4 * 0.5)
    delta = np.array([1 / n - 1 / 64 for n in document["widths"]])
    predicted = np.array(document["function"]["initial"]["predicted"])
    np.testing.assert_allclose(predicted / delta, predicted[0] / delta[0], rtol=1e-12)
    assert 0.3 < document["function"]["initial"]["mean"][0] / predicted[0] < 3
    assert document["uniform"] in ("yes", "no", "undecided")
    figure = (tmp_path / "chaos.svg").read_text()
    ElementTree.fromstring(figure)
    assert figure == chaos_figure(document)
    assert len(figure) < 150_000
    code, again, _ = run(capfd, "chaos", "--resume", tmp_path / "out", "--json")
    assert (code, json.loads(again)) == (0, document)
    code, text, _ = run(capfd, "chaos", *options, "-o", tmp_path / "one.json")
    assert code == 0
    assert "apart, from the random initial values" in text
    assert f"uniformly in time: {document['uniform']}" in text
    alone = json.loads((tmp_path / "one.json").read_text())
    assert alone["coupled"] == document["coupled"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "expected either --task NAME"),
        (("--task", "planted-tanh", "--widths", "a,b"), 4, "--widths a,b: expected integers with commas"),
        (("--task", "planted-tanh", "--widths", "8,4"), 4, "widths: expected increasing numbers"),
        (("--task", "nothing"), 4, "unknown task 'nothing'"),
        (("--task", "planted-tanh", "--weight-decay", 0), 4, "give the number of --steps"),
        (("--task", "planted-tanh", "--seeds", 1), 2, "--seeds"),
        (("--task", "planted-tanh", "--plot", "/nowhere/x.svg"), 4, "the folder /nowhere does not exist"),
        (("--resume", "/nowhere"), 4, "expected the folder of an experiment"),
        (("--resume", "/nowhere", "--seeds", 3), 2, "--seeds does not go with it"),
    ],
)
def test_errors_are_one_line(capfd, arguments, code, message):
    found, out, err = run(capfd, "chaos", *arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert err.count("\n") == 1
