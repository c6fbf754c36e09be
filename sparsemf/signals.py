"""Signals that wait while processes are started, so that an interruption finds every one of them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def held(*signals: signal.Signals) -> Iterator[None]:
    """``signals`` wait until the end of the block; a process started in it is deaf to them until it lifts the bar.

    The bar is inherited through fork and exec, before the new process has run an instruction; a handler is not.
    Where the system has no signal masks (Windows) nothing is held.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
