"""The stationarity verdict on series of known law: false alarms, power, early stops, coverage, bias of the entropy.

    python benchmarks/stationarity.py [--quick] [--only PART]

Everything is simulated: AR(1) series x_t = φx_{t−1} + ξ_t about known means, five independent quantities (loss, m2,
m4, energy, free energy; independence is the worst case for the number of tests) and a white drift-noise balance.
ESS is the true number of effective samples of both windows together, (records in the last half)(1 − φ)/(1 + φ).
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests")]

from sparsemf.training.autocorrelation import series_mean  # noqa: E402
from sparsemf.training.free_energy import differential_entropy  # noqa: E402
from sparsemf.training.stationarity import diagnose, diagnose_chains  # noqa: E402
from sparsemf.training.stopping import first_stationary, look_times  # noqa: E402
from training.simulated import autoregressive, settings  # noqa: E402
from training.simulated import run as simulated  # noqa: E402

PHIS = (-0.5, 0.0, 0.5, 0.9, 0.99)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def run(length: int, phi: float, rng: np.random.Generator, **options: Any) -> list[Any]:
    """Simulated records, as plain attributes: many are made."""
    return simulated(length, phi, rng, make=SimpleNamespace, **options)


def tau(phi: float) -> float:
    return (1 + phi) / (1 - phi)


def tail_length(ess: float, phi: float) -> int:
    """Records in a last half of this many effective samples; at least 80, and a multiple of 4."""
    return 4 * math.ceil(max(ess * tau(phi), 80) / 4)


def kind(reason: str) -> str:
    return (
        "cannot see"
        if "cannot see" in reason
        else "resolution"
        if "resolved" in reason or "known to" in reason
        else "difference"
    )


def coverage(runs: int) -> None:
    say("\nStandard error: τ_int found / true, and share of 95 % intervals that hold the mean; n/τ_int = 100")
    rng = np.random.default_rng(1)
    for phi in PHIS:
        n = max(round(100 * tau(phi)), 100)
        found = [series_mean(autoregressive(phi, (n,), rng)) for _ in range(runs)]
        inside = np.mean([abs(f.mean) <= 1.96 * f.standard_error for f in found])
        ratio = np.median([f.tau_int for f in found]) / tau(phi)
        say(f"  φ = {phi:5}  n = {n:6d}  median τ_int ratio {ratio:.2f}  coverage {inside:.3f}")


def false_alarms(runs: int) -> None:
    say('\nStationary runs called "no"')
    rng = np.random.default_rng(2)
    for phi in PHIS:
        for ess in (60, 100, 200):
            if phi != 0.5 and ess != 100:
                continue
            half = tail_length(ess, phi)
            config = settings(2 * half)
            kinds: Counter[str] = Counter()
            for _ in range(runs if phi != 0.99 else runs // 5):
                verdict = diagnose(run(half, phi, rng, spread=0.05, begin=half), config)
                kinds.update({kind(reason) for reason in verdict.reasons})
                kinds["no"] += verdict.stationary == "no"
                kinds["runs"] += 1
            shares = ", ".join(f"{k} {kinds[k] / kinds['runs']:.4f}" for k in ("no", "difference", "cannot see"))
            say(f"  φ = {phi:5}  ESS {ess:4d}  {shares}  ({kinds['runs']} runs)")


def power(runs: int) -> None:
    say('\nDrifting runs called "yes": m2 drifts linearly over the last half, by so many standard deviations')
    rng = np.random.default_rng(3)
    for phi, ess in ((0.5, 100), (0.5, 400), (0.9, 100)):
        half = tail_length(ess, phi)
        config = settings(2 * half)
        for drift in (0.5, 1.0, 1.5, 2.0, 3.0, 6.0):
            kinds: Counter[str] = Counter()
            for _ in range(runs):
                ramp = drift * np.linspace(0, 1, half)
                records = run(half, phi, rng, spread=0.01, shape=ramp, moving=("m2",), begin=half)
                verdict = diagnose(records, config)
                kinds.update({kind(reason) for reason in verdict.reasons})
                kinds["yes"] += verdict.stationary == "yes"
            shares = ", ".join(f"{k} {kinds[k] / runs:.3f}" for k in ("yes", "difference", "cannot see"))
            say(f"  φ = {phi}  ESS {ess}  drift {drift:3.1f}  {shares}")


def unresolved(runs: int) -> None:
    say('\nWindow means of m2 that differ by 10 %, called "yes" (stated: below 5 %)')
    rng = np.random.default_rng(4)
    for phi, ess, spread in ((0.5, 100, 0.05), (0.5, 100, 0.15), (0.5, 100, 0.2), (0.9, 100, 0.15), (0.9, 200, 0.2)):
        half = tail_length(ess, phi)
        config = settings(2 * half)
        jump = np.where(np.arange(half) >= half // 2, 0.1 / 0.9 / spread, 0.0)
        yes = 0
        for _ in range(runs):
            records = run(half, phi, rng, spread=spread, shape=jump, moving=("m2",), begin=half)
            yes += diagnose(records, config).stationary == "yes"
        say(f"  φ = {phi}  ESS {ess}  standard deviation {spread:4} of the mean  yes {yes / runs:.4f}")


def chains(runs: int) -> None:
    say('\nFour chains called "no": of one law, and with m2 of the fourth shifted by so many standard deviations')
    rng = np.random.default_rng(5)
    for phi, ess in ((0.0, 200), (0.5, 200), (0.9, 150)):
        half = tail_length(ess, phi)
        config = settings(2 * half)
        for shift in (0.0, 0.5, 1.0):
            no, blind = 0, 0
            for _ in range(runs):
                shapes = [None, None, None, np.full(half, shift)]
                four = [run(half, phi, rng, spread=0.05, shape=s, moving=("m2",), begin=half) for s in shapes]
                reasons = diagnose_chains(four, config).reasons
                no += bool(reasons)
                blind += bool(reasons) and all("cannot see" in r for r in reasons)
            only = f"for 'cannot see' only {blind / runs:.4f}"
            say(f"  φ = {phi}  ESS {ess}  shift {shift}  no {no / runs:.4f}, {only}")


def stopping(runs: int) -> None:
    say("\nFirst stationary look, budget 4000 records: every quantity has mean 1 and a transient A e^{−t/T}")
    rng = np.random.default_rng(6)
    budget = 4000
    config = settings(budget)
    cases = ((0.5, 0.2, 5.0, 50), (0.5, 0.2, 5.0, 200), (0.9, 0.1, 5.0, 100), (0.5, 0.2, 0.0, 1))
    for phi, spread, amplitude, time in cases:
        shape = amplitude / spread * np.exp(-np.arange(budget) / time)
        moved = {}  # at each look: the relative difference of the window means, or the rest of the transient, if larger
        for look in look_times(budget):
            half, middle = look // 2, look - look // 4
            first, second = (1 + spread * shape[a:b].mean() for a, b in ((half, middle), (middle, look)))
            moved[look] = max(abs(first - second) / max(first, second), second - 1)
        steps: list[float] = []
        for _ in range(runs):
            found = first_stationary(run(budget, phi, rng, spread=spread, shape=shape), config)
            steps.append(math.inf if found is None else found.step)
        early = np.mean([s < math.inf and moved[int(s)] > 0.1 for s in steps])
        settled = next(s for s in look_times(budget) if moved[s] <= 0.1)
        quantiles = ", ".join(f"{q:.0f}" for q in np.quantile(steps, (0.05, 0.5, 0.95), method="nearest"))
        say(f"  φ = {phi}  standard deviation {spread}  A = {amplitude}  T = {time}: too early {early:.4f};")
        say(f"    stops at {quantiles} (5, 50, 95 %); the transient is below 10 % from {settled}")


def entropy(repeats: int) -> None:
    say("\nEntropy of N(0, I) in nats: bias and standard deviation of the k = 3 estimate")
    rng = np.random.default_rng(7)
    for count in (512, 2048):
        for dimension in (1, 2, 5, 9, 20, 50, 100):
            true = 0.5 * dimension * math.log(2 * math.pi * math.e)
            found = [differential_entropy(rng.standard_normal((count, dimension))).value for _ in range(repeats)]
            bias, spread = np.mean(found) - true, np.std(found)
            say(f"  n = {count:4d}  D = {dimension:3d}  H = {true:7.2f}  bias {bias:7.3f} ± {spread:.3f}")


PARTS = {
    coverage: 2000,
    false_alarms: 2000,
    power: 200,
    unresolved: 1000,
    chains: 100,
    stopping: 100,
    entropy: 20,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a twentieth of the runs")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS])
    arguments = parser.parse_args()
    for part, runs in PARTS.items():
        if arguments.only in (None, part.__name__):
            part(max(runs // 20, 2) if arguments.quick else runs)


if __name__ == "__main__":
    main()
