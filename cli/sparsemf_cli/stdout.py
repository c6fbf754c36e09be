"""Keep the standard output for the document: whatever libraries print there, at Python or C level, goes elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


class StdoutGuard:
    """While active, file descriptor 1 and ``sys.stdout`` lead to the null device (or stderr); :meth:`released` gives
    the true standard output back for the time of its block.
    """

    def __init__(self, *, to_stderr: bool = False) -> None:
        self._to_stderr = to_stderr
        self._true_stream: TextIO = sys.stdout
        self._true_descriptor = -1
        self._sink: TextIO | None = None

    def __enter__(self) -> StdoutGuard:
        self._true_stream = sys.stdout
        with suppress(OSError):  # a process may be started with descriptor 1 closed
            self._true_descriptor = os.dup(1)
        self._sink = sys.stderr if self._to_stderr else open(os.devnull, "w", encoding="utf-8")
        self._divert()
        return self

    def __exit__(self, *_: object) -> None:
        self._release()
        if self._true_descriptor >= 0:
            os.close(self._true_descriptor)
            self._true_descriptor = -1
        if self._sink is not None and not self._to_stderr:
            self._sink.close()

    @contextmanager
    def released(self) -> Iterator[TextIO]:
        """The true standard output, for writing the result."""
        self._release()
        try:
            yield self._true_stream
        finally:
            with suppress(BrokenPipeError, ValueError):
                self._true_stream.flush()
            self._divert()

    def _divert(self) -> None:
        _flush_c_streams()
        with suppress(BrokenPipeError, ValueError):
            self._true_stream.flush()
        if self._sink is None:
            return
        sys.stdout = self._sink
        if self._true_descriptor >= 0:
            # stderr may have been replaced by an object without a descriptor: then 2 itself
            os.dup2(2 if self._to_stderr else self._sink.fileno(), 1)

    def _release(self) -> None:
        if self._sink is not None:
            self._sink.flush()
        _flush_c_streams()
        sys.stdout = self._true_stream
        if self._true_descriptor >= 0:
            os.dup2(self._true_descriptor, 1)


def _flush_c_streams() -> None:
    """C libraries (HIGHS) buffer what they print; it must leave before the descriptor changes its target."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):  # a platform without a C library to open by None
        ctypes.CDLL(None).fflush(None)


def silence_broken_pipe() -> None:
    """The reader of the standard output has gone: drop what is left so that the interpreter's exit is quiet."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
