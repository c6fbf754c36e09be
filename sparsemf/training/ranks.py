"""Particles spread over the processes of ``torchrun``: who holds which, and the sums over all of them.

A step needs one all-reduce, of the predictions of its batch.  Noise and initialisation are functions of the particle's
index (:mod:`sparsemf.training.randomness`), so the result depends on the number of ranks by rounding only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from sparsemf.exceptions import InputError


@dataclass(frozen=True)
class Ranks:
    """This process's place among ``count``; a single process is rank 0 of 1."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, total: int) -> tuple[int, int]:
        """(start, length) of this rank's part of ``total`` particles; lengths differ by at most one."""
        start = self.rank * total // self.count
        return start, (self.rank + 1) * total // self.count - start

    def sum_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum over the ranks, in place."""
        if self.count > 1:
            there = _where_the_group_works(tensor)
            dist.all_reduce(there)
            if there is not tensor:
                tensor.copy_(there)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` holds on any rank."""
        return flag if self.count == 1 else bool(self.sum_(torch.tensor(float(flag))) > 0)

    def gather(self, local: torch.Tensor, total: int) -> torch.Tensor:
        """The parts (…, n_r, D) of all ranks as (…, total, D) on the CPU; only rank 0's answer is meant to be used."""
        if self.count == 1:
            return local.detach().cpu()
        local = _where_the_group_works(local)
        lengths = [Ranks(r, self.count).share(total)[1] for r in range(self.count)]
        most = max(lengths)
        padded = local.new_zeros(*local.shape[:-2], most, local.shape[-1])
        padded[..., : local.shape[-2], :] = local
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded)
        return torch.cat([p[..., :n, :] for p, n in zip(parts, lengths, strict=True)], dim=-2).cpu()


def _where_the_group_works(tensor: torch.Tensor) -> torch.Tensor:
    """gloo sums on the CPU, NCCL on the card."""
    return tensor.cuda() if dist.get_backend() == "nccl" else tensor.cpu()


ALONE = Ranks()


@contextmanager
def ranks_of_environment(device: str) -> Iterator[Ranks]:
    """The ranks that ``torchrun`` announced by RANK and WORLD_SIZE: gloo on CPU, NCCL on CUDA; one rank without it.

    Raises :class:`InputError` when the group cannot be formed.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    on_cuda = device != "cpu" and torch.cuda.is_available()
    try:
        if on_cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("nccl" if on_cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE = {count}, but the processes cannot be joined ({error}); start them with torchrun"
        ) from None
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
