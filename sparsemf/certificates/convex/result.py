"""What a solver of the program over measures returns, and how much effort it may spend."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.convex.observation import Atomic, Observation
from sparsemf.certificates.convex.supremum import Supremum
from sparsemf.exceptions import InputError
from sparsemf.measures import Network

Array = NDArray[np.float64]


class Status(Enum):
    """How the solver ended; the value is the message with its remedy."""

    OPTIMAL = "optimal: the duality gap, with sup‖η‖ bounded over the whole parameter set, is within the tolerance"
    BOUNDED = (
        "the duality gap is certified but larger than the tolerance; allow more iterations or regions, or a larger λ"
    )
    ESTIMATE = (
        "no violation of ‖η‖ ≤ λ was found by local search, but the sup over the parameter set was not bounded (too "
        "many effective dimensions, or an activation without curvature bounds): value is an upper bound, optimality an "
        "estimate"
    )
    LIMIT = "stopped at the iteration limit with ‖η‖ > λ at a known point; allow more iterations"

    @property
    def message(self) -> str:
        """The human message."""
        return self.value


@dataclass(frozen=True)
class Effort:
    """Limits and tolerances.

    ``tolerance``: of ‖η‖/λ − 1 and of the gap relative to the value.  ``regions``: boxes or cones for the bound of
    the supremum; 0 leaves it out.  ``most_dimensions``: effective dimensions beyond which no bound is tried.
    ``starts``: random starting points of each search for maxima.
    """

    iterations: int = 60
    starts: int = 400
    tolerance: float = 1e-7
    regions: int = 400_000
    most_dimensions: int = 6
    seed: int = 0


@dataclass(frozen=True, eq=False)
class BlassoResult:
    """A measure, its value, and how far it may be from the optimum.

    ``value`` = P(ν) (an upper bound of the optimum) and ``dual_value`` ≤ the optimum, ``gap`` their difference
    (both None when sup‖Φ*r‖ was not bounded), in squared units of L²(ρ).  ``supremum`` is of ‖η‖ = ‖Φ*r‖/λ: 1 at
    the optimum.  ``solver`` names the solvers used and their versions.
    """

    status: Status
    observation: Observation
    lam: float
    measure: Atomic
    value: float
    dual_value: float | None
    gap: float | None
    supremum: Supremum
    iterations: int
    solver: str
    network: Network

    @property
    def message(self) -> str:
        """The status in words."""
        return self.status.message

    @property
    def size(self) -> int:
        """Number of atoms."""
        return self.measure.size

    @property
    def certified(self) -> bool:
        """Whether the gap is a certificate."""
        return self.gap is not None

    @property
    def rel_gap(self) -> float | None:
        """gap/value."""
        return None if self.gap is None else self.gap / self.value if self.value > 0 else 0.0

    def eta(self, theta: Array) -> Array:
        """The dual function Φ*(f* − Φν)/λ at points of Θ, (n, m)."""
        return self.observation.jet(self.measure, theta, 1).value / self.lam

    def certificate(
        self, data: str | None = None, tolerance: float | None = None, degree: int | None = None
    ) -> dict[str, Any]:
        """The certificate of optimality, which :func:`sparsemf.verify` checks: ``sparsemf/optimality/1`` on data,
        ``/2`` of a population target.

        On data it holds them, or with ``data`` (the name of an .npz with arrays ``X`` and ``y``) only their hash.  Its
        leaves are cut until the checker bounds ‖η‖ by ``supremum.upper``, or by max(1, ``supremum.lower``)(1 +
        ``tolerance``) where that is given (population targets: 1e-7; data where σ′ jumps: 1e-6), as far as some 1.5
        times the search's nodes, or 100,000, reach.  Population targets: ``degree`` of the dual polynomial (at most
        128; by default as f* needs it); beyond 6 effective dimensions norms of flattened
        tensors bound sup‖η‖.
        Raises :class:`InputError` for data where sup‖η‖ was not bounded, and where the checker knows no bound.
        """
        from sparsemf.certificates.convex.population import PopulationObservation

        if isinstance(self.observation, PopulationObservation):
            from sparsemf.certificates.convex import population_certificate

            if data is not None:
                raise InputError(f"data: a population target has none, got {data!r}; leave it out")
            return population_certificate.certificate(self, tolerance, degree)
        if degree is not None:
            raise InputError(f"degree: expected none for a target on data, got {degree}; leave it out")
        from sparsemf.certificates.convex.certificate import certificate

        return certificate(self, data, tolerance)
