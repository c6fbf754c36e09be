"""Planted teachers: few atoms in well-separated random directions, for every registered activation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.activations import get, torch_ops
from sparsemf.exceptions import InputError
from sparsemf.measures import Network, Provenance
from sparsemf_datasets.tasks import PopulationTask

if TYPE_CHECKING:
    import torch

    from sparsemf.identifiability import HermiteTarget

Array = NDArray[np.float64]

_CANDIDATES = 16
"""A handful a direction: they should be separated, not nearly orthogonal."""


def separated_directions(rng: np.random.Generator, atoms: int, d: int) -> Array:
    """Unit vectors (atoms, d), well separated as lines: the largest |⟨u_i, u_j⟩|, i ≠ j, is small.

    Atom by atom, the candidate farthest (as a line) from those chosen before is taken among random ones.
    """
    if d == 1:
        return rng.choice([-1.0, 1.0], size=(atoms, 1))
    chosen = np.empty((0, d))
    for _ in range(atoms):
        candidates = rng.standard_normal((_CANDIDATES, d))
        candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
        overlap = np.abs(candidates @ chosen.T).max(axis=1) if len(chosen) else np.zeros(len(candidates))
        chosen = np.vstack([chosen, candidates[np.argmin(overlap)]])
    return chosen


def planted_network(
    activation: str,
    d: int = 8,
    atoms: int = 5,
    outputs: int = 1,
    bias: bool = False,
    seed: int = 0,
) -> Network:
    """A teacher f(x) = Σ_j α_j σ(⟨w_j, x⟩ + b_j) with output scale 1 and no affine part.

    Directions w_j/‖w_j‖ are well separated as lines; the direction of α_j is uniform on the sphere of R^outputs (a
    random sign for one output); biases are uniform in [−1, 1], or 0.

    - Homogeneous σ: ‖w_j‖ = 1 and ‖α_j‖ uniform in [0.75, 1.5].
    - Others: ‖w_j‖ uniform in [2, 3] (not nearly linear on the bulk of N(0, I)), and α_j = a_j/atoms with ‖a_j‖/‖w_j‖
      uniform in [0.75, 1.25]: the mean-field network (1/S) Σ a_jσ(⟨w_j, ·⟩) whose layers are balanced, so that weight
      decay on both layers does not pull a student of unbounded σ to other scales (docs/training).

    With d = 1 all lines coincide, and the atoms need biases to be distinct.

    Raises :class:`InputError` for sizes below 1 and for d = 1 with several unbiased atoms.
    """
    for name, value in (("d", d), ("atoms", atoms), ("outputs", outputs)):
        if value < 1:
            raise InputError(f"planted teacher: expected {name} ≥ 1, got {value}")
    if d == 1 and atoms > 1 and not bias:
        raise InputError("planted teacher: in d = 1 several atoms are distinct only with biases")
    sigma = get(activation)
    rng = np.random.default_rng(seed)
    directions = separated_directions(rng, atoms, d)
    homogeneous = sigma.homogeneous is not None
    radius = np.ones(atoms) if homogeneous else rng.uniform(2.0, 3.0, atoms)
    sides = rng.standard_normal((atoms, outputs))
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    size = rng.uniform(0.75, 1.5, atoms) if homogeneous else rng.uniform(0.75, 1.25, atoms) * radius / atoms
    return Network(
        outer=size[:, None] * sides,
        inner=radius[:, None] * directions,
        bias=rng.uniform(-1.0, 1.0, atoms) if bias else np.zeros(atoms),
        activation=sigma,
        scale=1.0,
        provenance=Provenance(source=f"planted-{sigma.name}"),
    )


def network_target(teacher: Network) -> Callable[[torch.Tensor], torch.Tensor]:
    """x ↦ teacher(x) on tensors: (n, d) → (n, m), on the inputs' device and in their dtype."""
    import torch

    ops = torch_ops()
    arrays = (teacher.inner.T, teacher.bias, teacher.alpha, teacher.affine.T, teacher.offset)
    cache: dict[tuple[Any, Any], tuple[torch.Tensor, ...]] = {}

    def target(x: torch.Tensor) -> torch.Tensor:
        key = (x.dtype, x.device)
        if key not in cache:
            cache[key] = tuple(torch.tensor(array).to(x) for array in arrays)
        inner, bias, alpha, affine, offset = cache[key]
        value = teacher.activation.value(torch.addmm(bias, x, inner), ops)
        return value @ alpha + torch.addmm(offset, x, affine)

    return target


def planted_task(
    activation: str,
    d: int = 8,
    atoms: int = 5,
    outputs: int = 1,
    bias: bool = False,
    seed: int = 0,
) -> PopulationTask:
    """Learn :func:`planted_network` of the same arguments from N(0, I_d) inputs."""
    teacher = planted_network(activation, d, atoms, outputs, bias, seed)
    return PopulationTask(
        name=f"planted-{teacher.activation.name}",
        inputs=d,
        outputs=outputs,
        parameters={"d": d, "atoms": atoms, "outputs": outputs, "bias": bias, "seed": seed},
        target=network_target(teacher),
        activation=teacher.activation.name,
        teacher=teacher,
        expand=partial(network_expansion, teacher),
    )


def network_expansion(teacher: Network) -> HermiteTarget | None:
    """The teacher's Hermite coefficients up to the largest degree ≤ 12 with few enough multi-indices; None below 4."""
    from sparsemf.identifiability import HermiteTarget
    from sparsemf.identifiability.targets import few_enough

    degree = max((k for k in range(13) if few_enough(min(teacher.d, teacher.width), k)), default=0)
    return HermiteTarget.of_network(teacher, degree) if degree >= 4 else None
