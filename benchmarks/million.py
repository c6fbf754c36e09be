"""A million particles through the whole trainer: N = 2^20, d = 64, B = 8192 fresh samples a step.

    python benchmarks/million.py [--steps 200] [--compute tf32] [--device cuda] [--width 1048576]

Prints milliseconds a step (batch, labels, gradient, noise, update; records apart) and the peak memory of the device.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from sparsemf.training import Schedule, TrainConfig
from sparsemf.training.system import System
from sparsemf_datasets import load_task


def main() -> None:
    parser = argparse.ArgumentParser(description="A million particles through the whole trainer.")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=1 << 20)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--inputs", type=int, default=64)
    parser.add_argument("--compute", default="tf32")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    task = load_task("planted-tanh", d=options.inputs, atoms=12)
    config = TrainConfig(
        "tanh", width=options.width, batch=options.batch, steps=options.steps + 5, compute=options.compute,
        device=options.device, step_size=Schedule(0.3), temperature=Schedule(1e-4), weight_decay=Schedule(1e-3),
    )  # fmt: skip
    device = torch.device(options.device)
    system = System(task, [config], device)
    system.start()
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    first = float(system.losses()[0])
    for _ in range(5):
        system.advance()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    wait()
    started = time.perf_counter()
    for _ in range(options.steps):
        system.advance()
    wait()
    spent = (time.perf_counter() - started) / options.steps
    last = float(system.losses()[0])
    state = system.particles.flat.numel() * 4 / 2**30
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
    sys.stdout.write(
        f"N = {options.width}, d = {options.inputs}, B = {options.batch}, {options.compute}: "
        f"{spent * 1e3:.2f} ms a step, state {state:.2f} GiB, peak {peak:.2f} GiB, loss {first:.4f} -> {last:.4f}\n"
    )


if __name__ == "__main__":
    main()
