"""A supremum over a continuous parameter set: what was bounded, how, and what is only an estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Supremum:
    """sup ‖η‖ over Θ (or over Θ minus small balls).

    Attributes
    ----------
    lower:
        The largest value found, at ``argmax`` (D,); the *estimate* where ``upper`` is None.
    upper:
        A proven upper bound up to the stated arithmetic, or None where none was computed.
    how:
        One sentence: what was bounded, and how.
    regions:
        Boxes or cones examined.
    error:
        The allowance for rounding (and truncation) inside ``upper``.
    argmax:
        A point that attains ``lower``; None when no point was evaluated.
    """

    lower: float
    upper: float | None
    how: str
    regions: int
    error: float
    argmax: Array | None

    @property
    def certified(self) -> bool:
        """Whether ``upper`` is a bound."""
        return self.upper is not None
