"""The catalogue is printed from the registry and cannot drift from it; torch.nn's names are recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sparsemf.activations import get, names
from sparsemf.activations.catalogue import BEGIN, END, catalogue_table, rewrite
from sparsemf.activations.registry import aliases, entry
from sparsemf.exceptions import InputError

PAGE = Path(__file__).parents[2] / "docs" / "catalogue.md"


def test_the_page_holds_the_generated_table() -> None:
    between = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0].strip()
    assert between == catalogue_table(), "run: python -m sparsemf.activations.catalogue docs/catalogue.md"


def test_every_activation_has_a_complete_row() -> None:
    definitions, arguments, _ = catalogue_table().split("\n\n")
    for name in names():
        row = entry(name)
        assert all((row.formula, row.group, row.inactive, row.independence, row.source))
        assert sum(line.startswith(f"| `{name}` |") for line in definitions.splitlines()) == 1
        assert sum(f"`{name}`" in line.split(" | ")[0] for line in arguments.splitlines()) == 1
        assert all(get(alias) == get(name) for alias in aliases(name))
    for table in catalogue_table().split("\n\n"):
        columns = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(columns) == 1


def test_relations_and_images_are_printed_from_the_class() -> None:
    definitions, _, gated = catalogue_table().split("\n\n")
    lines = {line.split(" | ")[0]: line for line in (*definitions.splitlines(), *gated.splitlines())}
    assert "σ(z) = −σ(−z) + 1" in lines["| `sigmoid`"]
    assert "0.5·tanh(0.5·z) + 0.5" in lines["| `sigmoid`"]
    assert "σ(z) = −σ(−z) + z²" in lines["| `relu2`"]
    assert "relu(z) − relu(z − 6)" in lines["| `relu6`"]
    assert "a z v(x) (a quadratic form)" in lines["| SwiGLU"]
    assert "a v(x) (an affine function)" in lines["| GLU"]


def test_rewriting_keeps_the_prose_and_needs_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    rewrite(page)
    first = page.read_text(encoding="utf-8")
    rewrite(page)
    assert page.read_text(encoding="utf-8") == first
    assert first.startswith("before\n")
    assert first.endswith("\nafter\n")
    assert catalogue_table() in first
    page.write_text(f"{END} {BEGIN}", encoding="utf-8")
    with pytest.raises(InputError, match="markers"):
        rewrite(page)


@pytest.mark.parametrize(
    "module",
    [
        "ReLU", "LeakyReLU", "ReLU6", "Hardtanh", "Hardsigmoid", "Softsign", "ELU", "SELU", "CELU", "Mish", "GELU",
        "SiLU", "Softplus", "Tanh", "Sigmoid", "Identity",
    ],
)  # fmt: skip
def test_modules_of_torch_by_their_class_names(module: str) -> None:
    import torch

    z = torch.linspace(-9, 9, 361, dtype=torch.float64)
    np.testing.assert_allclose(get(module).value(z.numpy()), getattr(torch.nn, module)()(z).numpy(), atol=1e-14)


def test_the_tanh_form_of_torch() -> None:
    import torch

    z = torch.linspace(-9, 9, 361, dtype=torch.float64)
    truth = torch.nn.functional.gelu(z, approximate="tanh")
    np.testing.assert_allclose(get("gelu_pytorch_tanh").value(z.numpy()), truth.numpy(), atol=1e-14)
