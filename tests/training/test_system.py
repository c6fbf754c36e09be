"""Replicas, blocks, parametrisations and optimisers against independent implementations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsemf.exceptions import InputError
from sparsemf.training import TrainConfig, train
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.system import System
from sparsemf.training.trainer import train_replicas
from sparsemf_datasets import load_task
from training.support import ArrayTask

CPU = torch.device("cpu")
BASE = {"steps": 12, "batch": 24, "metrics_every": 4, "precision": "float64", "step_size": 0.2, "temperature": 0.01}


def labelled(outputs=3, samples=40, inputs=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, inputs))
    return ArrayTask(x, np.eye(outputs)[rng.integers(0, outputs, samples)])


@pytest.mark.parametrize("integrator", ["euler", "baoab", "adam"])
@pytest.mark.parametrize(
    "options", [{}, {"sampling": "full"}, {"anchor_every": 5}, {"outer": "bounded"}, {"bias": True}]
)
@pytest.mark.parametrize("width", [10, 3000])  # 3000 × 24 is above SMALL: one replica after the other
def test_a_replica_is_the_run_it_would_be_alone(integrator, options, width):
    config = TrainConfig("tanh", width=width, integrator=integrator, **(BASE | options))
    configs = [
        config,
        replace(config, seed=5),
        replace(config, temperature=0.1),
        replace(config, step_size=0.1, weight_decay=0.0),
        replace(config, first_particle=7),
    ]
    together = train_replicas(labelled(), configs)
    for run, own in zip(together, configs, strict=True):
        alone = train(labelled(), own)
        assert run.config == alone.config
        np.testing.assert_allclose(run.network.outer, alone.network.outer, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(run.network.inner, alone.network.inner, rtol=1e-9, atol=1e-11)
        for one, other in zip(run.records, alone.records, strict=True):
            assert one.risk == pytest.approx(other.risk, rel=1e-9)
            assert one.loss == pytest.approx(other.loss, rel=1e-9)


def test_replicas_of_several_widths_keep_their_order_and_folders(tmp_path):
    config = TrainConfig("tanh", width=10, **BASE)
    configs = [config, replace(config, width=20), replace(config, seed=1), replace(config, width=20, seed=1)]
    folders = [tmp_path / str(i) for i in range(4)]
    runs = train_replicas(labelled(), configs, folders)
    assert [run.network.outer.shape[0] for run in runs] == [10, 20, 10, 20]
    for run, folder, own in zip(runs, folders, configs, strict=True):
        alone = train(labelled(), own, tmp_path / "alone" / folder.name)
        assert run.directory == folder
        np.testing.assert_allclose(run.network.outer, alone.network.outer, rtol=1e-9)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    with pytest.raises(InputError, match="already holds a run"):
        train_replicas(labelled(), configs, folders)


def test_replicas_resume_together(tmp_path):
    config = TrainConfig("tanh", width=10, checkpoint_every=5, **BASE)
    configs = [config, replace(config, seed=1)]
    whole = train_replicas(labelled(), configs)
    asked = []

    def interrupt():
        asked.append(1)
        return len(asked) == 7

    folders = [tmp_path / "a", tmp_path / "b"]
    half = train_replicas(labelled(), configs, folders, interrupt=interrupt)
    assert [run.status for run in half] == ["interrupted"] * 2
    for run, full in zip(train_replicas(labelled(), configs, folders, resume=True), whole, strict=True):
        assert np.array_equal(run.network.inner, full.network.inner)
        assert run.records == full.records


def test_only_the_stated_options_may_differ():
    config = TrainConfig("tanh", width=10, **BASE)
    with pytest.raises(InputError, match="one bias for all"):
        System(labelled(), [config, replace(config, bias=True)], CPU)


def test_blocks_change_the_run_by_rounding_only():
    task = load_task("planted-tanh", outputs=2)
    config = TrainConfig("tanh", width=50, **BASE)
    first = train(task, config)
    for block in (50 * 7, 60):
        other = train(task, replace(config, block=block))
        np.testing.assert_allclose(other.network.inner, first.network.inner, rtol=1e-9, atol=1e-12)


def reference_network(config, system, scale):
    """The network of another parametrisation in its own coordinates, and what torch's optimisers do to it."""
    a = (system.particles.outer[0] / scale).clone().requires_grad_()
    w = system.particles.inner[0].clone().requires_grad_()
    return a, w


@pytest.mark.parametrize("parametrisation", ["mean-field", "standard", "ntk"])
@pytest.mark.parametrize("integrator", ["euler", "adam"])
def test_parametrisations_are_gradient_descent_in_their_own_coordinates(parametrisation, integrator):
    """SGD and AdamW of torch on f = Σ ãσ (standard), N^{-1/2}Σ ãσ (ntk), (1/N)Σ aσ at the rate ηN (mean-field)."""
    task = labelled()
    width = 9
    config = TrainConfig(
        "tanh",
        width=width,
        integrator=integrator,
        parametrisation=parametrisation,
        sampling="full",
        temperature=0.0,
        weight_decay=0.0,
        step_size=0.01,
        precision="float64",
    )
    system = System(task, [config], CPU)
    system.start()
    scale = {"mean-field": 1.0, "standard": width, "ntk": math.sqrt(width)}[parametrisation]
    forward = {"mean-field": 1 / width, "standard": 1.0, "ntk": width**-0.5}[parametrisation]
    a, w = reference_network(config, system, scale)
    if parametrisation != "mean-field":  # their initialisation: ã ~ N(0, 1/N) and N(0, 1)
        draw = normals(0, Stream.INITIAL, 0, 0, torch.empty(width, 7, dtype=torch.float64))
        size = 1 / math.sqrt(width) if parametrisation == "standard" else 1.0
        torch.testing.assert_close(a.detach(), draw[:, :3] * size, rtol=1e-12, atol=0)
    rate = 0.01 * (width if parametrisation == "mean-field" and integrator == "euler" else 1.0)
    optimiser = (
        torch.optim.SGD([a, w], lr=rate) if integrator == "euler" else torch.optim.Adam([a, w], lr=rate, eps=1e-30)
    )
    if integrator == "adam":  # ε has the units of the gradient, so it is taken away on both sides
        system.config = replace(config, adam_epsilon=1e-30)
        system.integrator.config = system.config
    x, y = (torch.from_numpy(part) for part in task.data)
    for _ in range(5):
        optimiser.zero_grad()
        f = forward * torch.tanh(x @ w.T) @ a
        (0.5 * (f - y).square().sum(1).mean()).backward()
        optimiser.step()
        system.advance()
    torch.testing.assert_close(system.particles.outer[0] / scale, a.detach(), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(system.particles.inner[0], w.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("loss", ["square", "huber", "logistic", "softmax"])
@pytest.mark.parametrize("outer", ["trained", "bounded", "fixed"])
def test_gradient_of_every_loss_and_outer_map_is_that_of_autograd(loss, outer):
    task = labelled()
    config = TrainConfig("gelu", width=6, loss=loss, huber_delta=0.3, outer=outer, outer_bound=0.8, bias=True, **BASE)
    system = System(task, [config], CPU)
    system.start()
    p = system.particles
    x, y = (part[0] for part in system.batch(0))
    theta, w = p.outer[0].clone().requires_grad_(), p.inner[0].clone().requires_grad_()
    a = 0.8 * torch.tanh(theta / 0.8) if outer == "bounded" else theta
    f = torch.nn.functional.gelu(x @ w.T) @ a / 6
    functional = torch.nn.functional
    value = {
        "square": lambda: 0.5 * (f - y).square().sum(1).mean(),
        "huber": lambda: functional.huber_loss(f, y, reduction="sum", delta=0.3) / len(x),
        "logistic": lambda: functional.binary_cross_entropy_with_logits(f, y, reduction="sum") / len(x),
        "softmax": lambda: functional.cross_entropy(f, y),
    }[loss]()
    expected = torch.autograd.grad(6 * value, (theta, w))
    assert float(system.losses()[0]) == pytest.approx(float(value.detach()), rel=1e-12)
    zero = torch.zeros_like(expected[0])
    torch.testing.assert_close(system.grad_outer[0], zero if outer == "fixed" else expected[0], rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(system.grad_inner[0], expected[1], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", ["logistic", "softmax"])
def test_classifiers_learn_and_report_accuracy(loss):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    label = (x[:, 0] * x[:, 1] > 0).astype(int)
    y = np.eye(2)[label] if loss == "softmax" else 2.0 * label[:, None] - 1.0
    config = TrainConfig(
        "tanh", width=200, bias=True, loss=loss, steps=1500, batch=50, step_size=0.5, temperature=0.0,
        weight_decay=1e-4, metrics_every=1500, init_scale=2.0,
    )  # fmt: skip
    run = train(ArrayTask(x, y), config)
    last = run.records[-1]
    assert last.rel_error is None
    assert last.accuracy is not None
    assert last.accuracy > 0.97
    with pytest.raises(InputError, match="expected a data set with labels"):
        train(load_task("planted-tanh"), TrainConfig("tanh", loss="logistic", steps=1))


def test_bounded_outer_weights_reach_the_measure(tmp_path):
    config = TrainConfig("tanh", width=30, outer="bounded", outer_bound=0.5, **BASE)
    run = train(labelled(), config, tmp_path / "run")
    assert np.abs(run.network.outer).max() < 0.5
    from sparsemf import load

    np.testing.assert_array_equal(load(tmp_path / "run" / "measure.safetensors").outer, run.network.outer)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"integrator": "baoab", "parametrisation": "standard"}, "unit masses"),
        ({"integrator": "baoab", "step_size": 3.0, "weight_decay": 1.0}, "step_size² × weight_decay"),
        ({"compute": "bf16"}, "take --device cuda"),
        ({"outer_bound": 0.0, "outer": "bounded"}, "outer_bound: expected a number > 0"),
        ({"beta1": 1.0}, "beta1"),
        ({"init_tail": 0}, "init_tail"),
        ({"until": "stationary"}, "expected a constant step size"),
        ({"loss": "hinge"}, "loss: expected one of square"),
    ],
)
def test_configurations_that_cannot_work_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        TrainConfig("tanh", **options)


def test_a_control_variate_needs_minibatches():
    with pytest.raises(InputError, match="control variate"):
        train(labelled(), TrainConfig("tanh", sampling="full", anchor_every=3))
