"""The Triton kernels on a CUDA device: errors against float64, then the time of a training step beside its rivals.

    python benchmarks/gpu.py --output gpu.json [--quick] [--tune] [--only errors,steps,autograd,compile,jax]

Needs torch, triton, numpy, scipy and this repository on PYTHONPATH; JAX is measured where it is installed.  A step is
f = (1/N) Σ a σ, the residual, the gradient, the Langevin update with fresh noise.  FLOP/s count 6NBk + 4NBm a step for
everyone (the kernels do 2NBk more, they compute z twice).  A part that fails prints why, and the next one runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sparsemf.activations import NUMPY, get, names, torch_ops
from sparsemf.training import triton_kernels as kernels
from sparsemf.training.triton_kernels import Compute, Tiles
from sparsemf.training.triton_sigma import form

Case = tuple["Shape", str, Compute]
COMPUTES: tuple[Compute, ...] = ("float32", "tf32", "bf16")
TOLERANCE = {"float32": 1e-5, "tf32": 5e-3, "bf16": 3e-2}
KINK = 2.0
"""Times the tolerance for relu: rounding of z flips σ′ where z is near 0, a share of about the rounding itself."""
STEP_SIZE, TEMPERATURE, WEIGHT_DECAY = 0.1, 1e-4, 1e-3


@dataclass(frozen=True)
class Shape:
    """Width N, columns k, batch B, outputs m."""

    width: int
    columns: int
    batch: int
    outputs: int = 1

    @property
    def flop(self) -> float:
        return self.width * self.batch * (6.0 * self.columns + 4.0 * self.outputs)

    def __str__(self) -> str:
        return f"N={self.width} k={self.columns} B={self.batch} m={self.outputs}"


CHECKED = (Shape(1000, 5, 777), Shape(4097, 64, 513), Shape(3000, 65, 1000, 3), Shape(777, 33, 2048, 10))
WIDEST = (Shape(513, 200, 257, 64), Shape(300, 256, 300))
MAIN = Shape(1 << 20, 64, 8192)
SMALLER = (Shape(65536, 64, 4096), Shape(16384, 32, 1024))


class Report:
    """Lines for the reader, a JSON file for later; written after every part, so a part that dies loses itself only."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.started = time.perf_counter()
        self.content: dict[str, Any] = {}

    def say(self, line: str) -> None:
        print(line, flush=True)  # noqa: T201

    def add(self, part: str, row: dict[str, Any]) -> None:
        self.content.setdefault(part, []).append(row)
        if self.path is not None:
            self.path.write_text(json.dumps(self.content, indent=1))

    def part(self, title: str, run: Callable[[], None]) -> None:
        self.say(f"\n== {title} (at {time.perf_counter() - self.started:.0f} s)")
        try:
            run()
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
            self.say(f"   failed: {reason}")
            traceback.print_exc(limit=-3, file=sys.stdout)
            self.add("failed", {"part": title, "reason": reason})
            torch.cuda.empty_cache()


def arrays(shape: Shape, replicas: int = 1, seed: int = 0) -> list[torch.Tensor]:
    """(outer, inner, x, y) in float32, with pre-activations of size O(1)."""
    g = torch.Generator(device="cuda").manual_seed(seed)
    n, k, b, m = shape.width, shape.columns, shape.batch, shape.outputs
    sizes = (replicas, n, m), (replicas, n, k), (b, k), (replicas, b, m)
    outer, inner, x, y = (torch.randn(size, generator=g, device="cuda") for size in sizes)
    return [outer, inner.div_(k**0.5), x, y]


# ── errors ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def reference(
    outer: torch.Tensor, inner: torch.Tensor, x: torch.Tensor, r: torch.Tensor, widths: list[int], activation: str
) -> list[torch.Tensor]:
    """Sums and gradients in float64, one replica at a time."""
    outer, inner, x, r = (t.double() for t in (outer, inner, x, r))
    sums, g_a, g_w = torch.zeros_like(r), torch.zeros_like(outer), torch.zeros_like(inner)
    for i, n in enumerate(widths):
        value, slope = get(activation).value_and_derivative(x @ inner[i, :n].T, torch_ops())
        sums[i] = value @ outer[i, :n]
        g_a[i, :n] = value.T @ r[i]
        g_w[i, :n] = (slope * (r[i] @ outer[i, :n].T)).T @ x
    return [sums, g_a, g_w]


def errors(report: Report, shape: Shape, activation: str, compute: Compute, tiles: Tiles | None = None) -> None:
    """‖error‖/‖reference‖ of the three results, two replicas, the second one narrower; twice the same bits."""
    outer, inner, x, r = arrays(shape, replicas=2)
    r /= shape.batch
    widths = [shape.width, shape.width * 3 // 5]
    masked = torch.tensor(widths, dtype=torch.int32, device="cuda")
    results = []
    for _ in range(2):
        sums = kernels.predictions(outer, inner, x, masked, get(activation), compute, tiles)
        grads = torch.full_like(outer, torch.nan), torch.full_like(inner, torch.nan)
        kernels.gradients(outer, inner, x, r, masked, get(activation), compute, *grads, tiles)
        results.append([sums, *grads])
    want = reference(outer, inner, x, r, widths, activation)
    found = [float((a.double() - b).norm() / b.norm()) for a, b in zip(results[0], want, strict=True)]
    repeats = all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    good = max(found) < TOLERANCE[compute] * (KINK if activation == "relu" else 1.0) and repeats
    row = {"shape": str(shape), "activation": activation, "compute": compute, "errors": found, "repeats": repeats}
    report.add("errors", {**row, "good": good})
    shown = "  ".join(f"{e:8.1e}" for e in found)
    report.say(
        f"   {shape!s:32} {activation:9} {compute:8} f, g_a, g_w: {shown}  {'same bits' if repeats else 'OTHER BITS'}"
        f"{'' if good else '   <-- TOO LARGE'}"
    )


def sigma_errors(report: Report) -> None:
    """Largest absolute error of σ and σ′ on a grid of [−8, 8], exact and fast form."""
    z = np.linspace(-8.0, 8.0, 100_003).astype(np.float32)
    device = torch.from_numpy(z).cuda()
    for name in names():
        if form(get(name)) is None or not np.isfinite(get(name).lipschitz):
            continue
        want = get(name).value_and_derivative(z.astype(float), NUMPY)
        row: dict[str, Any] = {"activation": name}
        for compute in ("float32", "tf32"):
            have = kernels.elementwise(device, get(name), compute)
            row[compute] = [float(np.abs(a.cpu().numpy() - b).max()) for a, b in zip(have, want, strict=True)]
        report.add("sigma", row)
        (a, b), (c, d) = row["float32"], row["tf32"]
        report.say(f"   {name:14} exact σ {a:7.1e} σ′ {b:7.1e}    fast σ {c:7.1e} σ′ {d:7.1e}")


def noise_errors(report: Report) -> None:
    """Noise against numpy's Philox; a Langevin step against its formula; one launch against two."""
    seed, stream, step, first, count, columns = 2**62 + 11, 3, 2**31 + 5, 10**9 + 7, 3001, 65
    out = torch.empty(count, columns, device="cuda")
    kernels.normals(seed, stream, step, first, count, columns, out)
    blocks = (columns + 7) // 8
    before = (first * blocks - 1) % 2**64
    words = np.random.Philox(key=seed, counter=[before, step, stream, 0]).random_raw(4 * blocks * count)
    words = words.reshape(count, 4 * blocks)
    radius = np.sqrt(-2.0 * np.log(((words >> 32) + 0.5) / 2**32))
    angle = 2.0 * np.pi * (words & 0xFFFFFFFF) / 2**32
    want = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)[:, :columns]
    have = out.cpu().numpy()
    error = float(np.abs(have - want).max())
    other = int((have != want.astype(np.float32)).sum())
    outer, inner = torch.randn(1, count, 1, device="cuda"), torch.randn(1, count, columns - 1, device="cuda")
    grads = torch.randn_like(outer), torch.randn_like(inner)
    old = torch.cat([outer, inner], dim=2)[0].double()
    drift = torch.cat(grads, dim=2)[0].double() + 0.5 * old
    rates = [torch.full((1,), value, dtype=torch.float64, device="cuda") for value in (0.1, 0.2, 0.5)]
    seeds = torch.tensor([seed], device="cuda")
    kernels.langevin(outer, inner, *grads, None, seeds, first, step, stream, *rates)
    moved = old - 0.1 * drift + (2 * 0.2 * 0.1) ** 0.5 * torch.from_numpy(want).cuda()
    step_error = float((torch.cat([outer, inner], dim=2)[0].double() - moved).abs().max())
    half = torch.empty_like(out)
    for start, stop in ((0, 1234), (1234, count)):
        kernels.normals(seed, stream, step, first + start, stop - start, columns, half[start:stop])
    same = torch.equal(half, out)
    good = error < 2e-6 and step_error < 2e-6 and same
    row = {"largest": error, "other_float32": other, "of": have.size, "step": step_error, "cut": same, "good": good}
    report.add("noise", row)
    report.say(
        f"   largest error {error:.1e}; {other} of {have.size} numbers are another float32; "
        f"Langevin step {step_error:.1e}; cut in two: {'same bits' if same else 'OTHER BITS'}"
        f"{'' if good else '   <-- TOO LARGE'}"
    )


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(step: Callable[[], object], seconds: float = 0.4) -> tuple[float, float]:
    """(median ms of a call, peak GiB over what was allocated before), after two calls to warm up."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    for _ in range(2):
        step()
    torch.cuda.synchronize()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    found: list[float] = []
    while len(found) < 3 or (sum(found) < 1e3 * seconds and len(found) < 200):
        marks[0].record()
        step()
        marks[1].record()
        torch.cuda.synchronize()
        found.append(marks[0].elapsed_time(marks[1]))
    return statistics.median(found), (torch.cuda.max_memory_allocated() - held) / 2**30


def matmul_peak(compute: Compute, size: int = 8192) -> float:
    """TFLOP/s of a square product in that precision."""
    torch.backends.cuda.matmul.allow_tf32 = compute != "float32"
    dtype = torch.bfloat16 if compute == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    ms, _ = timed(lambda: torch.mm(a, b, out=out))
    return 2.0 * size**3 / ms / 1e9


def triton_step(shape: Shape, activation: str, compute: Compute) -> dict[str, Callable[[], object]]:
    """The step and its parts."""
    outer, inner, x, y = arrays(shape)
    grads = torch.empty_like(outer), torch.empty_like(inner)
    sigma, seeds = get(activation), torch.tensor([1], device="cuda")
    rates = [torch.full((1,), v, dtype=torch.float64, device="cuda") for v in (STEP_SIZE, TEMPERATURE, WEIGHT_DECAY)]
    residual = torch.randn_like(y) / shape.batch

    def forward() -> torch.Tensor:
        return kernels.predictions(outer, inner, x, None, sigma, compute)

    def backward() -> None:
        kernels.gradients(outer, inner, x, residual, None, sigma, compute, *grads)

    def update() -> None:
        kernels.langevin(outer, inner, *grads, None, seeds, 0, 5, 0, *rates)

    def step() -> None:
        f = forward().mul_(1.0 / shape.width)
        residual.copy_(f.sub_(y).mul_(1.0 / shape.batch))
        backward()
        update()

    return {"step": step, "forward": forward, "backward": backward, "update": update}


def add_row(report: Report, side: str, shape: Shape, activation: str, compute: str, ms: float, gib: float) -> None:
    """One line of the table, with the fraction of the measured matmul peak."""
    rate = shape.flop / ms / 1e9
    peak = next((row["tflops"] for row in report.content.get("peak", []) if row["compute"] == compute), None)
    row = {"side": side, **asdict(shape), "activation": activation, "compute": compute}
    report.add("steps", {**row, "ms": ms, "tflops": rate, "peak_gib": gib, "matmul_tflops": peak})
    part = f"{100 * rate / peak:3.0f}% of matmul" if peak else ""
    report.say(
        f"   {side:16} {shape!s:32} {activation:6} {compute:8} {ms:9.3f} ms  {rate:7.1f} TFLOP/s {part}  +{gib:.2f} GiB"
    )


def triton_steps(report: Report, shape: Shape, activation: str, compute: Compute) -> None:
    parts = triton_step(shape, activation, compute)
    add_row(report, "triton", shape, activation, compute, *timed(parts["step"]))
    found = {name: timed(parts[name], 0.15)[0] for name in ("forward", "backward", "update")}
    report.content["steps"][-1].update(found)
    report.say("   " + " " * 17 + ", ".join(f"{name} {ms:.3f} ms" for name, ms in found.items()))


def autograd_step(shape: Shape, activation: str, compute: Compute, compiled: bool) -> Callable[[], object]:
    """What one writes without kernels: torch's own activation, backward, the same update."""
    torch.backends.cuda.matmul.allow_tf32 = compute == "tf32"
    functional = {"relu": torch.relu, "tanh": torch.tanh, "gelu": torch.nn.functional.gelu}
    sigma = functional[activation]
    outer, inner, x, y = (t.squeeze(0) for t in arrays(shape))
    dtype = torch.bfloat16 if compute == "bf16" else torch.float32
    x = x.to(dtype)

    def risk(a: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        f = (sigma(x @ w.to(dtype).T) @ a.to(dtype)).float() / shape.width
        return 0.5 * shape.width * (f - y).square().sum(dim=1).mean()

    objective = torch.compile(risk, dynamic=False) if compiled else risk

    def step() -> None:
        a, w = outer.detach().requires_grad_(), inner.detach().requires_grad_()
        grads = torch.autograd.grad(objective(a, w), (a, w))
        for part, grad in zip((outer, inner), grads, strict=True):
            part.mul_(1.0 - STEP_SIZE * WEIGHT_DECAY).add_(grad, alpha=-STEP_SIZE)
            part.add_(torch.randn_like(part), alpha=(2 * TEMPERATURE * STEP_SIZE) ** 0.5)

    return step


def autograd_steps(report: Report, shape: Shape, activation: str, compute: Compute, compiled: bool) -> None:
    """At N, or at the largest N/2^j that fits in memory."""
    side = "torch.compile" if compiled else "eager autograd"
    while True:
        try:
            if compiled:
                importlib.import_module("torch._dynamo").reset()
            step = autograd_step(shape, activation, compute, compiled)
            add_row(report, side, shape, activation, compute, *timed(step))
            return
        except torch.OutOfMemoryError:
            step = None
            torch.cuda.empty_cache()
            report.say(f"   {side:16} {shape!s:32} {activation:6} {compute:8} out of memory")
            report.add("memory", {"side": side, **asdict(shape), "activation": activation, "compute": compute})
            if shape.width <= 1024:
                return
            shape = replace(shape, width=shape.width // 2)


def jax_steps(cases: list[tuple[Shape, str, Compute]], width_limit: int) -> list[dict[str, Any]]:
    """Runs in a process of its own, so that its memory is its own.  One row a case; halves N until it fits."""
    import os

    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    jax = importlib.import_module("jax")
    jnp = jax.numpy
    sigmas = {"relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": lambda z: jax.nn.gelu(z, approximate=False)}
    precision = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}
    rows: list[dict[str, Any]] = []
    for shape, activation, compute in cases:
        shape = replace(shape, width=min(shape.width, width_limit))
        dtype = jnp.bfloat16 if compute == "bf16" else jnp.float32
        sigma = sigmas[activation]
        while shape.width >= 1024:
            n = shape.width

            def risk(a: Any, w: Any, x: Any, y: Any, n: int = n, sigma: Any = sigma, dtype: Any = dtype) -> Any:
                f = (sigma(x.astype(dtype) @ w.astype(dtype).T) @ a.astype(dtype)).astype(jnp.float32) / n
                return 0.5 * n * jnp.mean(jnp.sum((f - y) ** 2, axis=1))

            def step(a: Any, w: Any, x: Any, y: Any, key: Any, risk: Any = risk) -> Any:
                g_a, g_w = jax.grad(risk, (0, 1))(a, w, x, y)
                key, one, two = jax.random.split(key, 3)
                size = (2 * TEMPERATURE * STEP_SIZE) ** 0.5
                keep = 1.0 - STEP_SIZE * WEIGHT_DECAY
                a = keep * a - STEP_SIZE * g_a + size * jax.random.normal(one, a.shape)
                return a, keep * w - STEP_SIZE * g_w + size * jax.random.normal(two, w.shape), key

            row = {"side": "jax jit", **asdict(shape), "activation": activation, "compute": compute}
            try:
                with jax.default_matmul_precision(precision[compute]):
                    run = jax.jit(step, donate_argnums=(0, 1))
                    key = jax.random.key(0)
                    a = jax.random.normal(key, (n, shape.outputs))
                    w = jax.random.normal(key, (n, shape.columns)) / shape.columns**0.5
                    x = jax.random.normal(key, (shape.batch, shape.columns))
                    y = jax.random.normal(key, (shape.batch, shape.outputs))
                    found = []
                    for turn in range(8):
                        start = time.perf_counter()
                        a, w, key = run(a, w, x, y, key)
                        jax.block_until_ready(w)
                        if turn >= 2:
                            found.append(1e3 * (time.perf_counter() - start))
                stats = jax.devices()[0].memory_stats() or {}
                rows.append({**row, "ms": statistics.median(found), "gib": stats.get("peak_bytes_in_use", 0) / 2**30})
                break
            except Exception as error:
                rows.append({**row, "failed": str(error).splitlines()[0][:200]})
                if "RESOURCE_EXHAUSTED" not in str(error):
                    break
                a = w = key = None
                shape = replace(shape, width=shape.width // 2)
    return rows


def run_jax(report: Report, cases: list[tuple[Shape, str, Compute]]) -> None:
    torch.cuda.empty_cache()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = pool.submit(jax_steps, cases, 1 << 20).result()
    for row in rows:
        shape = Shape(row["width"], row["columns"], row["batch"], row["outputs"])
        if "failed" in row:
            report.say(f"   {'jax jit':16} {shape!s:32} {row['activation']:6} {row['compute']:8} {row['failed']}")
            report.add("memory", row)
        else:
            add_row(report, "jax jit", shape, row["activation"], row["compute"], row["ms"], row["gib"])


# ── tiles ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def candidates(direction: str, compute: Compute) -> list[Tiles]:
    """Tiles worth a try at k = 64 and one output; four warps each (see the table in triton_kernels)."""
    if compute == "float32":
        return [Tiles(b, n, 4, 2) for b, n in ((32, 64), (64, 64), (64, 128), (128, 64), (32, 128))]
    sizes = [(64, 64), (128, 64), (64, 128), (128, 128)] + ([] if direction == "forward" else [(32, 64), (32, 128)])
    return [Tiles(b, n, 4, s) for b, n in sizes for s in (2, 3)]


def tune(report: Report, shape: Shape, activation: str, compute: Compute) -> None:
    """Time every candidate at a smaller width and say which is fastest."""
    outer, inner, x, y = arrays(shape)
    grads = torch.empty_like(outer), torch.empty_like(inner)
    sigma = get(activation)
    for direction in ("forward", "backward"):
        found: list[tuple[float, Tiles]] = []
        for tiles in candidates(direction, compute):
            try:
                if direction == "forward":
                    ms, _ = timed(lambda t=tiles: kernels.predictions(outer, inner, x, None, sigma, compute, t), 0.02)
                else:
                    ms, _ = timed(
                        lambda t=tiles: kernels.gradients(outer, inner, x, y, None, sigma, compute, *grads, t), 0.02
                    )
            except Exception as error:
                report.say(f"   {direction} {compute} {tuple(tiles)}: {type(error).__name__} {str(error)[:120]}")
                continue
            found.append((ms, tiles))
        found.sort()
        for ms, tiles in found:
            row = {"direction": direction, "compute": compute, "activation": activation, **asdict(shape)}
            report.add("tiles", {**row, "tiles": list(tiles), "ms": ms})
        report.say(
            f"   {direction:8} {activation:5} {compute:8} " + "  ".join(f"{tuple(t)} {ms:.3f}" for ms, t in found)
        )


# ── compilation, on all cores and ahead ───────────────────────────────────────────────────────────────────────────────


class Kernel(NamedTuple):
    """What the compiled code depends on; of the shape these are k, m and divisibility."""

    shape: Shape
    activation: str
    compute: Compute
    forward: Tiles | None = None
    backward: Tiles | None = None
    masked: bool = False


def cases(shapes: Sequence[Shape], activations: Sequence[str], computes: Sequence[Compute]) -> list[Case]:
    return [(shape, activation, compute) for shape in shapes for activation in activations for compute in computes]


def compile_kernel(kernel: Kernel) -> str | None:
    """Run a tiny problem with the same compiled code, which fills Triton's cache on disk; the reason of a failure."""
    shape, activation, compute, forward, backward, masked = kernel
    width, batch = (min(size, 256 + size % 16) for size in (shape.width, shape.batch))
    shape = replace(shape, width=width, batch=batch)
    outer, inner, x, y = arrays(shape)
    widths = torch.tensor([shape.width], dtype=torch.int32, device="cuda") if masked else None
    sigma, grads = get(activation), (torch.empty_like(outer), torch.empty_like(inner))
    try:
        kernels.predictions(outer, inner, x, widths, sigma, compute, forward)
        kernels.gradients(outer, inner, x, y, widths, sigma, compute, *grads, backward)
        torch.cuda.synchronize()
    except Exception as error:
        return f"{kernel}: {type(error).__name__}: {str(error)[:200]}"
    return None


def compile_ahead(report: Report, wanted: list[Kernel], workers: int) -> None:
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for reason in pool.map(compile_kernel, wanted):
            if reason is not None:
                report.say(f"   {reason}")
    report.say(f"   {len(wanted)} pairs of kernels compiled")


def main() -> None:
    parser = argparse.ArgumentParser(description="The Triton kernels on a CUDA device: errors and times.")
    parser.add_argument("--output", type=Path, help="JSON file, rewritten after every part")
    parser.add_argument("--quick", action="store_true", help="errors and the smallest shape only")
    parser.add_argument("--tune", action="store_true", help="try other tiles first")
    parser.add_argument("--only", default="errors,steps,autograd,compile,jax", help="parts, separated by commas")
    parser.add_argument("--computes", default=",".join(COMPUTES), help="operands of the products, separated by commas")
    parser.add_argument("--workers", type=int, default=12, help="processes that compile")
    options = parser.parse_args()
    report, parts = Report(options.output), set(options.only.split(","))
    computes: tuple[Compute, ...] = tuple(c for c in COMPUTES if c in options.computes.split(","))
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: the kernels are tested on the CPU by tests/training/test_triton.py")
    triton = importlib.import_module("triton")
    device = torch.cuda.get_device_properties(0)
    report.content["device"] = {
        "name": device.name,
        "multiprocessors": device.multi_processor_count,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    report.say(f"{device.name}, torch {torch.__version__}, triton {triton.__version__}")

    shapes = SMALLER[1:] if options.quick else (MAIN, *SMALLER)
    activations = ("tanh",) if options.quick else ("tanh", "relu", "gelu")
    timings = cases(shapes, activations, computes) if options.quick else cases((MAIN,), activations, computes)
    timings += [] if options.quick else cases(SMALLER, ("tanh",), computes)
    checks = cases(CHECKED, ("tanh",), computes) + cases(WIDEST, ("gelu",), computes)
    checks += cases(CHECKED[1:2], ("relu", "gelu", "silu", "softplus", "sin"), ("bf16",))
    tuned = replace(MAIN, width=1 << 17)
    wanted = [Kernel(*case) for case in timings if "steps" in parts]
    wanted += [Kernel(*case, masked=True) for case in checks if "errors" in parts]
    if options.tune:
        for compute in computes:
            pairs = zip_longest(candidates("forward", compute), candidates("backward", compute))
            wanted += [Kernel(tuned, "tanh", compute, one, two) for one, two in pairs]
    report.part("compilation", lambda: compile_ahead(report, wanted, options.workers))

    if "errors" in parts:
        report.part("noise and Langevin step", lambda: noise_errors(report))
        for case in checks:
            report.part(f"{case[0]} {case[1]} {case[2]}", lambda c=case: errors(report, *c))
        report.part("σ and σ′", lambda: sigma_errors(report))
    if options.tune:
        for compute in computes:
            report.part(f"tiles {compute}", lambda c=compute: tune(report, tuned, "tanh", c))
    if parts & {"steps", "autograd", "compile", "jax"}:

        def peaks() -> None:
            for compute in ("float32", "tf32", "bf16"):
                report.add("peak", {"compute": compute, "tflops": (rate := matmul_peak(compute))})
                report.say(f"   {compute:8} {rate:7.1f} TFLOP/s")

        report.part("matmul 8192³", peaks)
    if "steps" in parts:
        for case in timings:
            report.part(f"triton {case[0]} {case[1]} {case[2]}", lambda c=case: triton_steps(report, *c))
    rivals: list[Case] = [
        c for c in timings if c[2] in ("float32", "tf32", "bf16") and (c[1] == "tanh" or c[2] == "tf32")
    ]
    if "autograd" in parts:
        for case in rivals:
            report.part(f"autograd {case[0]} {case[1]} {case[2]}", lambda c=case: autograd_steps(report, *c, False))
    few = [case for case in rivals if case[1] == "tanh" and case[2] in ("tf32", "bf16")]
    if "jax" in parts:
        report.part("jax", lambda: run_jax(report, few))
    if "compile" in parts:
        for case in few:
            report.part(f"torch.compile {case[0]} {case[2]}", lambda c=case: autograd_steps(report, *c, True))
    bad = [row for part in ("errors", "noise") for row in report.content.get(part, []) if not row["good"]]
    report.say(f"\n{time.perf_counter() - report.started:.0f} s; {len(bad)} results outside their tolerance")
    sys.exit(1 if bad or report.content.get("failed") else 0)


if __name__ == "__main__":
    main()
