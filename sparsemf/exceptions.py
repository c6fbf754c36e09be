"""The one exception that means "the input is at fault": commands turn it into one line and exit code 4."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input.  The message is one line: what was expected, what came, how to mend it."""
