"""Compress a block: the staircase's explicit network of S atoms, the certified error beside the certified limit.

f is the block's function, ρ the input law.  A file holds what stands beside the atoms: an affine part A x + c (native
files), an output bias c alone (transformer blocks, ``nn.Sequential`` with biases) or nothing.  So the class of networks
that can be written has polynomials of degree ≤ ``free`` beside S atoms, free = 1, 0 or −1, and both curves are those of
that class:

- U(S): the network that is found, ‖f − f_S‖ ≤ U(S);
- L(S): no network of S atoms with such a part comes closer.

What is written is rounded to the file's type, so the error that counts is that of the file as it is read back:
two-sided bounds of ‖f − f_written‖ by :func:`~sparsemf.pipeline.certify.certify`, a certificate that
``sparsemf verify`` checks from the two files.  ``at_least`` is the least S with L(S) ≤ that error's upper bound: no
network of fewer atoms comes as close as the one written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.equivalence import Equivalence
from sparsemf.certificates.sparsity import RESOLUTION, Staircase, staircase
from sparsemf.exceptions import InputError
from sparsemf.identifiability import LowerCurve, lower_curve
from sparsemf.measures import Bounds, Empirical, Gaussian, InputLaw, Network
from sparsemf.measures.gated import FREE_DEGREE
from sparsemf.measures.gaussian import free_degree
from sparsemf.pipeline.analyze import without_staircase
from sparsemf.pipeline.certify import certify
from sparsemf.pipeline.charged import charged_reduction
from sparsemf.pipeline.coordinates import input_coordinates
from sparsemf.pipeline.data import reduced_on_data, stairs_on_data, too_many
from sparsemf.pipeline.exact import whitening_error
from sparsemf.pipeline.gated import norm_and_energy
from sparsemf.pipeline.reduction import norm_bounds, reduced
from sparsemf.recovery import Effort, Progress, UpperCurve, upper_curve
from sparsemf.symmetry import quotient

Array = NDArray[np.float64]

_NEURONS = ("outer", "inner", "bias", "gate", "gate_bias")
_TRIES = 8
"""Widths that are tried beyond the first one, when the rounding of the file's type uses up the error."""


@dataclass(frozen=True)
class Goal:
    """What is asked for: exactly one of a width S, an absolute error and one relative to ‖f‖."""

    width: int | None = None
    eps: float | None = None
    rel_eps: float | None = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.width, self.eps, self.rel_eps)) != 1:
            raise InputError("expected exactly one of width, eps and rel_eps")
        if self.width is not None and self.width < 0:
            raise InputError(f"width: expected a number of atoms ≥ 0, got {self.width}")
        for name in ("eps", "rel_eps"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name}: expected a positive number, got {value}")

    def error(self, norm: Bounds) -> float | None:
        """The absolute error that is asked for, None for a width."""
        if self.width is not None:
            return None
        return self.eps if self.eps is not None else float(self.rel_eps or 0.0) * norm.lower


@dataclass(frozen=True, eq=False)
class Curves:
    """Both curves of a block for polynomials of degree ≤ ``free``, and the explicit networks behind the upper one.

    ``network(S)`` is in input coordinates; L is known for S < ``known`` (on data rows the number of outputs).
    """

    stairs: Staircase
    norm: Bounds
    known: int
    network: Callable[[int], Network]


@dataclass(frozen=True, eq=False)
class Compressed:
    """``network`` as the file will hold it, of ``size`` atoms that count (``network.width`` with padding).

    ``upper`` = U(size) before rounding; ``limit`` = L(size), ``at_least`` the least width of a network as close as this
    one (each None where no lower curve says it); ``error`` the certified verdict on ‖f − network‖ ≤ its upper bound.
    """

    network: Network
    size: int
    upper: float
    limit: float | None
    at_least: int | None
    norm: Bounds
    error: Equivalence


def compress(
    network: Network,
    law: InputLaw,
    goal: Goal,
    free: int = 1,
    stored: Callable[[Network], Network] = lambda found: found,
    pad: bool = False,
    progress: Progress = lambda _stage, _fraction: None,
    seed: int = 0,
    biased: bool = True,
) -> Compressed:
    """The network of at most ``goal.width`` atoms, or of the fewest that are found within the error, certified.

    Parameters
    ----------
    free : the highest degree of polynomials that may stand beside the atoms (−1: none)
    stored : what a file will hold of a network (rounded to its type); the identity by default
    pad : keep the width of ``network``, with neurons that are zero
    biased : whether the file holds a bias inside σ; else neurons get none (L is that of all networks all the same)

    Raises :class:`~sparsemf.exceptions.InputError` where no network of this form is found within the error.
    """
    found = curves(network, law, free, goal, progress, biased)
    most = min(found.stairs.upper.size - 1, network.width)
    target = goal.error(found.norm)
    if goal.width is not None:
        sizes = range(min(goal.width, most), min(goal.width, most) + 1)
    else:
        within = np.flatnonzero(found.stairs.upper[: most + 1] <= (target or 0.0))
        if not within.size:
            raise InputError(
                f"block {network.provenance.block or 'main'}: expected an error of at least "
                f"{found.stairs.upper[most]:.3g}, that of all {most} atoms, got {target:.3g}; ask for more"
            )
        sizes = range(int(within[0]), min(int(within[0]) + _TRIES, most + 1))
    verdict, written, size, reached = None, network, 0, False
    for size in sizes:
        progress("certifying", 0.95)
        # a file holds one neuron at least
        written = stored(padded(found.network(size), network.width if pad else 1))
        verdict = _certified(network, written, law, float(found.stairs.upper[size]), target, seed)
        reached = target is None or verdict.upper <= target
        # what rounding and the proof add hardly depends on S: where it is too much, more neurons do not help
        if reached or verdict.upper - float(found.stairs.upper[size]) >= (target or 0.0):
            break
    if verdict is None or not reached:
        raise InputError(
            f"block {network.provenance.block or 'main'}: expected an error of {target:.3g}, got "
            f"{float('inf') if verdict is None else verdict.upper:.3g} proved after rounding to the type of the file; "
            "ask for a larger one, or save the checkpoint in a finer type first"
        )
    lower = found.stairs.lower
    return Compressed(
        network=written,
        size=size,
        upper=float(found.stairs.upper[size]),
        limit=float(lower[size]) if size < found.known else None,
        at_least=int(np.argmax(lower <= verdict.upper)) if found.known > 1 else None,
        norm=found.norm,
        error=verdict,
    )


def _certified(
    network: Network, written: Network, law: InputLaw, upper: float, target: float | None, seed: int
) -> Equivalence:
    """Two-sided bounds of ‖f − written‖, *equivalent* at the upper one.

    ε is first guessed from U(S), since proofs are as tight as ε asks for; what is proved is then proved at itself.
    """
    guess = target if target is not None else 1.001 * upper
    found = certify(network, written, law, eps=max(guess, 1e-300), seed=seed)
    if found.verdict == "equivalent" and (target is not None or found.upper >= 0.99 * found.eps):
        return found
    return certify(network, written, law, eps=max(found.upper * (1 + 1e-9), 1e-300), seed=seed)


def padded(network: Network, width: int) -> Network:
    """The same function with ``width`` neurons, the last of them zero."""
    more = width - network.width
    if more <= 0:
        return network

    def rows(array: Array | None) -> Array | None:
        return None if array is None else np.concatenate([array, np.zeros((more, *array.shape[1:]))])

    return network.with_(**{name: rows(getattr(network, name)) for name in _NEURONS})


def curves(
    network: Network,
    law: InputLaw,
    free: int,
    goal: Goal,
    progress: Progress = lambda _stage, _fraction: None,
    biased: bool = True,
) -> Curves:
    """Both curves for polynomials of degree ≤ ``free`` beside the atoms, with the search where ``goal`` needs it.

    ``biased``: whether the atoms behind U may have biases that f's neurons do not have.
    """
    if isinstance(law, Empirical):
        return _curves_on_data(network, law, free, goal, progress, biased)
    if network.gated:
        return _gated_curves(network, law, free, goal, progress)
    effort = _effort(goal)
    base = reduced(network, law) if free > 0 else charged_reduction(network, law, free, biased)
    white, floor, free = base.network, base.error, base.free
    progress("lower curve", 0.05)
    lower = lower_curve(white, free=free)
    if not biased and law.mean.any():
        # in white coordinates no bias is b′ = ⟨w, m⟩: selections and means keep that, refinement does not
        effort = replace(effort, few=0, drops=0, joint=0)
    upper = upper_curve(white, floor=floor, effort=effort, progress=progress, free=free)
    norm = norm_bounds(white, upper.problem.energy_bounds, free)
    norm = Bounds(max(norm.lower - floor, 0.0), norm.upper + floor, norm.method)
    stairs = staircase(upper, lower, norm.upper, floor, white.width, network.provenance.precision)
    return Curves(stairs, norm, stairs.lower.size, _explicit(upper, law, network, biased))


def _curves_on_data(
    network: Network, law: Empirical, free: int, goal: Goal, progress: Progress, biased: bool
) -> Curves:
    """Both curves of plain and gated networks on data rows; with one output L(0) alone, no limit to speak of."""
    if free == 1 and not network.gated:
        free = free_degree(network)
    without = too_many(network, law, free)
    if without is not None:
        raise InputError(f"compress: no explicit networks are known for {without}")
    base = reduced_on_data(network, law, free, biased)
    upper = upper_curve(base.network, law, floor=base.error, effort=_effort(goal), progress=progress, free=free)
    stairs, norm, _ = stairs_on_data(network, law, base, upper, RESOLUTION)
    return Curves(stairs, norm, network.m, _explicit(upper, law, network, biased))


def _gated_curves(network: Network, law: Gaussian, free: int, goal: Goal, progress: Progress) -> Curves:
    """Those of a gated block: where quadratic polynomials are not free its gates keep their side (a flip costs one)."""
    without = without_staircase(network, law)
    if without is not None:
        raise InputError(f"compress: no explicit networks are known for {without}; use --rho DATA.npz")
    floor = whitening_error(law, network)
    white = law.whiten(network)
    canonical = quotient(white, free)
    lower = lower_curve(canonical.network, free=free)
    lower = replace(lower, atoms=np.maximum(lower.atoms - canonical.error, 0.0))
    if free == FREE_DEGREE:
        white, floor = canonical.network, floor + canonical.error
    upper = upper_curve(white, floor=floor, effort=_effort(goal), progress=progress, free=free)
    norm, _ = norm_and_energy(white, upper, floor, free)
    lower = _as_long(lower, white.width)
    stairs = staircase(upper, lower, norm.upper, floor, white.width, network.provenance.precision)
    return Curves(stairs, norm, stairs.lower.size, _explicit(upper, law, network))


def _as_long(lower: LowerCurve, n: int) -> LowerCurve:
    """The curve at S = 0 … n: beyond its own end L is 0."""
    ends = (np.concatenate([curve, np.zeros(n + 1)])[: n + 1] for curve in (lower.atoms, lower.directions))
    atoms, directions = ends
    return replace(lower, atoms=atoms, directions=directions)


def _effort(goal: Goal) -> Effort:
    """All of the search goes into one width where that is known."""
    if goal.width is None:
        return Effort()
    plain = Effort()
    if goal.width <= plain.few:
        return replace(plain, joint=0)
    return replace(plain, few=0, drops=0, sizes=(goal.width,), steps=10)


def _explicit(upper: UpperCurve, law: InputLaw, network: Network, biased: bool = True) -> Callable[[int], Network]:
    def explicit(size: int) -> Network:
        found = input_coordinates(upper.network(size), law)
        if not biased:  # what whitening and back leaves of no bias is rounding; the written network is certified
            found = found.with_(bias=np.zeros(found.width))
        return found.with_(outer=found.alpha / network.scale, scale=network.scale)

    return explicit
