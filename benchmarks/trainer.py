"""One whole training step against eager and compiled autograd: time, memory, and the same parameters.

    python benchmarks/trainer.py [--quick] [--threads T] [--activations tanh relu gelu erf] [--rounds K] [--json FILE]

All sides do θ ← (1 − ηλ)θ − ηN∇R_N + √(2τη)ξ on one given batch:

* **ours**: :class:`sparsemf.training.system.System`, with its own counter-based noise;
* **eager**: torch's activation and autograd, noise by torch's ``normal_``, which is faster than ours;
* **compiled**: the same with forward pass and loss under ``torch.compile`` (default mode, so AOTAutograd compiles the
  backward pass too).  It needs a C++ compiler; where there is none, that column stays empty.

First, in float64 and with the trainer's noise, all must end at the same parameters after a few steps.  Then each side
is timed in float32 in a process of its own (compilation is not timed), the sides in turn, ``--rounds`` times; the least
time counts, for other work only adds.  *CPU* is the processor time of the same steps: on a busy machine its ratios are
the steadier ones.

Memory is the growth of the peak resident size over a process that has imported everything and run a small problem (for
the compiled side: over the size at rest after compilation, plus its arrays).  It is divided by state + data + one
block: particles and the gradient that moves them; x and y; the pre-activations of a block and their σ′, which are
2·min(``block``, N·B) numbers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsemf.activations import get, torch_ops
from sparsemf.measures import Network
from sparsemf.training.config import Precision, TrainConfig
from sparsemf.training.randomness import Stream
from sparsemf.training.schedule import Schedule
from sparsemf.training.system import System

STEP_SIZE, TEMPERATURE, WEIGHT_DECAY = 0.1, 1e-4, 1e-3
KEPT, SCALE = 1.0 - STEP_SIZE * WEIGHT_DECAY, (2.0 * TEMPERATURE * STEP_SIZE) ** 0.5
SIDES = ("ours", "eager", "compiled")
SIZES = ((1024, 8, 512), (16384, 32, 1024), (65536, 64, 4096))

Step = Callable[[], None]
Sigma = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Problem:
    """Width N, input dimension d, batch B, outputs m and σ; as a task, its data are the batch."""

    width: int
    d: int
    batch: int
    outputs: int
    sigma: str
    name: str = "given"
    activation: str | None = None
    teacher: Network | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        return self.d

    @property
    def data(self) -> tuple[np.ndarray, np.ndarray]:
        g = np.random.default_rng(0)
        return g.standard_normal((self.batch, self.d)), g.standard_normal((self.batch, self.outputs))

    def target(self, x: torch.Tensor, /) -> torch.Tensor:
        raise NotImplementedError("the batch is given")

    def system(self, precision: Precision) -> System:
        constant = (Schedule.of(v) for v in (STEP_SIZE, TEMPERATURE, WEIGHT_DECAY))
        step_size, temperature, weight_decay = constant
        config = TrainConfig(
            self.sigma,
            width=self.width,
            step_size=step_size,
            temperature=temperature,
            weight_decay=weight_decay,
            sampling="full",
            precision=precision,
        )
        system = System(self, [config], torch.device("cpu"))
        system.start()
        return system

    def bytes(self) -> dict[str, int]:
        """State, data and one block, in float32."""
        config = TrainConfig(self.sigma)
        particles = self.width * (self.d + self.outputs)
        block = min(config.block, self.width * self.batch)
        return {
            "state": 4 * 2 * particles,
            "data": 4 * self.batch * (self.d + self.outputs),
            "block": 4 * 2 * block,
        }


def sigma_of(name: str) -> Sigma:
    """torch's own function where there is one."""
    functional = {"relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "gelu": torch.nn.functional.gelu}
    ops = torch_ops()
    return functional.get(name) or (lambda z: get(name).value(z, ops))


def ours(problem: Problem, precision: Precision) -> tuple[Step, torch.Tensor]:
    """The trainer's step, and the parameters that it moves."""
    system = problem.system(precision)
    return system.advance, system.particles.flat


def autograd(problem: Problem, precision: Precision, compiled: bool, own_noise: bool) -> tuple[Step, torch.Tensor]:
    """What one writes without the closed form; ``own_noise``: the trainer's, where parameters are compared."""
    system = problem.system(precision)
    particles = system.particles
    batch = system.batch(0)
    x, y = batch[0][0], batch[1][0]
    outer, inner, flat = particles.outer[0], particles.inner[0], particles.flat
    del system
    sigma, width, count = sigma_of(problem.sigma), problem.width, 0

    def risk(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return 0.5 * (sigma(x @ w.T) @ a / width - y).square().sum(dim=1).mean()

    loss = torch.compile(risk) if compiled else risk

    def step() -> None:
        nonlocal count
        a, w = outer.detach().requires_grad_(), inner.detach().requires_grad_()
        grad_outer, grad_inner = torch.autograd.grad(loss(a, w), (a, w))
        for part, grad in ((outer, grad_outer), (inner, grad_inner)):
            part.mul_(KEPT).add_(grad, alpha=-STEP_SIZE * width)
            if not own_noise:
                part.add_(torch.empty_like(part).normal_(), alpha=SCALE)
        if own_noise:
            particles.add_normals(Stream.NOISE, count, flat, [SCALE], [SCALE])
        count += 1

    return step, flat


def make(side: str, problem: Problem, precision: Precision, own_noise: bool) -> tuple[Step, torch.Tensor]:
    if side == "ours":
        return ours(problem, precision)
    return autograd(problem, precision, side == "compiled", own_noise)


def check_agreement(problem: Problem, sides: tuple[str, ...], steps: int = 3) -> float:
    """Largest relative difference of the parameters after ``steps`` steps in float64; fails above 1e-10."""
    ends = []
    for side in sides:
        step, flat = make(side, problem, "float64", True)
        for _ in range(steps):
            step()
        ends.append(flat)
    difference = max(float((end - ends[0]).abs().max() / ends[0].abs().max()) for end in ends[1:])
    if not difference < 1e-10:
        raise SystemExit(f"{problem}: the sides differ by {difference:.1e}")
    return difference


def measure(side: str, problem: Problem, threads: int, seconds: float) -> tuple[float, float, float]:
    """(seconds a step, CPU seconds a step, bytes by which the peak resident size grew)."""
    torch.set_num_threads(threads)
    warm = Problem(64, problem.d, 64, problem.outputs, problem.sigma)
    step, _ = make("ours" if side == "ours" else "eager", warm, "float32", False)
    step()
    before = resident(peak=False)
    if side == "compiled":
        step, _ = make(side, problem, "float32", False)
        step()  # compiles
        sizes = problem.bytes()
        before = resident(peak=False) - sizes["state"] // 2 - sizes["data"]
    with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
        reset.write("5")  # the peak starts again from the present size (Linux)
    if side != "compiled":
        step, _ = make(side, problem, "float32", False)
    step()
    started = time.perf_counter()
    step()
    repeat = max(1, int(min(0.1, seconds / 10) / max(time.perf_counter() - started, 1e-6)))
    wall, processor = [], []
    deadline = time.perf_counter() + seconds
    while len(wall) < 3 or time.perf_counter() < deadline:
        started, spent = time.perf_counter(), time.process_time()
        for _ in range(repeat):
            step()
        wall.append((time.perf_counter() - started) / repeat)
        processor.append((time.process_time() - spent) / repeat)
    return min(wall), min(processor), resident(peak=True) - before


def resident(peak: bool) -> int:
    """Bytes; not getrusage, whose maximum survives exec and would be the parent's."""
    field_name = "VmHWM" if peak else "VmRSS"
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field_name)) * 1024


def compare(problem: Problem, sides: tuple[str, ...], options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Everything about one problem, as plain values."""
    difference = check_agreement(
        Problem(min(problem.width, 4096), problem.d, min(problem.batch, 512), problem.outputs, problem.sigma), sides
    )
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float, float]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            with context.Pool(1) as pool:
                found[side].append(pool.apply(measure, (side, problem, options.threads, seconds)))
    sizes = problem.bytes()
    shape = {key: getattr(problem, key) for key in ("width", "d", "batch", "outputs", "sigma")}
    figures = {
        side: {
            "seconds": min(r[0] for r in runs),
            "cpu_seconds": min(r[1] for r in runs),
            "peak_bytes": min(r[2] for r in runs),
            "peak_ratio": min(r[2] for r in runs) / sum(sizes.values()),
        }
        for side, runs in found.items()
    }
    return {**shape, "difference": difference, "bytes": sizes, "sides": figures}


def row(result: dict[str, Any]) -> str:
    sides, own = result["sides"], result["sides"]["ours"]
    cells = [f"{result['width']}, {result['d']}, {result['batch']}, {result['outputs']}", result["sigma"]]
    cells.append(f"{own['seconds'] * 1e3:.3g}")
    for side in SIDES[1:]:
        for key in ("seconds", "cpu_seconds"):
            cells.append(f"{sides[side][key] / own[key]:.2f}" if side in sides else "-")
    cells.append(f"{sum(result['bytes'].values()) / 2**20:.1f}")
    cells += [f"{sides[side]['peak_ratio']:.2f}" if side in sides else "-" for side in SIDES]
    cells.append(f"{result['difference']:.0e}")
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="The trainer's step against eager and compiled autograd.")
    parser.add_argument("--quick", action="store_true", help="one small size, under a minute")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--activations", nargs="+", default=["tanh"], help="tanh, relu, gelu, erf, …")
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 1, 2], help=f"which of {SIZES}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="a side and round")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = SIZES[:1] if options.quick else [SIZES[i] for i in options.sizes]
    problems = [Problem(n, d, b, 1, sigma) for sigma in options.activations for n, d, b in sizes]
    if not options.quick:
        problems += [Problem(4096, 64, 1024, 10, sigma) for sigma in options.activations]
    seconds = min(options.seconds, 1.0) if options.quick else options.seconds
    emit = sys.stdout.write
    sides = SIDES
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        emit("no C++ compiler: torch.compile is left out\n")
        sides = SIDES[:2]
    emit(f"torch {torch.__version__}, {options.threads} thread(s), float32; times of the others over ours\n\n")
    emit("| N, d, B, m | σ | ours (ms) | eager | (CPU) | compiled | (CPU) | state + data + block (MiB) | peak, ours |")
    emit(" eager | compiled | difference |\n" + "|---" * 12 + "|\n")
    results = []
    for problem in problems:
        results.append(compare(problem, sides, options, seconds))
        emit(row(results[-1]))
        sys.stdout.flush()
    if options.json:
        record = {"torch": torch.__version__, "threads": options.threads, "results": results}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
