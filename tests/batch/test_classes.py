"""Classes of equal functions: the graph against brute force, the invariants against exact norms, files end to end."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sparsemf
from batch.test_batch import stripped, table
from cases import planted, planted_gated, rotated_atom
from sparsemf.batch import Settings, run_batch, work_list
from sparsemf.batch.class_graph import Edge, Graph
from sparsemf.batch.invariants import Invariants, invariants, lower_bounds
from sparsemf.measures import Empirical, Gaussian, InputLaw, Network
from sparsemf.measures.functions import l2_distance, l2_norm
from sparsemf.pipeline.verify import verify
from sparsemf.symmetry import disguise

REL = 0.1


class Points:
    """Points for networks: certificates with bounds of random tightness, the same for whoever asks."""

    def __init__(self, points: np.ndarray, slack: float, seed: int) -> None:
        self.points, self.edges, self.asked = points, {}, 0
        n = len(points)
        loose = np.random.default_rng(seed).uniform(0.0, slack, (n, n, 2))
        self.distance = np.linalg.norm(points[:, None] - points[None, :], axis=2)
        self.low, self.high = self.distance * (1 - loose[..., 0]), self.distance * (1 + loose[..., 1])
        self.norm = np.linalg.norm(points, axis=1)

    def edge(self, a: int, b: int) -> Edge:
        low, high, eps = float(self.low[a, b]), float(self.high[a, b]), REL * float(self.norm[a])
        word = "equivalent" if high <= 0.99 * eps else "distinct" if low > 1.01 * eps else "undecided"
        return Edge(a, b, word, low, high, 0.99 * eps, 1.01 * eps)

    def __call__(self, stage: str, pairs: list[tuple[int, int]]) -> None:
        assert all(a < b for a, b in pairs), stage
        self.asked += len(pairs)
        self.edges |= {(a, b): self.edge(a, b) for a, b in pairs}

    def invariants(self) -> dict[int, Invariants]:
        """The first coordinate, blurred within its error."""
        return {
            k: Invariants("", (p[:1] + 1e-3 * (-1) ** k,), (1e-3,), (0.98 * self.norm[k], 1.02 * self.norm[k]))
            for k, p in enumerate(self.points)
        }


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6), slack=st.sampled_from([0.0, 1e-6, 0.3]), budget=st.sampled_from([0, 1, 10**6]),
    most=st.sampled_from([0, 10**6]), spread=st.sampled_from([1e-9, 0.02, 0.06, 0.3]),
)  # fmt: skip
def test_the_graph_finds_the_components_of_all_pairs_and_says_only_what_is_true(
    seed: int, slack: float, budget: int, most: int, spread: float
) -> None:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 3)) + 1.5
    points = centres[rng.integers(0, 4, 14)] + spread * rng.standard_normal((14, 3))
    world = Points(points, slack, seed)
    graph = Graph([list(range(14))], world.invariants(), world, REL, budget)
    graph.compare()
    found = graph.classes(most)
    whole = nx.Graph()
    whole.add_nodes_from(range(14))
    whole.add_edges_from(p for p in combinations(range(14), 2) if world.edge(*p).verdict == "equivalent")
    truth = sorted(sorted(part) for part in nx.connected_components(whole))
    classes = [cls.members for cls in found.classes]
    if budget > 1:
        assert classes == truth
    assert all(any(set(c) <= set(t) for t in truth) for c in classes)  # never merged without a proof
    for cls in found.classes:
        inside = world.distance[np.ix_(cls.members, cls.members)]
        assert cls.diameter_lower <= inside.max() <= cls.diameter
        if cls.kind == "clique":
            assert (inside <= REL * world.norm[cls.members][:, None]).all()
    said = {(p.a, p.b): p for p in found.pairs}
    unsaid = 0
    for c, e in combinations(found.classes, 2):
        between = world.distance[np.ix_(c.members, e.members)]
        pair = said.get((c.members[0], e.members[0]))
        together = any(set(c.members) | set(e.members) <= set(t) for t in truth)
        if pair is None:
            unsaid += 1
            assert between.min() >= found.least
        else:
            assert between.min() >= pair.lower
        if pair is None or pair.verdict == "distinct":
            assert not together
            earlier = np.where(
                np.array(c.members)[:, None] < np.array(e.members),
                world.norm[c.members][:, None],
                world.norm[e.members],
            )
            assert (between > REL * earlier).all()
    assert unsaid == found.by_invariants


def test_planted_points_need_few_certificates() -> None:
    rng = np.random.default_rng(0)
    centres = 3 * rng.standard_normal((6, 3))
    points = centres[rng.integers(0, 6, 90)] + 1e-9 * rng.standard_normal((90, 3))
    world = Points(points, 0.1, 1)
    graph = Graph([list(range(90))], world.invariants(), world, REL, 10)
    graph.compare()
    found = graph.classes(300)
    assert len(found.classes) == 6
    assert all(cls.kind == "clique" for cls in found.classes)
    assert [p.verdict for p in found.pairs] == ["distinct"] * 15
    # the first coordinate tells some classes apart, so that not every network meets every representative
    assert world.asked <= 84 + 15 * 2 + 90
    assert world.asked < 90 * 89 / 8


LAWS = {
    "standard": lambda rng, d: Gaussian.standard(d),
    "layernorm": lambda rng, d: Gaussian.layernorm(rng.uniform(0.2, 3.0, d), rng.standard_normal(d)),
    "empirical": lambda rng, d: Empirical.of(rng.standard_normal((50, d)), "empirical"),
}


@pytest.mark.parametrize("law_name", LAWS)
@pytest.mark.parametrize(("d", "m"), [(3, 1), (40, 20)])
def test_invariants_bound_distances_from_below(law_name: str, d: int, m: int) -> None:
    """Against ‖f − g‖ from the Gram form (another formula); close networks, far ones, and the same function."""
    rng = np.random.default_rng([d, m])
    law: InputLaw = LAWS[law_name](rng, d)
    for activation in ("relu", "tanh", "gelu"):
        base = planted(rng, activation, d=d, atoms=4, outputs=m, bias=True, affine=True)
        nets = [base, disguise(base, rng, 20), rotated_atom(base, rng, 0, 0.01), base.with_(outer=base.outer * 1.5)]
        nets.append(planted(rng, activation, d=d, atoms=6, outputs=m, bias=True))
        nets.append(base.with_(quadratic=0.1 * rng.standard_normal((m, d, d))))
        found = [invariants(net, law) for net in nets]
        bounds = lower_bounds(found)
        assert np.array_equal(bounds, bounds.T)
        for i, j in combinations(range(len(nets)), 2):
            assert bounds[i, j] <= l2_distance(nets[i], nets[j], law).upper
        assert bounds[0, 1] <= 1e-12 * found[0].norm[1]  # the same function is never told apart
        for net, own in zip(nets, found, strict=True):
            exact = l2_norm(net, law)
            assert own.norm[0] <= exact.upper
            assert exact.lower <= own.norm[1]
        # they are of use: what is far is seen to be far, through contractions of 40 inputs too
        size = l2_norm(nets[0], law).lower
        assert bounds[0, 3] > 0.02 * size
        assert bounds[0, 4] > 0.1 * size
        assert Invariants.of(json.loads(json.dumps(found[0].document()))).errors == found[0].errors
    gated = planted_gated(rng, "silu", d=3)
    assert lower_bounds([invariants(gated, Gaussian.standard(3))] * 2).max() == 0.0


def test_invariants_see_every_degree() -> None:
    """Networks that differ in one Hermite degree only, up to the sixth."""
    rng = np.random.default_rng(3)
    w = rng.standard_normal((1, 3))
    w /= np.linalg.norm(w)
    for degree in range(2, 7):
        plus = Network([[1.0]], w, activation=f"hermite_{degree}")
        minus = plus.with_(outer=[[-1.0]])
        bound = lower_bounds([invariants(plus, Gaussian.standard(3)), invariants(minus, Gaussian.standard(3))])[0, 1]
        exact = 2 * math.sqrt(math.factorial(degree))
        assert 0.05 * exact < bound <= exact * (1 + 1e-12), degree
        if degree == 2:  # T₂ is seen whole in three dimensions
            assert bound > exact * (1 - 1e-8)


def test_files_end_to_end(tmp_path: Path) -> None:
    """Disguises in two formats and precisions, activations that are one function, another shape, a gated block."""
    rng = np.random.default_rng(4)
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    tanh = planted(rng, "tanh", d=3, atoms=2, bias=True)
    sigmoid = Network(2 * tanh.outer, 2 * tanh.inner, 2 * tanh.bias, "sigmoid", offset=-tanh.outer.sum(axis=0))
    relu = planted(rng, "relu", d=3, atoms=2)
    nets = {
        "a0.safetensors": tanh,
        "a1.npz": disguise(tanh, rng, 9),
        "a2.npz": sigmoid,
        "b0.npz": relu,
        "b1.safetensors": disguise(relu, rng, 8),
        "c0.npz": rotated_atom(relu, rng, 0, 0.2),
        "d0.npz": planted(rng, "relu", d=4, atoms=2),
        "e0.npz": planted_gated(rng, "silu", d=3, atoms=2, outputs=1),
    }
    for name, net in nets.items():
        sparsemf.save(net, source / name)
    found = run_batch(work_list(str(source)), Settings(), out, jobs=2, class_eps=1e-3)
    assert found.classes is not None
    assert found.failures == ()
    numbers = {row["path"]: row["class"] for row in table(out)}
    assert [numbers[name] for name in nets] == [1, 1, 1, 2, 2, 3, 4, 5]
    document = json.loads((out / "classes.json").read_text())
    assert document["certified"]
    assert [cls["kind"] for cls in document["classes"]] == ["clique", "clique", "single", "single", "single"]
    # only those of one shape are compared: the classes 1, 2, 3
    assert [(p["a"], p["b"], p["verdict"], p["how"]) for p in document["pairs"]] == [
        (a, b, "distinct", "certificate") for a, b in ((1, 2), (1, 3), (2, 3))
    ]
    for edge in document["edges"]:
        certificate = json.loads((out / edge["certificate"]).read_text())
        pair = {side: sparsemf.load(document["files"][edge[side]]) for side in "ab"}
        assert verify(certificate, pair).valid
        assert certificate["verdict"] == edge["verdict"]
        assert certificate["bounds"]["lower"] == edge["lower"]
    # a changed certificate is no certificate; the others are not made again
    before = stripped(out)
    times = {p.name: p.stat().st_mtime_ns for p in (out / "certificates").iterdir()}
    broken = out / document["edges"][0]["certificate"]
    broken.write_text(broken.read_text().replace('"equivalent"', '"distinct"'))
    run_batch(work_list(str(source)), Settings(), out, jobs=1, class_eps=1e-3)
    assert stripped(out) == before
    after = {p.name: p.stat().st_mtime_ns for p in (out / "certificates").iterdir()}
    assert {name for name in times if times[name] != after[name]} == {broken.name}
