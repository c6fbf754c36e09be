"""The trainer on CUDA against the CPU: whole runs, resume, replicas, memory.  Run where there is a card."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sparsemf.training import TrainConfig, train
from sparsemf.training.randomness import Stream, normals
from sparsemf.training.system import System
from sparsemf.training.trainer import train_replicas
from training.support import ArrayTask

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

BASE = {"steps": 20, "batch": 96, "metrics_every": 5, "step_size": 0.2, "temperature": 0.01, "width": 300}


def task(outputs=3, samples=500, inputs=6):
    rng = np.random.default_rng(0)
    return ArrayTask(rng.normal(size=(samples, inputs)), np.eye(outputs)[rng.integers(0, outputs, samples)])


def close(one, other, tolerance):
    for a, b in ((one.network.outer, other.network.outer), (one.network.inner, other.network.inner)):
        assert np.abs(a - b).max() < tolerance * np.abs(b).max()


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu", "erf", "silu", "arctan"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"integrator": "baoab"},
        {"integrator": "adam"},
        {"anchor_every": 4},
        {"outer": "bounded"},
        {"loss": "softmax", "bias": True},
        {"sampling": "full", "init_tail": 4},
    ],
)
def test_a_run_is_that_of_the_cpu_up_to_rounding(activation, options):
    config = TrainConfig(activation, **(BASE | options))
    # Adam divides by the gradient's own size: a coordinate whose gradient is rounding moves at full speed
    single = 2e-2 if options.get("integrator") == "adam" else 2e-4
    for precision, tolerance in (("float32", single), ("float64", 1e-9)):
        here = train(task(), replace(config, precision=precision))
        there = train(task(), replace(config, precision=precision, device="cuda"))
        close(there, here, tolerance)
        assert there.records[-1].risk == pytest.approx(here.records[-1].risk, rel=tolerance)


@pytest.mark.parametrize(("compute", "tolerance"), [("float32", 2e-4), ("tf32", 2e-2), ("bf16", 5e-2)])
def test_compute_modes(compute, tolerance):
    config = TrainConfig("tanh", **BASE)
    close(train(task(), replace(config, device="cuda", compute=compute)), train(task(), config), tolerance)


def test_noise_is_that_of_the_cpu():
    for columns in (1, 9, 65):
        here = normals(7, Stream.NOISE, 12, 1000, torch.empty(5000, columns))
        there = normals(7, Stream.NOISE, 12, 1000, torch.empty(5000, columns, device="cuda")).cpu()
        # float32 radius near 0 on the CPU, float64 on the card
        assert float((here - there).abs().max()) < 5e-4
        assert float((here - there).abs().mean()) < 1e-6


def test_resume_is_within_rounding(tmp_path):
    config = TrainConfig("gelu", device="cuda", **BASE)
    asked = []

    def interrupt():
        asked.append(1)
        return len(asked) == 9

    train(task(), config, tmp_path / "run", interrupt=interrupt)
    close(train(task(), config, tmp_path / "run", resume=True), train(task(), config), 1e-5)


@pytest.mark.parametrize("seed", [0, 3])  # one seed: the samples are shared
def test_replicas_move_together(seed):
    config = TrainConfig("tanh", device="cuda", **BASE)
    configs = [config, replace(config, seed=seed), replace(config, temperature=0.1), replace(config, step_size=0.1)]
    for run, own in zip(train_replicas(task(), configs), configs, strict=True):
        close(run, train(task(), own), 1e-5)


def test_no_array_of_batch_times_width_exists():
    """N = 2¹⁸, B = 4096, d = 32: B·N floats would be 4 GiB; the state is 34 MB."""
    config = TrainConfig("tanh", device="cuda", **(BASE | {"width": 1 << 18, "batch": 4096, "compute": "tf32"}))
    rng = np.random.default_rng(0)
    system = System(ArrayTask(rng.normal(size=(8192, 32)), rng.normal(size=(8192, 1))), [config], torch.device("cuda"))
    system.start()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(3):
        system.advance()
    assert torch.cuda.max_memory_allocated() < 8 * system.particles.flat.numel() * 4
