"""One block of a synthetic 8 GB sharded checkpoint through the command line: peak memory and time.

    python benchmarks/big_checkpoint.py [--folder DIR] [--gigabytes 8] [--limit 2]

Writes real bytes (an embedding of half the size and blocks d = m = 384, width 1536, float16, in shards of about 1
GB), runs ``sparsemf analyze INDEX --block …`` in a process of its own, prints its peak resident set and deletes the
files. Pages of a mapped file count as resident while they are in use, so two numbers are given: the peak of
everything (VmHWM) and the largest anonymous part seen (RssAnon, sampled), which is what the process itself asked
for.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

D, WIDTH = 384, 1536
SHARD = 1 << 30


def _tensors(size: int) -> list[tuple[str, tuple[int, ...]]]:
    rows = size // 2 // (2 * D)
    listed: list[tuple[str, tuple[int, ...]]] = [(f"embed.{k}.weight", (rows // 4, D)) for k in range(4)]
    block = [
        ("ln_2.weight", (D,)),
        ("ln_2.bias", (D,)),
        ("mlp.fc1.weight", (WIDTH, D)),
        ("mlp.fc1.bias", (WIDTH,)),
        ("mlp.fc2.weight", (D, WIDTH)),
        ("mlp.fc2.bias", (D,)),
    ]
    each = 2 * sum(int(np.prod(shape)) for _, shape in block)
    for layer in range(size // 2 // each):
        listed += [(f"h.{layer}.{name}", shape) for name, shape in block]
    return listed


def write(folder: Path, size: int) -> tuple[Path, int, int]:
    """(index, bytes written, number of blocks); every byte is a random half-precision number."""
    rng = np.random.default_rng(20240501)
    pool = (0.05 * rng.standard_normal(1 << 22)).astype("<f2")
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    filled = 0
    for name, shape in _tensors(size):
        if filled > SHARD:
            shards.append([])
            filled = 0
        shards[-1].append((name, shape))
        filled += 2 * int(np.prod(shape))
    homes: dict[str, str] = {}
    total = 0
    for number, tensors in enumerate(shards, 1):
        shard = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        header: dict[str, object] = {}
        position = 0
        for name, shape in tensors:
            end = position + 2 * int(np.prod(shape))
            header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [position, end]}
            position, homes[name] = end, shard
        text = json.dumps(header).encode()
        with (folder / shard).open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for _, shape in tensors:
                left = int(np.prod(shape))
                while left:
                    start = int(rng.integers(pool.size // 2))
                    piece = pool[start : start + min(left, pool.size // 2)]
                    out.write(piece.tobytes())
                    left -= piece.size
        total += position
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": homes}))
    return index, total, sum(name.endswith("mlp.fc1.weight") for name in homes)


def measured(command: list[str]) -> tuple[int, float, float, float]:
    """(exit status, seconds, peak resident GiB, largest anonymous resident GiB) of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = anonymous = 0
    while process.poll() is None:
        try:
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            peak = max(peak, int(fields["VmHWM"].split()[0]))
            anonymous = max(anonymous, int(fields["RssAnon"].split()[0]))
        except (OSError, KeyError, ValueError):
            pass
        time.sleep(0.02)
    return process.returncode, time.perf_counter() - start, peak / (1 << 20), anonymous / (1 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB of resident memory that must not be passed")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="big-", dir=options.folder))
    try:
        start = time.perf_counter()
        index, size, blocks = write(folder, int(options.gigabytes * 1e9))
        print(f"wrote {size / 1e9:.2f} GB, {blocks} blocks, in {time.perf_counter() - start:.0f} s")  # noqa: T201
        base = [sys.executable, "-m", "sparsemf_cli"]
        name = f"h.{blocks // 2}.mlp"
        runs = {
            "import only": [*base, "--version"],
            f"analyze {name}": [
                *base, "analyze", str(index), "--block", name, "--activation", "gelu",
                "-o", str(folder / "out.json"), "-q",
            ],
        }  # fmt: skip
        status, peak = 1, 0.0
        for title, command in runs.items():
            status, seconds, peak, anonymous = measured(command)
            print(  # noqa: T201
                f"{title}: exit {status}, {seconds:.1f} s, peak resident {peak:.2f} GiB, anonymous {anonymous:.2f} GiB"
            )
        if status != 0 or peak >= options.limit:
            raise SystemExit(f"expected exit 0 below {options.limit} GiB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
