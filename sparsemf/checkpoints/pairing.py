"""Which block of one checkpoint is which of another: by name, by the tail of the name, by the order of the layers.

A model and its copy seldom agree on prefixes (``bert.encoder.layer.0`` and ``encoder.layer.0``) and not always on
anything (``h.0.mlp`` and ``encoder.layer.0``).  A rule is used only where it leaves no choice; what is left over is
said.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sparsemf.checkpoints.blocks import natural_order

How = Literal["name", "only", "suffix", "order"]
_DIGITS = re.compile(r"\d+")


class Shaped(Protocol):
    """What the rules look at (a :class:`~sparsemf.checkpoints.layouts.Layout`)."""

    @property
    def name(self) -> str: ...
    @property
    def d(self) -> int: ...
    @property
    def m(self) -> int: ...


@dataclass(frozen=True)
class Pair:
    """Block ``a`` of the first file is block ``b`` of the second, found by ``how``."""

    a: str
    b: str
    how: How

    @property
    def title(self) -> str:
        """One name where they agree, both where they do not."""
        return self.a if self.a == self.b else f"{self.a} = {self.b}"


@dataclass(frozen=True)
class Pairing:
    """The pairs in the natural order of the first file's names, and the blocks that have no partner."""

    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def pair_blocks(first: Iterable[Shaped], second: Iterable[Shaped]) -> Pairing:
    """Pair the blocks of two files.

    1. Equal names.  2. Two files of one block each: those two, whatever they are called.  3. *Suffix*: one change
    of prefix, p·s ↔ q·s in whole dotted components, that pairs more of the remaining blocks than any change that
    contradicts it; a prefix with a number in it (the layer's own, perhaps) must explain at least two.  4. *Order*:
    a family of blocks whose names differ in numbers only, and a family of the other file with the same sequence of
    (d, m), each the only one like it.
    """
    a = {block.name: block for block in sorted(first, key=lambda block: natural_order(block.name))}
    b = {block.name: block for block in sorted(second, key=lambda block: natural_order(block.name))}
    found: list[Pair] = []

    def take(pairs: Iterable[tuple[str, str]], how: How) -> None:
        for left, right in pairs:
            found.append(Pair(left, right, how))
            del a[left], b[right]

    if len(a) == 1 and len(b) == 1:
        left, right = next(iter(a)), next(iter(b))
        take([(left, right)], "name" if left == right else "only")
    take([(name, name) for name in a if name in b], "name")
    while pairs := _by_suffix(a, b):
        take(pairs, "suffix")
    take(_by_order(a, b), "order")
    found.sort(key=lambda pair: natural_order(pair.a))
    return Pairing(tuple(found), tuple(a), tuple(b))


def _by_suffix(a: Iterable[str], b: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of the best change of prefix, or none when another one that contradicts it is as good."""
    changes: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    by_tail: dict[str, list[str]] = defaultdict(list)
    for name in b:
        by_tail[name.rsplit(".", 1)[-1]].append(name)
    for left in a:
        for right in by_tail[left.rsplit(".", 1)[-1]]:
            changes[_prefixes(left, right)].append((left, right))
    ranked = sorted(changes.items(), key=lambda item: (-len(item[1]), len(item[0][0]) + len(item[0][1]), item[0]))
    for prefixes, pairs in ranked:
        if len(pairs) < 2 and any(_DIGITS.search(prefix) for prefix in prefixes):
            continue
        others = (rival for change, rival in ranked if change != prefixes and len(rival) >= len(pairs))
        return [] if any(_contradict(pairs, rival) for rival in others) else pairs
    return []


def _prefixes(left: str, right: str) -> tuple[str, str]:
    """What is left of two names without their longest common tail of components."""
    one, two = left.split("."), right.split(".")
    while one and two and one[-1] == two[-1]:
        one.pop()
        two.pop()
    return ".".join(one), ".".join(two)


def _contradict(pairs: list[tuple[str, str]], rival: list[tuple[str, str]]) -> bool:
    partner, back = dict(pairs), {right: left for left, right in pairs}
    return any(partner.get(left, right) != right or back.get(right, left) != left for left, right in rival)


def _by_order(a: Mapping[str, Shaped], b: Mapping[str, Shaped]) -> list[tuple[str, str]]:
    """Families of equal shapes, paired layer by layer (the mappings are in natural order)."""
    ours, theirs = _families(a), _families(b)
    count_a, count_b = Counter(shape for shape, _ in ours), Counter(shape for shape, _ in theirs)
    pairs: list[tuple[str, str]] = []
    for shape, names in ours:
        if count_a[shape] == 1 and count_b[shape] == 1:
            partner = next(other for candidate, other in theirs if candidate == shape)
            pairs += zip(names, partner, strict=True)
    return pairs


def _families(blocks: Mapping[str, Shaped]) -> list[tuple[tuple[tuple[int, int], ...], list[str]]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in blocks:
        groups[_DIGITS.sub("#", name)].append(name)
    return [(tuple((blocks[name].d, blocks[name].m) for name in names), names) for names in groups.values()]
