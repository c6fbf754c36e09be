"""Typed access to a document that somebody else wrote: absent is None or empty, a wrong type is an InputError."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sparsemf.exceptions import InputError


class Fields:
    """A JSON object with its place in the document, so that an error names the field.

    A missing key and a null read alike; NaN and infinities, which a document has no room for, read as null.
    """

    def __init__(self, data: Mapping[str, Any], where: str = "") -> None:
        self.data = data
        self.where = where

    @staticmethod
    def of(value: Any, where: str) -> Fields:
        """``value`` as an object; null is the empty one."""
        if value is None:
            return Fields({}, where)
        if not isinstance(value, Mapping):
            raise _unexpected(where, "an object", value)
        return Fields(value, where)

    def __bool__(self) -> bool:
        return bool(self.data)

    def sub(self, key: str) -> Fields:
        """The object under ``key``."""
        return Fields.of(self.data.get(key), self._name(key))

    def rows(self, key: str) -> list[Fields]:
        """The list of objects under ``key``."""
        return [Fields.of(item, f"{self._name(key)}[{i}]") for i, item in enumerate(self.items(key))]

    def items(self, key: str) -> list[Any]:
        """The list under ``key``."""
        value = self.data.get(key)
        if value is None:
            return []
        if not isinstance(value, (list, tuple)):
            raise _unexpected(self._name(key), "a list", value)
        return list(value)

    def text(self, key: str, default: str = "") -> str:
        """The string under ``key``."""
        value = self.data.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise _unexpected(self._name(key), "a string", value)
        return value

    def flag(self, key: str) -> bool:
        """The truth value under ``key``; absent is False."""
        value = self.data.get(key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise _unexpected(self._name(key), "true or false", value)
        return value

    def number(self, key: str) -> float | None:
        """The number under ``key``."""
        return _number(self.data.get(key), self._name(key))

    def count(self, key: str) -> int | None:
        """The integer under ``key``."""
        value = self.number(key)
        if value is None:
            return None
        if value != int(value):
            raise _unexpected(self._name(key), "an integer", self.data[key])
        return int(value)

    def numbers(self, key: str) -> list[float | None]:
        """The list of numbers under ``key``; nulls stay."""
        name = self._name(key)
        return [_number(item, f"{name}[{i}]") for i, item in enumerate(self.items(key))]

    def vector(self, key: str) -> list[float]:
        """The list of numbers under ``key``, none of them null; a single number is a list of one."""
        if isinstance(self.data.get(key), (int, float)):
            return [value] if (value := self.number(key)) is not None else []
        found = self.numbers(key)
        if any(value is None for value in found):
            raise InputError(f"{self._name(key)}: expected numbers, got a null among them")
        return [value for value in found if value is not None]

    def points(self, key: str) -> list[tuple[float, float]]:
        """The list of pairs of numbers under ``key``."""
        found = []
        for i, item in enumerate(self.items(key)):
            pair = Fields({"pair": item}, f"{self._name(key)}[{i}]").vector("pair")
            if len(pair) != 2:
                raise InputError(f"{self._name(key)}[{i}]: expected two numbers, got {len(pair)}")
            found.append((pair[0], pair[1]))
        return found

    def plain(self) -> list[tuple[str, str]]:
        """All fields as (name, text), nested ones by dotted names: for tables of settings."""
        rows: list[tuple[str, str]] = []
        for key, value in self.data.items():
            if isinstance(value, Mapping):
                rows += [(f"{key}.{name}", text) for name, text in Fields(value).plain()]
            elif isinstance(value, (list, tuple)):
                rows.append((str(key), ", ".join(str(item) for item in value) if len(value) <= 16 else "…"))
            elif value is not None:
                rows.append((str(key), str(value)))
        return rows

    def _name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key


def _number(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _unexpected(where, "a number", value)
    return float(value) if math.isfinite(value) else None


def _unexpected(where: str, expected: str, value: Any) -> InputError:
    shown = repr(value)
    return InputError(f"{where}: expected {expected}, got {shown if len(shown) <= 40 else type(value).__name__}")
