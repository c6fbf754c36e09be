"""The exception that means "the input is at fault" (exit code 4), and the one that means "this program is" (70)."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input.  The message is one line: what was expected, what came, how to mend it."""


class InconsistentBounds(RuntimeError):
    """Two bounds of one quantity, each proved or computed on its own, exclude each other: nothing is published."""
