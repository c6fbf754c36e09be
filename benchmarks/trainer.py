"""One training step: the closed form against eager autograd, on the same problem, batches and noise.

    python benchmarks/trainer.py [--quick] [--threads T] [--device cpu|cuda]

Both sides do θ ← θ − η(N∇R_N + λθ) + √(2τη)ξ.  Before anything is timed they run a few float64 steps and must end at
the same parameters.  Each timing (float32) is the fastest of ten batches of steps in a process of its own: other work
only adds.  Memory is the growth of that process's peak resident size (CUDA: the peak of torch's allocator)
over the loaded problem.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sparsemf.activations import get, torch_ops
from sparsemf.training.gradient import MeanFieldGradient
from sparsemf.training.particles import langevin_step

STEP_SIZE, TEMPERATURE, WEIGHT_DECAY = 0.1, 1e-4, 1e-3
BLOCK = 1 << 22


@dataclass(frozen=True)
class Problem:
    """Width N, input dimension d, batch B, outputs m and σ."""

    width: int
    d: int
    batch: int
    outputs: int
    activation: str

    def arrays(self, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(θ flat, x, y), seeded."""
        g = torch.Generator().manual_seed(0)
        flat = torch.randn(self.width * (self.outputs + self.d), generator=g, dtype=torch.float64)
        flat[self.width * self.outputs :] /= math.sqrt(self.d)
        x = torch.randn((self.batch, self.d), generator=g, dtype=torch.float64)
        y = torch.randn((self.batch, self.outputs), generator=g, dtype=torch.float64)
        flat, x, y = (a.to(dtype=dtype, device=device) for a in (flat, x, y))
        return flat, x, y

    def split(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cut = self.width * self.outputs
        return flat[:cut].view(self.width, self.outputs), flat[cut:].view(self.width, self.d)


Step = Callable[[], None]


def closed_form(problem: Problem, flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Step:
    """The trainer's own step."""
    risk = MeanFieldGradient(get(problem.activation), BLOCK)
    gradient, noise = torch.empty_like(flat), torch.empty_like(flat)
    generator = torch.Generator(device=flat.device).manual_seed(1)
    outer, inner = problem.split(flat)
    grad_outer, grad_inner = problem.split(gradient)

    def step() -> None:
        risk(outer, inner, x, y, grad_outer, grad_inner)
        langevin_step(flat, gradient, noise, generator, STEP_SIZE, TEMPERATURE, WEIGHT_DECAY)

    return step


def autograd(problem: Problem, flat: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> Step:
    """What one writes without the closed form: torch's own activation, backward, the same update."""
    functional = {"relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "gelu": torch.nn.functional.gelu}
    ops = torch_ops()
    sigma = functional.get(problem.activation) or (lambda z: get(problem.activation).value(z, ops))
    noise = torch.empty_like(flat)
    generator = torch.Generator(device=flat.device).manual_seed(1)
    outer, inner = problem.split(flat)

    def step() -> None:
        a, w = outer.detach().requires_grad_(), inner.detach().requires_grad_()
        f = sigma(x @ w.T) @ a / problem.width
        risk = 0.5 * (f - y).square().sum(dim=1).mean()
        grads = torch.autograd.grad(problem.width * risk, (a, w))
        gradient = torch.cat([g.reshape(-1) for g in grads])
        langevin_step(flat, gradient, noise, generator, STEP_SIZE, TEMPERATURE, WEIGHT_DECAY)

    return step


MAKERS = {"closed form": closed_form, "autograd": autograd}


def check_agreement(problem: Problem, device: str, steps: int = 5) -> float:
    """Largest relative difference of the parameters after ``steps`` steps in float64; fails above 1e-10."""
    ends = []
    for make in MAKERS.values():
        flat, x, y = problem.arrays(torch.float64, device)
        step = make(problem, flat, x, y)
        for _ in range(steps):
            step()
        ends.append(flat)
    difference = float((ends[0] - ends[1]).abs().max() / ends[1].abs().max())
    if not difference < 1e-10:
        raise SystemExit(f"{problem}: the two sides differ by {difference:.1e}")
    return difference


def measure(side: str, problem: Problem, device: str, threads: int, seconds: float) -> tuple[float, float]:
    """(seconds a step, peak memory in MiB)."""
    torch.set_num_threads(threads)
    warm = Problem(8, problem.d, 8, problem.outputs, problem.activation)
    MAKERS[side](warm, *warm.arrays(torch.float32, device))()
    arrays = problem.arrays(torch.float32, device)
    if device == "cpu":
        with open("/proc/self/clear_refs", "w", encoding="ascii") as reset:
            reset.write("5")  # the peak starts again from the present size (Linux)
    before = _peak(device)
    step = MAKERS[side](problem, *arrays)
    step()
    _wait(device)
    started = time.perf_counter()
    step()
    _wait(device)
    repeat = max(1, int(seconds / 10 / max(time.perf_counter() - started, 1e-6)))
    samples = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(repeat):
            step()
        _wait(device)
        samples.append((time.perf_counter() - started) / repeat)
    return min(samples), _peak(device) - before


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    # not getrusage: its maximum survives exec and would be the parent's
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed-form step against eager autograd.")
    parser.add_argument("--quick", action="store_true", help="small sizes, a few seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    sizes = [(1024, 8, 128), (1024, 8, 512)] if options.quick else [(1024, 8, 512), (4096, 32, 1024), (16384, 32, 1024)]
    problems = [Problem(*size, 1, activation) for size in sizes for activation in ("relu", "tanh", "gelu", "erf")]
    if not options.quick:
        problems += [Problem(4096, 64, 1024, 10, "relu"), Problem(4096, 64, 1024, 10, "gelu")]
    seconds = 0.5 if options.quick else 3.0
    emit = sys.stdout.write
    emit(f"torch {torch.__version__}, {options.device}, {options.threads} thread(s), float32\n")
    emit("     N   d     B   m  σ      closed form     autograd   ratio   memory MiB (ratio)   difference\n")
    context = multiprocessing.get_context("spawn")
    for problem in problems:
        difference = check_agreement(problem, options.device)
        figures = []
        for side in MAKERS:
            with context.Pool(1) as pool:
                figures.append(pool.apply(measure, (side, problem, options.device, options.threads, seconds)))
        (fast, little), (slow, much) = figures
        emit(
            f"{problem.width:6d} {problem.d:3d} {problem.batch:5d} {problem.outputs:3d}  {problem.activation:5s}"
            f"{fast * 1e3:10.3f} ms {slow * 1e3:9.3f} ms {slow / fast:6.2f}x {little:8.1f} {much:7.1f} "
            f"({much / max(little, 0.1):4.1f}x)   {difference:.0e}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
