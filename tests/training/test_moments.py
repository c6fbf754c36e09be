"""Moments of a run: log-safe rows, bands, growth, order, initial laws, weights, and the command."""

import json
import math
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln

from sparsemf.exceptions import InputError
from sparsemf.training import Schedule, TrainConfig, train
from sparsemf.training.initial_law import GaussianBlocks, StudentT, initial_moments, trainer_law
from sparsemf.training.lyapunov import discrete_recursion
from sparsemf.training.membership import Weights, membership
from sparsemf.training.moment_document import certificate_of, with_infinite
from sparsemf.training.moments import MomentRow, growth, moment_row, read_rows
from sparsemf.training.order import fit_order
from sparsemf_cli.main import cli
from sparsemf_datasets import load_task


def normal_norms(count, dimension, seed, scale=1.0):
    return scale * np.linalg.norm(np.random.default_rng(seed).standard_normal((count, dimension)), axis=1)


@pytest.mark.parametrize("count", [1, 7, 64, 1000, 70_001])
def test_moments_and_effective_numbers_are_the_sums_themselves(count):
    norms = normal_norms(count, 3, 0)
    row = moment_row(norms, 5, 1)
    assert (row.step, row.width, len(row.log_m)) == (5, count, 12)
    for k in range(1, 13):
        m = np.mean(norms**k)
        assert row.log_m[k - 1] == pytest.approx(math.log(m), abs=1e-10)
        assert row.effective[k - 1] == pytest.approx(np.sum(norms**k) ** 2 / np.sum(norms ** (2 * k)), rel=1e-10)
        assert row.low[k - 1] <= row.log_m[k - 1] <= row.high[k - 1]
    assert row.log_max == pytest.approx(math.log(norms.max()))


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_huge_and_tiny_norms_only_shift_the_logarithms(factor):
    norms = normal_norms(500, 2, 1)
    plain, shifted = moment_row(norms, 0, 0, k_max=40), moment_row(norms * factor, 0, 0, k_max=40)
    orders = np.arange(1, 41)
    np.testing.assert_allclose(np.array(shifted.log_m) - orders * math.log(factor), plain.log_m, atol=1e-9)
    np.testing.assert_allclose(np.array(shifted.high) - orders * math.log(factor), plain.high, atol=1e-9)
    np.testing.assert_allclose(shifted.effective, plain.effective, rtol=1e-9)
    document = growth([shifted]).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["moments"][39]["M"] is None or factor < 1


def test_equal_particles_and_particles_at_rest():
    same = moment_row(np.full(100, 2.0), 0, 0)
    np.testing.assert_allclose(same.log_m, np.arange(1, 13) * math.log(2))
    np.testing.assert_allclose(same.low, same.high)
    np.testing.assert_allclose(same.effective, 100)
    rest = moment_row(np.zeros(10), 0, 0)
    assert rest.log_m == (-math.inf,) * 12
    assert json.loads(rest.line())["log_m"] == [None] * 12
    assert MomentRow.from_dict(json.loads(rest.line())) == rest
    with pytest.raises(InputError, match="finite"):
        moment_row(np.array([1.0, np.nan]), 0, 0)


def test_rows_are_reproducible_and_depend_on_seed_and_step():
    norms = normal_norms(3000, 4, 2).astype(np.float32)
    line = moment_row(norms, 7, 3).line()
    assert moment_row(norms.copy(), 7, 3).line() == line
    assert moment_row(norms, 8, 3).low != moment_row(norms, 7, 3).low
    assert moment_row(norms, 7, 4).low != moment_row(norms, 7, 3).low


def test_bands_cover_as_often_as_they_say():
    """m_2 of N(0, I_3) is 3; 95 % of 300 bands, binomial noise aside."""
    truth = math.log(3.0)
    rows = [moment_row(normal_norms(2000, 3, seed), 0, seed, k_max=2) for seed in range(300)]
    covered = sum(row.low[1] <= truth <= row.high[1] for row in rows)
    assert 0.90 * 300 <= covered <= 0.985 * 300


def test_files_round_trip_and_damage_is_named(tmp_path):
    path = tmp_path / "moments.jsonl"
    rows = [moment_row(normal_norms(50, 2, s), s, 0) for s in (0, 10, 20)]
    path.write_text("".join(row.line() for row in rows))
    assert read_rows(path) == rows
    first = json.loads(rows[0].line())
    for text, why in [
        ("", "at least one"),
        (rows[0].line()[:-20], "line 1"),
        (rows[1].line() + rows[0].line(), "increasing"),
        (json.dumps(first | {"low": first["low"][:-1]}), "line 1"),
        (json.dumps(first | {"low": first["high"], "high": first["low"]}), "low ≤"),
        (json.dumps(first | {"width": "many"}), "integer"),
        (json.dumps({"step": 1}), "line 1"),
        (json.dumps([1]), "line 1"),
        (rows[0].line() + moment_row(normal_norms(60, 2, 1), 5, 0).line(), "different"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=why):
            read_rows(path)
    with pytest.raises(InputError, match=r"gone\.jsonl"):
        read_rows(tmp_path / "gone.jsonl")


def test_growth_is_the_maximum_over_time_with_a_band_for_all_times():
    sizes = [1.0, 1.5, 1.2]
    rows = [moment_row(normal_norms(4000, 3, s, scale), 10 * s, 0) for s, scale in enumerate(sizes)]
    found = growth(rows)
    assert found.log_m == rows[1].log_m
    assert set(found.at) == {10}
    assert found.high == tuple(max(row.high[k] for row in rows) for k in range(12))
    assert all(found.low[k] < rows[1].low[k] for k in range(12))  # widened for three records
    assert found.log_w == tuple(-v for v in found.log_m)
    alone = growth(rows[:1])
    np.testing.assert_allclose(alone.low, rows[0].low, atol=1e-12)


def test_the_trusted_range_ends_where_few_particles_carry_the_moment():
    heavy = np.abs(np.random.default_rng(0).standard_t(3, size=20_000))
    found = growth([moment_row(heavy, 0, 0)])
    assert found.trusted <= 4  # the fourth moment is infinite; a fifth would be believed by 2 ln N = 19
    assert "particles carry" in found.limit
    narrow = growth([moment_row(normal_norms(20, 1, 0), 0, 0)])
    assert narrow.trusted <= int(2 * math.log(20))
    even = growth([moment_row(np.linspace(1, 1.01, 50), 0, 0)])
    assert (even.trusted, even.limit) == (int(2 * math.log(50)), f"2 ln N = {2 * math.log(50):.1f}")


@pytest.mark.parametrize(
    ("draw", "truth", "excluded"),
    [
        (lambda rng, n: np.linalg.norm(rng.standard_normal((n, 1)), axis=1), 2.0, [1.0, math.inf]),
        (lambda rng, n: 3.0 * np.linalg.norm(rng.standard_normal((n, 5)), axis=1), 2.0, [1.0, math.inf]),
        (lambda rng, n: rng.exponential(size=n), 1.0, [2.0, math.inf]),
        (lambda rng, n: rng.gamma(4.0, size=n), 1.0, [2.0, math.inf]),
        (lambda rng, n: rng.random(n) ** (1 / 3), math.inf, [1.0, 2.0]),
    ],
)
def test_order_of_growth(draw, truth, excluded):
    norms = draw(np.random.default_rng(1), 1 << 17)
    order = growth([moment_row(norms, 0, 0)]).order
    assert order is not None
    assert order.low <= truth <= order.high
    assert not any(order.low <= other <= order.high for other in excluded)


def test_the_family_of_orders_contains_its_own_laws():
    k = np.arange(1, 11)
    for rho, shape in [(2.0, 40.0), (1.0, 1.0), (0.8, 2.5)]:
        exact = gammaln((k + shape) / rho) - gammaln(shape / rho) + k * 0.3
        order = fit_order(exact, exact - 1e-4, exact + 1e-4)
        assert order is not None
        assert order.low <= rho <= order.high
    two_scales = np.log(0.999 + 0.001 * 1e3**k)
    assert fit_order(two_scales, two_scales - 1e-4, two_scales + 1e-4) is None
    assert fit_order(two_scales[:3], two_scales[:3], two_scales[:3]) is None


def test_gaussian_initial_moments_in_closed_form_and_by_simulation():
    one = GaussianBlocks(((0.7, 6),))
    split = GaussianBlocks(((0.7, 2), (0.7, 4)))
    for k in (1, 2, 3, 8, 31):
        truth = 0.5 * k * math.log(1.4) + gammaln(0.5 * (k + 6)) - gammaln(3.0)
        assert one.moment(k).sort == "exact"
        assert one.moment(k).log == pytest.approx(truth, abs=1e-12)
        assert split.moment(k).log == pytest.approx(truth, abs=1e-12)
    law = trainer_law({"init_outer": "gaussian", "init_scale": 1.3, "bias": True}, inputs=4, outputs=2)
    assert law == GaussianBlocks(((1.0, 2), (1.3 * 1.3 / 4, 5)))
    sign = trainer_law({"init_outer": "sign", "init_scale": 1.3, "bias": False}, inputs=4, outputs=2)
    assert (sign.dimension, law.dimension) == (6, 7)
    rng = np.random.default_rng(0)
    inner = rng.standard_normal((400_000, 5)) * math.sqrt(1.3 * 1.3 / 4)
    outer = rng.standard_normal((400_000, 2))
    drawn = {
        law: np.sqrt((outer**2).sum(1) + (inner**2).sum(1)),
        sign: np.sqrt(2.0 + (inner[:, :4] ** 2).sum(1)),
    }
    for known, norms in drawn.items():
        for k in range(1, 9):
            powers = norms**k
            error = 5 * powers.std() / math.sqrt(powers.size)
            moment = initial_moments(known, k)
            value = math.exp(moment.log)
            assert moment.sort == ("exact" if k % 2 == 0 else "bound")
            assert value >= powers.mean() - error
            assert value <= powers.mean() * (1.04 if k % 2 else 1.0) + error


def test_second_moments_by_hand_and_high_orders_by_quadrature():
    """‖θ‖² = 4 + 2χ²_1: E of its powers by Gauss-Hermite quadrature, exact for polynomials."""
    law = GaussianBlocks(((2.0, 1),), fixed_square=4.0, fixed_dimension=3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = weights / weights.sum()
    for p in (1, 2, 5, 12, 20):
        assert law.moment(2 * p).log == pytest.approx(math.log(weights @ (4 + 2 * nodes**2) ** p), abs=1e-9)


def test_student_t_moments():
    joint = StudentT(5.0, 4, scale=0.5, independent=False)
    for k in range(1, 5):
        # ‖θ‖²/(D·scale²) ~ F(D, ν)
        truth = stats.f(4, 5.0).expect(lambda v, k=k: (4 * 0.25 * v) ** (k / 2), lb=0, ub=np.inf)
        assert math.exp(joint.moment(k).log) == pytest.approx(truth, rel=1e-4)
    independent = StudentT(5.0, 4, scale=0.5)
    assert [independent.moment(k).sort for k in range(7)] == ["exact", "bound", "exact", "bound", "bound"] + 2 * [
        "infinite"
    ]
    norms = np.linalg.norm(0.5 * np.random.default_rng(3).standard_t(5.0, size=(400_000, 4)), axis=1)
    assert math.exp(independent.moment(2).log) == pytest.approx(4 * 0.25 * 5 / 3, rel=1e-12)
    assert np.mean(norms) <= math.exp(independent.moment(1).log) <= 1.5 * np.mean(norms)
    assert np.mean(norms**3) <= math.exp(independent.moment(3).log) <= 3 * np.mean(norms**3)
    with pytest.raises(InputError, match="degrees"):
        StudentT(0.0, 1)


def test_heavy_tails_make_critical_weights_zero():
    law = StudentT(4.0, 3)
    found = growth([moment_row(normal_norms(1000, 3, 0), 0, 0)])
    entries = with_infinite(found.to_dict(), law)["moments"]
    assert [entry["proved_infinite"] for entry in entries] == [k >= 4 for k in range(1, 13)]
    for text, verdict in [("factorial^-3", "not a member"), ("1,1,1,1e-9", "not a member"), ("1,1,1,0", None)]:
        assert membership(Weights.parse(text), found, 3, law=law).proved == verdict


def test_membership_as_the_trusted_moments_show_it():
    found = growth([moment_row(normal_norms(1 << 16, 2, 0), 0, 0)])
    law = GaussianBlocks(((1.0, 2),))
    certificate = discrete_recursion(12, 1.0, 0.0, 0.2, 2, law, 0.1)
    light = membership(Weights.parse("gaussian 2"), found, 2, certificate)
    assert (light.seen, light.proved) == ("consistent with membership", "member")
    assert light.slope == pytest.approx(-math.log(2.0), abs=0.05)
    # the largest product is that of k = 1, where the bound is √M_2 at most
    assert light.log_product[0] < light.certified_sup < light.log_product[0] + math.log(math.sqrt(2) / 1.25)
    heavy = membership(Weights.parse("gaussian 0.5"), found, 2, certificate)
    assert (heavy.seen, heavy.proved) == ("growing", "not a member")
    critical = membership(Weights.parse("gaussian 1"), found, 2, certificate)
    assert (critical.seen, critical.proved) == ("undecided", None)
    listed = membership(Weights.of([1.0, 0.0, 0.1]), found, 2, certificate)
    assert (listed.seen, listed.proved, len(listed.log_product)) == ("undecided", None, 3)
    assert listed.to_dict()["log_product"][1] is None


@pytest.mark.parametrize("text", ["", "factorial", "factorial^-x", "geometric -1", "1,nan", "cauchy 2", "1,-2"])
def test_weights_that_are_none_are_refused(text):
    with pytest.raises(InputError, match="weights"):
        Weights.parse(text)


@pytest.mark.parametrize("text", ["factorial^-0.5", "geometric 0.25", "gaussian 3", "1,0.5,0"])
def test_weights_have_the_name_they_are_read_from(text):
    assert Weights.parse(text).name == text


# --- the command


def run(capfd, *arguments):
    code = cli.main([str(a) for a in arguments], standalone_mode=False)
    captured = capfd.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def folder(tmp_path):
    """A short run on a fixed set, with moments as the trainer would leave them."""
    config = TrainConfig(
        "tanh",
        width=256,
        bias=True,
        steps=30,
        sampling="minibatch",
        samples=40,
        batch=16,
        step_size=Schedule(0.2),
        temperature=Schedule(0.05),
        weight_decay=Schedule(0.5),
        metrics_every=10,
    )
    train(load_task("planted-tanh", d=3), config, tmp_path / "run")
    rows = [moment_row(normal_norms(256, 5, s), 10 * s, 0) for s in range(4)]
    (tmp_path / "run" / "moments.jsonl").write_text("".join(row.line() for row in rows))
    return tmp_path / "run"


def bounded(folder, **changes):
    path = folder / "run.json"
    document = json.loads(path.read_text())
    document["config"] |= {"outer": "bounded", "outer_bound": 1.5, "loss": "square"} | changes
    path.write_text(json.dumps(document))
    return document["config"]


def test_free_outer_weights_have_no_certificate_and_the_reason_is_printed(folder, capfd):
    code, out, err = run(capfd, "moments", folder, "--weights", "geometric 0.5")
    assert (code, err) == (0, "")
    assert "no a-priori bound: the outer weights are free" in out
    assert "proved: not a member" in out  # a Gaussian start alone shows it
    assert "(an estimate)" in out


def test_bounded_outer_weights_have_a_certificate(folder, capfd, tmp_path):
    bounded(folder)
    arguments = ("moments", folder, "--weights", "factorial^-0.7", "--json", "-o", tmp_path / "moments.json")
    code, out, err = run(capfd, *arguments, "--plot", tmp_path / "moments.svg")
    assert (code, err) == (0, "")
    assert (tmp_path / "moments.json").read_text() == out
    document = json.loads(out)
    assert document["schema"] == "sparsemf/moments/1"
    assert document["dimension"] == 5
    certificate = document["certificate"]
    assert (certificate["holds"], certificate["kind"], certificate["horizon"]) == (True, "certificate", None)
    # |f| ≤ R and |r| ≤ R + |y|: the drift bound is made of the run's own 40 samples
    assert 0 < document["drift"]["g0"] < 100
    assert any("fixed set of 40 samples, steps of at least 8" in part for part in certificate["assumptions"])
    expected = certificate_of(
        12,
        np.tile([0.2, 0.05, 0.5], (30, 1)),
        _drift_of(document["drift"]),
        5,
        trainer_law(document["config"], 3, 1),
    )
    assert certificate["log_bound"] == list(expected.log_bound)
    assert document["membership"][0]["proved"] == "member"
    assert [entry["k"] for entry in document["growth"]["moments"]] == list(range(1, 13))
    root = ElementTree.parse(tmp_path / "moments.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    classes = [element.get("class") for element in root.iter()]
    assert {"curve estimate", "curve bound", "range"} <= set(classes)


def _drift_of(document):
    from sparsemf.training.drift import DriftBound

    return DriftBound(True, document["g0"], document["g1"])


def test_schedules_give_the_run_s_own_horizon(folder, capfd):
    bounded(folder, weight_decay={"initial": 0.5, "final": 0.01, "kind": "exponential", "begin": 0.0, "end": 1.0})
    _, out, _ = run(capfd, "moments", folder, "--json")
    assert json.loads(out)["certificate"]["horizon"] == 30
    _, text, _ = run(capfd, "moments", folder)
    assert "for the run's 30 steps (a certificate)" in text


def test_an_optimizer_that_is_not_langevin_has_no_certificate(folder, capfd):
    bounded(folder, integrator="adam")
    _, out, _ = run(capfd, "moments", folder, "--json")
    document = json.loads(out)
    assert not document["certificate"]["holds"]
    assert "adam" in document["certificate"]["why_not"]


def test_folders_without_moments_are_bad_input(folder, capfd, tmp_path):
    (folder / "moments.jsonl").write_text("{}\n")
    code, out, err = run(capfd, "moments", folder, "--json")
    assert (code, out) == (4, "")
    assert "line 1 is not a row of moments" in err
    code, _, err = run(capfd, "moments", tmp_path / "nowhere")
    assert code == 4
    assert len(err.splitlines()) == 1
