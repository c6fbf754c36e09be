"""One row of the catalogue: what is known of an activation's realization symmetry, kept next to its class."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """The part of a row that is an argument; names, degrees, relations and images come from the class itself.

    Attributes
    ----------
    formula:
        σ(z).
    group:
        What acts on one neuron (a, w, b) besides permutation, merging, splitting and dropping a = 0.
    inactive:
        The neurons that do not move the function, besides a = 0 (and w = 0, a constant).
    independence:
        Why the remaining atoms are linearly independent, or what the function sees where they are not.
    source:
        Where the activation and the argument come from.
    """

    formula: str
    group: str
    inactive: str
    independence: str
    source: str
