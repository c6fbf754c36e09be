"""Proof trees of branch and bound: a fixed root, a fixed rule of splitting, and one bit per node.

The bits stand in the order of levels (1: split; 0: leaf); the children of a level are all first halves, then all
second halves, of its split nodes in their order.  Every node is the union of its two halves *exactly*: where a
float64 sum would round, the tree is refused.  So the leaves of any tree cover its root, and nothing need be
believed of who wrote it.

- A *box* is (centre, half-lengths) and is cut across its longest side, the first of equal ones.
- A *cone* is the D×D matrix of its generators and is cut at the middle of its longest edge (Euclidean length as
  computed coordinate by coordinate, the first of equal ones).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsemf.certificates.checker.document import Refused, whole

Array = NDArray[np.float64]

MOST_NODES = 20_000_000
_MOST_LEVELS = 500
"""No half-length underflows before."""


def bits_of(entry: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The bits of a tree's document."""
    count = whole(entry["nodes"], "the number of nodes", 1, MOST_NODES)
    packed = np.frombuffer(base64.b64decode(entry["base64"], validate=True), dtype=np.uint8)
    bits = np.unpackbits(packed).astype(bool)
    if packed.size != (count + 7) // 8 or bits[count:].any():
        raise Refused("the proof tree has another number of nodes than it says")
    return bits[:count]


def packed(bits: NDArray[np.bool_]) -> dict[str, Any]:
    """The inverse of :func:`bits_of`."""
    return {"nodes": int(bits.size), "base64": base64.b64encode(np.packbits(bits).tobytes()).decode()}


def leaves(nodes: Array, bits: NDArray[np.bool_], halves: Callable[[Array], Array]) -> Iterator[Array]:
    """The leaves under the roots ``nodes``, level by level."""
    begin = 0
    for _ in range(_MOST_LEVELS):
        split = bits[begin : begin + nodes.shape[0]]
        begin += nodes.shape[0]
        if split.size != nodes.shape[0]:
            raise Refused("the proof tree ends before its leaves: a region is not covered")
        yield nodes[~split]
        if not split.any():
            break
        nodes = halves(nodes[split])
    if begin != bits.size:
        raise Refused("the proof tree has nodes that belong to no region")


def root_boxes(half: Array, fold: bool) -> Array:
    """Boxes (1, 2, D), centre and half-lengths: [−half, half], or its half θ₀ ≥ 0; half-lengths are rounded up to
    powers of two."""
    half = np.array([power_of_two(x) for x in half])
    centre = np.zeros_like(half)
    if fold:
        half[0] *= 0.5
        centre[0] = half[0]
    return np.stack([centre, half])[None]


def root_cones(dim: int) -> Array:
    """The 2^D orthants, (2^D, D, D)."""
    return np.array([np.diag(signs) for signs in product((1.0, -1.0), repeat=dim)])


def power_of_two(x: float) -> float:
    """The least power of two that is at least x > 0."""
    fraction, exponent = math.frexp(x)
    return math.ldexp(1.0, exponent - 1 if fraction == 0.5 else exponent)


def _exact_sum(a: Array, b: Array) -> Array:
    """a + b; refused where it is not a float."""
    total = a + b
    part = total - a
    if np.any((a - (total - part)) + (b - part)):  # the rounding of a sum is itself a float (Knuth)
        raise Refused("the proof tree is deeper than float64 holds exactly")
    return total


def cut_boxes(nodes: Array) -> Array:
    """Both halves of each box."""
    rows = np.arange(nodes.shape[0])
    centre, half = nodes[:, 0].copy(), nodes[:, 1].copy()
    axis = np.argmax(half, axis=1)
    half[rows, axis] *= 0.5
    low, high = centre.copy(), centre.copy()
    low[rows, axis] = _exact_sum(centre[rows, axis], -half[rows, axis])
    high[rows, axis] = _exact_sum(centre[rows, axis], half[rows, axis])
    return np.concatenate([np.stack([c, half], axis=1) for c in (low, high)])


def cut_cones(nodes: Array) -> Array:
    """Both halves of each cone."""
    dim = nodes.shape[1]
    if not nodes.shape[0]:
        return nodes
    if dim == 1:
        raise Refused("a ray has no halves")
    pairs = np.array(list(combinations(range(dim), 2)))
    edge = nodes[:, pairs[:, 0]] - nodes[:, pairs[:, 1]]
    length = edge[:, :, 0] * edge[:, :, 0]
    for k in range(1, dim):  # one rounded operation after the other: the same on every machine
        length = length + edge[:, :, k] * edge[:, :, k]
    first, second = pairs[np.argmax(length, axis=1)].T
    rows = np.arange(nodes.shape[0])
    middle = 0.5 * _exact_sum(nodes[rows, first], nodes[rows, second])
    left, right = nodes.copy(), nodes.copy()
    left[rows, first] = middle
    right[rows, second] = middle
    return np.concatenate([left, right])
