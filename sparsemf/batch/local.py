"""Processes of this machine: one job each, with limits; a process that dies or is stopped costs only its job.

One thread watches all processes.  A reply counts when it has arrived here, and only then is anything written: a
process that is stopped, by a limit or by Ctrl-C, leaves no trace in the store.  The processes are sessions of their
own, so that Ctrl-C reaches the parent alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Pipe, wait
from pathlib import Path

from sparsemf.batch.child import READY
from sparsemf.batch.jobs import Limits
from sparsemf.batch.worker import Reply, Request
from sparsemf.exceptions import InputError
from sparsemf.signals import held

_GIB = 2**30
_LOOK = 0.05
"""Seconds between two looks at the memory."""
_STARTS = 3
"""Processes that may die before they are ready, one after the other."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Child:
    """One process; ``index`` is the job it works on (None: idle), ``ready`` whether it has loaded the program."""

    def __init__(self, threads: int) -> None:
        self.ready = False
        self.index: int | None = None
        self.started = 0.0
        self.idle_memory = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        self.connection, theirs = Pipe()
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        known = [os.environ.get("PYTHONPATH", ""), *sys.path]
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) if p == "" else p for p in known if p != "")
        # -P: a file in the current folder must not pass for a module
        command = [sys.executable, "-P", "-W", "ignore", "-m", "sparsemf.batch.child", str(theirs.fileno())]
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,
            )
        finally:
            theirs.close()  # so that the death of the process is the end of the stream

    def ask(self, index: int, request: Request) -> None:
        """Give it a job."""
        self.index, self.started = index, time.monotonic()
        self.connection.send_bytes(json.dumps(request).encode("utf-8"))

    def resident(self) -> int:
        """Bytes of memory that the process holds now (0 when it is gone)."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self) -> str:
        """Stop the process with all that it started, and wait for it; how it ended, in words."""
        alive = self.process.poll() is None
        if alive:  # the number of a process that has been waited for may be another's by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self.connection.close()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        self._errors.close()
        if alive:
            return "stopped"
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}: {lines[-1]}" if lines else how


class LocalPool:
    """``jobs`` processes with ``threads`` threads each, kept from one :meth:`map` to the next.  A context manager."""

    def __init__(self, jobs: int = 1, threads: int = 1, limits: Limits | None = None) -> None:
        self.jobs, self.threads, self.limits = max(jobs, 1), threads, limits or Limits()
        self._children: list[Child] = []
        self._died_at_start = 0
        if self.limits.memory_gib is not None and not Path("/proc/self/statm").exists():
            raise InputError("--memory-limit: expected a system with /proc (Linux), found none; run without it")

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes, at work or not."""
        while self._children:
            self._children.pop().end()

    def map(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) for every request, as they are done.  Jobs begun are stopped when the iteration is left."""
        pending = deque(range(len(requests)))
        left = len(requests)
        try:
            while left:
                self._staff(left)
                for child in list(self._children):
                    if child.ready and child.index is None and pending and self._give(child, pending[0], requests):
                        pending.popleft()
                for child in self._awake():
                    index = child.index
                    reply = self._hear(child)
                    if index is not None and reply is not None:
                        left -= 1
                        yield index, reply
                for child in list(self._children):
                    index = child.index
                    if index is not None and (reply := self._over(child)) is not None:
                        left -= 1
                        yield index, reply
        finally:
            for child in [c for c in self._children if c.index is not None]:
                self._dismiss(child)

    def _staff(self, left: int) -> None:
        while len(self._children) < min(self.jobs, left):
            with held(signal.SIGINT, signal.SIGTERM):  # a process that is not yet in the list would be forgotten
                self._children.append(Child(self.threads))

    def _give(self, child: Child, index: int, requests: Sequence[Request]) -> bool:
        """Whether the child took the job; one that died while it was idle is replaced."""
        try:
            child.ask(index, requests[index])
        except OSError:
            self._dismiss(child)
            return False
        return True

    def _awake(self) -> list[Child]:
        """The children that have something to say, after a pause of at most the time to the next look."""
        limits = self.limits
        pause = _LOOK if limits.memory_gib is not None else None
        if limits.time_s is not None:
            busy = [c.started + limits.time_s - time.monotonic() for c in self._children if c.index is not None]
            pause = min([max(t, 0.0) for t in busy] + ([] if pause is None else [pause]), default=None)
        if not self._children:
            return []
        heard = set(wait([child.connection for child in self._children], pause))
        return [child for child in self._children if child.connection in heard]

    def _hear(self, child: Child) -> Reply | None:
        """The reply of a child; None when it has only become ready."""
        try:
            said = child.connection.recv_bytes()
        except (EOFError, OSError):
            return self._dead(child)
        if said == READY:
            child.ready, self._died_at_start = True, 0
            child.idle_memory = child.resident()
            limit = self.limits.memory_gib
            if limit is not None and child.idle_memory > limit * _GIB:
                taken = child.idle_memory / _GIB
                raise InputError(f"--memory-limit {limit:g}: an idle worker takes {taken:.2f} GiB; give it more")
            return None
        child.index = None
        # what it has not given back would count against its next job
        limit = self.limits.memory_gib
        if limit is not None and child.resident() > child.idle_memory + 0.25 * limit * _GIB:
            self._dismiss(child)
        return json.loads(said)

    def _dead(self, child: Child) -> Reply | None:
        ready, index = child.ready, child.index
        with contextlib.suppress(subprocess.TimeoutExpired):  # its end of the stream closes a moment before it ends
            child.process.wait(5)
        how = self._dismiss(child)
        if not ready:
            self._died_at_start += 1
            if self._died_at_start >= _STARTS:
                raise RuntimeError(f"the worker processes die at their start ({how})")
        if index is None:
            return None
        text = f"the worker process died ({how}); out of memory? run again with fewer --jobs"
        return {"failure": {"kind": "worker died", "error": text}}

    def _over(self, child: Child) -> Reply | None:
        """The failure of a child that is over a limit, which ends it; a reply that has arrived already counts."""
        time_s, memory = self.limits.time_s, self.limits.memory_gib
        kind = text = ""
        if time_s is not None and time.monotonic() - child.started > time_s:
            kind = "time limit"
            text = f"expected an end within {time_s:g} s (--time-limit), was stopped; run again with a larger limit"
        elif memory is not None and (taken := child.resident()) > memory * _GIB:
            kind = "memory limit"
            text = (
                f"expected at most {memory:g} GiB of resident memory (--memory-limit), the worker had "
                f"{taken / _GIB:.2f}; run again with a larger limit"
            )
        if not kind or child.connection.poll():
            return None
        self._dismiss(child)
        return {"failure": {"kind": kind, "error": text}}

    def _dismiss(self, child: Child) -> str:
        self._children.remove(child)
        return child.end()
