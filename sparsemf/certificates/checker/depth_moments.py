"""G_k(t, b) = ∂_b^k u, u(t, b) = E σ(√t·g + b), in balls, for every activation of the catalogue.

u solves the heat equation u_t = ½u_bb, so every derivative of G_k is another G: ∂_b G_k = G_{k+1}, ∂_t G_k = ½G_{k+2}.
With c_k = E σ(rg + b) he_k(g) (:mod:`hermite`): G_k = √k!·c_k/r^k (Stein).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from flint import arb, ctx

from sparsemf.certificates.checker.arithmetic import Arithmetic, Undefined
from sparsemf.certificates.checker.catalogue import CORES, image
from sparsemf.certificates.checker.document import Refused
from sparsemf.certificates.checker.hermite import coefficients

BITS = 256
_BALLS = Arithmetic(BITS)


@contextmanager
def precision(bits: int = BITS) -> Iterator[None]:
    """Work with that many bits."""
    before, ctx.prec = ctx.prec, bits
    try:
        yield
    finally:
        ctx.prec = before


def moments(activation: str, r: arb, b: arb, degree: int, bits: int = BITS) -> list[arb]:
    """G_0 … G_degree at one (r, b), r > 0; raises :class:`Refused` where they are not known."""
    form, arith = image(activation), _BALLS if bits == BITS else Arithmetic(bits)
    if not r > 0:
        raise Refused("an atom without a direction")
    c = [arb(0)] * (degree + 1)
    own = form.frequency is not None or form.translation
    for term in form.terms[:1] if own else form.terms:
        coefficient, scale, shift = (
            (arb(1), arb(1), arb(0)) if own else (term.coefficient(), term.scale(), term.shift())
        )
        inner, centre = abs(scale) * r, scale * b + shift
        if scale < 0:
            raise Refused("a reflected core")
        try:
            rows, error = coefficients(
                arith,
                CORES[term.core],
                np.array([inner, 0], dtype=object)[:1],
                np.array([centre, 0], dtype=object)[:1],
                degree,
            )
        except Undefined as reason:
            raise Refused(str(reason)) from None
        c = [x + coefficient * (y + arb(0, float(error[0]))) for x, y in zip(c, rows[0], strict=True)]
    c[0] += form.constant() + form.linear() * b
    if degree >= 1:
        c[1] += form.linear() * r
    out, power = [], arb(1)
    for k, value in enumerate(c):
        power = power * arb(k).sqrt() / r if k else power
        out.append(value * power)
    if not all(v.is_finite() for v in out):
        raise Refused("a Hermite coefficient is not enclosed")
    return out
