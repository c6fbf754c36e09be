"""Losses against torch's own, and what labels they take."""

import numpy as np
import pytest
import torch

from sparsemf.exceptions import InputError
from sparsemf.training.losses import loss_named

F = torch.nn.functional
REFERENCE = {
    "square": lambda f, y: 0.5 * (f - y).square().sum(),
    "huber": lambda f, y: F.huber_loss(f, y, reduction="sum", delta=0.7),
    "logistic": lambda f, y: F.binary_cross_entropy_with_logits(f, y, reduction="sum"),
    "softmax": lambda f, y: F.cross_entropy(f, y, reduction="sum"),
}


def labels(name, shape, generator):
    raw = torch.randn(shape, generator=generator, dtype=torch.float64)
    if name == "softmax":
        return F.one_hot(raw.argmax(-1), shape[-1]).double()
    return (raw > 0).double() if name == "logistic" else raw


@pytest.mark.parametrize("name", REFERENCE)
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_value_and_derivative(name, scale):
    g = torch.Generator().manual_seed(0)
    f = scale * torch.randn((2, 9, 4), generator=g, dtype=torch.float64)
    y = labels(name, (9, 4), g)
    loss = loss_named(name, 0.7)
    for r in range(2):
        point = f[r].clone().requires_grad_()
        value = REFERENCE[name](point, y)
        (expected,) = torch.autograd.grad(value, point)
        residual = f.clone()
        values = loss.residual_(residual, y)
        assert float(values[r]) == pytest.approx(float(value.detach()), rel=1e-12)
        torch.testing.assert_close(residual[r], expected, rtol=1e-12, atol=1e-14)


def test_labels_are_read_or_refused():
    logistic, softmax = loss_named("logistic", 1.0), loss_named("softmax", 1.0)
    assert logistic.labels(np.array([[-1.0], [1.0]])).tolist() == [[0.0], [1.0]]
    assert logistic.labels(np.array([[0.25], [1.0]])).tolist() == [[0.25], [1.0]]
    with pytest.raises(InputError, match=r"labels in \[0, 1\] or all ±1"):
        logistic.labels(np.array([[3.0], [0.0]]))
    with pytest.raises(InputError, match="take loss logistic"):
        softmax.labels(np.ones((3, 1)))
    with pytest.raises(InputError, match="probability vector"):
        softmax.labels(np.ones((3, 2)))
    with pytest.raises(InputError, match="huber_delta"):
        loss_named("huber", 0.0)
    with pytest.raises(InputError, match="expected one of square"):
        loss_named("hinge", 1.0)
