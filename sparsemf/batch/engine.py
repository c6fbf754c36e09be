"""A batch from its work list to its store: list the blocks, analyze what has no result yet, write everything here.

The unit of work is one block of one file.  Blocks with the same content, activation and settings are computed once and
recorded for every path.  Whatever engine does the jobs, only this process writes, so that a store has one writer and
shows whole documents only.
"""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sparsemf.atomic import tool_version
from sparsemf.batch.cluster import DaskPool
from sparsemf.batch.jobs import Limits, Settings, digest, result_id
from sparsemf.batch.local import LocalPool
from sparsemf.batch.store import Store, same_stamp
from sparsemf.batch.summary import row, write_summary
from sparsemf.batch.worker import Reply, Request
from sparsemf.exceptions import InputError

if TYPE_CHECKING:
    from sparsemf.batch.classes import Classes


class Pool(Protocol):
    """What does the jobs: processes of this machine or of a cluster."""

    def map(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """(index, reply) for every request, in any order."""
        ...


@dataclass(frozen=True)
class Progress:
    """How far a stage is: ``done`` of ``total`` jobs have ended, ``failed`` of them badly; ``kept`` needed none."""

    stage: str
    done: int
    total: int
    kept: int = 0
    failed: int = 0


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class BatchResult:
    """Counts of the whole batch: files of the list, blocks analyzed now and found done; the store is the folder."""

    files: int
    done: int
    kept: int
    failures: tuple[dict[str, Any], ...]
    interrupted: bool = False
    classes: Classes | None = None


@dataclass(frozen=True)
class _Entry:
    """One block of one file: where it is, what it is (``key``), and the name of its result."""

    path: Path
    block: dict[str, Any]
    stamp: list[Any]
    id: str
    key: str

    def record(self) -> dict[str, Any]:
        """For a request."""
        block = {key: self.block[key] for key in ("sha256", "activation")}
        return {"path": str(self.path.absolute()), "block": self.block["name"], **block, "stamp": self.stamp}


def run_batch(
    files: Iterable[Path],
    settings: Settings,
    out: Path,
    jobs: int = 1,
    threads: int = 1,
    watch: Watch | None = None,
    limits: Limits | None = None,
    dask: str | None = None,
    class_eps: float | None = None,
) -> BatchResult:
    """Analyze all blocks of all files into ``out``: results/<id>.json, failures.jsonl, summary.parquet and .csv.

    Results that exist are kept and failures tried again, so that a batch which was interrupted continues where it was.
    KeyboardInterrupt (and SIGTERM, in the main thread) ends it after the summary of what is done has been written, with
    ``interrupted`` set.  Raises :class:`~sparsemf.exceptions.InputError` for a reference that cannot be read, an
    unusable ``out``, a cluster that does not answer; RuntimeError when worker processes do not start.

    Parameters
    ----------
    jobs : processes on this machine; with ``dask`` (a scheduler's address) the cluster's workers do the jobs instead
    threads : threads of each process
    limits : wall time and resident memory of a job
    class_eps : also sort the blocks into classes of equal functions at this relative ε (classes.json)
    """
    batch = _Batch(list(files), settings, Store(out), watch or (lambda _: None), dask is not None)
    pool: AbstractContextManager[Pool]
    with batch.store.opened(), _terminable():
        try:
            limits = limits or Limits()
            pool = LocalPool(jobs, threads, limits) if dask is None else DaskPool(dask, threads, limits)
            with pool as workers:
                batch.run(workers, class_eps)
        except KeyboardInterrupt:
            batch.interrupted = True
        return batch.finish()


class _Batch:
    """The state of one run."""

    def __init__(self, files: list[Path], settings: Settings, store: Store, watch: Watch, remote: bool) -> None:
        self.files, self.settings, self.store, self.watch, self.remote = files, settings, store, watch, remote
        self.entries: list[_Entry] = []
        self.rows: dict[str, dict[str, Any]] = {}
        self.failures: list[dict[str, Any]] = []
        self.done = self.kept = 0
        self.classes: Classes | None = None
        self.listed = self.interrupted = False

    def run(self, pool: Pool, class_eps: float | None) -> None:
        """List, analyze, compare."""
        reference = self._reference(pool)
        self.entries = self._listed(pool)
        self.listed = True
        groups: dict[str, list[_Entry]] = {}
        for entry in self.entries:
            groups.setdefault(entry.key, []).append(entry)
        missing = [group for group in groups.values() if not self._known(group)]
        self.kept = len(self.rows)
        requests = [
            self._request("analyze", entry=group[0].record(), id=group[0].id, reference=reference) for group in missing
        ]
        failed = 0
        self.watch(Progress("analyzing", 0, len(requests), self.kept))
        for count, (index, reply) in enumerate(pool.map(requests), 1):
            group = missing[index]
            if "ok" in reply:
                if reply["ok"]["certificate"] is not None:
                    self.store.keep_certificate(group[0].id, reply["ok"]["certificate"])
                self.done += self._record(group, reply["ok"]["document"])
            else:
                failed += 1
                for entry in group:
                    self._failed(entry.path, entry.block["name"], reply["failure"])
            self.watch(Progress("analyzing", count, len(requests), self.kept, failed))
        if class_eps is not None:
            self._compare(pool, class_eps, groups)

    def finish(self) -> BatchResult:
        """Write the table and the failures (not when the end came before the blocks were known)."""
        if not self.listed:
            return BatchResult(len(self.files), 0, 0, (), self.interrupted)
        failures = sorted(self.failures, key=lambda record: (record["file"], record["block"]))
        self.store.keep_failures(failures)
        number = self.classes.number_of if self.classes is not None else {}
        rows = [
            {**self.rows[e.id], "path": e.path.name, "file": str(e.path), "class": number.get(e.id)}
            for e in self.entries
            if e.id in self.rows
        ]
        write_summary(self.store.folder, rows)
        return BatchResult(len(self.files), self.done, self.kept, tuple(failures), self.interrupted, self.classes)

    def _request(self, task: str, **parts: Any) -> Request:
        settings = asdict(self.settings)
        for name in ("reference", "rho"):  # a worker may have another current folder
            if settings[name] is not None and (name == "reference" or settings["data_sha256"] is not None):
                settings[name] = str(Path(settings[name]).absolute())
        return {"task": task, "version": tool_version(), "settings": settings, **parts}

    def _reference(self, pool: Pool) -> list[dict[str, Any]] | None:
        """The reference's blocks; its content becomes part of the settings."""
        from sparsemf.checkpoints import file_sha256

        if self.settings.rho not in ("gaussian", "layernorm") and Path(self.settings.rho).is_file():
            self.settings = replace(self.settings, data_sha256=file_sha256(Path(self.settings.rho)))
        if self.settings.reference is None:
            return None
        path = Path(self.settings.reference).absolute()
        request = self._request("list", path=str(path))
        request["settings"]["block"] = None
        ((_, reply),) = pool.map([request])
        if "failure" in reply:
            raise InputError(f"reference: {reply['failure']['error']}")
        found = reply["ok"]
        if not found["blocks"]:
            raise InputError(f"reference: {found['problems'][0]['error']}")
        identity = [[b["name"], b["sha256"], b["activation"]] for b in found["blocks"]]
        sha256 = hashlib.sha256(json.dumps(identity).encode("utf-8", "surrogateescape")).hexdigest()
        self.settings = replace(self.settings, reference_sha256=sha256)
        return [
            {"path": str(path), "block": b["name"], "sha256": b["sha256"], "stamp": found["stamp"]}
            for b in found["blocks"]
        ]

    def _listed(self, pool: Pool) -> list[_Entry]:
        """The blocks of all files, in the order of the list; files that cannot be read become failures."""
        options = [tool_version(), self.settings.block, self.settings.activation, self.settings.map]
        known = self.store.listing(options)
        paths = [str(path.absolute()) for path in self.files]
        found = {p: known[p] for p in paths if p in known and same_stamp(Path(p), known[p]["stamp"])}
        new = [p for p in dict.fromkeys(paths) if p not in found]
        failed, now = {}, time.time_ns()
        self.watch(Progress("listing", 0, len(new), len(found)))
        for count, (index, reply) in enumerate(pool.map([self._request("list", path=p) for p in new]), 1):
            if "ok" in reply:
                found[new[index]] = reply["ok"]
            else:
                failed[new[index]] = self._explained(new[index], reply["failure"])
            self.watch(Progress("listing", count, len(new), len(paths) - len(new), len(failed)))
        self.store.keep_listing(options, found, now)
        entries = []
        for path, name in zip(self.files, paths, strict=True):
            if name in failed:
                self._failed(path, "", failed[name])
                continue
            for problem in found[name]["problems"]:
                self._failed(path, problem["block"], problem)
            entries += [self._entry(path, block, found[name]["stamp"]) for block in found[name]["blocks"]]
        return entries

    def _explained(self, path: str, failure: dict[str, Any]) -> dict[str, Any]:
        if not self.remote or "no such file" not in failure["error"] or not Path(path).exists():
            return failure
        text = f"expected {path} on the Dask worker, it is not there; put the files on a path that all machines share"
        return {"kind": "bad input", "error": text}

    def _entry(self, path: Path, block: dict[str, Any], known: list[Any]) -> _Entry:
        settings = self.settings
        stem = path.name.removesuffix(".json").removesuffix(".index") if path.suffix == ".json" else path.name
        stem = Path(stem).stem
        key = digest(block["sha256"], block["name"], block["activation"], settings.identity())
        name = result_id(stem, block["name"], block["sha256"], block["activation"], settings)
        return _Entry(path, block, known, name, key)

    def _known(self, group: list[_Entry]) -> bool:
        """Whether the store has a result of one of the blocks that are the same; it is then recorded for all."""
        for entry in {e.id: e for e in group}.values():
            document = self.store.result(entry.id)
            if document is not None:
                self._record(group, document, known=entry.id)
                return True
        return False

    def _record(self, group: list[_Entry], document: dict[str, Any], known: str | None = None) -> int:
        """Write a result under the names of all blocks that are the same; the number of names."""
        names: dict[str, _Entry] = {}
        for entry in group:
            names.setdefault(entry.id, entry)
        for name, entry in names.items():
            path = entry.path.name.encode("utf-8", "backslashreplace").decode()
            own = {**document, "id": name, "input": {**document["input"], "path": path}}
            if name != known and (known is None or self.store.result(name) is None):
                self.store.keep(own)
            self.rows[name] = row(own)
        return len(names)

    def _failed(self, path: Path, block: str, failure: dict[str, Any]) -> None:
        record = {"path": path.name, "file": str(path), "block": block}
        self.failures.append({**record, "kind": failure["kind"], "error": failure["error"]})

    def _compare(self, pool: Pool, class_eps: float, groups: dict[str, list[_Entry]]) -> None:
        from sparsemf.batch.classes import Member, classify

        members = []
        for first, *others in groups.values():
            if first.id in self.rows:
                ids = {first.id: str(first.path)}
                for entry in others:
                    ids.setdefault(entry.id, str(entry.path))
                block = first.block
                members.append(
                    Member(first.id, first.record(), block["d"], block["m"], block["gated"], ids, first.path.name)
                )

        def ask(stage: str, requests: list[dict[str, Any]]) -> Iterator[tuple[int, Reply]]:
            self.watch(Progress(stage, 0, len(requests)))
            whole = [self._request(**request) for request in requests]
            for count, found in enumerate(pool.map(whole), 1):
                yield found
                self.watch(Progress(stage, count, len(requests)))

        self.classes = classify(members, ask, self.store, self.settings, class_eps)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a batch as Ctrl-C does, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
