"""Schedules: end points, monotony, windows, and what is refused."""

import numpy as np
import pytest

from sparsemf.exceptions import InputError
from sparsemf.training import Schedule, TrainConfig


@pytest.mark.parametrize("kind", ["linear", "cosine", "exponential"])
def test_moves_monotonically_inside_its_window_only(kind):
    schedule = Schedule(1e-1, 1e-5, kind, 0.2, 0.8)
    values = np.array([schedule.at(k, 1000) for k in range(1000)])
    assert np.allclose(values[:201], 1e-1, rtol=1e-14)
    assert np.allclose(values[800:], 1e-5, rtol=1e-12)
    assert (np.diff(values[200:800]) < 0).all()
    middle = {"linear": (1e-1 + 1e-5) / 2, "cosine": (1e-1 + 1e-5) / 2, "exponential": 1e-3}[kind]
    assert values[500] == pytest.approx(middle, rel=1e-9)


def test_constant():
    assert {Schedule(0.3).at(k, 10) for k in range(10)} == {0.3}
    assert not Schedule(0.3).moves_after(0.0)


@pytest.mark.parametrize(
    "arguments",
    [
        (-1.0,),
        (float("nan"),),
        (1.0, 0.5),
        (1.0, None, "cosine"),
        (1.0, 0.0, "exponential"),
        (1.0, 0.5, "linear", 0.5, 0.5),
        (1.0, 0.5, "cubic"),
    ],
)
def test_refuses(arguments):
    with pytest.raises(InputError):
        Schedule(*arguments)


def test_configuration_round_trip():
    import json

    config = TrainConfig("gelu_new", width=7, temperature=1e-3, step_size=Schedule(0.1, 0.01, "linear"))
    assert config.activation == "gelu_tanh"
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"width": 2.5},
        {"steps": 0},
        {"sampling": "some"},
        {"precision": "float16"},
        {"step_size": 0.0},
        {"step_size": 3.0, "weight_decay": 1.0},
        {"init_scale": -1.0},
        {"colour": "red"},
    ],
)
def test_configuration_refuses(options):
    with pytest.raises(InputError) as caught:
        TrainConfig.from_dict({"activation": "relu"} | options)
    assert "\n" not in str(caught.value)
