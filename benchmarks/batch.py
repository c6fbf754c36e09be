"""The batch under load: throughput with broken files, kills, a cluster that loses a worker, classes of 200 networks.

    python benchmarks/batch.py --throughput [--files 300] [--broken 20]
    python benchmarks/batch.py --kills 50
    python benchmarks/batch.py --dask [--files 40]
    python benchmarks/batch.py --classes [--members 200] [--planted 12] [--sample 60]

Without a flag all four run at the sizes above.  Every process has one thread.  Parts print what they ran, the figures
and whether they hold; the exit code counts those that do not.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import Any

# in the place of this folder, where this file would pass for the tests' ``batch``
sys.path[:1] = [str(Path(__file__).resolve().parent.parent / "tests")]
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402

import sparsemf  # noqa: E402
from batch.hooks import children_of  # noqa: E402
from batch.killing import Watcher, command, killed  # noqa: E402
from batch.test_batch import stripped, table  # noqa: E402
from cases import planted  # noqa: E402
from sparsemf.batch import Settings, run_batch, work_list  # noqa: E402
from sparsemf.symmetry import disguise  # noqa: E402

ACTIVATIONS = ("relu", "tanh", "gelu", "silu", "sigmoid", "softplus", "erf", "abs")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def checkpoints(folder: Path, count: int, seed: int, d: int = 6, atoms: int = 4, width: int = 80) -> None:
    """Different networks of several activations in two formats."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        net = planted(rng, ACTIVATIONS[k % len(ACTIVATIONS)], d=d, atoms=atoms, outputs=1 + k % 3, bias=True)
        sparsemf.save(disguise(net, rng, width), folder / f"net{k:03d}.{('safetensors', 'npz')[k % 2]}")


def break_some(folder: Path, count: int, seed: int) -> None:
    """Files that fail each in its own way, added to a folder."""
    rng = np.random.default_rng(seed)
    good = sorted(p for p in folder.iterdir() if p.suffix == ".safetensors")
    for k in range(count):
        data = good[k % len(good)].read_bytes()
        kind, target = k % 7, folder / f"broken{k:02d}.safetensors"
        if kind == 0:
            target.write_bytes(data[: len(data) // 2])
        elif kind == 1:
            target.write_bytes(b"")
        elif kind == 2:
            target.with_suffix(".pt").write_bytes(b"\x80\x04K\x01.")
        elif kind == 3:
            target.with_suffix(".npz").write_bytes(b"PK\x03\x04" + rng.bytes(200))
        elif kind == 4:
            target.write_text("a text")
        elif kind == 5:
            np.savez(
                target.with_suffix(".npz"), outer=np.ones((3, 1)), inner=np.full((3, 2), np.nan), activation="relu"
            )
        else:
            np.savez(target.with_suffix(".npz"), outer=np.ones((3, 1)), inner=np.ones((4, 2)), activation="relu")


def throughput(folder: Path, files: int, broken: int) -> bool:
    source = folder / "in"
    checkpoints(source, files - broken, 0)
    break_some(source, broken, 1)
    seconds, good = {}, True
    for jobs in (1, 2):
        line = command(source, folder / f"out{jobs}", "--jobs", str(jobs), "--threads", "1", "--json")
        started = time.perf_counter()
        found = subprocess.run(line, capture_output=True, text=True, check=False)
        seconds[jobs] = time.perf_counter() - started
        document = json.loads(found.stdout)
        kinds = {record["kind"] for record in document["failures"]}
        clear = all("expected" in record["error"] for record in document["failures"])
        say(f"  {' '.join(line[2:])}")
        say(
            f"  {jobs} process(es): exit {found.returncode}, {document['done']} done, {document['failed']} failed "
            f"{kinds}, every error says what was expected: {clear}; {seconds[jobs]:.1f} s"
        )
        good &= (found.returncode, document["done"], document["failed"]) == (5, files - broken, broken) and clear
    ratio = seconds[1] / seconds[2]
    same = stripped(folder / "out1") == stripped(folder / "out2")
    say(f"  two processes against one: {ratio:.2f}x on {os.cpu_count()} cores; the stores are the same: {same}")
    return good and same and ratio >= 1.7


def kills(folder: Path, count: int) -> bool:
    source, calm = folder / "in", folder / "calm"
    checkpoints(source, 20, 2, d=5, atoms=3, width=30)
    break_some(source, 2, 3)
    options = ("--jobs", "2", "--threads", "1", "--classes")
    started = time.perf_counter()
    subprocess.run(command(source, calm, *options), capture_output=True, check=False)
    length = time.perf_counter() - started
    met = runs = reads = orphans = 0
    torn: list[str] = []
    same = True
    while met < count:
        out = folder / f"hit{runs}"
        # moments from before the workers are ready to the classes; a few kills to a store
        found = killed(source, out, options, min(count - met, 8), 0.6 * length, runs)
        met, runs, reads = met + found["met"], runs + 1, reads + found["reads"]
        orphans, torn = orphans + found["orphans"], torn + found["torn"]
        equal = stripped(out) == stripped(calm) and found["code"] == 5
        equal &= [{**r, "seconds": 0} for r in table(out)] == [{**r, "seconds": 0} for r in table(calm)]
        same &= equal
        say(f"  store {runs}: {found['met']} kills, final store {'identical' if equal else 'DIFFERENT'}")
    say(f"  {met} kills, {reads} contents of visible files read meanwhile, {len(torn)} half-written, {orphans} orphans")
    return same and not torn and not orphans


def cluster(folder: Path, files: int) -> bool:
    source = folder / "in"
    checkpoints(source, files, 4, d=5, atoms=3, width=40)
    break_some(source, 2, 5)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run_batch(work_list(str(source)), Settings(), folder / "local", jobs=2, class_eps=1e-3)
    told = folder / "scheduler.json"
    dask = [sys.executable, "-W", "ignore", "-m", "dask"]
    processes = [
        subprocess.Popen([*dask, "scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", told], **quiet)
    ]
    while not told.exists():
        time.sleep(0.05)
    address = json.loads(told.read_text())["address"]
    worker = [*dask, "worker", address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
    processes += [subprocess.Popen([*worker, "--local-directory", folder / "d"], **quiet) for _ in range(2)]
    try:
        equal = []
        for name in ("whole", "killed"):
            out = folder / name
            started = time.perf_counter()
            line = command(source, out, "--dask", address, "--classes")
            watcher = Watcher(out)
            watcher.start()
            batch = subprocess.Popen(line, **quiet)
            if name == "killed":
                while len(list(out.glob("results/*.json"))) < files // 3:
                    time.sleep(0.01)
                busy = children_of(processes[1].pid)
                processes[1].kill()
                say(f"  one of two workers killed by SIGKILL with {len(busy)} process at work")
            code = batch.wait()
            watcher.finish()
            equal.append(stripped(out) == stripped(folder / "local") and code == 5 and not watcher.torn)
            say(
                f"  {name}: exit {code}, {time.perf_counter() - started:.1f} s, {len(watcher.torn)} half-written "
                f"files, store {'identical' if equal[-1] else 'DIFFERENT'} to that of two local processes"
            )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return all(equal)


def classes(folder: Path, members: int, count: int, sample: int) -> bool:
    from sparsemf.pipeline.certify import certify

    rng = np.random.default_rng(6)
    source = folder / "in"
    source.mkdir(parents=True)
    truths = [
        planted(rng, ACTIVATIONS[k % 4], d=6, atoms=4, outputs=2, bias=True, affine=bool(k % 2)) for k in range(count)
    ]
    label = {}
    for k in range(members):
        net = disguise(truths[k % count], rng, int(rng.integers(20, 120)))
        name = f"net{rng.integers(10**9):09d}-{k}"
        kind = k % 3
        if kind == 0:
            sparsemf.save(net, source / f"{name}.safetensors")
        elif kind == 1:
            sparsemf.save(net, source / f"{name}.npz")
        else:  # single precision: equal up to its rounding, so with a certified distance that is not 0
            numbers = {
                key: getattr(net, key).astype(np.float32) for key in ("outer", "inner", "bias", "affine", "offset")
            }
            np.savez(source / f"{name}.npz", **numbers, activation=net.activation.name, scale=np.float32(net.scale))
        label[name] = k % count
    files, out = work_list(str(source)), folder / "out"
    run_batch(files, Settings(), out, jobs=1)
    shutil.rmtree(out / "certificates")
    started = time.perf_counter()
    found = run_batch(files, Settings(), out, jobs=1, class_eps=1e-3)
    seconds = time.perf_counter() - started
    assert found.classes is not None
    document = found.classes.document
    groups: dict[int, set[int]] = {}
    for entry in table(out):
        groups.setdefault(entry["class"], set()).add(label[entry["path"].split(".")[0]])
    right = len(groups) == count and all(len(g) == 1 for g in groups.values())
    made = len(document["edges"])
    worst = max(cls["diameter"]["upper"] / cls["eps"] for cls in document["classes"] if cls["eps"])
    say(
        f"  {members} networks, {count} planted classes: {len(groups)} found, the planted ones: {right}, certified: "
        f"{document['certified']}, {made} certificates, largest diameter / ε = {worst:.1e}; {seconds:.1f} s in one "
        "process (start, listing and all)"
    )
    nets = [sparsemf.load(path) for path in files]
    pairs = list(combinations(range(len(files)), 2))
    mean = 0.0
    for same in (True, False):
        kind = [(a, b) for a, b in pairs if (label[files[a].stem] == label[files[b].stem]) == same]
        chosen = [kind[i] for i in rng.permutation(len(kind))[:sample]]
        times = []
        for a, b in chosen:
            begun = time.perf_counter()
            certify(nets[a], nets[b])
            times.append(time.perf_counter() - begun)
        mean += len(kind) * float(np.mean(times))
        error = np.std(times) / np.sqrt(len(times))
        what = "equal" if same else "different"
        say(
            f"  {len(kind)} pairs that are {what}: {np.mean(times):.3f} ± {error:.3f} s each, from {len(times)} of them"
        )
    share = seconds / mean
    say(f"  all {len(pairs)} pairs: {mean:.0f} s (an estimate from the samples); the classes took {share:.4f} of it")
    return right and document["certified"] and seconds < 0.1 * mean


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--throughput", action="store_true")
    parser.add_argument("--kills", type=int, nargs="?", const=50, default=0)
    parser.add_argument("--dask", action="store_true")
    parser.add_argument("--classes", action="store_true")
    parser.add_argument("--files", type=int, help="default 300 (throughput), 40 (dask)")
    parser.add_argument("--broken", type=int, default=20)
    parser.add_argument("--members", type=int, default=200)
    parser.add_argument("--planted", type=int, default=12)
    parser.add_argument("--sample", type=int, default=60, help="pairs of each kind that are timed")
    options = parser.parse_args()
    whole = not (options.throughput or options.kills or options.dask or options.classes)
    failed = 0
    for name, asked, work in (
        ("throughput", options.throughput, lambda at: throughput(at, options.files or 300, options.broken)),
        ("kills", options.kills, lambda at: kills(at, options.kills or 50)),
        ("dask", options.dask, lambda at: cluster(at, options.files or 40)),
        ("classes", options.classes, lambda at: classes(at, options.members, options.planted, options.sample)),
    ):
        if not (asked or whole):
            continue
        with tempfile.TemporaryDirectory() as folder:
            say(f"{name}:")
            holds = work(Path(folder))
            say(f"  {'holds' if holds else 'DOES NOT HOLD'}")
            failed += not holds
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
