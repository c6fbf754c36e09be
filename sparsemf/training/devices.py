"""Devices by name, and the number of threads of a computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sparsemf.exceptions import InputError


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """torch on so many threads inside, on as many as before outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(name: str) -> torch.device:
    """The device called ``name``: cpu, cuda (with a number) or auto; raises :class:`InputError` without one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("device cuda: no CUDA device is available; use cpu or auto")
    try:
        return torch.device(name)
    except RuntimeError:
        raise InputError(f"device: expected cpu, cuda or auto, got {name!r}") from None
