"""The same jobs on a running ``dask.distributed`` cluster.

Every task hands its request to a process of this package on the worker's machine (:class:`LocalPool` with one), and
brings the reply back to the client, which alone writes the store.  So limits hold as they do locally, several threads
of one Dask worker do not meet in libraries that are not thread-safe, and only the checkpoints have to lie on a path
that all machines see.  A Dask worker that dies in the middle of a job gets its job done elsewhere; after as many deaths
as the scheduler allows (``distributed.scheduler.allowed-failures``) the job itself is recorded as a failure.
"""

from __future__ import annotations

import json
import logging
import queue
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sparsemf.batch.jobs import Limits
from sparsemf.batch.local import LocalPool
from sparsemf.batch.worker import Reply, Request, failure
from sparsemf.exceptions import InputError

_PATIENCE = "15s"
_idle: dict[str, queue.LifoQueue[LocalPool]] = {}


def on_worker(request: str, threads: int, limits: dict[str, float | None]) -> str:
    """One job in a process of its own on the worker's machine; the process is kept for the next."""
    spare = _idle.setdefault(json.dumps([threads, limits]), queue.LifoQueue())
    try:
        pool = spare.get_nowait()
    except queue.Empty:
        pool = LocalPool(1, threads, Limits(**limits))
    try:
        ((_, reply),) = pool.map([json.loads(request)])
    except BaseException:
        pool.close()
        raise
    spare.put(pool)
    return json.dumps(reply)


class DaskPool:
    """The workers of the cluster whose scheduler listens at ``address`` (``tcp://host:port``).  A context manager.

    Jobs that a worker has begun run to their end, or to their time limit, also when the client leaves.

    Raises InputError when dask is not installed, when nobody answers, and when there are no workers.
    """

    def __init__(self, address: str, threads: int = 1, limits: Limits | None = None) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InputError(
                "--dask: expected dask.distributed, it is not installed; pip install 'sparsemf[dask]'"
            ) from None
        self.threads, self.limits, self.address = threads, limits or Limits(), address
        # what it logs about lost connections is said here in one line
        names = [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "distributed"]
        self._levels = {name: logging.getLogger(name).level for name in names}
        self._log(dict.fromkeys(names, logging.CRITICAL + 1))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._client: Any = Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            self._log(self._levels)
            why = " ".join(str(error).split())
            raise InputError(f"--dask {address}: expected a scheduler, nobody answers ({why})") from None
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError:
            self.close()
            raise InputError(
                f"--dask {address}: the cluster has no workers; start some: dask worker {address}"
            ) from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> DaskPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; it goes on running."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._client.close(timeout=5)
        self._log(self._levels)

    @staticmethod
    def _log(levels: dict[str, int]) -> None:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)

    def map(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) for every request, as they are done; what has not begun is cancelled when the iteration is
        left."""
        from distributed import as_completed

        limits = asdict(self.limits)
        futures = {
            self._client.submit(on_worker, json.dumps(request), self.threads, limits, pure=False): index
            for index, request in enumerate(requests)
        }
        try:
            for future in as_completed(list(futures), loop=self._client.loop):
                index = futures.pop(future)
                yield index, self._reply(future)
        finally:
            if futures:
                self._client.cancel(list(futures))

    def _reply(self, future: Any) -> Reply:
        from distributed import KilledWorker

        if future.status == "cancelled" or future.status == "lost":
            raise InputError(f"--dask {self.address}: the scheduler has gone; run the same command to continue")
        try:
            return json.loads(future.result())
        except KilledWorker as error:
            text = f"{error.allowed_failures + 1} workers died of it; out of memory? run it alone, without --dask"
            return {"failure": {"kind": "worker died", "error": text}}
        except InputError:
            raise
        except Exception as error:  # of the package on the worker: not found, another version, …
            return {"failure": failure(error)}
