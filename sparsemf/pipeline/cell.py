"""The learning cell (w*, D*_orb, S*) of a trained measure: each with its bracket, its kind and its evidence.

- w*_k = 1/M_k, M_k = sup_t ∫‖θ‖^k dμ_t, needs the *flow*: the records of the run that made the checkpoint.  A file
  alone has the moments at one time, which bound M_k from below and so w*_k from above.
- S* is that of the certified staircase.
- D*_orb is the orbit depth of the dictionary of S* atoms: of the particles themselves it would be the depth of their
  number, which the theory says nothing about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sparsemf.atomic import header, input_record, plain
from sparsemf.exceptions import InputError
from sparsemf.measures import InputLaw, Network
from sparsemf.pipeline.analysis import Analysis
from sparsemf.pipeline.analyze import analyze
from sparsemf.pipeline.depth import depth
from sparsemf.recovery import Progress
from sparsemf.training.moments import FILE as MOMENTS
from sparsemf.training.task import Task

TaskOf = Callable[[dict[str, Any]], Task]
"""The task of a run from its record in run.json."""

_BESIDE = {"free": "affine", "offset": "offset", "charged": "none"}
"""What ``affine`` leaves free, in the words of :func:`~sparsemf.pipeline.depth.depth`."""
MOST = 8
"""Moments of a file without a run."""


def _silent(_stage: str, _fraction: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, eq=False)
class Cell:
    """The triple of one network; :meth:`document` is its JSON form."""

    analysis: Analysis
    w_star: dict[str, Any]
    d_orb: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The document ``sparsemf/cell/1``."""
        found = self.analysis.document()
        star = found["s_star"]
        timing = {"total": float(sum(self.analysis.timing.values()))}
        return plain(
            header("cell", 1, input=input_record(self.analysis.source), config=self.config, timing_s=timing)
            | {
                "w_star": self.w_star,
                "d_orb": self.d_orb,
                "s_star": star | {"function_norm": found["function_norm"]},
                "warnings": found["warnings"],
            }
        )


def cell(
    network: Network,
    law: InputLaw | None = None,
    rho: str = "gaussian",
    run: str | Path | None = None,
    task_of: TaskOf | None = None,
    seed: int = 0,
    progress: Progress = _silent,
    affine: str = "free",
) -> Cell:
    """The learning cell of ``network``; ``run`` is the folder of the run that made it (its moments.jsonl is read);
    ``affine``: what S* does not count, as in :func:`~sparsemf.pipeline.analyze.analyze`, and the depth does not see.

    ``task_of`` rebuilds the run's task where the drift bound needs the data.  Raises
    :class:`~sparsemf.exceptions.InputError` as :func:`~sparsemf.pipeline.analyze.analyze` does.
    """
    found = analyze(network, law, rho, progress=progress, affine=affine)
    config = {"rho": rho, "seed": seed, "affine": affine}
    return Cell(found, _weights(network, run, task_of), _depth(found, law, rho, seed, affine), config)


def _weights(network: Network, run: str | Path | None, task_of: TaskOf | None) -> dict[str, Any]:
    """w*: from the run where there is one, else an upper end from the particles of the file."""
    from sparsemf.training.moment_document import moments_document

    if run is not None and (Path(run) / MOMENTS).is_file():

        def rebuilt(record: dict[str, Any]) -> Task:
            if task_of is None:
                raise InputError("cell: the drift bound needs the run's task")
            return task_of(record)

        document = moments_document(run, [], rebuilt)
        growth, certificate = document["growth"], document["certificate"]
        bounds = certificate["bound"] if certificate["holds"] else []
        rows = [
            {
                "k": e["k"],
                "value": 0.0 if e["proved_infinite"] else e["w_star"],
                "upper": None if e["band"][0] is None or e["band"][0] <= 0 else 1.0 / e["band"][0],
                "lower": _proved(bounds, e["k"]),
                "trusted": e["trusted"],
            }
            for e in growth["moments"]
        ]
        return {
            "kind": "an estimate with a certified lower end" if certificate["holds"] else "an estimate",
            "of": "over the flow, from the run's records",
            "moments": rows,
            "trusted_k": growth["trusted_k"],
            "order": growth["order"],
            "evidence": certificate["assumptions"] if certificate["holds"] else [certificate["why_not"]],
        }
    lengths = np.linalg.norm(np.hstack([network.outer, network.inner, network.bias[:, None]]), axis=1)
    means = [float(np.mean(lengths**k)) for k in range(1, MOST + 1)] if lengths.size else []
    rows = [
        {"k": k, "value": None, "upper": 1.0 / m if m > 0 else None, "lower": None, "trusted": False}
        for k, m in enumerate(means, 1)
    ]
    return {
        "kind": "an upper end",
        "of": "of one file, m_k now is at most the supremum over the flow",
        "moments": rows,
        "trusted_k": 0,
        "order": None,
        "evidence": [
            "no run beside the checkpoint: M_k is a supremum over time; train with `sparsemf train` to have it"
        ],
    }


def _proved(bounds: list[float | None], k: int) -> float | None:
    """1/M_k from the a-priori bound of M_k."""
    value = bounds[k - 1] if k <= len(bounds) else None
    return None if value is None or not value > 0 else 1.0 / value


def _depth(found: Analysis, law: InputLaw | None, rho: str, seed: int, affine: str) -> dict[str, Any]:
    """D*_orb of the dictionary of S* atoms, with the reason where there is none."""
    empty = {"lower": None, "upper": None, "certified": False, "kind": "not computed", "d_var": None}
    star = found.s_star
    if star.value == 0:
        return empty | {"of": "no atoms", "reason": "S* = 0: there is nothing to identify"}
    atoms = "one atom" if star.value == 1 else f"{star.value} atoms"
    of = f"the dictionary of {atoms}, within {found.staircase.upper[star.value]:.3g} of the network"
    try:
        report = depth(found.dictionary, law, rho, free=_BESIDE[affine], seed=seed).document()
    except InputError as error:
        return empty | {"of": of, "reason": str(error)}
    near = report["d_orb"]["near"]
    return {
        **near,
        "of": of,
        "d_var": report["d_var"]["generic"],
        "pointwise": report["d_orb"]["pointwise"],
        "scales": report["d_orb"]["scales"],
        "how": report["d_orb"]["how"],
        "reason": None,
        "evidence": report["warnings"],
    }
