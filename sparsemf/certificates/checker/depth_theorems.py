"""The scale problem where theorems answer it: which degrees determine (r, b) of an atom, for all r > 0 and b."""

from __future__ import annotations

from collections.abc import Sequence

from flint import arb

from sparsemf.certificates.checker.depth_rank import Atoms
from sparsemf.certificates.checker.depth_shape import Shape
from sparsemf.certificates.checker.expansion import is_exactly

_HALVINGS = 160


def theorem(atoms: Atoms, i: int, known: Sequence[int]) -> bool:
    """Whether (r, b) of atom i follows from the degrees L for all r > 0 and b, up to the orbit and the turn.

    With A ≠ 0 any number, He_n monic Hermite polynomials, s the turn:

    - homogeneous, no biases: r is the orbit, and any l with c_l ≠ 0 gives α up to the turn's sign (−1)^l.  Degrees
      of both parities exclude the turn; those of one parity leave (−1)^l α, the turned atom's ςα only for ς =
      (−1)^l.
    - relu, leaky_relu, abs (p = 1), relu² (p = 2), l ≥ p + 1: F_l = A·He_{l−p−1}(−β), β = b/r (the orbit keeps it).
      {p + 1, p + 2} ⊂ L: the ratio is −β.  {l, l + 1} ⊂ L, l ≤ p, for relu and relu²: G_l ∝ u = E h(g + β) with
      h(z) = z₊^{p−l}, and G_{l+1} = ∂_β G_l, so the ratio is (log u)′ > 0; it decreases, since (log u)″ = Var − 1 <
      0, Var that of the density ∝ h(y)φ(y − β) (Brascamp & Lieb 1976: log-concave times Gaussian, and h is no
      exponential on R).  The turn's sign shows.  {1, 2} ⊂ L for abs: (Φ(β) − ½)/φ(β) increases; it is odd, and so
      is the turn, which is in the orbit.  {l, l + 1, l + 2} ⊂ L with F_{l+1} ≠ 0: −β = (He_{n+2} + (n +
      1)He_n)/He_{n+1}.
    - erf, Φ, l ≥ 1: F_l = A·(−ρ)^{l−1}He_{l−1}(β), ρ² = v²/(½ + v²), v the core's r, β = its b/√(½ + v²).  No
      biases: two odd degrees give ρ², which increases with r.  {1, 2, 3}: X = ρβ and X² − ρ² are the ratios.  Four
      in a row, h_n = ρⁿHe_n: h_{n+1} = Xh_n − nρ²h_{n−1} and the next are linear in (X, ρ²) with determinant −(h_n²
      + n(h_n² − h_{n−1}h_{n+1})) < 0 (Turán's inequality for Hermite polynomials).
    - sin, cos: F_l = A·r^l·sin(b + (l + shift)π/2).  No biases: two degrees.  {l, l + 1, l + 2} with F_l ≠ 0:
      F_{l+2}/F_l = −r², and F_{l+1}/(rF_l) is a cotangent: b modulo π, and b + π is −α.
    - exp: F_l = A·r^l: two degrees of different parity (so that the turn shows).
    """
    shape, g = atoms.shape, atoms.table[i]
    names = {term.core for term in shape.form.terms}
    if shape.form.frequency is not None or shape.form.translation:
        names = {shape.form.terms[0].core}
    if len(names) != 1 or any(not is_exactly(t.shift(), 0) for t in shape.form.terms):
        return False
    core, here = names.pop(), set(known)
    if shape.homogeneous and not shape.bias:
        parities, relation = {k % 2 for k in known if g[k] != 0}, shape.relation
        return len(parities) == 2 or any(relation is not None and relation[0] * (-1) ** p == 1 for p in parities)
    if core in ("relu", "relu2") and shape.homogeneous:
        p = 1 if core == "relu" else 2
        plain = len(shape.form.terms) == 1 and is_exactly(shape.form.linear(), 0)
        if {p + 1, p + 2} <= here or (plain and any({k, k + 1} <= here for k in range(p + 1))):
            return True
        kappa = _kappa(shape)
        if {1, 2} <= here and kappa is not None and is_exactly(2 * kappa + 1, 0):
            return True
        return any({k, k + 1, k + 2} <= here and k > p and g[k + 1] != 0 for k in known)
    if core == "erf":
        if not shape.bias:
            return len([k for k in known if k % 2 == 1]) >= 2
        return {1, 2, 3} <= here or any({k, k + 1, k + 2, k + 3} <= here and k >= 1 for k in known)
    if core in ("sin", "cos"):
        if not shape.bias:
            return len(known) >= 2
        return any({k, k + 1, k + 2} <= here and g[k] != 0 for k in known)
    if core == "exp":
        return len({k % 2 for k in known}) == 2
    return False


def polynomial_of_turn(atoms: Atoms, i: int) -> list[arb] | None:
    """The Hermite components 0, 1, 2 of P(rg + b) for atom i; None without a relation."""
    relation = atoms.shape.relation
    if relation is None:
        return None
    p0, p1, p2 = relation[1]
    r, b = atoms.length[i], arb(float(atoms.b[i]))
    return [p0 + p1 * b + p2 * (b * b + r * r), (p1 + 2 * p2 * b) * r, p2 * r * r]


def _kappa(shape: Shape) -> arb | None:
    """κ where σ(z) = a·(relu(z) + κz), a ≠ 0, else None."""
    form = shape.form
    if len(form.terms) != 1 or form.terms[0].core != "relu" or not shape.homogeneous:
        return None
    slope = form.terms[0].coefficient() * abs(form.terms[0].scale())
    return form.linear() / slope if form.terms[0].scale() > 0 and slope != 0 else None


def second_shift(atoms: Atoms, i: int, known: Sequence[int]) -> arb | None:
    """The only other β′ = b′/r′ with the ratio F_1 : F_2 of atom i, for σ ∝ relu(z) + κz with κ < −1 or κ > 0
    (leaky_relu of positive slope) and biases; None for others.

    F_1 ∝ κ + Φ(β), F_2 ∝ φ(β) (β = b/r).  With h = (κ + Φ(β₀))/φ(β₀) ≠ 0, E(β) = κ + Φ(β) − hφ(β) has E′ = φ(β)(1 +
    hβ): E is monotone on either side of −1/h, and has the sign of κ + Φ at ±∞.  So there is exactly one zero
    besides β₀, if β₀ ≠ −1/h: on the other side, and regular.  A change of sign encloses it.  The turned equation κ
    + Φ + hφ = 0 has no solution, since κ + Φ and h have one sign.
    """
    kappa = _kappa(atoms.shape)
    if kappa is None or not atoms.shape.bias or not {1, 2} <= set(known) or not (kappa > 0 or kappa < -1):
        return None
    root2, own = arb(2).sqrt(), arb(float(atoms.b[i])) / atoms.length[i]

    def level(beta: arb) -> arb:
        return kappa + (-beta / root2).erfc() / 2

    def density(beta: arb) -> arb:
        return (-beta * beta / 2).exp() / (2 * arb.pi()).sqrt()

    h, sign = level(own) / density(own), 1 if kappa > 0 else -1
    turning = -1 / h
    if not (own < turning or own > turning):
        return None

    def value(beta: arb) -> arb:
        return sign * (level(beta) - h * density(beta))

    step = arb(1) if own < turning else arb(-1)
    inner, outer = turning.mid(), turning.mid() + step
    for _ in range(8):
        if value(outer) > 0:
            break
        step = 2 * step
        outer = turning.mid() + step
    if not value(outer) > 0 or not value(inner) < 0:
        return None
    for _ in range(_HALVINGS):
        middle = ((inner + outer) / 2).mid()
        at = value(middle)
        if at > 0:
            outer = middle
        elif at < 0:
            inner = middle
        else:
            break
    return inner.union(outer)
