"""The one registry of activations.  A family file registers its names; adding an activation is one file."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from functools import cache

from sparsemf.activations.base import Activation
from sparsemf.activations.entry import Entry
from sparsemf.exceptions import InputError

_FACTORIES: dict[str, Callable[..., Activation]] = {}
_ALIASES: dict[str, str] = {}
_ENTRIES: dict[str, Entry] = {}
_CALL = re.compile(r"^([a-z_0-9]+)\(([^()]*)\)$")


class UnknownActivation(InputError):
    """The name is in no family."""


def register(name: str, factory: Callable[..., Activation], entry: Entry, aliases: tuple[str, ...] = ()) -> None:
    """Make ``factory(*parameters)`` available as ``name`` and its aliases (lower case), with its catalogue row."""
    if name in _FACTORIES:
        raise ValueError(f"activation {name!r} is registered twice")
    _FACTORIES[name] = factory
    _ENTRIES[name] = entry
    for alias in aliases:
        _ALIASES[alias] = name


@cache
def _load_families() -> None:
    from sparsemf.activations import families

    for module in pkgutil.iter_modules(families.__path__):
        importlib.import_module(f"{families.__name__}.{module.name}")


def names() -> tuple[str, ...]:
    """All canonical names, sorted."""
    _load_families()
    return tuple(sorted(_FACTORIES))


def entry(name: str) -> Entry:
    """The row of the catalogue of a canonical name."""
    _load_families()
    return _ENTRIES[name]


def aliases(name: str) -> tuple[str, ...]:
    """The other names of a canonical name, sorted."""
    _load_families()
    return tuple(sorted(alias for alias, target in _ALIASES.items() if target == name))


@cache
def get(name: str) -> Activation:
    """The activation called ``name``: ``"gelu"``, ``"leaky_relu(0.2)"``, or an alias such as ``"gelu_new"``.

    Raises :class:`UnknownActivation` with the known names.
    """
    _load_families()
    key = name.strip().lower().replace("-", "_")
    parameters: tuple[float, ...] = ()
    key = re.sub(r"^hermite_(\d+)$", r"hermite(\1)", key)
    if match := _CALL.match(key):
        key = match.group(1)
        try:
            parameters = tuple(float(p) for p in match.group(2).split(",") if p.strip())
        except ValueError:
            raise UnknownActivation(f"activation {name!r}: parameters must be numbers") from None
    key = _ALIASES.get(key, key)
    if key not in _FACTORIES:
        raise UnknownActivation(f"unknown activation {name!r}; known: {', '.join(names())}")
    try:
        return _FACTORIES[key](*parameters)
    except (TypeError, ValueError) as error:
        raise UnknownActivation(f"activation {name!r}: {error}") from None
