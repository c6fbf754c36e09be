"""Every task loads, is deterministic and is what its description says."""

import itertools
import json

import numpy as np
import pytest
import torch

from sparsemf.activations import get, names
from sparsemf.exceptions import InputError
from sparsemf.training import Task
from sparsemf_datasets import DataTask, PopulationTask, entries, entry, load_task, planted_network
from sparsemf_datasets.hermite import normalised_hermite


@pytest.mark.parametrize("name", [e.name for e in entries()])
def test_every_task_satisfies_the_protocol_and_its_entry(name):
    task, again = load_task(name), load_task(name)
    assert isinstance(task, Task)
    assert (task.name, task.inputs, task.outputs) == (name, entry(name).inputs, entry(name).outputs)
    assert dict(task.parameters) == dict(entry(name).defaults)
    json.dumps(entry(name).to_dict())
    if isinstance(task, PopulationTask):
        assert task.data is None
        (x, y), (x2, y2) = task.sample(50, seed=4), again.sample(50, seed=4)
    else:
        assert task.data is not None
        (x, y), (x2, y2) = task.data, again.data
    assert x.shape == (len(x), task.inputs)
    assert y.shape == (len(x), task.outputs)
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(y, y2)
    assert np.isfinite(x).all()
    assert y.std() > 0.01


@pytest.mark.parametrize("activation", [*names(), "leaky_relu(0.2)"])
@pytest.mark.parametrize(("outputs", "bias"), [(1, False), (3, True)])
def test_planted_teacher_is_its_target(activation, outputs, bias):
    task = load_task(f"planted-{activation}", outputs=outputs, bias=bias, atoms=7, d=5)
    x, y = task.sample(40, seed=0)
    np.testing.assert_allclose(y, task.teacher(x), rtol=1e-12, atol=1e-13)
    single = task.target(torch.from_numpy(x).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), y, rtol=1e-7, atol=2e-5 * max(1.0, np.abs(y).max()))
    assert task.teacher.bias.any() == bias


@pytest.mark.parametrize("seed", range(5))
def test_planted_directions_are_separated_and_scales_are_as_stated(seed):
    for activation in ("relu", "tanh"):
        net = planted_network(activation, d=8, atoms=5, seed=seed)
        radius, size = np.linalg.norm(net.inner, axis=1), np.abs(net.alpha[:, 0])
        cosines = net.inner @ net.inner.T / np.outer(radius, radius)
        assert max(abs(cosines[i, j]) for i, j in itertools.combinations(range(5), 2)) < 0.5
        if get(activation).homogeneous is not None:
            np.testing.assert_allclose(radius, 1, rtol=1e-15)
            assert ((size >= 0.75) & (size <= 1.5)).all()
        else:
            assert ((radius >= 2) & (radius <= 3)).all()
            assert ((size * 5 / radius >= 0.75) & (size * 5 / radius <= 1.25)).all()


def test_seeds_give_different_teachers():
    assert not np.allclose(planted_network("relu", seed=0).inner, planted_network("relu", seed=1).inner)


def test_hermite_polynomials_are_orthonormal():
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    values = np.stack([normalised_hermite(torch.from_numpy(nodes), k).numpy() for k in range(9)])
    np.testing.assert_allclose((values * weights) @ values.T, np.eye(9), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("hermite-single-index", {"degree": 4}),
        ("hermite-multi-index", {"degree": 2, "directions": 3}),
        ("hermite-multi-index", {"degree": 1, "directions": 2, "combine": "product"}),
    ],
)
def test_hermite_targets_have_unit_norm_and_mean_zero(name, parameters):
    _, y = load_task(name, **parameters).sample(200_000, seed=0)
    assert abs(y.mean()) < 0.02
    assert np.mean(y**2) == pytest.approx(1, abs=0.15)


def test_digits_and_diabetes_are_standardised():
    for name in ("digits", "diabetes"):
        x, y = load_task(name).data
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-12)
        spread = x.std(0)
        np.testing.assert_allclose(spread[spread > 0], 1, rtol=1e-12)
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-12)


def test_a_data_set_knows_no_other_points():
    task = load_task("diabetes")
    assert isinstance(task, DataTask)
    with pytest.raises(InputError, match="fixed data set"):
        task.target(torch.zeros(3, 10))


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mnist", {}, "unknown task 'mnist'; known: planted-abs"),
        ("planted-foo", {}, "unknown activation"),
        ("planted-relu", {"depth": 3}, "no parameter 'depth'; known: d, atoms"),
        ("planted-relu", {"atoms": "many"}, "atoms expects int, got 'many'"),
        ("planted-relu", {"atoms": 0}, "atoms ≥ 1"),
        ("planted-relu", {"d": 1}, "only with biases"),
        ("hermite-single-index", {"degree": 0}, "degree ≥ 1"),
        ("hermite-multi-index", {"directions": 9}, "≥ 9, got 8"),
        ("hermite-multi-index", {"combine": "max"}, "sum or product"),
    ],
)
def test_bad_requests_say_what_is_known(name, parameters, message):
    with pytest.raises(InputError, match=message) as caught:
        load_task(name, **parameters)
    assert "\n" not in str(caught.value)


def test_parameters_may_be_text():
    task = load_task("planted-relu", atoms="3", bias="true")
    assert task.teacher.width == 3
    assert dict(task.parameters)["bias"] is True
